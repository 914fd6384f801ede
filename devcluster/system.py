"""What the cluster needs of, changes in and gives back to the machine: packages, sysctls, folders, cgroups.

Sysctls and folders belong to all instances together: the first one up saves, the last one down restores. An instance
counts as up only while its init process lives, so one that was killed holds nothing back.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import progress
from errors import SYSTEM_PATH, DevclusterError, MissingPackagesError, run
from instance import Instance, locked

__all__ = [
    "PRIVATE_FOLDERS",
    "borrow",
    "create_cgroups",
    "ensure_packages",
    "find_init",
    "give_back",
    "is_alive",
    "remove_cgroups",
    "remove_network",
]

# What kubelet, CNI and our masquerading change outside of the instance's own namespaces.
_SYSCTLS: Final = (
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
)
_API_TOOLS: Final = {"openssl": "openssl"}
_TOOLS: Final = {
    **_API_TOOLS,
    "ip": "iproute2",
    "unshare": "util-linux",
    "mount": "mount",
    "nft": "nftables",
    "runc": "runc",
    "mmdebstrap": "mmdebstrap",
    "gcc": "gcc",
}
_STATIC_LIBC: Final = "libc6-dev"
_LOCK_SECONDS: Final = 300
_CGROUPS: Final = Path("/sys/fs/cgroup")

PRIVATE_FOLDERS: Final = {"kubelet": "/var/lib/kubelet", "cni": "/var/lib/cni", "containers-log": "/var/log/containers"}
"""Folder in the state -> where the cluster's own mount namespace shows it."""


def _missing_packages(api_only: bool, root: Path) -> list[str]:
    folders = (str(root / folder.lstrip("/")) for folder in SYSTEM_PATH)
    path = os.pathsep.join((os.environ.get("PATH", ""), *folders))
    tools = _API_TOOLS if api_only else _TOOLS
    missing = [package for tool, package in tools.items() if not shutil.which(tool, path=path)]
    if not api_only and not any((root / "usr/lib").glob("*/libc.a")) and not (root / "usr/lib64/libc.a").exists():
        missing.append(_STATIC_LIBC)
    return missing


def _is_debian_12(root: Path) -> bool:
    try:
        lines = (root / "etc/os-release").read_text().splitlines()
    except OSError:
        return False
    return "ID=debian" in lines and any(line.startswith('VERSION_ID="12') for line in lines)


def ensure_packages(api_only: bool = False, root: Path = Path("/")) -> None:
    """Install the Debian packages that are missing, or name them where that is not ours to do.

    ``root`` is where the machine's files are looked for. MissingPackagesError: they are for the owner to install;
    DevclusterError: the package manager failed.
    """
    missing = _missing_packages(api_only, root)
    if not missing:
        return
    names = " ".join(missing)
    if not _is_debian_12(root):
        raise MissingPackagesError(f"missing here (names as in Debian 12): {names}; install them and try again")
    if os.geteuid() != 0:
        raise MissingPackagesError(f"missing: {names}; install them as root: apt-get install {names}")
    with locked(root / "run/lock/supernode-packages"):  # two that prepare at once: the second finds what it wants
        _install_all(_missing_packages(api_only, root), api_only, root)


