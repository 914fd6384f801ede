"""A decode step and a batch of prompts on a pool however it is laid out: stages, shared prompts, attention apart.

    pipeline   p stages, m micro-batches of a decode step, t_i of a stage on one of them, h to hand it on:
                   step   = max(sum t_i + (p - 1) h + a, m max t_i)   what a token waits for; of one: the plain step
                   prompt = sum t_i + (p - 1) h, one each max t_i     batches of prompts follow one another
               h = latency + 2 tokens hidden / (tensor x bandwidth) + launch + gather in the tensor group; a: the
               latency of the token's way back. Stages send while they compute.
    context    c tensor groups share the tokens n of a prompt, keys and values travel around the ring c - 1 times:
                   layer  = layer of n / c tokens + max(0, (c - 1) (launch + latency + bytes / bandwidth)
                            - (c - 1) / c core)
               Each group meets as many keys in the mean (tokens dealt out from both ends); latents that arrive are
               expanded again.
    split      :mod:`supernode_dataplane.split`

Ring attention: arXiv 2310.01889. One stage, one group and no split are the plain steps, number for number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from supernode_dataplane.architecture import Architecture, Attention
from supernode_dataplane.decode import DecodeStep, decode_step
from supernode_dataplane.deployment import Pool
from supernode_dataplane.exchange import gather_seconds
from supernode_dataplane.numeric import Number, at_least, at_most
from supernode_dataplane.operators import head_work
from supernode_dataplane.prefill import PrefillStep, prefill_step
from supernode_dataplane.split import split_decode_step
from supernode_dataplane.stages import pool_stages

__all__ = ["PromptPhase", "decode_phase", "hop_bytes", "micro_batches", "prompt_phase", "ring_bytes"]

_OUTSIDE = ("head", "host", "draft")
"""What a step spends once, on the last stage."""


@dataclass(frozen=True, slots=True)
class PromptPhase:
    """A batch of prompts."""

    step: PrefillStep
    """``seconds``: from one batch to the next."""
    latency_seconds: Number
    """From its start to its end; the same with one stage."""


def decode_phase(pool: Pool, sequences: Number, context: Number) -> DecodeStep:
    """Return the step of ``sequences`` on each data-parallel group; causes, FLOPs and bytes are of a mean die.

    With a split they are of a mean attention die.
    """
    if pool.attention_share is not None:
        pool = replace(pool, stack=replace(pool.stack, attention_cube_share=pool.attention_share))
    if pool.split is not None:
        return split_decode_step(pool, sequences, context)
    return decode_step(pool, sequences, context) if pool.pipeline == 1 else _piped_decode(pool, sequences, context)


def prompt_phase(
    pool: Pool,
    tokens: Number,
    context: Number,
    sequences: Number = 1.0,
    *,
    filled: Number = 1.0,
    cached: Number = 0.0,
) -> PromptPhase:
    """Return a batch of ``tokens`` new ones on each data-parallel group; see :func:`~.prefill.prefill_step`."""
    if pool.pipeline == 1:
        step = _ring_prefill(pool, tokens, context, sequences, filled, cached)
        return PromptPhase(step, step.seconds)
    stages, parts, head = float(pool.pipeline), _Parts(), head_work(pool, sequences)
    steps: dict[Architecture, PrefillStep] = {}  # the last stage often has the layers of those before it
    for stage in pool_stages(pool):
        step = steps.get(stage.pool.architecture) or _ring_prefill(
            stage.pool, tokens, context, sequences, filled, cached
        )
        steps[stage.pool.architecture] = step
        if not stage.last:
            step = replace(step, flops=step.flops - head.flops, hbm_bytes=step.hbm_bytes - head.hbm_bytes)
        parts.add(step, stage.count, last=stage.last)
    latency = parts.seconds + (stages - 1.0) * _hop_seconds(pool, tokens / pool.context)
    return PromptPhase(
        PrefillStep(
            seconds=parts.slowest,
            one_stream_seconds=parts.slowest_alone,
            breakdown=parts.breakdown(1.0 / stages, parts.slowest),
            flops=parts.flops / stages,
            hbm_bytes=parts.hbm_bytes / stages,
            sent_bytes=parts.sent_bytes / stages,
        ),
        latency,
    )


def micro_batches(pool: Pool, sequences: Number) -> Number:
    """Return how many micro-batches ``sequences`` make: none without a sequence of its own."""
    return at_least(at_most(float(pool.in_flight), sequences), 1.0)


def hop_bytes(pool: Pool, tokens: Number) -> Number:
    """Return what a die hands to the next stage of so many tokens of its tensor group: its part of the hidden state."""
    return 2.0 * tokens * pool.architecture.hidden / pool.tensor


def ring_bytes(pool: Pool, tokens: Number, cached: Number = 0.0) -> Number:
    """Return what a die sends around the ring in all layers for a batch of ``tokens`` over cached ones."""
    each = sum(group.count * _block_bytes(pool, group.attention, tokens + cached) for group in pool.architecture.kinds)
    return each * (pool.context - 1.0)


class _Parts:
    """Sums over stages."""

    __slots__ = ("_causes", "flops", "hbm_bytes", "seconds", "sent_bytes", "slowest", "slowest_alone")

    def __init__(self) -> None:
        self.seconds: Number = 0.0
        self.slowest: Number = 0.0
        self.slowest_alone: Number = 0.0
        self.flops: Number = 0.0
        self.hbm_bytes: Number = 0.0
        self.sent_bytes: Number = 0.0
        self._causes: dict[str, Number] = {}

    def add(self, step: DecodeStep | PrefillStep, count: int, *, last: bool) -> None:
        """Add equal stages; what is spent once counts on the last one."""
        outside: Number = 0.0 if last else sum(step.breakdown.get(cause, 0.0) for cause in _OUTSIDE)
        each = step.seconds - outside
        self.seconds = self.seconds + count * each
        self.slowest = at_least(each, self.slowest)
        self.slowest_alone = at_least(step.one_stream_seconds - outside, self.slowest_alone)
        for cause, seconds in step.breakdown.items():
            if last or cause not in _OUTSIDE:
                self._causes[cause] = self._causes.get(cause, 0.0) + count * seconds
        self.flops = self.flops + count * step.flops
        self.hbm_bytes = self.hbm_bytes + count * step.hbm_bytes
        self.sent_bytes = self.sent_bytes + count * step.sent_bytes

    def breakdown(self, scale: Number, whole: Number) -> dict[str, Number]:
        """Return a mean die's causes; the rest of ``whole`` is the bubble."""
        causes = {cause: seconds * scale for cause, seconds in self._causes.items()}
        causes["bubble"] = whole - sum(causes.values())
        return causes


