"""What one die holds, keeps and computes of a layer in training: parameters, FLOPs, activations, messages.

A die has 1 / tensor of a layer's matrices (key-value projections 1 / min(tensor, key-value heads), router and norms
whole) and 1 / (expert x expertTensor) of its routed experts; it works on the tokens of one micro-batch over context.
Activations of a plain layer are 34 bytes a token and hidden element (arXiv 2205.05198): 11 of attention, 4 of norms, 19
of the block. Where that does not hold (latent or linear attention, experts) they are counted tensor by tensor in BF16:
inputs of products, queries, keys and values, and for each copy of a token an expert's input, output and gate, up and
product. All figures are of one micro-batch. Sequence length, micro-batch and imbalance may be arrays of points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from supernode_dataplane.architecture import Attention, FeedForward, LayerGroup
from supernode_dataplane.constants import ACTIVATION_BYTES, RECOMPUTED_BYTES, WEIGHT_BYTES
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.numeric import Number

__all__ = ["LayerShare", "layer_shares", "shares_of"]

_NORM_BYTES = 4.0
"""Bytes per token and hidden element that the two norms and residual sums keep, of the 34."""
_BLOCK_BYTES = 19.0
"""Bytes per token and hidden element that a dense feed-forward block keeps, of the 34."""


@dataclass(frozen=True, slots=True)
class LayerShare:
    """A die's part of a layer of one kind."""

    dense_parameters: float
    """Without the routed experts; norms included."""
    expert_parameters: float
    gemm_flops: Number
    """Forward products with weights, without the routed experts."""
    gemm_parameters: float
    """Weights that these products read."""
    expert_flops: Number
    """Forward products of routed experts, of a die with the mean load."""
    attention_flops: Number
    activation_bytes: Number
    """Kept for the backward pass; of the die with the hottest experts."""
    kept_bytes: Number
    """Kept where the layer is recomputed: its input."""
    vector_values: float
    """Values that element-wise operators read and write for a token, forward, its tokens split (sequence parallel)."""
    plain: bool
    """No routed experts: one roofline for the whole layer."""
    collectives: int
    """Tensor all-gathers and reduce-scatters of the forward pass."""
    exchange_bytes: Number
    """Copies of tokens that a die sends in one dispatch or combine, those that stay included."""
    context_bytes: Number
    """Keys and values that a die passes on in one turn of the context ring, forward."""


@lru_cache(maxsize=1024)
def layer_shares(spec: TrainingSpec) -> tuple[LayerShare, ...]:
    """Return a die's part of each kind of layer of the model, in the order of ``model.kinds``; the last are kept."""
    return shares_of(spec)


def shares_of(spec: TrainingSpec) -> tuple[LayerShare, ...]:
    """Return the same for a spec whose numbers may be arrays."""
    return tuple(_share(spec, kind) for kind in spec.model.kinds)


def _share(spec: TrainingSpec, kind: LayerGroup) -> LayerShare:
    attention, block = kind.attention, kind.feed_forward
    hidden, tp = spec.model.hidden, spec.tensor
    tokens = spec.sequence_length * spec.micro_batch_size / spec.context
    split = attention.query_parameters(hidden) + block.dense_parameters(hidden) + block.shared_parameters(hidden)
    parameters = split / tp + attention.key_value_parameters(hidden) / min(tp, attention.kv_heads)
    router = block.router_parameters(hidden)
    copies = tokens / tp * block.top_k
    return LayerShare(
        dense_parameters=parameters + router + 2 * hidden,
        expert_parameters=block.experts * block.expert_parameters(hidden) / (spec.expert * spec.expert_tensor),
        gemm_flops=2.0 * tokens * parameters + 2.0 * tokens / tp * router,
        gemm_parameters=parameters + router,
        expert_flops=2.0 * copies * block.expert_parameters(hidden),
        attention_flops=tokens * attention.causal_core_flops(1.0 * spec.sequence_length) / tp,
        activation_bytes=_activation_bytes(spec, attention, block, tokens / tp),
        kept_bytes=RECOMPUTED_BYTES * tokens * hidden / tp,
        vector_values=kind.element_values(hidden, float(tp), sequence_parallel=True, sorts=block.is_moe),
        plain=not block.is_moe,
        collectives=2 if block.is_moe and not block.shared_width else 4,
        exchange_bytes=copies * hidden * WEIGHT_BYTES,
        context_bytes=_context_bytes(spec, attention, tokens),
    )


def _activation_bytes(spec: TrainingSpec, attention: Attention, block: FeedForward, tokens: Number) -> Number:
    hidden = spec.model.hidden
    if attention.kind == "full" and not block.is_moe:
        return ACTIVATION_BYTES * tokens * hidden
    core = (ACTIVATION_BYTES - _NORM_BYTES - _BLOCK_BYTES) * hidden
    if attention.kind == "mla":
        latents = hidden + attention.q_lora + attention.kv_lora + attention.rope_dim
        core = WEIGHT_BYTES * (latents + 2 * attention.heads * (attention.head_dim + attention.value_dim))
    elif attention.kind == "linear":
        # Queries and keys, values, gates and output, before the convolution and after it.
        values = attention.heads * attention.value_dim
        core = WEIGHT_BYTES * (hidden + 4 * attention.kv_heads * attention.head_dim + 4 * values)
    if not block.is_moe:
        return tokens * (core + (_NORM_BYTES + _BLOCK_BYTES) * hidden)
    inner = 2 * WEIGHT_BYTES if not block.gated else 3 * WEIGHT_BYTES
    copy = WEIGHT_BYTES * hidden * (1 + spec.expert_tensor) + inner * block.expert_width
    shared = WEIGHT_BYTES * hidden + inner * block.shared_width if block.shared_width else 0.0
    routed = spec.expert_imbalance * block.top_k * copy
    return tokens * (core + _NORM_BYTES * hidden + routed + shared + 2 * WEIGHT_BYTES * block.experts)


def _context_bytes(spec: TrainingSpec, attention: Attention, tokens: Number) -> Number:
    if spec.context == 1:
        return 0.0
    if attention.kind == "linear":
        # Not keys and values go round but the state, once for each sequence.
        return attention.state_values * spec.micro_batch_size * WEIGHT_BYTES / spec.tensor
    if attention.kind == "mla":
        values = attention.heads * (attention.head_dim + attention.value_dim) / spec.tensor
    else:
        values = attention.cached_values / min(spec.tensor, attention.kv_heads)
    return tokens * values * WEIGHT_BYTES
