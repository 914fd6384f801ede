"""What the agent knows of its node, and the answers that follow from it. No I/O and no clock: the caller brings both.

Three inputs meet here: ComputeNodes (what there is, what is broken, what is to be handed over), PodResources (who holds
what), and the Allocate calls since. From them follow the device lists, the preferred allocation, what Allocate grants,
the status of each ComputeNode, and which servers can be withdrawn.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from supernode_api.conditions import Reason
from supernode_deviceplugin.domain.allocations import (
    Devices,
    Holder,
    group_devices,
    held_ids,
    holders_in_status,
    settle,
)
from supernode_deviceplugin.domain.devices import (
    DIE,
    Device,
    InvalidComputeNodeError,
    Inventory,
    Server,
    build_inventory,
    parse_server,
)
from supernode_deviceplugin.domain.environment import build_environment
from supernode_deviceplugin.domain.grants import Grants
from supernode_deviceplugin.domain.health import unhealthy_dies, unhealthy_links
from supernode_deviceplugin.domain.holdings import Holdings
from supernode_deviceplugin.domain.preferred import prefer_dies, prefer_links
from supernode_deviceplugin.domain.reports import (
    Report,
    ResourceReport,
    build_invalid_status,
    build_status,
    is_released,
)

__all__ = ["DeviceList", "NodeState", "RefusedError"]

DeviceList = tuple[tuple[str, bool], ...]
"""(device id, healthy), in the order in which they are advertised."""

_log = logging.getLogger(__name__)


class RefusedError(Exception):
    """Allocate cannot be granted; the message names the device. The kubelet fails the pod's admission with it."""


