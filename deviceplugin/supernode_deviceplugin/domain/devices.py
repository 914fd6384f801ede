"""Compute servers and their devices: what a ComputeNode's spec says, as plain values.

A server has dies with phyIDs 0.. and planes; each die has one link (UB port) on each plane. Device ids are arithmetic:
n = firstDie + phyID gives ``Ascend910-<n>`` and ``bus-<n>-<plane>``. Two ComputeNodes that claim the same ids of the
same resource are a mistake; the older one keeps them and the other gets none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from supernode_api.faults import FaultLevel
from supernode_api.names import die_device_id, link_device_id

__all__ = [
    "DIE",
    "Device",
    "Fault",
    "InvalidComputeNodeError",
    "Inventory",
    "Server",
    "build_inventory",
    "parse_server",
]

DIE = -1
"""``Device.plane`` of a die; a link has its plane there."""


class InvalidComputeNodeError(ValueError):
    """A ComputeNode that cannot be served; the message names the field. The operator has to write it anew."""


class Device(NamedTuple):
    """A die or a link; sorts in the order of servers, dies and planes."""

    server: int
    """Position of its server in :attr:`Inventory.servers`."""
    phy: int
    plane: int
    id: str

    @property
    def die(self) -> tuple[int, int]:
        """The die that it is or belongs to: position of the server and phyID."""
        return self.server, self.phy


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of spec.faults; exactly one of die, port (die, plane) and l1 is set, or none for an uplink."""

    name: str
    level: FaultLevel
    die: int | None = None
    port: tuple[int, int] | None = None
    l1: int | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A ComputeNode as far as devices go."""

    name: str
    uid: str
    generation: int
    created: str
    deleting: bool
    index: int
    first_die: int
    dies: int
    planes: int
    npu_resource: str
    bus_link_resource: str
    faults: tuple[Fault, ...] = ()
    problems: tuple[str, ...] = ()
    """Entries of spec.faults that could not be read and are left out."""

    @property
    def resources(self) -> tuple[str, str]:
        """Names of its two resources: dies, links."""
        return self.npu_resource, self.bus_link_resource

    @property
    def shape(self) -> tuple[object, ...]:
        """Everything that its device ids depend on."""
        return self.name, self.index, self.first_die, self.dies, self.planes, *self.resources

    def die_id(self, phy: int) -> str:
        """Device id of a die."""
        return die_device_id(self.first_die + phy)

    def link_id(self, phy: int, plane: int) -> str:
        """Device id of a link."""
        return link_device_id(self.first_die + phy, plane)

    def overlaps(self, other: Server) -> bool:
        """Whether both claim a device id of the same resource."""
        return (
            bool(set(self.resources) & set(other.resources))
            and self.first_die < other.first_die + other.dies
            and other.first_die < self.first_die + self.dies
        )


@dataclass(frozen=True, slots=True)
class Inventory:
    """All devices of the node."""

    servers: tuple[Server, ...] = ()
    devices: Mapping[str, Mapping[str, Device]] = field(default_factory=dict)
    """resource -> id -> device, in the order in which they are advertised."""
    conflicts: Mapping[str, str] = field(default_factory=dict)
    """Name of a ComputeNode that gets no devices -> name of the one that has them."""

    def dies(self, resource: str) -> list[Device]:
        """All dies of a resource, in order."""
        return [device for device in self.devices.get(resource, {}).values() if device.plane == DIE]


def parse_server(obj: Mapping[str, Any]) -> Server:
    """Read a ComputeNode; InvalidComputeNodeError when its devices cannot be known, and faults that cannot be read
    are left out and named in ``problems``."""
    metadata, spec = _mapping(obj, "metadata"), _mapping(obj, "spec")
    devices = _mapping(spec, "devices", "spec.")
    dies = _number(devices, "dies", "spec.devices.", low=1)
    planes = _number(devices, "planes", "spec.devices.", low=1)
    npu, links = _text(devices, "npuResource", "spec.devices."), _text(devices, "busLinkResource", "spec.devices.")
    if npu == links:
        raise InvalidComputeNodeError(f"spec.devices.busLinkResource: is the same as npuResource ({npu})")
    faults, problems = _faults(spec.get("faults"), dies, planes)
    return Server(
        name=_text(metadata, "name", "metadata."),
        uid=str(metadata.get("uid", "")),
        generation=_number(metadata, "generation", "metadata.") if "generation" in metadata else 0,
        created=str(metadata.get("creationTimestamp", "")),
        deleting=bool(metadata.get("deletionTimestamp")),
        index=_number(spec, "serverIndex", "spec."),
        first_die=_number(devices, "firstDie", "spec.devices."),
        dies=dies,
        planes=planes,
        npu_resource=npu,
        bus_link_resource=links,
        faults=tuple(faults),
        problems=tuple(problems),
    )


def build_inventory(servers: Iterable[Server]) -> Inventory:
    """List every device once; of servers with overlapping ids the oldest (then the first by name) has them."""
    winners: list[Server] = []
    conflicts: dict[str, str] = {}
    for server in sorted(servers, key=lambda s: (s.created, s.name)):
        rival = next((w for w in winners if w.overlaps(server)), None)
        if rival is None:
            winners.append(server)
        else:
            conflicts[server.name] = rival.name
    winners.sort(key=lambda s: (s.index, s.first_die, s.name))
    devices: dict[str, dict[str, Device]] = {}
    for position, server in enumerate(winners):
        dies = devices.setdefault(server.npu_resource, {})
        links = devices.setdefault(server.bus_link_resource, {})
        for phy in range(server.dies):
            die_id = server.die_id(phy)
            dies[die_id] = Device(position, phy, DIE, die_id)
            for plane in range(server.planes):
                link_id = server.link_id(phy, plane)
                links[link_id] = Device(position, phy, plane, link_id)
    return Inventory(tuple(winners), devices, conflicts)


def _faults(raw: Any, dies: int, planes: int) -> tuple[list[Fault], list[str]]:
    faults, problems = [], []
    for position, entry in enumerate(raw if isinstance(raw, list) else []):
        where = f"spec.faults[{position}]."
        try:
            faults.append(_fault(entry, where, dies, planes))
        except InvalidComputeNodeError as error:
            problems.append(str(error))
    return faults, problems


def _fault(raw: Any, where: str, dies: int, planes: int) -> Fault:
    if not isinstance(raw, Mapping):
        raise InvalidComputeNodeError(f"{where.rstrip('.')}: is not an object")
    name = _text(raw, "name", where)
    try:
        level = FaultLevel(raw.get("level", FaultLevel.SEPARATE_NPU))
    except ValueError:
        raise InvalidComputeNodeError(f"{where}level: {str(raw.get('level'))[:40]!r} is not a fault level") from None
    if "die" in raw:
        return Fault(name, level, die=_number(raw, "die", where, high=dies - 1))
    if "diePort" in raw:
        port, inner = _mapping(raw, "diePort", where), f"{where}diePort."
        die, plane = _number(port, "die", inner, high=dies - 1), _number(port, "plane", inner, high=planes - 1)
        return Fault(name, level, port=(die, plane))
    if "l1" in raw:
        return Fault(name, level, l1=_number(_mapping(raw, "l1", where), "plane", f"{where}l1.", high=planes - 1))
    if "uplink" in raw:
        return Fault(name, level)
    raise InvalidComputeNodeError(f"{where.rstrip('.')}: has none of die, diePort, uplink, l1")


def _mapping(obj: Mapping[str, Any], key: str, where: str = "") -> Mapping[str, Any]:
    value = obj.get(key)
    if not isinstance(value, Mapping):
        raise InvalidComputeNodeError(f"{where}{key}: is missing or not an object")
    return value


def _number(obj: Mapping[str, Any], key: str, where: str, low: int = 0, high: int = 1 << 21) -> int:
    value = obj.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidComputeNodeError(f"{where}{key}: is not a whole number from {low} to {high}")
    return value


def _text(obj: Mapping[str, Any], key: str, where: str) -> str:
    value = obj.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidComputeNodeError(f"{where}{key}: is missing or not a text")
    return value
