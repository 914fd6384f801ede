"""Attention and experts on dies of their own: several attention domains take turns at one set of experts.

    layer = max(2 attention(half), attention(half) + round trip(half), domains x 2 experts(half))
    round trip = dispatch + experts + combine

Each attention die works on two micro-batches; while one is at the experts the other one is here. The expert dies serve
every domain's two micro-batches in turn. A token's copies leave an attention die for the experts, so the exchange spans
both (arXiv 2508.02520). Attention dies have attention, dense blocks, embedding and head; expert dies have routed and
shared experts with their routers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from supernode_dataplane.decode import DecodeStep, LayerTimes, host_seconds, layer_times, sampling_seconds
from supernode_dataplane.deployment import Pool
from supernode_dataplane.exchange import SCALE_SHARE
from supernode_dataplane.hardware import BYTES
from supernode_dataplane.numeric import Number, at_least
from supernode_dataplane.operators import expert_work, head_work

__all__ = ["SplitStep", "split_decode_step", "split_pool_step", "split_step"]

_CAUSES = ("projections", "core", "vector", "fixed", "all_reduce")


@dataclass(frozen=True, slots=True)
class SplitStep:
    """One decode step with attention and experts apart; seconds, and what a mean die of either side does in it."""

    seconds: Number
    attention: Number
    """Of one micro-batch in one layer."""
    experts: Number
    """Of one micro-batch of one domain in one layer, on the expert dies."""
    round_trip: Number
    """Of one micro-batch from attention to experts and back."""
    cards: Number
    breakdown: dict[str, Number]
    """Seconds of an attention die by cause: its own work, and what it waits for ``experts`` and the ``exchange``."""
    flops: Number
    """Of an attention die; likewise the bytes."""
    hbm_bytes: Number
    expert_seconds: Number
    """That an expert die with the most to do works."""
    expert_flops: Number
    expert_hbm_bytes: Number
    dispatched_bytes: Number
    """That an attention die sends to experts."""
    combined_bytes: Number
    """That it gets back."""


class _Sum:
    """What layers add up to."""

    __slots__ = ("causes", "copies", "expert_flops", "expert_hbm_bytes", "expert_seconds", "flops", "hbm_bytes")

    def __init__(self) -> None:
        self.causes: dict[str, Number] = {}
        self.flops: Number = 0.0
        self.hbm_bytes: Number = 0.0
        self.expert_seconds: Number = 0.0
        self.expert_flops: Number = 0.0
        self.expert_hbm_bytes: Number = 0.0
        self.copies: Number = 0.0

    def own(self, half: LayerTimes, times: float) -> None:
        """Count what attention dies do in two halves of so many layers."""
        for cause in _CAUSES:
            self.cause(cause, 2.0 * times * getattr(half, cause))

    def cause(self, name: str, seconds: Number) -> None:
        """Count seconds."""
        self.causes[name] = self.causes.get(name, 0.0) + seconds


def split_step(pool: Pool, expert_dies: Number, domains: Number, sequences: Number, context: Number) -> SplitStep:
    """Return the step of ``sequences`` on each tensor group of the attention dies of ``pool``.

    ``pool.dies`` are those of attention in all ``domains``; ``pool.expert`` is taken as ``expert_dies``. Experts see
    the tokens of one domain at a time.
    """
    domain = replace(pool, dies=pool.dies / domains, expert=expert_dies)
    seconds: Number = 0.0
    shown = (seconds, seconds, seconds)
    total, queries = _Sum(), pool.speculation.queries
    for group in pool.architecture.kinds:
        half, block, count = layer_times(domain, group, sequences / 2.0, context), group.feed_forward, group.count
        total.own(half, count)
        if not block.is_moe:
            seconds = seconds + count * 2.0 * half.seconds
            total.cause("feed_forward", count * 2.0 * half.feed_forward)
            total.flops = total.flops + count * 2.0 * half.flops
            total.hbm_bytes = total.hbm_bytes + count * 2.0 * half.hbm_bytes
            continue
        attention = half.attention + half.all_reduce
        trip = half.dispatch + half.feed_forward + half.combine
        pace = at_least(2.0 * attention, attention + trip + half.waiting)
        pace = at_least(pace, domains * 2.0 * half.feed_forward)
        seconds = seconds + count * pace
        shown = (half.attention, half.feed_forward, trip)
        _, mean = expert_work(domain, block, sequences / 2.0 * queries)
        _count_experts(total, half, mean.flops, mean.hbm_bytes, count=count, domains=domains)
        away = count * (pace - 2.0 * attention)
        total.cause("experts", away * half.feed_forward / trip)
        total.cause("exchange", away * (1.0 - half.feed_forward / trip))
        total.copies = total.copies + count * sequences * queries / pool.tensor * block.top_k
    rest = _once_a_step(pool, domain, sequences, context)
    cards = (pool.dies + expert_dies) / pool.hardware.dies_per_card
    kind, hidden = pool.precision.activations, pool.architecture.hidden
    scale = SCALE_SHARE if kind != "bf16" else 1.0
    return SplitStep(
        seconds + (rest["head"] + rest["host"] + rest["draft"]), shown[0], shown[1], shown[2], cards,
        breakdown={**total.causes, **rest},
        flops=total.flops,
        hbm_bytes=total.hbm_bytes,
        expert_seconds=total.expert_seconds,
        expert_flops=total.expert_flops,
        expert_hbm_bytes=total.expert_hbm_bytes,
        dispatched_bytes=total.copies * hidden * (BYTES[kind] * scale),
        combined_bytes=total.copies * hidden * BYTES["bf16"],
    )  # fmt: skip


def _once_a_step(pool: Pool, domain: Pool, sequences: Number, context: Number) -> dict[str, Number]:
    """Return what an attention die does beside the layers, in seconds by cause."""
    tokens = pool.speculation
    draft = layer_times(domain, pool.architecture.groups[-1], sequences, context).seconds
    return {
        "head": head_work(pool, sequences * tokens.queries).seconds(),
        "host": host_seconds(pool),
        "draft": tokens.drafts * (draft + head_work(pool, sequences).seconds()) + sampling_seconds(pool, sequences),
    }


def split_pool_step(pool: Pool, sequences: Number, context: Number) -> SplitStep:
    """Return the step of a pool that has a split."""
    split = pool.split
    if split is None:
        raise ValueError("the pool has no split")
    attention = replace(pool, dies=pool.attention_dies, split=None)
    return split_step(attention, split.expert_dies, split.domains, sequences, context)


def split_decode_step(pool: Pool, sequences: Number, context: Number) -> DecodeStep:
    """Return :func:`split_pool_step` as a decode step: causes, FLOPs and bytes are of a mean attention die."""
    step = split_pool_step(pool, sequences, context)
    return DecodeStep(
        seconds=step.seconds,
        one_stream_seconds=step.seconds,
        two_stream_seconds=step.seconds,
        two_streams=True,
        breakdown=dict(step.breakdown),
        flops=step.flops,
        hbm_bytes=step.hbm_bytes,
        sent_bytes=step.dispatched_bytes,
    )


def _count_experts(
    total: _Sum, half: LayerTimes, flops: Number, hbm_bytes: Number, *, count: float, domains: Number
) -> None:
    """Count the experts' side, of which every domain has two halves; the rest of a layer is attention's."""
    total.flops = total.flops + count * 2.0 * (half.flops - flops)
    total.hbm_bytes = total.hbm_bytes + count * 2.0 * (half.hbm_bytes - hbm_bytes)
    turns = count * domains * 2.0
    total.expert_seconds = total.expert_seconds + turns * half.feed_forward
    total.expert_flops = total.expert_flops + turns * flops
    total.expert_hbm_bytes = total.expert_hbm_bytes + turns * hbm_bytes
