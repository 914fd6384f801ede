"""One decode step of a pool: every running sequence gets the next tokens.

    attention  projections + core + vector work + fixed cost of a layer
    experts    work of the rank that has most + dispatch + combine + waiting for the slowest rank
    one stream   layers x (attention + experts)
    two streams  layers x 2 max(attention of half with its share of the cores, experts of half with the rest), or
                 layers x 2 max(all work of half, exchange of half) where the network card does the exchange
    drafts       draft layers + output heads + drafts x sequences of a die x sampling and verification of a token
    host         fixed cost of a step + (with drafts) fixed cost of speculation
    step = layers + output head + drafts + host               TPOT = step / tokens of a step

Weights and fixed costs are paid twice with two streams, cube and vector work slow down by the share of the cores, HBM
and links are shared. Whichever is faster is used (arXiv 2506.12708: 16 of 24 cube cores for attention). Waiting is a
share of the work between two exchanges and never traffic. Context of a row is input + output / 2 unless it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supernode_dataplane.architecture import LayerGroup
from supernode_dataplane.deployment import Pool
from supernode_dataplane.exchange import Exchange, all_reduce_seconds, combine, dispatch, over_network_card
from supernode_dataplane.hardware import Wire
from supernode_dataplane.numeric import Number, any_true, at_least, choose
from supernode_dataplane.operators import (
    attention_weights,
    core_work,
    dense_work,
    expert_work,
    head_work,
    vector_seconds,
)

__all__ = ["DecodeStep", "LayerTimes", "decode_step", "host_seconds", "layer_times", "sampling_seconds"]


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """One layer of a decode step on the rank that sets the pace, seconds, and what it moves (mean rank)."""

    projections: Number
    core: Number
    vector: Number
    fixed: Number
    all_reduce: Number
    feed_forward: Number
    dispatch: Number
    combine: Number
    waiting: Number
    flops: Number
    hbm_bytes: Number
    sent: Wire | None
    """What dispatch and combine send together, bytes."""

    @property
    def attention(self) -> Number:
        """Seconds of the attention stream."""
        return self.projections + self.core + self.vector + self.fixed

    @property
    def experts(self) -> Number:
        """Seconds of the stream of experts and exchanges."""
        return self.feed_forward + self.dispatch + self.combine + self.waiting + self.all_reduce

    @property
    def seconds(self) -> Number:
        """Seconds of the layer in one stream."""
        return self.attention + self.experts


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """One step: seconds by cause, and what a mean die does in it. All fields have the shape of what was asked."""

    seconds: Number
    one_stream_seconds: Number
    two_stream_seconds: Number
    two_streams: Number
    """Whether two streams are faster (or asked for)."""
    breakdown: dict[str, Number]
    """Seconds by cause with one stream; ``overlap`` (not above 0) is what two streams save."""
    flops: Number
    hbm_bytes: Number
    sent_bytes: Number
    """On the die's ports, all tiers but the package."""


def layer_times(
    pool: Pool,
    group: LayerGroup,
    sequences: Number,
    context: Number,
    *,
    queries: Number | None = None,
    shares: tuple[float, float] = (1.0, 1.0),
) -> LayerTimes:
    """Return one layer for ``sequences`` of a tensor group; ``shares`` of the cores for attention and experts."""
    stack, hidden = pool.stack, pool.architecture.hidden
    q = pool.speculation.queries if queries is None else queries
    tokens = sequences * q
    weights = attention_weights(pool, group.attention, tokens)
    core = core_work(pool, group.attention, sequences, q, context)
    projections, core_time = weights.seconds(shares[0]), core.seconds(shares[0])
    vector = vector_seconds(pool, group, tokens, shares[0])
    reduced = 2.0 * tokens * hidden
    reduce_seconds = all_reduce_seconds(pool.hardware, reduced, pool.tensor, stack)
    block = group.feed_forward
    if not block.is_moe or not any_true(pool.expert > 1):
        # Dense, or experts split inside the tensor group: a second all-reduce instead of an exchange.
        work = expert_work(pool, block, tokens)[0] if block.is_moe else dense_work(pool, block, tokens)
        zero = tokens * 0.0
        return LayerTimes(
            projections, core_time, vector, stack.layer_seconds, 2.0 * reduce_seconds, work.seconds(shares[1]),
            zero, zero, zero, weights.flops + core.flops + work.flops,
            weights.hbm_bytes + core.hbm_bytes + work.hbm_bytes, None,
        )  # fmt: skip
    work, mean = expert_work(pool, block, tokens)
    out, back = _exchange(pool, block.top_k, tokens / pool.tensor)
    # Ranks differ in their work, whichever cores it runs on.
    between = weights.seconds() + core.seconds() + vector_seconds(pool, group, tokens) + mean.seconds()
    return LayerTimes(
        projections, core_time, vector, stack.layer_seconds, reduce_seconds, work.seconds(shares[1]),
        out.seconds(stack.launch_hidden), back.seconds(stack.launch_hidden), between * stack.straggler_share,
        weights.flops + core.flops + mean.flops, weights.hbm_bytes + core.hbm_bytes + mean.hbm_bytes,
        _add(out.sent, back.sent),
    )  # fmt: skip


