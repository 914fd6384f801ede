"""Expert tensor parallelism: every expert's matrices split over e dies, as a model whose experts are the slices.

    experts E e, of which a token visits k e, each of width w / e        replicas of experts alike: r e slices

Column and row slices of gate, up and down give partial sums, so a token's copy goes to all dies with a slice of its
expert, and the combine that sums over experts sums over slices too: e times the copies on the wire, the same products
and weights in all. Slices lie anywhere in the pool, as experts do; a shared expert stays whole.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from supernode_dataplane.architecture import Architecture, LayerGroup

__all__ = ["sliced_experts"]


@lru_cache(maxsize=64)
def sliced_experts(model: Architecture, slices: int) -> Architecture:
    """Return the model with each routed expert as so many experts; ``slices`` must divide the experts' width."""
    return model if slices == 1 else replace(model, groups=tuple(_sliced(group, slices) for group in model.groups))


def _sliced(group: LayerGroup, slices: int) -> LayerGroup:
    block = group.feed_forward
    if not block.is_moe:
        return group
    parts = replace(
        block,
        experts=block.experts * slices,
        top_k=block.top_k * slices,
        expert_width=block.expert_width // slices,
        slices=slices,
    )
    return replace(group, feed_forward=parts)
