"""Bringing an instance up and down, and talking to one that runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import binaries
import configs
import pki
import system
from apiclient import ApiClient
from daemons import Options, Plan, build_plan, server_url
from errors import DevclusterError, run, tail
from images import archive_identity, pause_archive
from instance import NODE, Instance, claim, find, locked, release, state_root
from progress import say

__all__ = [
    "Process",
    "control",
    "down",
    "in_namespaces",
    "is_api_only",
    "load",
    "processes",
    "program",
    "running",
    "up",
]

_CLI: Final = Path(__file__).resolve().with_name("cluster.py")
_CTR: Final = ("ctr", "-a", configs.CONTAINERD_SOCKET, "-n", "k8s.io")
_NOT_NODE: Final = ("helm",)


@dataclass(frozen=True, slots=True)
class Process:
    """A daemon that runs: its process id as the machine sees it, and its memory."""

    name: str
    pid: int
    rss_mebibytes: int


def running(name: str) -> Instance:
    """Return an instance that is up."""
    instance = find(name)
    if instance is None or not system.find_init(instance):
        raise DevclusterError(f"instance {name} is not up; start it with: cluster.py up --instance {name}")
    return instance


def _plan(instance: Instance) -> Plan | None:
    try:
        return Plan.from_json(json.loads((instance.state / "etc" / "plan.json").read_text()))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def is_api_only(instance: Instance) -> bool:
    """Say whether the instance has no node."""
    plan = _plan(instance)
    return plan is not None and not plan.network


def _lock(name: str) -> Path:
    return state_root() / "slots" / f"{name}.lock"


def up(name: str, options: Options, fresh: bool, images: Iterable[Path]) -> Instance:
    """Start an instance, or find it running, and wait until it can be used; two callers take turns."""
    find(name)  # refuses a wrong name before a lock is named after it
    with locked(_lock(name)):
        return _up(name, options, fresh, images)


def _up(name: str, options: Options, fresh: bool, images: Iterable[Path]) -> Instance:
    known = find(name)
    if known and not fresh and _plan(known) and is_api_only(known) != options.api_only:
        raise DevclusterError(f"instance {name} exists in the other form (with or without a node); use --fresh")
    if known and not fresh and system.find_init(known):
        say(f"instance {name} is already up")
        load(known, images)
        return known
    if not options.api_only and os.geteuid() != 0:
        raise DevclusterError("a cluster with a node needs root; without it: cluster.py up --api-only")
    system.ensure_packages(options.api_only)
    found = binaries.ensure(_wanted(options))
    if known:
        _down(known, purge=fresh)
    started = time.time()
    instance = claim(name)
    _write_files(instance, options, found)
    if not options.api_only:
        system.borrow(instance)
        system.create_cgroups(instance)
    _spawn(instance, options)
    _await(instance, options, started, images)
    return instance


def _wanted(options: Options) -> list[str]:
    if not options.api_only:
        return [binary.name for binary in binaries.BINARIES if binary.name not in _NOT_NODE]
    return [*binaries.API_ONLY, *(("kube-controller-manager", "kube-scheduler") if options.with_controllers else ())]


def _write_files(instance: Instance, options: Options, found: dict[str, Path]) -> None:
    for folder in ("log", "cdi", "pod-logs", "etc"):
        (instance.state / folder).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(instance.state / "cni", ignore_errors=True)  # addresses of pods that are gone
    server = server_url(instance, options.api_only)
    pki.create(instance, server)
    cni = dict.fromkeys(found[name].parent for name in ("bridge", "loopback", "host-local") if name in found)
    for file, text in configs.render(instance, cni, Path("/etc/resolv.conf").read_text()).items():
        pki.write(instance.state / "etc" / file, text)
    plan = build_plan(instance, options, binaries.search_path(found))
    pki.write(instance.state / "etc" / "plan.json", json.dumps(plan.to_json(), indent=1))


def _spawn(instance: Instance, options: Options) -> None:
    argv = [sys.executable, str(_CLI), "_init", str(instance.state)]
    pass_fds: tuple[int, ...] = ()
    if not options.api_only:
        host = os.open("/proc/self/ns/net", os.O_RDONLY)
        pass_fds = (host,)
        private = ("--mount", "--pid", "--net", "--fork", "--mount-proc", "--propagation", "private")
        argv = ["unshare", *private, *argv, str(host)]
    with instance.log("init").open("ab") as log:
        subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=pass_fds, cwd="/"
        )
    for descriptor in pass_fds:
        os.close(descriptor)
    _wait(instance, "init", lambda: bool(system.find_init(instance)), 5, alive=False)


def _await(instance: Instance, options: Options, started: float, images: Iterable[Path]) -> None:
    def after(what: str) -> None:
        say(f"{what} after {time.time() - started:.1f} s")

    client = ApiClient(server_url(instance, options.api_only), instance.state / "pki")
    if not options.api_only:
        _wait(instance, "containerd", lambda: _in_quiet(instance, *_CTR, "version"), 30)
        load(instance, [pause_archive(), *images])
        after("images loaded")
    _wait(instance, "API server", lambda: client.get("/readyz") is not None, 90)
    after("API server ready")
    if not options.api_only:
        _wait(instance, "node", lambda: _node_ready(client, started), 90)
        after("node Ready")
    if not options.api_only or options.with_controllers:
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        _wait(instance, "default service account", lambda: client.get(account) is not None, 90)
        after("default service account there")


def _wait(instance: Instance, what: str, test: Callable[[], bool], limit_seconds: float, alive: bool = True) -> None:
    deadline = time.monotonic() + limit_seconds
    while not test():
        ended = alive and not system.find_init(instance)
        if ended or time.monotonic() > deadline:
            reason = "the instance's init ended" if ended else f"{what} was not there within {limit_seconds:.0f} s"
            raise DevclusterError(
                f"{reason}; logs are in {instance.state / 'log'}, clean up with: "
                f"cluster.py down --instance {instance.name}\n{tail(instance.log('init'))}"
            )
        time.sleep(0.1)


def _node_ready(client: ApiClient, started: float) -> bool:
    """Ready by a heartbeat of this life: kept state says Ready at once."""
    node = client.get_object(f"/api/v1/nodes/{NODE}") or {}
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))
    conditions = node.get("status", {}).get("conditions", [])
    ready = [item for item in conditions if item["type"] == "Ready" and item["status"] == "True"]
    return any(item["lastHeartbeatTime"] >= since for item in ready)


def down(name: str, purge: bool) -> bool:
    """Stop an instance and remove its traces, also those of one that was killed; say whether there was one."""
    if find(name) is None:
        return False
    with locked(_lock(name)):
        if instance := find(name):
            _down(instance, purge)
        if purge:
            _lock(name).unlink(missing_ok=True)
    return True


def _down(instance: Instance, purge: bool) -> None:
    with_node = not is_api_only(instance) and (os.geteuid() == 0 or _plan(instance) is not None)
    if with_node and os.geteuid() != 0:
        raise DevclusterError(f"instance {instance.name} has a node: stopping it needs root")
    _end(instance, kill=purge)
    if with_node:
        system.remove_network(instance)
        system.remove_cgroups(instance)
        system.give_back(instance)
    if purge:
        shutil.rmtree(instance.state, ignore_errors=True)
        if instance.state.exists():
            raise DevclusterError(f"{instance.state} could not be removed; look for processes that still use it")
        release(instance)


def _end(instance: Instance, kill: bool) -> None:
    pid = system.find_init(instance)
    if not pid:
        return
    waited_for = [pid, *(process.pid for process in processes(instance))]
    for number in (signal.SIGKILL,) if kill else (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            waited_for = [item for item in waited_for if system.is_alive(item)]
            if not waited_for:
                return
            time.sleep(0.02)
    raise DevclusterError(f"processes {waited_for} of instance {instance.name} do not end")


def in_namespaces(instance: Instance, *argv: str) -> list[str]:
    """Return the command that runs `argv` inside the instance's namespaces."""
    if is_api_only(instance):
        raise DevclusterError(f"instance {instance.name} is an API server alone: it has no namespaces")
    return ["nsenter", "-t", str(system.find_init(instance)), "-m", "-p", "-n", "--", *argv]


