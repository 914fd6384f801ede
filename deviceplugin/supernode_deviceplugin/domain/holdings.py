"""Who holds what on this node, with what the kubelet's questions need of it worked out once for each answer.

A full node has 6,144 devices that pods hold, and the kubelet asks 96 times while 48 pods start: what holds for all of
these questions is not computed in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from supernode_deviceplugin.domain.allocations import Holder, allocation_parts, held_ids
from supernode_deviceplugin.domain.devices import DIE, Device, Inventory

__all__ = ["Holdings"]

_Parts = list[tuple[str, dict[str, str]]]


class Holdings:
    """What containers hold of an inventory; ``before`` is what they held, of which whatever is the same is kept."""

    def __init__(self, inventory: Inventory, holders: Iterable[Holder] = (), before: Holdings | None = None) -> None:
        self.inventory = inventory
        self.holders: tuple[Holder, ...] = tuple(holders)
        self.ids = held_ids(self.holders)
        """Of all devices, our own and others."""
        devices = [d for known in inventory.devices.values() for d in map(known.get, self.ids & known.keys()) if d]
        self.dies = frozenset(device.die for device in devices if device.plane == DIE)
        """Dies that somebody holds."""
        self.loose = tuple(device for device in devices if device.plane != DIE and device.die not in self.dies)
        """Links that somebody holds without their die."""
        kept = before._parts if before is not None and before.inventory is inventory else {}
        self._parts: dict[Holder, _Parts] = {
            holder: kept[holder] if holder in kept else allocation_parts(inventory, holder) for holder in self.holders
        }

    def allocations(self) -> dict[str, list[dict[str, str]]]:
        """Return ComputeNode name -> status.allocations, sorted; devices of nobody's are left out."""
        result: dict[str, list[dict[str, str]]] = {server.name: [] for server in self.inventory.servers}
        for holder in sorted(self.holders, key=lambda h: h.key):
            for name, entry in self._parts[holder]:
                result[name].append(entry)
        return result

    def missing_links(self, pending: Iterable[Device], unhealthy: Iterable[Device]) -> Mapping[int, int]:
        """Return server -> links of dies that nobody holds which are broken or held all the same.

        ``pending`` devices are held too, although no answer has shown them yet.
        """
        granted = tuple(pending)
        taken = {device.die for device in granted if device.plane == DIE}
        missing: dict[int, int] = {}
        for device in {*self.loose, *granted, *unhealthy}:
            if device.plane != DIE and device.die not in self.dies and device.die not in taken:
                missing[device.server] = missing.get(device.server, 0) + 1
        return missing