class NodeState:
    """The node as far as the agent knows it."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.servers: dict[str, Server] = {}
        self.invalid: dict[str, str] = {}
        self.inventory = Inventory()
        self.holdings = Holdings(self.inventory)
        self.pod_resources_error = ""
        self.grants = Grants()
        self._allocations = self.holdings.allocations()
        self._withdrawn: set[str] = set()
        self._unhealthy: dict[str, frozenset[str]] = {}
        self._shapes: tuple[object, ...] = ()
        self._lists: dict[str, DeviceList] = {}

    # ComputeNodes

    def replace_objects(self, objects: Iterable[dict[str, Any]]) -> None:
        """Take over a complete list of the node's ComputeNodes."""
        listed = {obj["metadata"]["name"]: obj for obj in objects}
        for name in self.objects.keys() - listed.keys():
            self.remove_object(name)
        for obj in listed.values():
            self.set_object(obj)

    def set_object(self, obj: dict[str, Any]) -> None:
        """Take over one ComputeNode as it is now; one that cannot be read keeps what was known of it."""
        name, uid = obj["metadata"]["name"], str(obj["metadata"].get("uid", ""))
        previous = self.servers.get(name)
        if previous is not None and previous.uid != uid:
            self.remove_object(name)
            previous = None
        is_new = name not in self.objects
        self.objects[name] = _lean(obj)
        try:
            self.servers[name] = parse_server(obj)
            self.invalid.pop(name, None)
        except InvalidComputeNodeError as error:
            _log.error("ComputeNode cannot be read", extra={"compute_node": name, "problem": str(error)})
            if previous is not None:
                self.servers[name] = replace(previous, problems=(str(error),))
            else:
                self.invalid[name] = str(error)
            return
        if is_new and self.servers[name].deleting and is_released(_status(obj)):
            self._withdrawn.add(uid)

    def remove_object(self, name: str) -> None:
        """Forget a ComputeNode that is gone."""
        self.objects.pop(name, None)
        self.invalid.pop(name, None)
        server = self.servers.pop(name, None)
        if server is not None:
            self._withdrawn.discard(server.uid)

    def refresh(self) -> None:
        """Bring devices and health up to date with the objects; call after the object methods."""
        active = [server for server in self.servers.values() if server.uid not in self._withdrawn]
        shapes = tuple(sorted((server.uid, server.shape) for server in active))
        same = shapes == self._shapes
        if not same:
            known = {server.name for server in self.inventory.servers}
            self.inventory = build_inventory(active)
            self._shapes = shapes
            self.grants.forget_open()
            self._seed_holders(known)
        unhealthy: dict[str, set[str]] = {resource: set() for resource in self.inventory.devices}
        for listed in self.inventory.servers:
            server = self.servers[listed.name]
            unhealthy[server.npu_resource].update(server.die_id(phy) for phy in unhealthy_dies(server))
            unhealthy[server.bus_link_resource].update(server.link_id(*link) for link in unhealthy_links(server))
        before, self._unhealthy = self._unhealthy, {resource: frozenset(ids) for resource, ids in unhealthy.items()}
        if same and before == self._unhealthy:
            return  # a status was written: nothing that the lists show
        self._lists = {
            resource: tuple((device_id, device_id not in self._unhealthy[resource]) for device_id in devices)
            for resource, devices in self.inventory.devices.items()
        }

    def lists(self) -> dict[str, DeviceList]:
        """Return the full device list of every resource, as of the last :meth:`refresh`."""
        return dict(self._lists)

    def _seed_holders(self, known: set[str]) -> None:
        """Start from what an earlier run of the agent reported: a starting kubelet shows its pods one by one."""
        seeds = [
            holder
            for server in self.inventory.servers
            if server.name not in known
            for holder in holders_in_status(server, _status(self.objects[server.name]))
        ]
        merged: dict[tuple[str, str, str], Holder] = {holder.key: holder for holder in self.holders}
        for holder in seeds:
            old = merged.get(holder.key)
            pairs = [*holder.pairs(), *(old.pairs() if old else ())]
            merged[holder.key] = holder._replace(devices=group_devices(pairs))
        self._hold(sorted(merged.values(), key=lambda h: h.key))

    # who holds what

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Containers that hold devices, as far as is known."""
        return self.holdings.holders

    def _hold(self, holders: Iterable[Holder]) -> None:
        self.holdings = Holdings(self.inventory, holders, self.holdings)
        self._allocations = self.holdings.allocations()

    def set_holders(self, listed: Iterable[Holder], *, settled: bool) -> set[str]:
        """Take over an answer of PodResources; return the ComputeNodes whose allocations it changes."""
        known = {holder.key: holder for holder in self.holders}
        ours = []
        for holder in listed:
            same = known.get(holder.key)
            if same == holder:
                ours.append(same)
            elif devices := self._ours(holder):
                ours.append(holder._replace(devices=devices))
        if self.grants.any_pending:
            self.grants.seen(held_ids(ours))
        holders = settle(self.holders, ours, settled=settled)
        self.pod_resources_error = ""
        if holders == self.holders:
            return set()
        before = self._allocations
        self._hold(holders)
        return {name for name, allocations in self._allocations.items() if allocations != before.get(name)}

    def _ours(self, holder: Holder) -> Devices:
        """The devices that are ours, with our own copies of their ids: thousands are kept between two answers."""
        result = []
        for resource, ids in holder.devices:
            known = self.inventory.devices.get(resource, {})
            mine = tuple(known[device_id].id for device_id in ids if device_id in known)
            if mine:
                result.append((resource, mine))
        return tuple(result)

    def _held(self, now: float) -> frozenset[str]:
        pending = self.grants.pending(now)
        return self.holdings.ids | pending if pending else self.holdings.ids

    # the kubelet's questions

    def prefer(
        self, resource: str, available: Sequence[str], must: Sequence[str], size: int, *, now: float, mark: Hashable
    ) -> list[str]:
        """Answer GetPreferredAllocation for one container; ids that are not ours come last."""
        devices = self.inventory.devices.get(resource, {})
        free = [devices[i] for i in available if i in devices]
        included = [devices[i] for i in must if i in devices]
        missing = self._missing_links(now)
        if any(device.plane != DIE for device in (*included[:1], *free[:1])):
            chosen = prefer_links(
                free,
                included,
                size,
                planes=max(s.planes for s in self.inventory.servers if s.bus_link_resource == resource),
                free_dies=self._free_dies(resource, now),
                open_dies=self.grants.open_dies(now, mark),
                missing_links=missing,
            )
        else:
            links = self.grants.open_links(now, mark)
            chosen = prefer_dies(free, included, size, open_dies=links, missing_links=missing)
        ids = [device.id for device in chosen]
        if len(ids) < size or len(included) < len(must):
            ids = list(dict.fromkeys([*must, *ids, *sorted(available)]))[: max(size, 0)]
        return ids

    def allocate(self, resource: str, ids: Sequence[str], *, now: float, mark: Hashable) -> dict[str, str]:
        """Grant devices to a container and return its environment; RefusedError names one that is not to be had."""
        devices = self.inventory.devices.get(resource, {})
        unhealthy = self._unhealthy.get(resource, frozenset())
        granted: list[Device] = []
        for device_id in ids:
            if device_id not in devices:
                raise RefusedError(f"{resource} has no device {device_id[:80]!r} on this node")
            if device_id in unhealthy:
                raise RefusedError(f"device {device_id} of {resource} is unhealthy")
            granted.append(devices[device_id])
        self.grants.record(granted, now, mark)
        return build_environment(granted)

    def _free_dies(self, link_resource: str, now: float) -> list[Device]:
        held = self._held(now)
        resources = {s.npu_resource for s in self.inventory.servers if s.bus_link_resource == link_resource}
        return [
            die
            for resource in sorted(resources)
            for die in self.inventory.dies(resource)
            if die.id not in held and die.id not in self._unhealthy[resource]
        ]

    def _missing_links(self, now: float) -> Mapping[int, int]:
        pending = self.grants.pending(now)
        granted = [devices[i] for devices in self.inventory.devices.values() for i in pending if i in devices]
        unhealthy = [
            devices[i] for r, devices in self.inventory.devices.items() for i in self._unhealthy[r] if i in devices
        ]
        return self.holdings.missing_links(granted, unhealthy)

    # handing over

    def withdrawable(self, now: float) -> set[str]:
        """Names of the servers being deleted of which, as far as is known now, nobody holds anything."""
        if self.pod_resources_error:
            return set()
        held = self._held(now)
        busy = {
            device.server
            for devices in self.inventory.devices.values()
            for device in devices.values()
            if device.id in held
        }
        return {
            listed.name
            for position, listed in enumerate(self.inventory.servers)
            if self.servers[listed.name].deleting and position not in busy
        }

    def withdraw(self, names: Iterable[str]) -> None:
        """Take the devices of these servers off the lists for good."""
        self._withdrawn.update(self.servers[name].uid for name in names if name in self.servers)
        self.refresh()

    # status

    def plan_status(
        self,
        name: str,
        kubelet: Mapping[str, tuple[Reason, str]],
        *,
        sent: bool,
        now: str,
        monotonic: float,
    ) -> dict[str, Any] | None:
        """Return the status that ComputeNode ``name`` should get, or None when it has it.

        ``kubelet`` is resource -> (Registered or what is wrong, message), without those of which nothing is known yet;
        ``sent`` says whether the kubelet has heard of the last withdrawal.
        """
        obj = self.objects.get(name)
        if obj is None:
            return None
        current = _status(obj)
        server = self.servers.get(name)
        if server is None:
            return build_invalid_status(obj["metadata"].get("generation", 0), self.invalid[name], current, now)
        withdrawn = server.uid in self._withdrawn
        conflict = self.inventory.conflicts.get(name, "")
        served = not withdrawn and not conflict
        if served and not kubelet.keys() >= set(server.resources):
            return None
        if withdrawn and not sent and not is_released(current):
            return None  # one write says it when the kubelet has heard of it; an agent that ends before begins anew
        report = Report(
            server=server,
            resources=self._resource_reports(server, kubelet) if served else (),
            allocations=self._allocations.get(name, ()),
            conflict="" if withdrawn or server.deleting else conflict,
            pod_resources_error=self.pod_resources_error,
            released=withdrawn or (bool(conflict) and server.deleting),
            pending=len(self.grants.pending(monotonic)) if server.deleting else 0,
        )
        return build_status(report, current, now)

    def _resource_reports(
        self, server: Server, kubelet: Mapping[str, tuple[Reason, str]]
    ) -> tuple[ResourceReport, ...]:
        counts = (
            (server.npu_resource, server.dies, len(unhealthy_dies(server))),
            (server.bus_link_resource, server.dies * server.planes, len(unhealthy_links(server))),
        )
        return tuple(ResourceReport(name, total, bad, *kubelet[name]) for name, total, bad in counts)


def _lean(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what is read later: managedFields alone would be ten times as much."""
    kept = ("name", "uid", "generation", "resourceVersion")
    metadata = {key: value for key, value in obj["metadata"].items() if key in kept}
    return {"metadata": metadata, "status": dict(_status(obj))}


def _status(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    status = obj.get("status")
    return status if isinstance(status, Mapping) else {}
