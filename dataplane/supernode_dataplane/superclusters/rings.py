"""Rings of data parallel replicas across supernodes, several at once on one network.

    ring = 2 (n - 1) a + bytes / rate          bytes that a supernode sends, rate of the slowest edge, summed over rails

Gradients are first summed inside each supernode over its bus, so the ports of all its packages share the rest: bytes go
over the rails in proportion to what each can carry, and over the spines that both ends reach. Rings share links by
bytes: each sees what the others leave over a step, at least its part by ports, in a few rounds of a fixed point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.constants import GRADIENT_OVERLAP, LINK_EFFICIENCY
from supernode_dataplane.superclusters.fabric import ClusterFabric

__all__ = ["Ring", "RingResult", "Traffic", "share_rings"]

_ROUNDS: Final = 8
_SETTLED: Final = 1e-4
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """One workload's ring: supernodes in order, the servers that it has in each, and what it sends."""

    key: str
    supernodes: tuple[int, ...]
    servers: tuple[tuple[int, ...], ...]
    bytes_per_step: float
    """That each supernode sends to the next in a step."""
    step_seconds: float
    """Of a step without the ring."""
    hidden_behind_seconds: float
    """Compute of a step that the ring may hide behind: what no transfer inside a supernode hides behind."""


@dataclass(frozen=True, slots=True)
class RingResult:
    """One ring at its pace."""

    key: str
    bytes_per_second: float
    """Of the slowest edge while it moves, over all rails; 0 when there is no way."""
    ring_seconds: float
    exposed_seconds: float
    step_seconds: float
    """With what is exposed; inf when there is no way."""
    contended: bool
    """Whether other rings leave it less than it could use."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Means over a step, bytes per second; what a port sends it also receives."""

    ports: FloatArray
    """Shape (supernodes, servers, rails)."""
    links_up: FloatArray
    """From leaf to spine, shape (supernodes, rails, spines)."""
    links_down: FloatArray
    """From spine to leaf."""


@dataclass(frozen=True, slots=True)
class _Flow:
    """A ring at some pace: rates by rail and what it puts on links, shape (edges, rails, spines)."""

    result: RingResult
    by_rail: FloatArray
    """Mean over a step, bytes per second, of each edge."""
    edges: FloatArray


def share_rings(fabric: ClusterFabric, rings: Sequence[Ring]) -> tuple[tuple[RingResult, ...], Traffic]:
    """Return the pace of every ring, and what all of them put on ports and links."""
    alone = [_flow(fabric, ring, None, None) for ring in rings]
    flows = list(alone)
    fair = _fair(fabric, rings)
    for _ in range(_ROUNDS if len(rings) > 1 else 0):
        loads = _loads(fabric, rings, flows)
        before = flows
        flows = [
            _flow(fabric, ring, _left(fabric, ring, flow, loads, share), first.result)
            for ring, flow, share, first in zip(rings, before, fair, alone, strict=True)
        ]
        old, new = ([flow.result.step_seconds for flow in side] for side in (before, flows))
        if np.allclose(old, new, rtol=_SETTLED):
            break
    results = tuple(flow.result for flow in flows)
    return results, Traffic(_port_loads(fabric, rings, flows), *_loads(fabric, rings, flows))


def _ends(ring: Ring) -> tuple[IntArray, IntArray]:
    """Return the supernodes at both ends of each edge."""
    tails = np.array(ring.supernodes, dtype=np.int64)
    return tails, np.roll(tails, -1)


def _ports(fabric: ClusterFabric, ring: Ring) -> IntArray:
    """Return how many of its ports work, (members, rails)."""
    each = [fabric.ports[s, list(held)].sum(axis=0) for s, held in zip(ring.supernodes, ring.servers, strict=True)]
    return np.array(each, dtype=np.int64)