def _node_path(instance: Instance) -> dict[str, str]:
    plan = _plan(instance)
    return {**os.environ, "PATH": plan.path} if plan else dict(os.environ)


def _in_quiet(instance: Instance, *argv: str) -> bool:
    try:
        run(*in_namespaces(instance, *argv), env=_node_path(instance))
    except DevclusterError:
        return False
    return True


def load(instance: Instance, archives: Iterable[Path]) -> None:
    """Import image archives into the node, leaving out what it has."""
    paths = [Path(archive).absolute() for archive in archives]
    if not paths:
        return
    listed = run(*in_namespaces(instance, *_CTR, "images", "ls"), env=_node_path(instance))
    have = {(words[0], words[2]) for line in listed.splitlines() if len(words := line.split()) > 2}
    for path in paths:
        name, digest = archive_identity(path)
        if (name, digest) in have:
            say(f"image {name} is loaded already")
            continue
        began = time.monotonic()
        run(*in_namespaces(instance, *_CTR, "images", "import", "--local", str(path)), env=_node_path(instance))
        say(f"image {name} loaded in {time.monotonic() - began:.1f} s")


def processes(instance: Instance) -> list[Process]:
    """Return the daemons that run, in the order of their start."""
    pid = system.find_init(instance)
    plan = _plan(instance)
    if not pid or plan is None:
        return []
    names = {daemon.name for daemon in plan.daemons}
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            name = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0].decode().rpartition("/")[2]
            status = Path(f"/proc/{child}/status").read_text()
        except OSError:
            continue
        if name in names:
            rss = next((line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")), "0")
            found.append(Process(name, int(child), int(rss) // 1024))
    return found


def control(instance: Instance, command: str, component: str) -> str:
    """Start, stop, restart or kill one daemon of a running instance."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        try:
            connection.connect(str(instance.state / "ctl.sock"))
            connection.sendall(f"{command} {component}\n".encode())
            answer = connection.makefile().readline().strip()
        except OSError as error:
            raise DevclusterError(f"the init of instance {instance.name} does not answer: {error}") from error
    if answer.startswith("error: ") or not answer:
        raise DevclusterError(answer.removeprefix("error: ") or "no answer from init; see its log")
    return answer


def program(name: str) -> Path:
    """Return the path of one of the cluster's programs, building it if it is not there."""
    return binaries.ensure([name])[name]
