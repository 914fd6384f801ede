"""Prompts through a pool: the time of a batch of new tokens over what is cached, and what bounds it.

    layer = projections + core + vector work + experts of the hottest rank + fixed cost     compute
          + dispatch + combine                                                              exchange, in one stream
    two micro-batches   max(compute + slowdown x exchange, exchange)

A collective that runs beside compute takes vector cores and HBM bandwidth from it: the slowdown (arXiv 2607.26444). The
head runs once for each sequence. Attention of latent models is uncompressed here.
"""

from __future__ import annotations

from dataclasses import dataclass

from supernode_dataplane.architecture import LayerGroup
from supernode_dataplane.deployment import Pool
from supernode_dataplane.exchange import all_reduce_seconds, combine, dispatch
from supernode_dataplane.numeric import Number, any_true, at_least, choose
from supernode_dataplane.operators import Work, attention_weights, dense_work, expert_work, head_work, vector_seconds

__all__ = ["PrefillStep", "prefill_step"]

_CAUSES = ("projections", "core", "vector", "fixed", "all_reduce", "feed_forward", "exchange")


@dataclass(frozen=True, slots=True)
class PrefillStep:
    """One batch of prompts: seconds by cause, and what a mean die does in it."""

    seconds: Number
    one_stream_seconds: Number
    breakdown: dict[str, Number]
    """Seconds by cause with one stream; ``overlap`` (not above 0) is what two micro-batches save."""
    flops: Number
    hbm_bytes: Number
    sent_bytes: Number


def prefill_step(
    pool: Pool,
    tokens: Number,
    context: Number,
    sequences: Number = 1.0,
    *,
    filled: Number = 1.0,
    cached: Number = 0.0,
) -> PrefillStep:
    """Return the time of ``tokens`` new ones on each tensor group whose queries see ``context`` keys in the mean.

    A whole prompt of n tokens has a mean context of n / 2; over c cached ones, c + n / 2. ``filled`` is the share of
    the tensor groups that have tokens at all: the others wait, and experts see fewer. ``cached`` tokens of all the
    sequences come as latents whose keys and values are made again. All may be arrays of one shape, which every field
    then has; seconds, FLOPs and bytes of a mean die. Nothing is raised. Errors: class P of docs/fidelity.md. Source:
    arXiv 2506.12708.
    """
    breakdown: dict[str, Number] = dict.fromkeys(_CAUSES, 0.0)
    one: Number = 0.0
    two: Number = 0.0
    flops, moved, sent = one, one, one
    for group in pool.architecture.kinds:
        parts, work, wire = _layer(pool, group, tokens, context, filled=filled, cached=cached)
        compute = sum(seconds for cause, seconds in parts.items() if cause != "exchange")
        exchange = parts["exchange"]
        one = one + group.count * (compute + exchange)
        # Two micro-batches pay the fixed costs twice.
        beside = compute + pool.stack.layer_seconds + pool.stack.overlap_slowdown * exchange
        two = two + group.count * (at_least(beside, exchange) if group.feed_forward.is_moe else compute)
        for cause, seconds in parts.items():
            breakdown[cause] = breakdown[cause] + group.count * seconds
        flops, moved = flops + group.count * work.flops, moved + group.count * work.hbm_bytes
        sent = sent + group.count * wire
    head = head_work(pool, sequences)
    other = head.seconds() + pool.stack.host_seconds
    spread = any_true(pool.expert > 1)
    faster: Number = spread and (pool.streams == "two" or (pool.streams == "auto" and pool.stack.two_streams))
    if faster and pool.streams == "auto":
        faster = two < one
    layers = choose(faster, two, one)
    breakdown.update(head=head.seconds(), host=pool.stack.host_seconds, overlap=layers - one)
    return PrefillStep(
        seconds=layers + other,
        one_stream_seconds=one + other,
        breakdown=breakdown,
        flops=flops + head.flops,
        hbm_bytes=moved + head.hbm_bytes,
        sent_bytes=sent,
    )


def _layer(
    pool: Pool, group: LayerGroup, tokens: Number, context: Number, *, filled: Number, cached: Number
) -> tuple[dict[str, Number], Work, Number]:
    """Return a layer's seconds by cause, its FLOPs and bytes on a mean rank, and the bytes on its ports."""
    stack, hardware, hidden = pool.stack, pool.hardware, pool.architecture.hidden
    weights = attention_weights(pool, group.attention, tokens, cached)
    core = group.attention.prefill_core_flops(context) * tokens / pool.tensor
    core_peak = hardware.peak("bf16") * stack.attention_efficiency
    block = group.feed_forward
    reduced = all_reduce_seconds(hardware, 2.0 * tokens * hidden, pool.tensor, stack)
    parts = {
        "projections": weights.seconds(),
        "core": core / core_peak,
        "vector": vector_seconds(pool, group, tokens),
        "fixed": stack.layer_seconds,
        "all_reduce": 2.0 * reduced,
        "exchange": tokens * 0.0,
    }
    sent: Number = tokens * 0.0
    if block.is_moe:
        hot, mean = expert_work(pool, block, tokens, filled=filled)
        parts["feed_forward"] = hot.seconds()
        if any_true(pool.expert > 1):
            own = tokens / pool.tensor
            kind = pool.precision.activations
            out = dispatch(hardware, stack, own, block.top_k, hidden, pool.expert, kind, bulk=True)
            back = combine(hardware, stack, own, block.top_k, hidden, pool.expert, bulk=True)
            # The hottest rank receives (and sends back) as many more bytes as it has more work.
            parts["exchange"] = out.seconds() + back.seconds() + (out.wire + back.wire) * (pool.imbalance - 1.0)
            parts["all_reduce"] = reduced
            sent = out.sent.node + out.sent.pod + out.sent.rdma + back.sent.node + back.sent.pod + back.sent.rdma
    else:
        mean = dense_work(pool, block, tokens)
        parts["feed_forward"] = mean.seconds()
    total = Work(weights.flops + core + mean.flops, weights.hbm_bytes + mean.hbm_bytes, mean.peak, mean.bandwidth)
    return parts, total, sent
