"""How metrics read their values from a snapshot: small functions over the shard's part of the machine's arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from supernode_cabinet.metric import Read, Values
from supernode_cabinet.snapshot import Snapshot
from supernode_dataplane.figures import machine_performance, workload_performance
from supernode_dataplane.state import WorkloadResult

__all__ = [
    "one",
    "one_for_each_holder",
    "read_dies",
    "read_failed",
    "read_hbm_share",
    "read_l1",
    "read_l2",
    "read_l2_ports",
    "read_limit",
    "read_machine",
    "read_module_links",
    "read_modules",
    "read_performance",
    "read_servers",
    "read_share",
    "read_share_of_module",
    "read_workloads",
]


def read_dies(name: str) -> Read:
    """Read a field of DeviceState, per die or per die port."""

    def values(snapshot: Snapshot) -> Values:
        array: Values = getattr(snapshot.state.devices, name)
        return array[snapshot.selection.dies].ravel()

    return values


def read_hbm_share(snapshot: Snapshot) -> Values:
    """Read used over total HBM of each die."""
    devices, dies = snapshot.state.devices, snapshot.selection.dies
    share: Values = devices.hbm_used_bytes[dies] / np.maximum(devices.hbm_total_bytes[dies], 1.0)
    return share


def read_l1(name: str) -> Read:
    """Read a field of FabricState, per L1 chip or per uplink."""

    def values(snapshot: Snapshot) -> Values:
        array: Values = getattr(snapshot.state.fabric, name)
        return array[snapshot.selection.l1_chips].ravel()

    return values


def read_l2(name: str) -> Read:
    """Read a field of FabricState, per L2 chip."""

    def values(snapshot: Snapshot) -> Values:
        array: Values = getattr(snapshot.state.fabric, name)
        return array[snapshot.selection.l2_chips].ravel()

    return values


def read_l2_ports(name: str) -> Read:
    """Read a field of FabricState about uplinks, per L2 port: the other end of the same cable."""

    def values(snapshot: Snapshot) -> Values:
        array: Values = getattr(snapshot.state.fabric, name)
        return array.ravel()[snapshot.selection.l2_port_uplinks].ravel()

    return values


def read_modules(name: str) -> Read:
    """Read a field of FabricState about optical modules, per module at an L2 chip."""

    def values(snapshot: Snapshot) -> Values:
        array: Values = getattr(snapshot.state.fabric, name)
        return array[snapshot.selection.modules].ravel()

    return values


def read_module_links(name: str, reduce: Callable[..., Any]) -> Read:
    """Read a field of FabricState about uplinks, reduced over those that each optical module at an L2 chip carries."""

    def values(snapshot: Snapshot) -> Values:
        array: Values = getattr(snapshot.state.fabric, name)
        links = array.ravel()[snapshot.selection.module_uplinks]
        return np.asarray(reduce(links, axis=2)).ravel()

    return values


def read_share_of_module(rate: Read) -> Read:
    """Read an optical module's rate as a share of what its links carry together."""

    def values(snapshot: Snapshot) -> Values:
        links = max(snapshot.selection.module_uplinks.shape[2], 1)
        share: Values = rate(snapshot) / (links * snapshot.profile.port_bytes_per_second)
        return share

    return values


def read_failed(healthy: Read) -> Read:
    """Read the opposite of a flag."""
    return lambda snapshot: ~healthy(snapshot)


def read_share(rate: Read) -> Read:
    """Read a port's rate as a share of what a port carries."""
    return lambda snapshot: rate(snapshot) / snapshot.profile.port_bytes_per_second


def read_limit(rate: Read) -> Read:
    """Read what each port carries at most."""
    return lambda snapshot: np.full(rate(snapshot).shape, snapshot.profile.port_bytes_per_second)


def read_servers(name: str, reduce: Callable[..., Any]) -> Read:
    """Read a field of DeviceState, reduced over each server's dies (and ports)."""

    def values(snapshot: Snapshot) -> Values:
        array: Values = getattr(snapshot.state.devices, name)
        of_server = snapshot.profile.dies_per_server * (array.shape[1] if array.ndim > 1 else 1)
        mine = array[snapshot.selection.dies].reshape(len(snapshot.shard.servers), of_server)
        return np.asarray(reduce(mine, axis=1))

    return values


def read_workloads(value: Callable[[WorkloadResult], float]) -> Read:
    """Read a count of every workload."""
    return lambda snapshot: np.asarray([float(value(result)) for result in snapshot.state.workloads])


def read_performance(key: str, factor: float = 1.0) -> Read:
    """Read a figure of every workload, times a factor to the base unit: the very figures of its status.

    0 where the workload has no such figure (a training run has no time to first token).
    """
    return lambda snapshot: np.asarray(
        [float(workload_performance(result).get(key, "0")) * factor for result in snapshot.state.workloads]
    )


def read_machine(key: str, factor: float = 1.0) -> Read:
    """Read a figure of the machine, times a factor to the base unit: the very figures of its status."""
    return lambda snapshot: np.asarray([float(machine_performance(snapshot.state)[key]) * factor])


def one(_: Snapshot) -> Values:
    """Read 1: the information is in the labels."""
    return np.ones(1, dtype=np.int64)


def one_for_each_holder(snapshot: Snapshot) -> Values:
    """Read 1 for each die of the shard that a container holds."""
    held = sum(int(die) in snapshot.holders for die in snapshot.selection.dies)
    return np.ones(held, dtype=np.int64)
