"""Attention and experts on dies of their own: several attention domains take turns at one set of experts.

    layer = max(2 attention(half), attention(half) + round trip(half), domains x 2 experts(half))
    round trip = dispatch + experts + combine

Each attention die works on two micro-batches; while one is at the experts the other one is here. The expert dies serve
every domain's two micro-batches in turn. A token's copies leave an attention die for the experts, so the exchange spans
both (arXiv 2508.02520).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from supernode_dataplane.decode import layer_times
from supernode_dataplane.deployment import Pool
from supernode_dataplane.numeric import Number, at_least
from supernode_dataplane.operators import head_work

__all__ = ["SplitStep", "split_step"]


@dataclass(frozen=True, slots=True)
class SplitStep:
    """One decode step with attention and experts apart; seconds."""

    seconds: Number
    attention: Number
    """Of one micro-batch in one layer."""
    experts: Number
    """Of one micro-batch of one domain in one layer, on the expert dies."""
    round_trip: Number
    """Of one micro-batch from attention to experts and back."""
    cards: Number


def split_step(pool: Pool, expert_dies: Number, domains: Number, sequences: Number, context: Number) -> SplitStep:
    """Return the step of ``sequences`` on each tensor group of the attention dies of ``pool``.

    ``pool.dies`` are those of attention in all ``domains``; ``pool.expert`` is taken as ``expert_dies``. Experts see
    the tokens of one domain at a time.
    """
    domain = replace(pool, dies=pool.dies / domains, expert=expert_dies)
    seconds: Number = 0.0
    shown = (seconds, seconds, seconds)
    for group in pool.architecture.kinds:
        half = layer_times(domain, group, sequences / 2.0, context)
        if not group.feed_forward.is_moe:
            seconds = seconds + group.count * 2.0 * half.seconds
            continue
        trip = half.dispatch + half.feed_forward + half.combine
        pace = at_least(2.0 * half.attention, half.attention + trip + half.waiting)
        pace = at_least(pace, domains * 2.0 * half.feed_forward)
        seconds = seconds + group.count * pace
        shown = (half.attention, half.feed_forward, trip)
    tokens = pool.speculation
    rest = head_work(pool, sequences * tokens.queries).seconds() + pool.stack.host_seconds
    draft = layer_times(domain, pool.architecture.groups[-1], sequences, context).seconds
    rest = rest + tokens.drafts * (draft + head_work(pool, sequences).seconds() + pool.stack.draft_seconds)
    cards = (pool.dies + expert_dies) / pool.hardware.dies_per_card
    return SplitStep(seconds + rest, shown[0], shown[1], shown[2], cards)
