"""What fits into the HBM of a pool's dies: weights, caches, buffers; and the arithmetic in words when it does not.

    cache = HBM x fraction - weights - buffers - activations        blocks = floor(cache / block bytes)

Weights: projections and dense blocks over the tensor group (key-value parts replicated beyond the key-value heads),
routed experts over the expert ranks with their redundant replicas, embedding in BF16, head as its format says, layers
for multi-token prediction where drafts are made. Of the stages of a pipeline the fullest counts, each with the caches
of its layers; tensor groups that share prompts have each its part of caches and activations; with attention and experts
apart, the attention dies have the caches, and the experts must fit too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from supernode_dataplane.architecture import LayerGroup
from supernode_dataplane.deployment import Pool
from supernode_dataplane.figures import counted
from supernode_dataplane.numeric import Number, any_true, at_least, at_most
from supernode_dataplane.stages import Stage, pool_stages

__all__ = [
    "BUFFER_BYTES",
    "MEMORY_FRACTION",
    "Capacity",
    "cache_bytes",
    "capacity_of",
    "expert_weight_bytes",
    "explain_memory",
    "weight_bytes",
]

BUFFER_BYTES: Final = 645e6
"""Communication buffers of a die: 645 MB, arXiv 2506.12708."""
MEMORY_FRACTION: Final = 0.9
"""Share of HBM that a serving engine may fill; the usual setting of open-source engines."""
_ACTIVATION_VALUES: Final = 12.0
"""Values of the hidden size that a token in flight holds: inputs, queries, keys, gate, up and output of a layer."""
_GIB: Final = 2.0**30


@dataclass(frozen=True, slots=True)
class Capacity:
    """HBM of one die of a pool, bytes."""

    hbm: Number
    weights: Number
    buffers: Number
    activations: Number
    cache: Number
    """Left for caches; negative when the weights alone do not fit."""
    bytes_per_sequence: Number
    """Of one sequence at the context asked for."""

    @property
    def sequences(self) -> Number:
        """Sequences of that context that fit into a tensor group."""
        return at_least(self.cache, 0.0) / self.bytes_per_sequence


def weight_bytes(pool: Pool) -> Number:
    """Return the weights of one die, bytes: of the fullest stage; with a split, of an attention die."""
    if pool.pipeline == 1:
        return _stage_weights(pool, first=True, last=True)
    stages = pool_stages(pool)
    return max(_stage_weights(stage.pool, first=stage.first, last=stage.last) for stage in stages)


def expert_weight_bytes(pool: Pool) -> Number:
    """Return the weights of an expert die of a pool that has a split, bytes."""
    kinds = [(group.count, group) for group in pool.architecture.kinds]
    if any_true(pool.speculation.drafts > 0):
        kinds.append((max(1, pool.architecture.mtp_layers), pool.architecture.groups[-1]))
    return sum(count * _expert_bytes(pool, group) for count, group in kinds if group.feed_forward.is_moe)


def cache_bytes(pool: Pool, context: Number) -> Number:
    """Return what one sequence of so many tokens holds on each die of its group (a mean stage), bytes."""
    model, per_value = pool.architecture, pool.precision.kv_bytes
    total: Number = 0.0
    for group in model.kinds:
        attention = group.attention
        values = attention.sequence_values(context) + context * attention.index_values
        total = total + group.count * values / at_most(pool.tensor, float(attention.kv_heads))
    shared = pool.pipeline * pool.context
    return total * per_value if shared == 1 else total * per_value / shared


def capacity_of(
    pool: Pool, context: Number, *, tokens_in_flight: Number = 0.0, memory_fraction: Number = MEMORY_FRACTION
) -> Capacity:
    """Return what is left for caches of sequences of ``context`` tokens on one die.

    ``tokens_in_flight`` are those of one tensor group that go through the model at once (a prefill batch or chunk).
    Bytes, of the shape of pool and context together. Weights that do not fit are no error: ``cache`` is negative then
    and ``sequences`` 0; :func:`explain_memory` has the arithmetic in words. Source of the parts: the model's config;
    buffers arXiv 2506.12708.
    """
    if pool.pipeline > 1:
        found = [_stage_capacity(stage, context, tokens_in_flight, memory_fraction) for stage in pool_stages(pool)]
        return min(found, key=lambda capacity: float(np.min(capacity.sequences)))
    return _capacity(pool, _stage_weights(pool, first=True, last=True), context, tokens_in_flight, memory_fraction)


def _stage_capacity(stage: Stage, context: Number, tokens_in_flight: Number, memory_fraction: Number) -> Capacity:
    weights = _stage_weights(stage.pool, first=stage.first, last=stage.last)
    return _capacity(stage.pool, weights, context, tokens_in_flight, memory_fraction)


def _capacity(
    pool: Pool, weights: Number, context: Number, tokens_in_flight: Number, memory_fraction: Number
) -> Capacity:
    usable = pool.hardware.hbm_bytes * memory_fraction
    activations = tokens_in_flight * (pool.architecture.hidden * _ACTIVATION_VALUES * 2.0) / pool.tensor
    if pool.context > 1:
        activations = activations / pool.context
    if pool.split is not None:
        experts = expert_weight_bytes(pool)
        if any_true(experts + BUFFER_BYTES > usable):
            weights = experts
    return Capacity(
        hbm=usable,
        weights=weights,
        buffers=BUFFER_BYTES,
        activations=activations,
        cache=usable - weights - BUFFER_BYTES - activations,
        bytes_per_sequence=cache_bytes(pool, context),
    )


def explain_memory(pool: Pool, capacity: Capacity, sequences: float) -> str:
    """Return the arithmetic of a die in words, in GiB."""
    need = capacity.bytes_per_sequence * sequences
    parts = {
        "weights": capacity.weights,
        "buffers": capacity.buffers,
        "activations": capacity.activations,
        f"caches of {counted(round(sequences, 3), 'sequence')}": need,
    }
    total = sum(parts.values())
    sums = " + ".join(f"{name} {size / _GIB:.1f}" for name, size in parts.items())
    return (
        f"{pool.architecture.name} needs {total / _GIB:.1f} GiB on a die and may use {capacity.hbm / _GIB:.1f} of "
        f"{pool.hardware.hbm_bytes / _GIB:.0f} GiB: {sums}"
    )


def _stage_weights(pool: Pool, *, first: bool, last: bool) -> Number:
    """Return the weights of a die of one stage; embedding and head are at the ends."""
    model = pool.architecture
    total: Number = 0.0
    for group in model.kinds:
        total = total + group.count * _layer_bytes(pool, group)
    if last and any_true(pool.speculation.drafts > 0):
        total = total + max(1, model.mtp_layers) * _layer_bytes(pool, model.groups[-1])
    width = 2.0 if pool.precision.head == "bf16" else 1.0
    ends = model.embedding_parameters * 2.0 if first else 0.0
    if last and not (model.tied and first):
        ends = ends + model.head_parameters * (2.0 if model.tied else width)
    return total + ends / pool.tensor


def _layer_bytes(pool: Pool, group: LayerGroup) -> Number:
    """Return the weights of one layer on one die, bytes; with a split, on an attention die."""
    hidden, attention, block = pool.architecture.hidden, group.attention, group.feed_forward
    precision = pool.precision
    held = attention.query_parameters(hidden) / pool.tensor
    held = held + attention.key_value_parameters(hidden) / at_most(pool.tensor, float(attention.kv_heads))
    held = held * precision.bytes_of("attention")
    if not block.is_moe:
        return held + block.dense_parameters(hidden) / pool.tensor * precision.bytes_of("others")
    if pool.split is not None:
        return held
    if any_true(pool.expert > 1):
        return held + _expert_bytes(pool, group)
    routed = block.experts * block.expert_parameters(hidden) / pool.tensor
    others = block.shared_parameters(hidden) / pool.tensor + block.router_parameters(hidden)
    return held + routed * precision.bytes_of("experts") + others * precision.bytes_of("others")


def _expert_bytes(pool: Pool, group: LayerGroup) -> Number:
    """Return the experts of one layer on one of the dies that they are spread over, bytes."""
    hidden, block, precision = pool.architecture.hidden, group.feed_forward, pool.precision
    slots = (block.experts + pool.experts.redundant) / (pool.expert - pool.experts.shared_ranks)
    routed, others = slots * block.expert_parameters(hidden), block.shared_parameters(hidden)
    others = others + block.router_parameters(hidden)
    return routed * precision.bytes_of("experts") + others * precision.bytes_of("others")
