"""What the parts of a layer cost one die: products with weights, the attention core, experts.

    compute = FLOPs / (peak x efficiency x share of the cores)      memory = bytes / (HBM bandwidth x efficiency)
    products with weights   (compute^k + memory^k)^(1/k)             attention core   max(compute, memory)

Between both regimes a product takes longer than either (``KNEE``). HBM is shared between streams, never split; only
cores are. Work of a layer is split over the tensor group; key and value projections are replicated where the group has
more dies than there are key-value heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from supernode_dataplane.architecture import Attention, FeedForward, LayerGroup
from supernode_dataplane.deployment import Pool, WeightClass
from supernode_dataplane.numeric import Number, at_least, at_most, exp

__all__ = [
    "KNEE",
    "Work",
    "attention_weights",
    "core_work",
    "dense_work",
    "expert_work",
    "head_work",
    "vector_seconds",
    "vector_values",
]

KNEE: Final = 2.15
"""Exponent k of a product's roofline: least squares over the 12 products between the two regimes that
deepseek-ai/DeepGEMM's README gives for H800 (128 tokens dense, 256 to 1,024 a group); root mean square error 13 %."""


@dataclass(frozen=True, slots=True)
class Work:
    """FLOPs in the pool's activation format or BF16, and HBM bytes, of one die."""

    flops: Number
    """Those of weights that stay BF16 count as what the activation format does in their time."""
    hbm_bytes: Number
    peak: float
    """Operations per second at this format and efficiency, with all cores."""
    bandwidth: float
    product: bool = True
    """Whether it is a product with weights, whose roofline is round."""

    def seconds(self, share: float = 1.0) -> Number:
        """Return the time with a share of the cores."""
        compute, memory = self.flops / (self.peak * share), self.hbm_bytes / self.bandwidth
        return (compute**KNEE + memory**KNEE) ** (1.0 / KNEE) if self.product else at_least(compute, memory)


def _slower(pool: Pool, kind: WeightClass) -> float:
    """Return the time of a product with a class of weights over that of one in the activation format."""
    hardware, precision = pool.hardware, pool.precision
    product = precision.product_of(kind)
    if product == precision.activations:
        return 1.0
    return hardware.peak(precision.activations) / hardware.peak(product)


def _gemm(pool: Pool, flops: Number, weight_bytes: Number) -> Work:
    stack, hardware = pool.stack, pool.hardware
    return Work(
        flops,
        weight_bytes,
        hardware.peak(pool.precision.activations) * stack.gemm_efficiency,
        hardware.hbm_bytes_per_second * stack.hbm_efficiency,
    )


def attention_weights(pool: Pool, attention: Attention, tokens: Number, cached: Number = 0.0) -> Work:
    """Return the projections of ``tokens`` of one tensor group; ``cached`` latents get their keys and values again."""
    hidden = pool.architecture.hidden
    held = attention.query_parameters(hidden) / pool.tensor
    held = held + attention.key_value_parameters(hidden) / at_most(pool.tensor, float(attention.kv_heads))
    again = 2.0 * attention.expansion_parameters * cached / pool.tensor
    flops = (2.0 * held * tokens + again) * _slower(pool, "attention")
    return _gemm(pool, flops, held * pool.precision.bytes_of("attention"))


def core_work(pool: Pool, attention: Attention, sequences: Number, queries: Number, context: Number) -> Work:
    """Return the attention core of a decode step over the caches of a tensor group's sequences."""
    stack, hardware = pool.stack, pool.hardware
    flops = attention.decode_core_flops(context) * sequences * queries / pool.tensor
    read = attention.effective_context(context) * attention.cached_values + attention.state_values * 2.0
    read = read + context * attention.index_values
    shared = at_most(pool.tensor, float(attention.kv_heads))
    return Work(
        flops,
        read * sequences * pool.precision.kv_bytes / shared,
        hardware.peak("bf16") * stack.attention_efficiency,
        hardware.hbm_bytes_per_second * stack.attention_bandwidth,
        product=False,
    )


def dense_work(pool: Pool, block: FeedForward, tokens: Number) -> Work:
    """Return a dense feed-forward block of ``tokens`` of one tensor group."""
    held = block.dense_parameters(pool.architecture.hidden) / pool.tensor
    return _gemm(pool, 2.0 * held * tokens * _slower(pool, "others"), held * pool.precision.bytes_of("others"))


def expert_work(pool: Pool, block: FeedForward, tokens: Number, *, filled: Number = 1.0) -> tuple[Work, Work]:
    """Return the experts of the rank that has most to do, and of a mean one.

    ``tokens`` are those of one tensor group. Routed experts see the tokens of the whole pool; a rank reads the weights
    of those of its experts that any token hits: 1 - (1 - k/E)^T of them. ``filled``: share of the groups with tokens.
    """
    hidden, experts, spread = pool.architecture.hidden, pool.experts, _spread(pool)
    every = tokens * pool.groups * filled if spread else tokens
    ranks = pool.expert - experts.shared_ranks
    slots = (block.experts + experts.redundant) / ranks
    copies = every * block.top_k / ranks
    replicas = 1.0 + experts.redundant / block.experts
    hit = 1.0 - exp(every / replicas * math.log1p(-block.top_k / block.experts)) if block.top_k < block.experts else 1.0
    split = 1.0 if spread else pool.tensor
    routed, shared = block.expert_parameters(hidden) / split, block.shared_parameters(hidden) / split
    beside = at_most(experts.shared_ranks, 0.0) + 1.0 - at_most(experts.shared_ranks, 1.0)
    own = tokens / pool.tensor if spread else tokens
    others, precision = shared * beside + block.router_parameters(hidden), pool.precision
    slower, beside_flops = _slower(pool, "experts"), others * own * _slower(pool, "others")
    read = routed * slots * hit * precision.bytes_of("experts") + others * precision.bytes_of("others")
    mean = _gemm(pool, 2.0 * (routed * copies * slower + beside_flops), read)
    if not spread:
        return mean, mean
    return _gemm(pool, 2.0 * (routed * (copies * pool.imbalance) * slower + beside_flops), read), mean


def head_work(pool: Pool, tokens: Number) -> Work:
    """Return the output head of ``tokens`` of one tensor group, always multiplied in BF16."""
    stack, hardware, precision = pool.stack, pool.hardware, pool.precision
    held = pool.architecture.head_parameters / pool.tensor
    width = 2.0 if precision.head == "bf16" else 1.0
    return Work(
        2.0 * held * tokens,
        held * width,
        hardware.peak(precision.head) * stack.gemm_efficiency,
        hardware.hbm_bytes_per_second * stack.hbm_efficiency,
    )


def vector_values(pool: Pool, group: LayerGroup) -> Number:
    """Return the values that a layer's element-wise operators read and write for a token, on one die of its group.

    Kernels that send tokens to experts sort them as well; where experts stay inside the group, sorting is extra.
    """
    sorts = group.feed_forward.is_moe and not _spread(pool)
    split = pool.sequence_parallel
    return group.element_values(pool.architecture.hidden, pool.tensor, sequence_parallel=split, sorts=sorts)


def vector_seconds(pool: Pool, group: LayerGroup, tokens: Number, share: float = 1.0) -> Number:
    """Return the vector work of a layer on ``tokens`` of one tensor group."""
    each = pool.stack.vector_seconds * pool.hardware.vector_scale / share
    return tokens * vector_values(pool, group) * each


def _spread(pool: Pool) -> bool:
    """Whether experts are spread over ranks, so that tokens travel to them."""
    return bool((pool.expert > 1) if not hasattr(pool.expert, "all") else (pool.expert > 1).all())
