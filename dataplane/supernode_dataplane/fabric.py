"""The Unified Bus as arrays: die ports and uplinks, what is broken, and what remains per pair, tier and plane.

A die has one port on each plane. Inside a server the ports of a plane meet in its L1 chip; between servers they go
through the L1 chip's uplinks, of which port j is wired to L2 chip j of that plane. So a pair of dies keeps a plane
while both ports and L1 chips work, and across servers the share of L2 chips that both servers reach. Nothing here is
stored for all pairs: pairs are computed on demand.

CPUs have no ports of their own here: what they send over the bus takes from the uplinks of their server, evenly from
all that are up. The figure is what they do send, so dies get what is left; where little is left both get a half.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.constants import POD_EFFICIENCY
from supernode_dataplane.machine import ServerInput
from supernode_dataplane.profile import Profile

__all__ = [
    "Fabric",
    "TierBandwidth",
    "build_fabric",
    "cpu_share",
    "cpu_traffic",
    "pair_bandwidth",
    "plane_share",
    "servers_short",
    "tier_bandwidth",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
_MOST_CPU_SHARE: Final = 0.5
"""Of a server's uplinks that CPUs take where less is up than they and the dies ask for."""


@dataclass(frozen=True, slots=True)
class Fabric:
    """What works. ``ports`` (dies, planes) counts the L1 chip in; ``uplinks`` (servers, planes, ports) too."""

    profile: Profile
    healthy: BoolArray
    ports: BoolArray
    uplinks: BoolArray
    l1: BoolArray
    """Shape (servers, planes)."""
    uplinks_broken: bool
    """Whether any uplink is broken by itself, not merely with its L1 chip."""
    short: BoolArray
    """Shape (servers,): which lack uplinks of an L1 chip that works."""

    @property
    def common(self) -> FloatArray | None:
        """Uplinks' worth between two servers on each plane, (servers, servers, planes); None when all uplinks work."""
        return _common(self.uplinks) if self.uplinks_broken else None

    @property
    def bandwidth(self) -> float:
        """Bytes per second of all die ports that are up, one way."""
        return float(np.count_nonzero(self.ports)) * self.profile.port_bytes_per_second


def build_fabric(profile: Profile, servers: Iterable[ServerInput]) -> Fabric:
    """Return what works with these faults in force; servers that are not named have none."""
    per_server, planes = profile.dies_per_server, profile.planes
    healthy = np.ones((profile.servers, per_server), dtype=np.bool_)
    ports = np.ones((profile.servers, per_server, planes), dtype=np.bool_)
    l1 = np.ones((profile.servers, planes if profile.l1_chips else 0), dtype=np.bool_)
    uplinks = np.ones((*l1.shape, profile.uplinks_per_l1), dtype=np.bool_)
    uplinks_broken = False
    for entry in servers:
        if not 0 <= entry.server < profile.servers:
            continue
        for die in entry.dies:
            if die < per_server:
                healthy[entry.server, die] = False
        for die, plane in entry.ports:
            if die < per_server and plane < planes:
                ports[entry.server, die, plane] = False
        for plane, port in entry.uplinks:
            if plane < uplinks.shape[1] and port < uplinks.shape[2]:
                uplinks[entry.server, plane, port] = False
                uplinks_broken = True
        for plane in entry.l1:
            if plane < l1.shape[1]:
                l1[entry.server, plane] = False
                ports[entry.server, :, plane] = False
                uplinks[entry.server, plane] = False
    short = np.logical_or.reduce(~uplinks & l1[:, :, None], axis=(1, 2))
    return Fabric(profile, healthy.reshape(-1), ports.reshape(-1, planes), uplinks, l1, uplinks_broken, short)


def _common(uplinks: BoolArray) -> FloatArray:
    """Return the L2 chips that both of two servers reach, (servers, servers, planes), from uplinks of some servers.

    A server whose whole L1 chip is dead has no port there.
    """
    up = uplinks.astype(np.float64)
    common: FloatArray = np.matmul(up.transpose(1, 0, 2), up.transpose(1, 2, 0)).transpose(1, 2, 0)
    return common