def _piped_decode(pool: Pool, sequences: Number, context: Number) -> DecodeStep:
    stages, batches, parts = float(pool.pipeline), micro_batches(pool, sequences), _Parts()
    micro = sequences / batches
    alone: Number = 0.0
    two: Number = False
    steps: dict[Architecture, DecodeStep] = {}
    for stage in pool_stages(pool):
        step = steps.get(stage.pool.architecture) or decode_step(stage.pool, micro, context)
        steps[stage.pool.architecture] = step
        parts.add(step, stage.count, last=stage.last)
        alone = alone + stage.count * (step.one_stream_seconds - step.seconds)
        two = two | step.two_streams
    hops = (stages - 1.0) * _hop_seconds(pool, micro * pool.speculation.queries) + pool.hardware.latency(pool.dies)
    seconds = at_least(parts.seconds + hops, batches * parts.slowest)
    scale = batches / stages
    return DecodeStep(
        seconds=seconds,
        one_stream_seconds=at_least(parts.seconds + alone + hops, batches * parts.slowest_alone),
        two_stream_seconds=seconds,
        two_streams=two,
        breakdown=parts.breakdown(scale, seconds),
        flops=parts.flops * scale,
        hbm_bytes=parts.hbm_bytes * scale,
        sent_bytes=parts.sent_bytes * scale,
    )


def _hop_seconds(pool: Pool, tokens: Number) -> Number:
    hardware, stack = pool.hardware, pool.stack
    seconds = hardware.latency(pool.dies) + hop_bytes(pool, tokens) / hardware.rate(pool.dies)
    if not pool.sequence_parallel:
        seconds = seconds + gather_seconds(hardware, 2.0 * tokens * pool.architecture.hidden, pool.tensor, stack)
    return seconds + stack.collective_launch_seconds


def _ring_prefill(  # noqa: PLR0917 - the symbols of the formula
    pool: Pool, tokens: Number, context: Number, sequences: Number, filled: Number, cached: Number
) -> PrefillStep:
    if pool.context == 1:
        return prefill_step(pool, tokens, context, sequences, filled=filled, cached=cached)
    hardware, stack, ranks = pool.hardware, pool.stack, float(pool.context)
    own, others = tokens / ranks, ranks - 1.0
    inner = replace(pool, context=1)
    step = prefill_step(inner, own, context, sequences, filled=filled, cached=cached + tokens - own)
    reach = ranks * pool.tensor
    ring: Number = 0.0
    for group in pool.architecture.kinds:
        moved = _block_bytes(pool, group.attention, tokens + cached) / hardware.rate(reach)
        passing = others * (stack.collective_launch_seconds + hardware.latency(reach) + moved)
        core = group.attention.prefill_core_flops(context) * own / pool.tensor
        beside = core / (hardware.peak("bf16") * stack.attention_efficiency) * others / ranks
        ring = ring + group.count * at_least(passing - beside, 0.0)
    return replace(
        step,
        seconds=step.seconds + ring,
        one_stream_seconds=step.one_stream_seconds + ring,
        breakdown={**step.breakdown, "ring": ring},
    )


def _block_bytes(pool: Pool, attention: Attention, tokens: Number) -> Number:
    """Return the keys and values that a die passes on: those of its part of the tokens in one layer."""
    values = (attention.cached_values + attention.index_values) * tokens / pool.context
    return values * pool.precision.kv_bytes / at_most(pool.tensor, float(attention.kv_heads))
