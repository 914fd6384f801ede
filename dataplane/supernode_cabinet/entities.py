"""What series are about: the labels (Prometheus) and attributes (OpenTelemetry) of every die, port, chip and workload.

``hw.id`` is a path in the machine, ``hw.parent`` the path above it: machine, server, package, die, port, or machine,
server, L1 chip, uplink. The same places in numbers are ``supernode.*`` attributes and Prometheus labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from supernode_cabinet.histograms import served_workloads
from supernode_cabinet.metric import Scope
from supernode_cabinet.shard import Shard, bus_cabinet_of
from supernode_cabinet.snapshot import Snapshot, select
from supernode_dataplane.profile import Profile

__all__ = ["ATTRIBUTE_OF_LABEL", "attributes_of", "escape", "labels_of"]

Labels = tuple[tuple[str, str], ...]

ATTRIBUTE_OF_LABEL: Final[Mapping[str, str]] = {
    "supernode": "supernode.name",
    "cabinet": "supernode.cabinet",
    "server": "supernode.server",
    "die": "supernode.die",
    "plane": "supernode.plane",
    "chip": "supernode.chip",
    "port": "supernode.port",
    "module": "supernode.module",
    "workload": "supernode.workload",
    "namespace": "k8s.namespace.name",
    "pod": "k8s.pod.name",
    "container": "k8s.container.name",
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_provider_name": "gen_ai.provider.name",
    "gen_ai_request_model": "gen_ai.request.model",
    "profile": "supernode.profile",
    "digest": "supernode.model.digest",
    "version": "supernode.model.version",
}
"""OpenTelemetry attribute of a Prometheus label. Numbers are integers there."""
_NUMBERS: Final = frozenset({"cabinet", "server", "die", "plane", "chip", "port", "module"})


def labels_of(snapshot: Snapshot, scope: Scope) -> list[str]:
    """Return the label part of each series of a scope, as it stands in Prometheus text, without braces."""
    if scope in _FIXED:
        return _fixed_labels(snapshot.super_node, snapshot.profile, snapshot.shard, scope)
    return [_text(labels) for labels, _, _ in _LISTS[scope](snapshot)]


def attributes_of(snapshot: Snapshot, scope: Scope) -> Iterator[dict[str, str | int]]:
    """Yield the OpenTelemetry attributes of each series of a scope."""
    if scope in _FIXED:
        entities = _FIXED[scope](snapshot.super_node, snapshot.profile, snapshot.shard)
    else:
        entities = _LISTS[scope](snapshot)
    return (_attributes(*entity) for entity in entities)


Entity = tuple[Labels, str, str]
"""Labels, hw.id, hw.parent (the last two may be empty)."""


@lru_cache(maxsize=16)
def _fixed_labels(super_node: str, profile: Profile, shard: Shard, scope: Scope) -> list[str]:
    return [_text(labels) for labels, _, _ in _FIXED[scope](super_node, profile, shard)]


def _text(labels: Labels) -> str:
    return ",".join(f'{key}="{escape(value)}"' for key, value in labels)


def escape(value: str) -> str:
    """Escape a label value as Prometheus text needs it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _attributes(labels: Labels, identity: str, parent: str) -> dict[str, str | int]:
    values: dict[str, str | int] = {"hw.id": identity} if identity else {}
    if parent:
        values["hw.parent"] = parent
    for key, value in labels:
        values[ATTRIBUTE_OF_LABEL[key]] = int(value) if key in _NUMBERS else value
    return values


def _server_labels(super_node: str, profile: Profile, server: int) -> Labels:
    cabinet = server // profile.servers_per_cabinet
    return (("supernode", super_node), ("cabinet", str(cabinet)), ("server", str(server)))


def _servers(super_node: str, profile: Profile, shard: Shard) -> Iterator[Entity]:
    for server in shard.servers:
        yield _server_labels(super_node, profile, server), f"{super_node}/s{server:02d}", super_node


def _dies(super_node: str, profile: Profile, shard: Shard) -> Iterator[Entity]:
    for server in shard.servers:
        labels, path = _server_labels(super_node, profile, server), f"{super_node}/s{server:02d}"
        for die in range(profile.dies_per_server):
            package = f"{path}/p{die // profile.dies_per_package}"
            yield (*labels, ("die", str(die))), f"{path}/d{die:02d}", package


def _die_ports(super_node: str, profile: Profile, shard: Shard) -> Iterator[Entity]:
    for labels, path, _ in _dies(super_node, profile, shard):
        for plane in range(profile.planes):
            yield (*labels, ("plane", str(plane))), f"{path}/u{plane}", path