def servers_short(fabric: Fabric, dies: IntArray) -> list[int]:
    """Return the servers of these dies that lack uplinks of an L1 chip that works, ascending."""
    if not fabric.uplinks_broken:
        return []
    used = np.bincount(dies // fabric.profile.dies_per_server, minlength=fabric.profile.servers) > 0
    found: list[int] = np.flatnonzero(used & fabric.short).tolist()
    return found


def cpu_traffic(fabric: Fabric) -> FloatArray:
    """Return what the CPUs of each server send over the bus, and get, bytes per second: shape (servers, planes)."""
    profile = fabric.profile
    if not profile.cpu_bytes_per_second or not fabric.uplinks.size:
        return np.zeros((profile.servers, profile.planes))
    up = fabric.uplinks.sum(axis=2).astype(np.float64)
    total = up.sum(axis=1, keepdims=True)
    each = np.divide(profile.cpu_bytes_per_second, total, out=np.zeros_like(total), where=total > 0)
    traffic: FloatArray = up * np.minimum(each, _MOST_CPU_SHARE * profile.port_bytes_per_second * POD_EFFICIENCY)
    return traffic


def cpu_share(fabric: Fabric) -> FloatArray | None:
    """Return the share of the uplinks that CPUs leave to dies, (servers, planes); None when they send nothing."""
    if not fabric.profile.cpu_bytes_per_second:
        return None
    traffic = cpu_traffic(fabric)
    capacity = fabric.uplinks.sum(axis=2) * (fabric.profile.port_bytes_per_second * POD_EFFICIENCY)
    share: FloatArray = 1.0 - np.divide(traffic, capacity, out=np.zeros_like(traffic), where=capacity > 0)
    return share


def plane_share(
    profile: Profile, active: FloatArray, uplinks: BoolArray | None, free: FloatArray | None
) -> FloatArray | None:
    """Return the share of a port's rate that a die gets between two servers of a job, (servers, servers, planes).

    The servers are those of the job: ``active`` (servers,) counts their dies that send at once; ``uplinks`` (servers,
    planes, ports) says which work and ``free`` (servers, planes) the share of them that other workloads leave, None
    for all. None means all of it everywhere: the Clos is 1:1.
    """
    ports = float(profile.uplinks_per_l1)
    alone = active.size < 2  # nothing of it leaves its server
    if alone or (free is None and uplinks is None and float(active.max()) <= ports):
        return None
    common = ports if uplinks is None else _common(uplinks)
    senders = np.maximum(active[:, None], active[None, :])[:, :, None]
    left: FloatArray | float = 1.0 if free is None else np.minimum(free[:, None, :], free[None, :, :])
    share: FloatArray = np.minimum(1.0, common * left / senders)
    return None if (share >= 1.0).all() else share


@dataclass(frozen=True, slots=True)
class TierBandwidth:
    """Nominal bandwidth that remains of each plane, one way, bytes per second: arrays of shape (planes,)."""

    node: FloatArray
    """Of the die ports that are up: what dies send inside servers and out of them."""
    pod: FloatArray
    """Of the uplinks that are up: what leaves servers over the bus; 0 where only RDMA does."""


def tier_bandwidth(fabric: Fabric) -> TierBandwidth:
    """Return what remains of each tier and plane; of a pair of dies :func:`pair_bandwidth` says it."""
    profile = fabric.profile
    node = fabric.ports.sum(axis=0) * profile.port_bytes_per_second
    pod = np.zeros(profile.planes)
    if fabric.uplinks.size:
        pod = fabric.uplinks.sum(axis=(0, 2)) * profile.port_bytes_per_second
    return TierBandwidth(node, pod)


def pair_bandwidth(fabric: Fabric, a: int, b: int) -> Mapping[str, float]:
    """Return the nominal bandwidth that remains between two dies, one way, in bytes per second by path.

    Keys: ``sio`` (the other die of the package), ``plane-<k>`` for each plane that remains, ``rdma``. A die alone
    on the fabric; shares of others are not deducted.
    """
    profile = fabric.profile
    server_a, server_b = a // profile.dies_per_server, b // profile.dies_per_server
    if a // profile.dies_per_package == b // profile.dies_per_package:
        return {"sio": profile.sio_bytes_per_second}
    if server_a != server_b and not profile.has_bus_between_servers:
        return {"rdma": profile.rdma_bytes_per_second}
    paths, common = {}, fabric.common
    for plane in range(profile.planes):
        share = float(fabric.ports[a, plane] and fabric.ports[b, plane])
        if server_a != server_b and common is not None:
            share *= min(1.0, float(common[server_a, server_b, plane]))
        if share:
            paths[f"plane-{plane}"] = share * profile.port_bytes_per_second
    return paths
