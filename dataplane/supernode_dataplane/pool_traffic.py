"""What ports of a pool's dies carry beside even exchanges: pairs, caches on their way, experts on dies of their own.

Everything is added in place to (sent, received) of shape (dies of the job, planes), once for what stays on a server and
once for what leaves it over the bus.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.pool_links import PoolLinks
from supernode_dataplane.pool_neighbours import Neighbours
from supernode_dataplane.profile import Profile

__all__ = ["Ways", "add_pairs", "add_split", "add_spread"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Ways: TypeAlias = tuple[FloatArray, FloatArray]
"""Sent and received."""


def add_pairs(pairs: Neighbours, each: float, working: BoolArray, *, at: slice, near: Ways, away: Ways) -> None:
    """Add what a pool's dies, those of the job ``at``, send to one other die each; ``each``: bytes per second."""
    scale = each * working[:, None]
    for ways, sent, received in (
        (near, pairs.local_tx, pairs.local_rx),
        (away, pairs.remote_tx, pairs.remote_rx),
    ):
        ways[0][at] += sent * scale
        ways[1][at] += received * scale


def add_split(
    profile: Profile,
    links: PoolLinks,
    dies: IntArray,
    attention: BoolArray,
    *,
    out: float,
    back: float,
    at: slice,
    near: Ways,
    away: Ways,
) -> None:
    """Add what dies with attention and dies with experts exchange.

    Each attention die sends ``out`` bytes per second evenly to those with experts and gets ``back`` from them.
    ``links`` are those of all of them together, ``attention`` (dies,) says which they are.
    """
    ratio = np.count_nonzero(attention) / np.count_nonzero(~attention)
    for mine, sent, received in ((attention, out, back), (~attention, back * ratio, out * ratio)):
        places = np.flatnonzero(mine)
        rows = np.arange(at.start, at.stop)[places]
        spread = _spread(profile, dies[places], dies[~mine], links.local[places], links.remote[places])
        for ways, carried in zip((near, away), spread, strict=True):
            ways[0][rows] += sent * carried
            ways[1][rows] += received * carried


def add_spread(
    profile: Profile,
    links: PoolLinks,
    dies: IntArray,
    partners: IntArray,
    *,
    each: FloatArray,
    at: slice,
    way: int,
    near: Ways,
    away: Ways,
) -> None:
    """Add what dies send (``way`` 0) evenly to all partners, or receive (1) from them; ``each`` bytes per second.

    ``links`` are those of the whole job, whose dies ``at`` these are.
    """
    spread = _spread(profile, dies, partners, links.local[at], links.remote[at])
    for ways, carried in zip((near, away), spread, strict=True):
        ways[way][at] += carried * each[:, None]


def _spread(
    profile: Profile, dies: IntArray, partners: IntArray, local: FloatArray, remote: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return bytes on the ports of each die per byte that it exchanges evenly with ``partners``: near and away.

    ``local`` and ``remote`` say how it uses its planes; what stays in a package takes no port.
    """
    inside, package = (
        np.bincount(partners // per, minlength=profile.dies // per)[dies // per] / partners.size
        for per in (profile.dies_per_server, profile.dies_per_package)
    )
    found = []
    for ways, share in ((local, inside - package), (remote, 1.0 - inside)):
        total = ways.sum(axis=1, keepdims=True)
        carried = np.divide(ways, total, out=np.zeros_like(ways), where=total > 0)
        found.append(carried * share[:, None])
    return found[0], found[1]
