"""What the parallel groups of one workload cost on the links that its dies hold.

Three patterns: all-gather and reduce-scatter of a tensor group as a direct exchange (each die sends its shard to every
other one), point-to-point between pipeline stages, and rings of data parallel replicas. Each gives seconds per byte
of the slowest group (a workload goes at the pace of its slowest member), latency, and the bytes that each die port
carries per byte, so that times and link telemetry come from the same numbers. A pair of dies uses the planes that
both have, in proportion to what remains of each; a group runs at the pace of the pair that has least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.constants import LINK_EFFICIENCY, POD_EFFICIENCY
from supernode_dataplane.profile import Profile

__all__ = ["Cost", "Incast", "LinkView", "data_cost", "incast_of", "pipeline_cost", "tensor_cost"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class LinkView:
    """What one workload may use: ``ports`` (dies of the machine, planes) 0 or 1; ``share`` as fabric.plane_share.

    ``ports`` None: every die has all of its ports. With ``share`` None too all pairs are alike, and the axis of planes
    has length 1 in what follows, which is several times faster and gives the same figures.
    """

    profile: Profile
    ports: FloatArray | None
    share: FloatArray | None


@dataclass(frozen=True, slots=True)
class Cost:
    """Time and port bytes of a pattern; arrays (positions of the job, planes or 1), sent equals received on a port."""

    seconds_per_byte: float = 0.0
    latency_seconds: float = 0.0
    ports: FloatArray | float = 0.0
    """Bytes on each port per byte of the message, to and from anywhere."""
    uplinks: FloatArray | float = 0.0
    """The part of them that leaves the server."""
    rdma: bool = False
    """Whether the slowest group waits for RDMA rather than the bus."""
    remote_groups: int = 0
    """Groups that span servers."""
    groups: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Incast:
    """Bytes on their way to the hottest member of each group, per byte that every member sends it; by position."""

    size: int
    """Members of a group."""
    hot: BoolArray
    """Shape (positions, 1): which positions are the hottest of their group."""
    ports: FloatArray
    """On the ports of the sender, (positions, planes or 1); what stays in its package takes none."""
    uplinks: FloatArray
    """The part of them that leaves the server over the bus."""


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs of dies of some shape S: which path they take and the link capacity they have, in ports' worth."""

    same_package: BoolArray
    local: BoolArray
    remote: BoolArray
    weights: FloatArray
    """S + (planes,), or S + (1,) when planes are alike: share of the pair's bytes on each plane."""
    capacity: FloatArray


