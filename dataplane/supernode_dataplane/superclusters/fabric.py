"""The RDMA network between supernodes as arrays: network ports, leaves, spines, and what remains of them.

Every package has one network port (400 Gbit/s on a 910C: 200 for each die). Ports of packages with the same number in
their servers form a rail; rails are independent. A supernode has one leaf switch on each rail, with a port for each of
its servers and servers / oversubscription links up, one to each spine of the rail::

    package r of each of 48 servers ── leaf (supernode, rail r) ── 48 / o spines of rail r ── leaves of other supernodes

So 64 supernodes of 48 servers with 8 packages have 512 leaves and, at 1:1, 384 spines of 64 ports. Packages on
different rails meet in the sender's server: its bus takes the message to the package on the receiver's rail. Nothing is
stored for all pairs. The topology is assumed; published is the 400 Gbit/s a package (arXiv 2506.12708). Traffic is
spread evenly over the spines that both leaves reach; collisions of hashed flows are not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.profile import Profile

__all__ = [
    "MOST_SUPERNODES",
    "ClusterFabric",
    "ClusterFaults",
    "Supercluster",
    "TierCapacity",
    "build_cluster_fabric",
    "pair_bandwidth",
    "supernode_bandwidth",
    "tier_capacity",
]

MOST_SUPERNODES: Final = 64
"""As many as a spine with 64 ports reaches."""
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Supercluster:
    """So many equal supernodes on a two-level network; raises ValueError for what cannot be wired."""

    profile: Profile
    supernodes: int
    oversubscription: int = 1
    """Ports of a leaf to its servers over its links to spines."""

    def __post_init__(self) -> None:
        if not 1 <= self.supernodes <= MOST_SUPERNODES:
            raise ValueError(f"supernodes must be from 1 to {MOST_SUPERNODES}, not {self.supernodes}")
        if self.oversubscription < 1 or self.profile.servers % self.oversubscription:
            raise ValueError(
                f"oversubscription must be a whole number that divides the {self.profile.servers} servers of a "
                f"supernode, not {self.oversubscription}"
            )

    @property
    def rails(self) -> int:
        """Independent networks: one for each package of a server."""
        return self.profile.dies_per_server // self.profile.dies_per_package

    @property
    def spines_per_rail(self) -> int:
        """Spines of a rail, each with a link to every leaf of it."""
        return self.profile.servers // self.oversubscription

    @property
    def leaves(self) -> int:
        """Leaf switches of the cluster."""
        return self.supernodes * self.rails

    @property
    def spines(self) -> int:
        """Spine switches of the cluster."""
        return self.rails * self.spines_per_rail

    @property
    def links(self) -> int:
        """Links between leaves and spines."""
        return self.leaves * self.spines_per_rail

    @property
    def packages(self) -> int:
        """Packages, and network ports, of the cluster."""
        return self.supernodes * self.profile.packages

    @property
    def dies(self) -> int:
        """Dies of the cluster."""
        return self.supernodes * self.profile.dies

    @property
    def port_bytes_per_second(self) -> float:
        """Of one package's network port, one way; a link between leaf and spine is as fast."""
        return self.profile.dies_per_package * self.profile.rdma_bytes_per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFaults:
    """What is broken between supernodes; numbers that the cluster does not have are left out."""

    ports: tuple[tuple[int, int, int], ...] = ()
    """Network ports: supernode, server, rail."""
    links: tuple[tuple[int, int, int], ...] = ()
    """Links between leaf and spine: supernode, rail, spine."""
    leaves: tuple[tuple[int, int], ...] = ()
    """Supernode, rail."""
    spines: tuple[tuple[int, int], ...] = ()
    """Rail, spine."""


@dataclass(frozen=True, slots=True)
class ClusterFabric:
    """What works: a port or link counts while the switches at its ends do."""

    cluster: Supercluster
    ports: BoolArray
    """Shape (supernodes, servers, rails)."""
    links: BoolArray
    """Shape (supernodes, rails, spines of a rail)."""

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return self.ports.nbytes + self.links.nbytes


@dataclass(frozen=True, slots=True)
class TierCapacity:
    """Bytes per second one way, over the whole cluster."""

    ports: float
    """Of the network ports that work."""
    links: float
    """Of the links between leaves and spines that work."""
    usable: float
    """What all supernodes together can send to others: of each leaf the lesser of both sides."""


def build_cluster_fabric(cluster: Supercluster, faults: ClusterFaults | None = None) -> ClusterFabric:
    """Return what works with these faults."""
    given = faults or ClusterFaults()
    ports = np.ones((cluster.supernodes, cluster.profile.servers, cluster.rails), dtype=np.bool_)
    links = np.ones((cluster.supernodes, cluster.rails, cluster.spines_per_rail), dtype=np.bool_)
    for port in given.ports:
        if _inside(port, ports.shape):
            ports[port] = False
    for link in given.links:
        if _inside(link, links.shape):
            links[link] = False
    for supernode, rail in given.leaves:
        if _inside((supernode, rail), links.shape):
            ports[supernode, :, rail] = False
            links[supernode, rail] = False
    for rail, spine in given.spines:
        if _inside((0, rail, spine), links.shape):
            links[:, rail, spine] = False
    return ClusterFabric(cluster, ports, links)


def _inside(numbers: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return all(0 <= number < size for number, size in zip(numbers, shape, strict=False))


def tier_capacity(fabric: ClusterFabric) -> TierCapacity:
    """Return what the failures leave of each tier."""
    rate = fabric.cluster.port_bytes_per_second
    ports, links = fabric.ports.sum(axis=1), fabric.links.sum(axis=2)
    return TierCapacity(
        float(ports.sum()) * rate, float(links.sum()) * rate, float(np.minimum(ports, links).sum()) * rate
    )


def supernode_bandwidth(fabric: ClusterFabric, a: int, b: int) -> float:
    """Return what supernode ``a`` can send to ``b`` over all rails when nothing else moves, bytes per second."""
    if a == b:
        raise ValueError("a supernode talks to itself over its bus, not over this network")
    common = (fabric.links[a] & fabric.links[b]).sum(axis=1)
    ports = np.minimum(fabric.ports[a].sum(axis=0), fabric.ports[b].sum(axis=0))
    return float(np.minimum(common, ports).sum()) * fabric.cluster.port_bytes_per_second


def pair_bandwidth(fabric: ClusterFabric, a: tuple[int, int], b: tuple[int, int]) -> Mapping[str, float]:
    """Return the nominal bandwidth between two dies (supernode, die) of different supernodes, bytes per second by path.

    The key is ``rdma``; there is none when a port or every common spine is broken. A die has its part of its package's
    port. Inside one supernode ask :func:`supernode_dataplane.fabric.pair_bandwidth`; ValueError says so.
    """
    cluster, profile = fabric.cluster, fabric.cluster.profile
    if a[0] == b[0]:
        raise ValueError("both dies are in one supernode: they talk over its bus")
    for supernode, die in (a, b):
        if not (0 <= supernode < cluster.supernodes and 0 <= die < profile.dies):
            raise ValueError(f"there is no die {die} of supernode {supernode} in this cluster")
    rail = b[1] % profile.dies_per_server // profile.dies_per_package
    ends = ((supernode, die // profile.dies_per_server, rail) for supernode, die in (a, b))
    common = int(np.count_nonzero(fabric.links[a[0], rail] & fabric.links[b[0], rail]))
    if not common or not all(fabric.ports[end] for end in ends):
        return {}
    return {"rdma": profile.rdma_bytes_per_second}