def _fair(fabric: ClusterFabric, rings: Sequence[Ring]) -> list[FloatArray]:
    """Return each ring's part of the ports that rings have on a leaf, (members, rails)."""
    total = np.zeros((fabric.cluster.supernodes, fabric.cluster.rails))
    own = [_ports(fabric, ring).astype(np.float64) for ring in rings]
    for ring, ports in zip(rings, own, strict=True):
        np.add.at(total, list(ring.supernodes), ports)
    return [ports / np.maximum(total[list(ring.supernodes)], 1.0) for ring, ports in zip(rings, own, strict=True)]


def _left(
    fabric: ClusterFabric, ring: Ring, flow: _Flow, loads: tuple[FloatArray, FloatArray], fair: FloatArray
) -> FloatArray:
    """Return the share of each edge's links that others leave, (edges, rails, spines)."""
    rate = fabric.cluster.port_bytes_per_second * LINK_EFFICIENCY
    tails, heads = _ends(ring)
    sent = np.maximum(1.0 - (loads[0][tails] - flow.edges) / rate, fair[:, :, None])
    received = np.maximum(1.0 - (loads[1][heads] - flow.edges) / rate, np.roll(fair, -1, axis=0)[:, :, None])
    share: FloatArray = np.clip(np.minimum(sent, received), 0.0, 1.0)
    return share


def _flow(fabric: ClusterFabric, ring: Ring, left: FloatArray | None, alone: RingResult | None) -> _Flow:
    """Return the ring's pace on what others leave (None: all of it)."""
    cluster = fabric.cluster
    rate = cluster.port_bytes_per_second * LINK_EFFICIENCY
    tails, heads = _ends(ring)
    width = (fabric.links[tails] & fabric.links[heads]).astype(np.float64)
    if left is not None:
        width *= left
    ports = _ports(fabric, ring).astype(np.float64)
    edges = np.minimum(np.minimum(ports, np.roll(ports, -1, axis=0)), width.sum(axis=2)) * rate
    by_rail: FloatArray = edges.min(axis=0)
    total = float(by_rail.sum())
    if total <= 0 and ring.bytes_per_step > 0:
        nothing = np.zeros_like(width)
        return _Flow(RingResult(ring.key, 0.0, np.inf, np.inf, np.inf, False), np.zeros(cluster.rails), nothing)
    latency = 2.0 * (len(ring.supernodes) - 1) * cluster.profile.rdma_latency_seconds
    seconds = latency + (ring.bytes_per_step / total if ring.bytes_per_step else 0.0)
    exposed = max((1.0 - GRADIENT_OVERLAP) * seconds, seconds - ring.hidden_behind_seconds)
    step = ring.step_seconds + exposed
    mean = by_rail / total * ring.bytes_per_step / step if total else np.zeros(cluster.rails)
    widest = np.maximum(width.sum(axis=2, keepdims=True), 1e-30)
    slower = alone is not None and step > alone.step_seconds * (1 + 1e-6)
    return _Flow(RingResult(ring.key, total, seconds, exposed, step, slower), mean, width / widest * mean[:, None])


def _loads(fabric: ClusterFabric, rings: Sequence[Ring], flows: Sequence[_Flow]) -> tuple[FloatArray, FloatArray]:
    up, down = np.zeros(fabric.links.shape), np.zeros(fabric.links.shape)
    for ring, flow in zip(rings, flows, strict=True):
        tails, heads = _ends(ring)
        np.add.at(up, tails, flow.edges)
        np.add.at(down, heads, flow.edges)
    return up, down


def _port_loads(fabric: ClusterFabric, rings: Sequence[Ring], flows: Sequence[_Flow]) -> FloatArray:
    """Return what each port sends: a ring's bytes on a rail are spread evenly over its ports there that work."""
    loads = np.zeros(fabric.ports.shape)
    for ring, flow in zip(rings, flows, strict=True):
        for supernode, held in zip(ring.supernodes, ring.servers, strict=True):
            up = fabric.ports[supernode, list(held)]
            each = np.divide(flow.by_rail, up.sum(axis=0), out=np.zeros_like(flow.by_rail), where=up.any(axis=0))
            loads[supernode, list(held)] += up * each
    return loads