def _pairs(view: LinkView, a: IntArray, b: IntArray) -> _Pairs:
    profile = view.profile
    server_a, server_b = a // profile.dies_per_server, b // profile.dies_per_server
    remote = server_a != server_b
    same_package = (a // profile.dies_per_package) == (b // profile.dies_per_package)
    local = ~remote & ~same_package
    on_bus = local | remote if profile.has_bus_between_servers else local
    if view.ports is None and view.share is None:
        capacity = np.full(remote.shape, float(profile.planes))
        return _Pairs(same_package, local, remote, (on_bus / profile.planes)[..., None], capacity)
    weights = np.repeat((on_bus / profile.planes)[..., None], profile.planes, axis=-1)
    capacity = np.full(remote.shape, float(profile.planes))
    weak = _weak_pairs(view, (a, b), (server_a, server_b), remote) & on_bus
    first, second = (np.broadcast_to(die, remote.shape)[weak] for die in (a, b))
    width = np.ones((first.size, profile.planes))
    if view.ports is not None:
        width = np.minimum(view.ports[first], view.ports[second])
    if view.share is not None:
        share = view.share[first // profile.dies_per_server, second // profile.dies_per_server]
        width = np.where(remote[weak][:, None], width * share, width)
    total = width.sum(axis=-1)
    capacity[weak] = total
    weights[weak] = np.divide(width, total[:, None], out=np.zeros_like(width), where=(total > 0)[:, None])
    return _Pairs(same_package, local, remote, weights, capacity)


def _weak_pairs(
    view: LinkView, dies: tuple[IntArray, IntArray], servers: tuple[IntArray, IntArray], remote: BoolArray
) -> BoolArray:
    """Return the pairs that lack some of a plane; there are few, and only they are looked at plane by plane."""
    weak = np.zeros(remote.shape, dtype=np.bool_)
    if view.ports is not None:
        lacking: BoolArray = np.logical_or.reduce(view.ports < 1, axis=1)
        weak |= lacking[dies[0]] | lacking[dies[1]]
    if view.share is not None:
        short: BoolArray = np.logical_or.reduce(view.share < 1, axis=2)
        weak |= remote & short[servers[0], servers[1]]
    return weak


def _shift(values: NDArray[T], by: int, axis: int) -> NDArray[T]:
    """Return each one's neighbour on a ring (np.roll, at a fifth of its cost)."""
    size = values.shape[axis]
    shifted: NDArray[T] = np.take(values, (np.arange(size) + by) % size, axis=axis)
    return shifted


def _least(capacity: FloatArray, where: BoolArray) -> FloatArray:
    """Return the least capacity among the chosen pairs of each group (the last axes), inf when there is none."""
    axes = tuple(range(1, capacity.ndim))
    least: FloatArray = np.where(where, capacity, np.inf).min(axis=axes)
    return least


def _per_byte(profile: Profile, least: FloatArray, efficiency: float) -> FloatArray:
    with np.errstate(divide="ignore"):
        seconds: FloatArray = 1.0 / (least * profile.port_bytes_per_second * efficiency)
    return seconds


def _mesh(profile: Profile, peers: FloatArray | float) -> FloatArray | float:
    """Return how much longer a die of a meshed server takes: it reaches so many peers, each over one port."""
    return profile.planes / np.maximum(peers, 1) if profile.intra_server == "mesh" else 1.0


def _sio_per_byte(profile: Profile) -> float:
    return 1.0 / (profile.sio_bytes_per_second * LINK_EFFICIENCY) if profile.sio_bytes_per_second else 0.0


def _remote_per_byte(profile: Profile, least: FloatArray) -> FloatArray:
    if profile.has_bus_between_servers:
        return _per_byte(profile, least, POD_EFFICIENCY)
    rdma = 1.0 / (profile.rdma_bytes_per_second * LINK_EFFICIENCY)
    return np.where(np.isfinite(least), rdma, 0.0)


def _latency(profile: Profile, local: bool, remote: bool) -> float:
    if remote:
        return profile.pod_latency_seconds if profile.has_bus_between_servers else profile.rdma_latency_seconds
    return profile.node_latency_seconds if local else profile.sio_latency_seconds


def tensor_cost(view: LinkView, grid: IntArray) -> Cost:
    """Cost of one all-gather or reduce-scatter of the tensor groups, per byte of a shard.

    ``grid`` (pipeline, data, tensor) holds die numbers. Each member sends its shard to every other: the other die of
    its package over SIO, the rest through its ports; SIO and ports work at the same time.
    """
    profile, size = view.profile, grid.shape[2]
    if size == 1:
        return Cost()
    groups = grid.reshape(-1, size)
    pairs = _pairs(view, groups[:, :, None], groups[:, None, :])
    local_peers, remote_peers = pairs.local.sum(axis=2), pairs.remote.sum(axis=2)
    node_second = _per_byte(profile, _least(pairs.capacity, pairs.local), LINK_EFFICIENCY)[:, None]
    pod_second = _remote_per_byte(profile, _least(pairs.capacity, pairs.remote))[:, None]
    if profile.intra_server == "mesh":
        # In a full mesh every peer has a link of its own: all shards travel at once, each on one port.
        local_peers = np.where(local_peers > 0, profile.planes, 0)
    with np.errstate(invalid="ignore"):
        ports = np.where(local_peers > 0, local_peers * node_second, 0.0)
        ports = ports + np.where(remote_peers > 0, remote_peers * pod_second, 0.0)
    package = np.where(pairs.same_package.sum(axis=2) > 1, _sio_per_byte(profile), 0.0)
    seconds = np.maximum(ports, package)
    any_remote = bool(pairs.remote.any())
    planes = pairs.weights.shape[-1]
    traffic = pairs.weights.sum(axis=2).reshape(-1, planes)
    outside: FloatArray | float = 0.0
    if any_remote:
        outside = np.where(pairs.remote[..., None], pairs.weights, 0.0).sum(axis=2).reshape(-1, planes)
    return Cost(
        seconds_per_byte=float(seconds.max()),
        latency_seconds=(size - 1) * _latency(profile, bool(pairs.local.any()), any_remote),
        ports=traffic,
        uplinks=outside if profile.has_bus_between_servers else 0.0,
        rdma=any_remote and not profile.has_bus_between_servers,
        remote_groups=int(np.count_nonzero(pairs.remote.any(axis=(1, 2)))),
        groups=len(groups),
    )


def incast_of(view: LinkView, groups: IntArray) -> Incast:
    """Return the way to the hottest member of each of ``groups`` (groups, members): the first one of each is it.

    Which rank has the hottest experts no source says: one of each group stands for it.
    """
    pairs = _pairs(view, groups, groups[:, :1])
    planes = pairs.weights.shape[-1]
    outside = np.where(pairs.remote[..., None], pairs.weights, 0.0)
    if not view.profile.has_bus_between_servers:
        outside = np.zeros_like(outside)
    hot = np.zeros(groups.shape, dtype=np.bool_)
    hot[:, 0] = True
    return Incast(
        size=groups.shape[1],
        hot=hot.reshape(-1, 1),
        ports=pairs.weights.reshape(-1, planes),
        uplinks=outside.reshape(-1, planes),
    )


def pipeline_cost(view: LinkView, grid: IntArray, chunks: int) -> Cost:
    """Cost of handing one activation to the next stage; ports: per byte of one micro-batch, both directions.

    Each of ``chunks`` virtual stages hands on once forward and once back; between chunks the last hands to the first.
    """
    profile, stages = view.profile, grid.shape[0]
    if stages == 1:
        return Cost()
    following = _shift(grid, 1, 0)
    times = np.full(stages, float(chunks))
    times[-1] = chunks - 1.0
    pairs = _pairs(view, grid, following)
    used = np.broadcast_to((times > 0)[:, None, None], grid.shape)
    local, remote, package = pairs.local & used, pairs.remote & used, pairs.same_package & used
    node_second = _per_byte(profile, _least(pairs.capacity[None], local[None]), LINK_EFFICIENCY) * _mesh(profile, 1)
    pod_second = _remote_per_byte(profile, _least(pairs.capacity[None], remote[None]))
    seconds = max(float(node_second[0]), float(pod_second[0]), _sio_per_byte(profile) if package.any() else 0.0)
    weights = pairs.weights * (2.0 * times)[:, None, None, None]
    outside = np.where(remote[..., None], weights, 0.0)
    planes = weights.shape[-1]
    # A port carries what its die hands on and what it gets back: bytes over the pair are the same both ways.
    ports = (weights + _shift(weights, -1, 0)).reshape(-1, planes) / 2.0
    uplinks = (outside + _shift(outside, -1, 0)).reshape(-1, planes) / 2.0
    any_remote = bool(remote.any())
    return Cost(
        seconds_per_byte=seconds,
        latency_seconds=_latency(profile, bool(local.any()), any_remote),
        ports=ports,
        uplinks=uplinks if profile.has_bus_between_servers else 0.0,
        rdma=any_remote and not profile.has_bus_between_servers,
    )


def data_cost(view: LinkView, grid: IntArray) -> Cost:
    """Cost of a ring over data parallel replicas, per byte that a die sends; half the bytes go round either way.

    On the bus the slowest edge sets the pace. Over RDMA as many rings run as a server has members, each leaving it at
    another member, so that every network port carries an equal part of what leaves the server.
    """
    profile, size = view.profile, grid.shape[1]
    if size == 1:
        return Cost()
    rings = grid.transpose(0, 2, 1)
    pairs = _pairs(view, rings, _shift(rings, 1, 2))
    node_second = _per_byte(profile, _least(pairs.capacity, pairs.local), LINK_EFFICIENCY)
    pod_second = _remote_per_byte(profile, _least(pairs.capacity, pairs.remote))
    in_server = size / np.maximum(pairs.remote.sum(axis=2).max(axis=1), 1)
    node_second = node_second * _mesh(profile, in_server - 1)
    inside = np.maximum(node_second, np.where(pairs.same_package.any(axis=(1, 2)), _sio_per_byte(profile), 0.0))
    if profile.has_bus_between_servers:
        seconds = float(np.maximum(inside, pod_second).max())
    else:
        leaves = pairs.remote.mean(axis=2).max(axis=1)
        with np.errstate(invalid="ignore"):
            seconds = float((np.where(leaves < 1, (1 - leaves) * inside, 0.0) + leaves * pod_second).max())
    outside = np.where(pairs.remote[..., None], pairs.weights, 0.0)
    any_remote = bool(pairs.remote.any())
    return Cost(
        seconds_per_byte=seconds,
        latency_seconds=(size - 1) * _latency(profile, bool(pairs.local.any()), any_remote),
        ports=_both_ways(pairs.weights),
        uplinks=_both_ways(outside) if profile.has_bus_between_servers else 0.0,
        rdma=any_remote and not profile.has_bus_between_servers,
    )


def _both_ways(weights: FloatArray) -> FloatArray:
    """Return ring edges' weights (pipeline, tensor, data, planes) as loads by position, half of them either way."""
    load = (weights + _shift(weights, -1, 2)) / 2.0
    by_position: FloatArray = load.transpose(0, 2, 1, 3).reshape(-1, weights.shape[-1])
    return by_position
