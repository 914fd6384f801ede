"""One pool of a deployment on its dies: which instances are whole, and every link that sets its pace."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.communication import Incast, LinkView, incast_of
from supernode_dataplane.deployment_plan import Deployment, RolePool
from supernode_dataplane.pool_links import PoolLinks, pool_links
from supernode_dataplane.pool_neighbours import Neighbours, ring_neighbours, stage_neighbours

__all__ = ["PoolPart", "pool_parts"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PoolPart:
    """One pool on its dies: which instances are whole, and its links."""

    found: RolePool
    at: slice
    dies: IntArray
    whole: BoolArray
    """Shape (instances,)."""
    groups: PoolLinks
    """Of those that share a set of experts; with attention and experts apart, of the whole pool."""
    tensor: PoolLinks
    incast: Incast | None
    """The way to the hottest rank of each set of experts beside attention; None unless one is said to be hotter."""
    instance: PoolLinks | None
    """Of a whole instance, where its stages or the dies that share prompts talk to one another."""
    ring: Neighbours | None
    stages: Neighbours | None

    @property
    def links(self) -> tuple[PoolLinks, ...]:
        """All that set its pace."""
        return tuple(links for links in (self.groups, self.tensor, self.instance) if links is not None)

    @property
    def attention(self) -> BoolArray:
        """Whether each die has attention: all but those for experts of a split, the last ones of an instance."""
        pool = self.found.pool
        return np.arange(self.dies.size) % int(pool.dies) < int(pool.attention_dies)

    @property
    def working(self) -> BoolArray:
        """Whether each die works."""
        return np.repeat(self.whole, self.dies.size // self.whole.size)

    @property
    def moves(self) -> bool:
        """Whether every pair that must talk has a plane."""
        return min(min(links.node_share, links.pod_share) for links in self.links) > 0


def pool_parts(view: LinkView, job: IntArray, works: BoolArray, deployment: Deployment) -> tuple[PoolPart, ...]:
    """Return the pools of a deployment on the dies of its job, in their order.

    ``job`` (dies,): die numbers; ``works`` (dies,): whether each works.
    """
    parts, first = [], 0
    for found in deployment.pools:
        at, pool = slice(first, first + found.dies), found.pool
        instances = job[at].reshape(found.instances, -1)
        tensor = pool_links(view, instances[:, : int(pool.attention_dies)].reshape(-1, int(pool.tensor)))
        groups, incast = tensor, None
        if float(pool.expert) > 1:
            ranks = instances if pool.split is not None else instances.reshape(-1, int(pool.expert))
            groups = pool_links(view, ranks)
            hot_rank = pool.split is None and pool.experts.imbalance is not None
            incast = incast_of(view, ranks) if hot_rank else None
        whole: BoolArray = np.logical_and.reduce(works[at].reshape(instances.shape), axis=1)
        parts.append(
            PoolPart(
                found,
                at,
                job[at],
                whole,
                groups,
                tensor,
                incast,
                instance=pool_links(view, instances) if pool.pipeline > 1 or pool.context > 1 else None,
                ring=ring_neighbours(view, instances, pool.context, int(pool.tensor)) if pool.context > 1 else None,
                stages=stage_neighbours(view, instances, pool.pipeline) if pool.pipeline > 1 else None,
            )
        )
        first += found.dies
    return tuple(parts)
