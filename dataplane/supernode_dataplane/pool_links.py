"""The links of groups of dies that exchange evenly: what the worst pair keeps, and what each port carries.

A pair of dies in different packages uses the planes that both have, between servers in proportion to the uplinks that
remain of each plane. A group goes at the pace of its worst pair, and groups of a pool at that of the worst group. Dies
of a group that have the same ports on the same server are alike and are looked at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.communication import LinkView
from supernode_dataplane.hardware import Hardware
from supernode_dataplane.profile import Profile

__all__ = ["PoolLinks", "pool_links"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PoolLinks:
    """What groups of dies have; equal only to itself."""

    node_share: float
    """Share of a die's bandwidth inside a server that the worst pair keeps; 1 without such a pair."""
    pod_share: float
    """The same between servers."""
    dies_per_server: int
    """Members of a group that are together on a server, in the most scattered group."""
    dies_per_card: int
    scattered: int
    """Groups that are on more servers than they need."""
    local: FloatArray
    """Bytes on each port per byte that a die sends evenly to its group (itself counted in), to the same server."""
    remote: FloatArray
    """The same to other servers over the bus; both have shape (dies, planes), dies in the order of the groups."""

    def apply(self, hardware: Hardware) -> Hardware:
        """Return the hardware with these shares and this packing."""
        scaled = hardware.scaled(node=self.node_share, pod=self.pod_share)
        if (self.dies_per_server, self.dies_per_card) == (scaled.dies_per_server, scaled.dies_per_card):
            return scaled
        return replace(
            scaled,
            dies_per_server=min(scaled.dies_per_server, self.dies_per_server),
            dies_per_card=min(scaled.dies_per_card, self.dies_per_card),
        )


def pool_links(view: LinkView, groups: IntArray) -> PoolLinks:
    """Return the links of ``groups`` (groups, members), die numbers.

    Places and faults change seldom, so the last ones are kept.
    """
    ports, share = (None if array is None else array.tobytes() for array in (view.ports, view.share))
    return _pool_links(view.profile, (groups.shape, groups.tobytes()), ports, share)


@lru_cache(maxsize=64)
def _pool_links(
    profile: Profile, place: tuple[tuple[int, ...], bytes], ports: bytes | None, share: bytes | None
) -> PoolLinks:
    groups = np.frombuffer(place[1], dtype=np.int64).reshape(place[0])
    servers, planes = profile.servers, profile.planes
    up = None if ports is None else np.frombuffer(ports).reshape(profile.dies, planes)
    shares = None if share is None else np.frombuffer(share).reshape(servers, servers, planes)
    found = _whole(profile, groups)
    if up is None and shares is None:
        return found
    size, local, remote = groups.shape[1], found.local.copy(), found.remote.copy()
    node, pod = 1.0, 1.0
    for number, members in enumerate(groups):
        if size == 1 or not _is_weak(profile, members, up, shares):
            continue
        worst, near, far = _weak_group(profile, members, up, shares)
        node, pod = min(node, worst[0]), min(pod, worst[1])
        at = slice(number * size, number * size + size)
        local[at], remote[at] = near, far
    return replace(found, node_share=node, pod_share=pod, local=local, remote=remote)


def _whole(profile: Profile, groups: IntArray) -> PoolLinks:
    """Return the links when all of them work."""
    count, size = groups.shape
    number = np.repeat(np.arange(count, dtype=np.int64), size)
    dies = groups.reshape(-1)
    together = {}
    for name, per in (("server", profile.dies_per_server), ("package", profile.dies_per_package)):
        keys = number * profile.dies + dies // per
        _, index, first, members = _unique(keys)
        together[name] = (members[index], np.bincount(number[first], minlength=count))
    near, in_package = together["server"][0], together["package"][0]
    each = np.full(profile.planes, 1.0 / profile.planes)
    local = ((near - in_package) / size)[:, None] * each
    remote = ((size - near) / size if profile.has_bus_between_servers else np.zeros(dies.size))[:, None] * each
    spread, packages = together["server"][1], together["package"][1]
    scattered = spread > -(-size // profile.dies_per_server)
    loose = packages > -(-size // profile.dies_per_package)
    return PoolLinks(
        node_share=1.0,
        pod_share=1.0,
        dies_per_server=max(1, size // int(spread[scattered].max())) if scattered.any() else profile.dies_per_server,
        dies_per_card=max(1, size // int(packages[loose].max())) if loose.any() else profile.dies_per_package,
        scattered=int(np.count_nonzero(scattered)),
        local=local,
        remote=remote,
    )


def _unique(keys: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Return the different keys, the index of each key among them, where each comes first, and how often."""
    values, first, index, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    return values, index.reshape(-1), first, counts


def _is_weak(profile: Profile, members: IntArray, up: FloatArray | None, shares: FloatArray | None) -> bool:
    if up is not None and (up[members] < 1).any():
        return True
    if shares is None:
        return False
    servers = np.unique(members // profile.dies_per_server)
    others = ~np.eye(servers.size, dtype=np.bool_)
    return bool((shares[np.ix_(servers, servers)][others] < 1).any())


def _weak_group(
    profile: Profile, members: IntArray, up: FloatArray | None, shares: FloatArray | None
) -> tuple[tuple[float, float], FloatArray, FloatArray]:
    """Return the shares of the worst pairs, and the bytes on each port of each member."""
    planes, size = profile.planes, members.size
    ports = np.ones((size, planes)) if up is None else up[members]
    server, package = members // profile.dies_per_server, members // profile.dies_per_package
    bits = (ports > 0) @ (1 << np.arange(planes, dtype=np.int64))
    _, row, first, count = _unique(server * (1 << planes) + bits)
    at = server[first]
    single = np.full(first.size, -1, dtype=np.int64)
    low, high = np.full(first.size, profile.dies), np.full(first.size, -1)
    np.minimum.at(low, row, package)
    np.maximum.at(high, row, package)
    single[low == high] = low[low == high]
    width = np.minimum(ports[first][:, None], ports[first][None, :])
    near = at[:, None] == at[None, :]
    if shares is not None:
        width = np.where(near[..., None], width, width * shares[at[:, None], at[None, :]])
    total = width.sum(axis=2)
    apart = ~((single[:, None] == single[None, :]) & (single[:, None] >= 0))
    worst = tuple(float(total[pairs].min()) / planes if pairs.any() else 1.0 for pairs in (near & apart, ~near))
    weights = np.divide(width, total[..., None], out=np.zeros_like(width), where=total[..., None] > 0) / size
    sent = [np.einsum("rq,q,rqp->rp", pairs, count, weights)[row] for pairs in (near, ~near)]
    # A die sends nothing to itself, and to its package's other dies not through its ports.
    _, mine, _, _ = _unique(package)
    beside = np.zeros((int(mine.max()) + 1, first.size))
    np.add.at(beside, (mine, row), 1.0)
    local = sent[0] - np.einsum("nq,nqp->np", beside[mine], weights[row])
    remote = sent[1] if profile.has_bus_between_servers else np.zeros_like(sent[1])
    if not profile.has_bus_between_servers:
        worst = (worst[0], 1.0)
    return (worst[0], worst[1]), np.maximum(local, 0.0), remote
