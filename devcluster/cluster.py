#!/usr/bin/env python3
"""A real Kubernetes on this machine, without Docker and without pulling an image: for the demo and the tests.

Every part is the real one: etcd, API server, controller manager, scheduler, containerd, kubelet, kube-proxy, CoreDNS.
Needs Linux and root; `up --api-only` (etcd and API server) needs neither root nor namespaces.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

if sys.version_info < (3, 11):  # noqa: UP036 - said in words to whoever has an older one
    sys.exit("cluster.py needs Python 3.11 or newer")

import binaries
import images
import lifecycle
import system
from apiclient import ApiClient
from daemons import COMPONENTS, Options, server_url
from errors import DevclusterError
from init import COMMANDS
from init import main as run_init
from instance import NODE, find
from progress import duration, say

__all__ = ["main"]

_ROOT: Final = Path(__file__).resolve().parent.parent
_PASS_ON: Final = ("kubectl", "nsexec")


def _prepare(arguments: argparse.Namespace) -> None:
    began = time.monotonic()
    if not arguments.programs:
        system.ensure_packages(arguments.api_only)
    found = binaries.ensure(binaries.API_ONLY if arguments.api_only else None)
    if arguments.verbose:
        for name, path in found.items():
            print(f"{name:24} {path}")
    if not (arguments.api_only or arguments.programs):
        images.pause_archive()
    say(f"everything is there after {duration(time.monotonic() - began)}")


def _up(arguments: argparse.Namespace) -> None:
    options = Options(arguments.api_only, arguments.with_controllers, tuple(arguments.node_label))
    if options.api_only and arguments.image:
        raise DevclusterError("--image needs a node; leave out --api-only")
    for archive in arguments.image:
        images.archive_identity(archive)  # a wrong path is better known before anything starts
    instance = lifecycle.up(arguments.instance, options, arguments.fresh, arguments.image)
    print(f"export KUBECONFIG={shlex.quote(str(instance.kubeconfig))}")


def _down(arguments: argparse.Namespace) -> None:
    began = time.monotonic()
    known = lifecycle.down(arguments.instance, arguments.purge)
    took = f" after {time.monotonic() - began:.1f} s" if known else ""
    say(f"instance {arguments.instance} is {'down' if known else 'not known: nothing to do'}{took}")


def _status(arguments: argparse.Namespace) -> None:
    instance = find(arguments.instance)
    if instance is None or not system.find_init(instance):
        kept = f", state kept in {instance.state}" if instance else ""
        print(f"instance {arguments.instance}: down{kept}")
        raise SystemExit(3)
    api_only = lifecycle.is_api_only(instance)
    url = server_url(instance, api_only)
    ready = ApiClient(url, instance.state / "pki").get("/readyz")
    form = " (API server alone)" if api_only else ""
    print(f"instance {instance.name}: up{form}, {url} {'ready' if ready else 'NOT ready'}")
    for process in lifecycle.processes(instance):
        print(f"{process.name:24} pid {process.pid:<8} {process.rss_mebibytes:5} MiB")


def _load(arguments: argparse.Namespace) -> None:
    lifecycle.load(lifecycle.running(arguments.instance), arguments.archives)


def _image(arguments: argparse.Namespace) -> None:
    system.ensure_packages()
    archive, _ = images.application_archive(_ROOT, arguments.out)
    print(archive)


def _kubeconfig(arguments: argparse.Namespace) -> None:
    print(lifecycle.running(arguments.instance).kubeconfig)


def _env(arguments: argparse.Namespace) -> None:
    instance = lifecycle.running(arguments.instance)
    values: dict[str, object] = {
        "KUBECONFIG": instance.kubeconfig,
        "SUPERNODE_INSTANCE": instance.name,
        "SUPERNODE_STATE": instance.state,
        "SUPERNODE_AUDIT_LOG": instance.log("audit"),
    }
    if not lifecycle.is_api_only(instance):
        values |= {
            "SUPERNODE_NODE": NODE,
            "SUPERNODE_NODE_ADDRESS": instance.node_address,
            "SUPERNODE_HOST_ADDRESS": instance.host_address,
            "SUPERNODE_KUBELET_DIR": instance.state / "kubelet",
        }
    located = {item.name: path for item in binaries.BINARIES if (path := binaries.locate(item))}
    for name in ("kubectl", "helm"):
        if name in located:
            values[name.upper()] = located[name]
    for key, value in values.items():
        print(f"export {key}={shlex.quote(str(value))}")
    folders = dict.fromkeys(str(located[name].parent) for name in ("kubectl", "helm") if name in located)
    print(f'export PATH={shlex.quote(os.pathsep.join(folders))}:"$PATH"')


def _kubectl(arguments: argparse.Namespace) -> NoReturn:
    instance = lifecycle.running(arguments.instance)
    program = lifecycle.program("kubectl")
    os.execve(program, ["kubectl", *arguments.rest], {**os.environ, "KUBECONFIG": str(instance.kubeconfig)})


def _nsexec(arguments: argparse.Namespace) -> NoReturn:
    argv = lifecycle.in_namespaces(lifecycle.running(arguments.instance), *(arguments.rest or ["sh"]))
    os.execvp(argv[0], argv)


def _component(arguments: argparse.Namespace) -> None:
    instance = lifecycle.running(arguments.instance)
    print(lifecycle.control(instance, arguments.command, arguments.component))


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(prog="cluster.py", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, action: Callable[[argparse.Namespace], None], summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(action=action)
        if name not in ("prepare", "image"):
            command.add_argument("--instance", default="demo", metavar="NAME", help="which cluster (default: demo)")
        return command

    prepare = add("prepare", _prepare, "install the system packages and find or build every program")
    prepare.add_argument("--api-only", action="store_true", help="only etcd, kube-apiserver and kubectl")
    prepare.add_argument("--programs", action="store_true", help="only programs: no system package, no image")
    prepare.add_argument("--verbose", action="store_true", help="say where each program is")
    up = add("up", _up, "start a cluster in the background and wait until it can be used")
    up.add_argument("--fresh", action="store_true", help="throw away what an earlier run left")
    up.add_argument("--image", action="append", default=[], type=Path, metavar="ARCHIVE", help="OCI archive to load")
    up.add_argument("--node-label", action="append", default=[], metavar="K=V", help="label of the node")
    up.add_argument("--api-only", action="store_true", help="only etcd and the API server; needs no root")
    up.add_argument("--with-controllers", action="store_true", help="with --api-only: these two as well")
    down = add("down", _down, "stop a cluster and remove its traces")
    down.add_argument("--purge", action="store_true", help="remove its state as well")
    add("status", _status, "say what runs (exit 3: down)")
    load = add("load", _load, "load OCI image archives into the node")
    load.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE")
    add("kubectl", _kubectl, "run kubectl: cluster.py kubectl [--instance NAME] ARGS...")
    add("nsexec", _nsexec, "run a command inside the cluster's namespaces")
    add("kubeconfig", _kubeconfig, "print the path of the kubeconfig")
    add("env", _env, 'print shell exports: eval "$(cluster.py env)"')
    image = add("image", _image, "build the product's image, print the archive's path")
    image.add_argument("--out", type=Path, metavar="FILE", help="where to write the archive (default: the cache)")
    for name, summary in COMMANDS.items():
        component = add(name, _component, summary)
        component.add_argument("component", choices=COMPONENTS, metavar="COMPONENT", help=", ".join(COMPONENTS))
    return parser


def _pass_on(words: Sequence[str]) -> argparse.Namespace:
    """Take only a leading --instance from commands whose arguments belong to another program."""
    rest, name = list(words[1:]), "demo"
    if rest[:1] == ["--instance"] and len(rest) > 1:
        name, rest = rest[1], rest[2:]
    elif rest and rest[0].startswith("--instance="):
        name, rest = rest[0].removeprefix("--instance="), rest[1:]
    action = _kubectl if words[0] == "kubectl" else _nsexec
    return argparse.Namespace(instance=name, rest=rest, action=action)


def main(words: Sequence[str]) -> int:
    """Carry out one command line."""
    if words[:1] == ["_init"]:
        run_init(words[1], int(words[2]) if len(words) > 2 else None)
        return 0
    arguments = _pass_on(words) if words[:1] and words[0] in _PASS_ON else _parser().parse_args(words)
    try:
        arguments.action(arguments)
    except DevclusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; what is half started is cleaned up by: cluster.py down", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
