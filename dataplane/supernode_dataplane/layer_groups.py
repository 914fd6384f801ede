"""Layers in order, as a config lists them, put into groups of equal neighbours."""

from __future__ import annotations

from collections.abc import Iterable

from supernode_dataplane.architecture import Attention, FeedForward, LayerGroup

__all__ = ["group_layers"]


def group_layers(layers: Iterable[tuple[Attention, FeedForward]]) -> tuple[LayerGroup, ...]:
    """Return layers in order as groups of equal neighbours."""
    groups: list[LayerGroup] = []
    for attention, block in layers:
        last = groups[-1] if groups else None
        if last is not None and last.attention == attention and last.feed_forward == block:
            groups[-1] = LayerGroup(count=last.count + 1, attention=attention, feed_forward=block)
        else:
            groups.append(LayerGroup(count=1, attention=attention, feed_forward=block))
    return tuple(groups)