def _install_all(missing: Sequence[str], api_only: bool, root: Path) -> None:
    path = os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_PATH))  # dpkg calls what is in /sbin
    env = {**os.environ, "PATH": path, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        if missing and not any((root / "var/lib/apt/lists").glob("*Packages*")):
            progress.say("reading the package lists")
            run("apt-get", "update", "-qq", env=env)
        for index, package in enumerate(missing, 1):
            progress.say(f"installing the system package {package} ({index}/{len(missing)})")
            _install(package, env)
    except DevclusterError as error:
        still = " ".join(_missing_packages(api_only, root))
        raise DevclusterError(f"missing: {still}; install them and try again; apt-get could not:\n{error}") from error


def _install(package: str, env: Mapping[str, str]) -> None:
    # Something else on the machine may be installing too: that is waited for.
    wait = ("-o", f"DPkg::Lock::Timeout={_LOCK_SECONDS}")
    argv = ("apt-get", "install", "-y", "-qq", *wait, "--no-install-recommends", package)
    try:
        run(*argv, env=env)
    except DevclusterError:
        run("apt-get", "update", "-qq", env=env)  # lists from long ago name files that are gone
        run(*argv, env=env)


def find_init(instance: Instance) -> int:
    """Return the process id of an instance's init, 0 if it does not run."""
    wanted = ["_init", str(instance.state)]
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if words[0].rpartition("/")[2] != "unshare" and wanted == words[2:4]:
            return int(entry)
    return 0


def is_alive(pid: int) -> bool:
    """Say whether a process still runs; one that only waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")


def _others_up(instance: Instance) -> bool:
    folder = instance.root / "shared" / "up"
    if not folder.is_dir():
        return False
    others = [Instance(file.name, 0, instance.root) for file in folder.iterdir() if file.name != instance.name]
    return any(find_init(other) for other in others)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def borrow(instance: Instance) -> None:
    """Note that an instance comes up; save what the machine had if it is the first."""
    shared = instance.root / "shared"
    with locked(shared / "lock"):
        saved = shared / "machine.json"
        known = json.loads(saved.read_text()) if saved.exists() else {}
        if known.get("boot") != _boot():
            sysctls = {key: _sysctl(key).read_text().strip() for key in _SYSCTLS if _sysctl(key).exists()}
            folders = [folder for folder in PRIVATE_FOLDERS.values() if not Path(folder).exists()]
            saved.write_text(json.dumps({"boot": _boot(), "sysctls": sysctls, "folders": folders}))
        for folder in PRIVATE_FOLDERS.values():
            Path(folder).mkdir(parents=True, exist_ok=True)
        _sysctl("net/ipv4/ip_forward").write_text("1")  # pods reach out through this machine
        (shared / "up").mkdir(exist_ok=True)
        (shared / "up" / instance.name).touch()


def give_back(instance: Instance) -> None:
    """Note that an instance is down; restore what the machine had if it was the last."""
    shared = instance.root / "shared"
    with locked(shared / "lock"):
        (shared / "up" / instance.name).unlink(missing_ok=True)
        saved = shared / "machine.json"
        if _others_up(instance) or not saved.exists():
            return
        known = json.loads(saved.read_text())
        if known["boot"] == _boot():
            for key, value in known["sysctls"].items():
                if _sysctl(key).read_text().strip() != value:
                    _sysctl(key).write_text(value)
        for folder in known["folders"]:
            with contextlib.suppress(OSError):  # somebody else uses it by now
                Path(folder).rmdir()
        saved.unlink()


def _sysctl(key: str) -> Path:
    return Path("/proc/sys") / key


def _hierarchies() -> Iterable[Path]:
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return sorted({item.resolve() for item in _CGROUPS.iterdir() if item.is_dir() and (item / "cgroup.procs").exists()})


def create_cgroups(instance: Instance) -> None:
    """Make the kubelet's cgroupRoot in every hierarchy (v1) or the only one (v2)."""
    for top in _hierarchies():
        ours = top / instance.cgroup_root.strip("/")
        ours.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # v1: empty means that no process may enter
            if (top / setting).exists() and (ours / setting).exists():
                (ours / setting).write_text((top / setting).read_text())
        if (top / "cgroup.controllers").exists():
            for controller in (top / "cgroup.controllers").read_text().split():
                for level in (top, ours):
                    with contextlib.suppress(OSError):  # a controller may be bound to v1 or refuse threads
                        (level / "cgroup.subtree_control").write_text(f"+{controller}")


def remove_cgroups(instance: Instance) -> None:
    """Remove the kubelet's cgroups; their processes have ended with the instance's init."""
    for top in _hierarchies():
        ours = top / instance.cgroup_root.strip("/")
        for folder, _, _ in os.walk(ours, topdown=False):
            _eventually(lambda folder=folder: os.rmdir(folder), f"cgroup {folder} is still in use")  # type: ignore[misc]


def _eventually(action: Callable[[], object], failure: str) -> None:
    deadline = time.monotonic() + 5
    while True:
        try:
            action()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise DevclusterError(failure) from error
            time.sleep(0.02)
        else:
            return


def remove_network(instance: Instance) -> None:
    """Remove the machine's end of the cable and our nft table; the rest went with the namespace."""
    path = os.pathsep.join(SYSTEM_PATH)
    if Path("/sys/class/net", instance.link).exists():
        run("ip", "link", "delete", instance.link, check=False)
    if shutil.which("nft", path=path):  # else there has never been one
        run("nft", "delete", "table", "ip", instance.nft_table, check=False)