def decode_step(pool: Pool, sequences: Number, context: Number) -> DecodeStep:
    """Return the step of ``sequences`` running on each tensor group at a mean context of so many tokens.

    Numbers or arrays of one shape, which every field of the step then has; seconds, FLOPs and bytes of a mean die.
    Nothing is raised for what does not fit (:func:`~supernode_dataplane.capacity.capacity_of` says it). Errors on
    published rows: class D of docs/fidelity.md. Source: arXiv 2506.12708; constants in data/stacks.yaml with theirs.
    """
    layers = [layer_times(pool, group, sequences, context) for group in pool.architecture.kinds]
    whole = _sum_layers(pool, layers)
    one, breakdown = whole.seconds, whole.breakdown
    two = _in_two_streams(pool, layers, sequences / 2.0, context) if _may_split(pool) else one
    rest = _outside_layers(pool, layers, sequences, context)
    for cause, seconds in rest.items():
        breakdown[cause] = seconds
    other = sum(rest.values())
    faster: Number = pool.streams == "two"
    if pool.streams == "auto":
        faster = two < one
    shorter = choose(faster, two, one)
    breakdown["overlap"] = shorter - one
    return DecodeStep(
        seconds=shorter + other,
        one_stream_seconds=one + other,
        two_stream_seconds=two + other,
        two_streams=faster,
        breakdown=breakdown,
        flops=whole.flops,
        hbm_bytes=whole.hbm_bytes,
        sent_bytes=whole.sent,
    )


def _may_split(pool: Pool) -> bool:
    """Whether there is something to run beside attention, and the stack (or the user) runs two streams."""
    wanted = pool.streams == "two" or (pool.streams == "auto" and pool.stack.two_streams)
    return wanted and pool.architecture.is_moe and any_true(pool.expert > 1)


@dataclass(slots=True)
class _Sum:
    seconds: Number
    breakdown: dict[str, Number]
    flops: Number
    hbm_bytes: Number
    sent: Number


def _sum_layers(pool: Pool, layers: Sequence[LayerTimes]) -> _Sum:
    total = _Sum(0.0, {}, 0.0, 0.0, 0.0)
    for group, layer in zip(pool.architecture.kinds, layers, strict=True):
        total.seconds = total.seconds + group.count * layer.seconds
        _count(total, layer, group.count)
    return total


def _in_two_streams(pool: Pool, layers: Sequence[LayerTimes], half: Number, context: Number) -> Number:
    """Return the seconds of all layers where those with experts run two micro-batches of ``half`` the sequences."""
    total: Number = 0.0
    for group, layer in zip(pool.architecture.kinds, layers, strict=True):
        seconds = _beside(pool, group, half, context) if group.feed_forward.is_moe else layer.seconds
        total = total + group.count * seconds
    return total


def _beside(pool: Pool, group: LayerGroup, half: Number, context: Number) -> Number:
    """Return a layer of two micro-batches in two streams.

    Where the network card moves the tokens, it is the exchange that runs beside all cores; else experts and exchange
    have the cores that attention leaves.
    """
    if over_network_card(pool.hardware, pool.stack):
        layer = layer_times(pool, group, half, context)
        exchange = layer.dispatch + layer.combine
        return 2.0 * at_least(layer.seconds - exchange, exchange)
    share = pool.stack.attention_cube_share
    layer = layer_times(pool, group, half, context, shares=(share, 1.0 - share))
    return 2.0 * at_least(layer.attention, layer.experts)


def _count(total: _Sum, layer: LayerTimes, times: float) -> None:
    for cause in (
        "projections",
        "core",
        "vector",
        "fixed",
        "all_reduce",
        "feed_forward",
        "dispatch",
        "combine",
        "waiting",
    ):
        total.breakdown[cause] = total.breakdown.get(cause, 0.0) + times * getattr(layer, cause)
    total.flops = total.flops + times * layer.flops
    total.hbm_bytes = total.hbm_bytes + times * layer.hbm_bytes
    if layer.sent is not None:
        total.sent = total.sent + times * (layer.sent.node + layer.sent.pod + layer.sent.rdma)


def _outside_layers(pool: Pool, layers: Sequence[LayerTimes], sequences: Number, context: Number) -> dict[str, Number]:
    """Return output heads, draft passes and host time; the first draft pass takes all query tokens, others one each.

    A draft layer is like the model's last one, whose times are among those of its kinds.
    """
    speculation = pool.speculation
    rest = {"head": head_work(pool, sequences * speculation.queries).seconds(), "host": pool.stack.host_seconds}
    if not any_true(speculation.drafts > 0):
        return rest
    last = pool.architecture.groups[-1]
    first = next(
        layer.seconds
        for kind, layer in zip(pool.architecture.kinds, layers, strict=True)
        if kind.attention == last.attention and kind.feed_forward == last.feed_forward
    )
    drafts = speculation.drafts
    some = choose(drafts > 0, 1.0, 0.0)
    passes = some * first
    if any_true(drafts != some):
        passes = passes + (drafts - some) * layer_times(pool, last, sequences, context, queries=1.0).seconds
    heads = drafts * head_work(pool, sequences).seconds()
    rest["draft"] = passes + heads + sampling_seconds(pool, sequences)
    rest["host"] = host_seconds(pool)
    return rest


def sampling_seconds(pool: Pool, sequences: Number) -> Number:
    """Return what a die takes to sample and verify its part of the drafts of ``sequences`` of a tensor group."""
    return pool.speculation.drafts * sequences / pool.tensor * pool.stack.draft_token_seconds


def host_seconds(pool: Pool) -> Number:
    """Return the fixed time of a step on the host, with that of speculation where drafts are made."""
    stack = pool.stack
    return stack.host_seconds + choose(pool.speculation.drafts > 0, stack.draft_seconds, 0.0)


def _exchange(pool: Pool, copies: int, tokens: Number) -> tuple[Exchange, Exchange]:
    hidden = pool.architecture.hidden
    out = dispatch(pool.hardware, pool.stack, tokens, copies, hidden, pool.expert, pool.precision.activations)
    back = combine(pool.hardware, pool.stack, tokens, copies, hidden, pool.expert)
    return out, back


def _add(a: Wire, b: Wire) -> Wire:
    return Wire(a.package + b.package, a.node + b.node, a.pod + b.pod, a.rdma + b.rdma)
