"""What the name of an instance decides: slot, ports, addresses, names in the kernel, folders.

An instance holds one of 16 slots from its first `up` until its state is purged. Everything that two instances
on one machine could quarrel about is computed from the slot or from the name, and from nothing else.
This module starts nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import socket
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from errors import SYSTEM_PATH, DevclusterError, run

__all__ = ["NODE", "SLOTS", "Instance", "claim", "find", "locked", "preferred_slot", "release", "state_root"]

SLOTS: Final = 16
NODE: Final = "node-1"
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,18}[a-z0-9]|[a-z]")
_SOCKET_BYTES: Final = 107
_LONGEST_SOCKET: Final = "kubelet/device-plugins/kubelet.sock"
_RESERVED: Final = ("slots", "shared")


@dataclass(frozen=True, slots=True)
class Instance:
    """One development cluster: `Instance("demo", 0, root)`."""

    name: str
    slot: int
    root: Path

    @property
    def state(self) -> Path:
        """The folder that holds everything of this instance."""
        return self.root / self.name

    @property
    def bridge(self) -> str:
        """The pods' bridge, inside the instance's network namespace."""
        return f"snbr{self.slot}"

    @property
    def link(self) -> str:
        """The machine's end of the cable into that namespace."""
        return f"snlink{self.slot}"

    @property
    def nft_table(self) -> str:
        """The machine's nft table that lets pods out."""
        return f"supernode-{self.name}"

    @property
    def cgroup_root(self) -> str:
        """The kubelet's cgroupRoot."""
        return f"/supernode-{self.name}"

    @property
    def pod_subnet(self) -> str:
        """The pods' subnet; the node is its first address, the machine its second."""
        return f"10.{224 + self.slot}.0.0/16"

    @property
    def service_subnet(self) -> str:
        """The subnet of ClusterIPs."""
        return f"10.{208 + self.slot}.0.0/16"

    @property
    def node_address(self) -> str:
        """The node's address, reachable from the machine and from pods."""
        return f"10.{224 + self.slot}.0.1"

    @property
    def host_address(self) -> str:
        """The machine's address as pods see it."""
        return f"10.{224 + self.slot}.0.2"

    @property
    def api_service_address(self) -> str:
        """The ClusterIP of the Service `kubernetes`."""
        return f"10.{208 + self.slot}.0.1"

    def port(self, what: str) -> int:
        """Return the port of `api`, `etcd`, `etcd-peer`, `controller-manager` or `scheduler`."""
        return 21000 + 16 * self.slot + ("api", "etcd", "etcd-peer", "controller-manager", "scheduler").index(what)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "admin.kubeconfig"

    def log(self, component: str) -> Path:
        """Return the log file of a component."""
        return self.state / "log" / f"{component}.log"


def state_root() -> Path:
    """Return the folder that holds the state of all instances of this user."""
    if chosen := os.environ.get("SUPERNODE_DEVCLUSTER_STATE"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/supernode")
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "supernode" / "devcluster"


def preferred_slot(name: str) -> int:
    """Return the slot that a name gets on an empty machine."""
    return 0 if name == "demo" else 1 + zlib.crc32(name.encode()) % (SLOTS - 1)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file for the length of the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def find(name: str, root: Path | None = None) -> Instance | None:
    """Return the instance if it holds a slot."""
    root = root or state_root()
    _check(name, root)
    for slot in range(SLOTS):
        if _holder(root, slot) == name:
            return Instance(name, slot, root)
    return None


def claim(name: str, root: Path | None = None, usable: Callable[[Instance], bool] | None = None) -> Instance:
    """Return the instance, giving it a slot if it has none."""
    root = root or state_root()
    _check(name, root)
    usable = usable or _nobody_else_uses
    with locked(root / "slots" / "lock"):
        if held := find(name, root):
            return held
        first = preferred_slot(name)
        for step in range(SLOTS):
            instance = Instance(name, (first + step) % SLOTS, root)
            if not _holder(root, instance.slot) and usable(instance):
                (root / "slots" / str(instance.slot)).write_text(name + "\n")
                return instance
        holders = [holder for slot in range(SLOTS) if (holder := _holder(root, slot))]
    raise DevclusterError(
        f"no slot is left for instance {name}: {', '.join(holders) or 'none'} hold {len(holders)} of {SLOTS}, the rest "
        "have ports or subnets in use by others; free one with: cluster.py down --instance NAME --purge"
    )


def release(instance: Instance) -> None:
    """Give the slot back."""
    with locked(instance.root / "slots" / "lock"):
        if _holder(instance.root, instance.slot) == instance.name:
            (instance.root / "slots" / str(instance.slot)).unlink()


def _check(name: str, root: Path) -> None:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise DevclusterError(
            f"instance name {name!r}: lower case letters, digits and dashes, at most 20, not {' or '.join(_RESERVED)}"
        )
    longest = root / name / _LONGEST_SOCKET
    if len(os.fsencode(longest)) > _SOCKET_BYTES:
        raise DevclusterError(
            f"{root / name} is too long a path for unix sockets; set SUPERNODE_DEVCLUSTER_STATE to a shorter folder"
        )


def _holder(root: Path, slot: int) -> str:
    try:
        return (root / "slots" / str(slot)).read_text().strip()
    except OSError:
        return ""


def _nobody_else_uses(instance: Instance) -> bool:
    for what in ("api", "etcd", "etcd-peer"):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", instance.port(what)))
            except OSError:
                return False
    if not any(os.access(f"{folder}/ip", os.X_OK) for folder in SYSTEM_PATH):
        return True
    ours = [ipaddress.ip_network(instance.pod_subnet), ipaddress.ip_network(instance.service_subnet)]
    for route in json.loads(run("ip", "-j", "-4", "route") or "[]"):
        if route["dst"] != "default" and any(ipaddress.ip_network(route["dst"]).overlaps(net) for net in ours):
            return False
    return True