def _l1_chips(super_node: str, profile: Profile, shard: Shard) -> Iterator[Entity]:
    for server in shard.servers:
        labels, path = _server_labels(super_node, profile, server), f"{super_node}/s{server:02d}"
        for plane in range(profile.planes if profile.l1_chips else 0):
            yield (*labels, ("plane", str(plane))), f"{path}/l1-{plane}", path


def _uplinks(super_node: str, profile: Profile, shard: Shard) -> Iterator[Entity]:
    for labels, path, _ in _l1_chips(super_node, profile, shard):
        for port in range(profile.uplinks_per_l1):
            yield (*labels, ("port", str(port))), f"{path}/{port:02d}", path


def _l2_chips(super_node: str, profile: Profile, shard: Shard) -> Iterator[Entity]:
    for number in shard.l2_chips:
        plane, chip = divmod(number, profile.l2_chips_per_plane)
        cabinet = ("cabinet", str(bus_cabinet_of(profile, number)))
        labels = (("supernode", super_node), cabinet, ("plane", str(plane)), ("chip", str(chip)))
        yield labels, f"{super_node}/l2-{plane}-{chip:02d}", super_node


def _l2_ports(super_node: str, profile: Profile, shard: Shard) -> Iterator[Entity]:
    ports = profile.servers * profile.uplinks_per_l1 // max(profile.l2_chips_per_plane, 1)
    for labels, path, _ in _l2_chips(super_node, profile, shard):
        for port in range(ports):
            yield (*labels, ("port", str(port))), f"{path}/{port:02d}", path


def _modules(super_node: str, profile: Profile, shard: Shard) -> Iterator[Entity]:
    modules = select(profile, shard).modules.shape[1]
    for labels, path, _ in _l2_chips(super_node, profile, shard):
        for module in range(modules):
            yield (*labels, ("module", str(module))), f"{path}/m{module:02d}", path


def _workloads(snapshot: Snapshot) -> Iterator[Entity]:
    for result in snapshot.state.workloads:
        namespace, _, name = result.key.partition("/")
        yield (("supernode", snapshot.super_node), ("namespace", namespace), ("workload", name)), "", ""


def _requests(snapshot: Snapshot) -> Iterator[Entity]:
    # The conventions require operation and provider; their list of providers has none that is a machine of one's own.
    what = (("gen_ai_operation_name", "text_completion"), ("gen_ai_provider_name", "supernode"))
    for served in served_workloads(snapshot):
        who = (("supernode", snapshot.super_node), ("namespace", served.namespace), ("workload", served.name))
        yield (*who, *what, ("gen_ai_request_model", served.model)), "", ""


def _machine(snapshot: Snapshot) -> Iterator[Entity]:
    yield (("supernode", snapshot.super_node),), "", ""


def _model(snapshot: Snapshot) -> Iterator[Entity]:
    state = snapshot.state
    stamp = (("profile", state.profile), ("digest", state.digest), ("version", state.version))
    yield (("supernode", snapshot.super_node), *stamp), "", ""


def _holders(snapshot: Snapshot) -> Iterator[Entity]:
    dies = _dies(snapshot.super_node, snapshot.profile, snapshot.shard)
    for number, (labels, path, parent) in zip(snapshot.selection.dies.tolist(), dies, strict=True):
        holder = snapshot.holders.get(number)
        if holder is not None:
            who = (("namespace", holder.namespace), ("pod", holder.pod), ("container", holder.container))
            yield (*labels, *who), path, parent


_FIXED: Final[Mapping[Scope, Callable[[str, Profile, Shard], Iterator[Entity]]]] = {
    Scope.SERVER: _servers,
    Scope.DIE: _dies,
    Scope.DIE_PORT: _die_ports,
    Scope.L1_CHIP: _l1_chips,
    Scope.UPLINK: _uplinks,
    Scope.L2_CHIP: _l2_chips,
    Scope.L2_PORT: _l2_ports,
    Scope.MODULE: _modules,
}
"""What a shard always has; listed once."""
_LISTS: Final[Mapping[Scope, Callable[[Snapshot], Iterator[Entity]]]] = {
    Scope.WORKLOAD: _workloads,
    Scope.REQUEST: _requests,
    Scope.MACHINE: _machine,
    Scope.MODEL: _model,
    Scope.HOLDER: _holders,
}
"""What changes from one snapshot to the next."""
