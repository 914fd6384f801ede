"""Who holds what: from PodResources' answer to ComputeNode.status.allocations and back.

A kubelet that has just started lists no pod until it has heard from the API server, and then one after another, so
for a while an answer proves what is held and not what is free (``settle``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, NamedTuple

from supernode_api.ranges import format_ranges, parse_ranges
from supernode_deviceplugin.domain.devices import DIE, Inventory, Server

__all__ = [
    "SETTLE_SECONDS",
    "UNKNOWN_SETTLE_SECONDS",
    "Devices",
    "Holder",
    "Settling",
    "allocation_parts",
    "group_devices",
    "held_ids",
    "holders_in_status",
    "settle",
]

Devices = tuple[tuple[str, tuple[str, ...]], ...]
"""(resource, sorted ids) of each resource, sorted: compact, because every device of the node may be in it."""

SETTLE_SECONDS = 10.0
"""Age of a kubelet from which on its answer is complete, and time since it brought somebody back."""
UNKNOWN_SETTLE_SECONDS = 30.0
"""The age where the agent does not know its own pod, or is not in one."""
_YOUNG_SECONDS = 60.0


Key = tuple[str, str, str]


class Holder(NamedTuple):
    """A container and the devices that it holds."""

    namespace: str
    pod: str
    container: str
    devices: Devices

    @property
    def key(self) -> Key:
        """Namespace, pod, container."""
        return self[:3]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Each device as (resource, id)."""
        return ((resource, device_id) for resource, ids in self.devices for device_id in ids)


def group_devices(pairs: Iterable[tuple[str, str]]) -> Devices:
    """Group (resource, id) pairs into the form in which a holder has them."""
    grouped: dict[str, set[str]] = {}
    for resource, device_id in pairs:
        grouped.setdefault(resource, set()).add(device_id)
    return tuple((resource, tuple(sorted(ids))) for resource, ids in sorted(grouped.items()))


class Settling:
    """Whether an answer is complete. A kubelet that starts lists its pods one by one as it admits them anew.

    So it has to be old enough, to list the agent's own pod where that is known, and to have brought back nobody for a
    while whom it did not list before. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._own_listed = False
        self._missing: frozenset[Key] = frozenset()
        self._returned_at = float("-inf")

    def judge(
        self,
        *,
        age_seconds: float,
        own_pod: tuple[str, str] | None,
        pods: Set[tuple[str, str]],
        known: Iterable[Holder],
        listed: Iterable[Holder],
        now: float,
    ) -> bool:
        """Return whether whoever is not ``listed`` holds nothing; ``known`` are the holders so far."""
        there = {holder.key for holder in listed}
        came = self._missing & there
        if came or (own_pod in pods and not self._own_listed and age_seconds < _YOUNG_SECONDS):
            self._returned_at = now
        self._own_listed = own_pod in pods
        self._missing = frozenset(holder.key for holder in known) - there
        if own_pod is None:
            return age_seconds >= UNKNOWN_SETTLE_SECONDS and now - self._returned_at >= SETTLE_SECONDS
        return age_seconds >= SETTLE_SECONDS and self._own_listed and now - self._returned_at >= SETTLE_SECONDS


def settle(known: Iterable[Holder], listed: Iterable[Holder], *, settled: bool) -> tuple[Holder, ...]:
    """Return who holds devices now: the answer, and while it is not settled also those known before."""
    holders = {holder.key: holder for holder in listed}
    if not settled:
        taken = {pair for holder in holders.values() for pair in holder.pairs()}
        for holder in known:
            rest = group_devices(pair for pair in holder.pairs() if pair not in taken)
            if holder.key not in holders and rest:
                holders[holder.key] = holder._replace(devices=rest)
    return tuple(sorted(holders.values(), key=lambda h: h.key))


def held_ids(holders: Iterable[Holder]) -> frozenset[str]:
    """Ids of all devices that somebody holds."""
    return frozenset(device_id for holder in holders for _, device_id in holder.pairs())


def allocation_parts(inventory: Inventory, holder: Holder) -> list[tuple[str, dict[str, str]]]:
    """Return the entry of status.allocations that each ComputeNode has for a holder, by the name of the ComputeNode."""
    dies: dict[int, set[int]] = {}
    links: dict[int, set[int]] = {}
    for resource, device_id in holder.pairs():
        device = inventory.devices.get(resource, {}).get(device_id)
        if device is None:
            continue
        if device.plane == DIE:
            dies.setdefault(device.server, set()).add(device.phy)
        else:
            planes = inventory.servers[device.server].planes
            links.setdefault(device.server, set()).add(device.phy * planes + device.plane)
    named = {"namespace": holder.namespace, "pod": holder.pod, "container": holder.container}
    return [
        (
            inventory.servers[position].name,
            {
                **named,
                "dies": format_ranges(dies.get(position, ())),
                "links": format_ranges(links.get(position, ())),
            },
        )
        for position in sorted({*dies, *links})
    ]


def holders_in_status(server: Server, status: Mapping[str, Any]) -> list[Holder]:
    """Read status.allocations back, as far as it makes sense; what an earlier run of the agent wrote."""
    raw = status.get("allocations")
    holders = []
    for entry in raw if isinstance(raw, list) else []:
        try:
            dies = parse_ranges(entry.get("dies", ""), server.dies)
            links = parse_ranges(entry.get("links", ""), server.dies * server.planes)
            names = str(entry["namespace"]), str(entry["pod"]), str(entry["container"])
        except (AttributeError, KeyError, TypeError, ValueError):
            continue  # garbage: PodResources will tell
        devices = {(server.npu_resource, server.die_id(phy)) for phy in dies}
        devices |= {(server.bus_link_resource, server.link_id(*divmod(n, server.planes))) for n in links}
        holders.append(Holder(*names, group_devices(devices)))
    return holders
