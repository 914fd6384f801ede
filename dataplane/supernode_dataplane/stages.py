"""The stages of a pool whose layers are split: contiguous layers, as even as can be, each stage a pool of its own.

The first stages have one layer more where the stages do not divide the layers, because the last one has the output head
and the draft layers. Stages that are alike come once, with how many there are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from supernode_dataplane.architecture import Architecture, LayerGroup
from supernode_dataplane.deployment import Pool
from supernode_dataplane.layer_groups import group_layers

__all__ = ["Stage", "pool_stages"]


@dataclass(frozen=True, slots=True)
class Stage:
    """Equal stages of a pool."""

    pool: Pool
    """One of them: its layers on its dies."""
    count: int
    first: bool
    """Whether it is the first one alone, which has the embedding."""
    last: bool
    """Whether it is the last one alone, which has the output head and the draft layers."""


def pool_stages(pool: Pool) -> tuple[Stage, ...]:
    """Return the kinds of stages of a pool in order; one stage when it has no pipeline."""
    dies = pool.dies / pool.pipeline
    return tuple(
        Stage(replace(pool, architecture=part, dies=dies, pipeline=1, in_flight=1), count, first, last)
        for part, count, first, last in _parts(pool.architecture, pool.pipeline)
    )


@lru_cache(maxsize=64)
def _parts(model: Architecture, stages: int) -> tuple[tuple[Architecture, int, bool, bool], ...]:
    order = [(group.attention, group.feed_forward) for group in model.groups for _ in range(group.count)]
    fewest, more = divmod(len(order), stages)
    found: list[tuple[tuple[LayerGroup, ...], int, bool, bool]] = []
    start = 0
    for stage in range(stages):
        end = start + fewest + (stage < more)
        part = (group_layers(order[start:end]), stage == 0, stage == stages - 1)
        if found and (found[-1][0], *found[-1][2:]) == part:
            found[-1] = (part[0], found[-1][1] + 1, *part[1:])
        else:
            found.append((part[0], 1, *part[1:]))
        start = end
    return tuple((replace(model, groups=groups), count, first, last) for groups, count, first, last in found)
