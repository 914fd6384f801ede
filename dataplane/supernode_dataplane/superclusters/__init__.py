"""Up to 64 supernodes joined by RDMA: topology, failures, capacity, pairs on demand, and training across them."""

from __future__ import annotations

from supernode_dataplane.superclusters.fabric import (
    MOST_SUPERNODES,
    ClusterFabric,
    ClusterFaults,
    Supercluster,
    TierCapacity,
    build_cluster_fabric,
    pair_bandwidth,
    supernode_bandwidth,
    tier_capacity,
)
from supernode_dataplane.superclusters.rings import Ring, RingResult, Traffic, share_rings
from supernode_dataplane.superclusters.solving import (
    Member,
    SpanningResult,
    SpanningWorkload,
    SuperclusterState,
    solve_supercluster,
)

__all__ = [
    "MOST_SUPERNODES",
    "ClusterFabric",
    "ClusterFaults",
    "Member",
    "Ring",
    "RingResult",
    "SpanningResult",
    "SpanningWorkload",
    "Supercluster",
    "SuperclusterState",
    "TierCapacity",
    "Traffic",
    "build_cluster_fabric",
    "pair_bandwidth",
    "share_rings",
    "solve_supercluster",
    "supernode_bandwidth",
    "tier_capacity",
]
