"""What a model is made of, as values, and the arithmetic on them: parameters, FLOPs and bytes of attention and blocks.

An architecture is a sequence of groups of equal layers, each an attention and a feed-forward block; embeddings, output
head, and layers for multi-token prediction beside them. It knows no machine. Sizes are counts of numbers, never bytes;
FLOPs count a multiplication and an addition as two. A context (tokens in the sequence) is a float or an array of them.

    attention core   full 2 n c (d_qk + d_v), latent absorbed 2 n c (2 r + d_rope), linear 6 n d_k d_v, per query token
    cached           full n_kv (d_qk + d_v), latent r + d_rope, linear a state that does not grow
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Architecture", "Attention", "FeedForward", "LayerGroup"]

F = TypeVar("F", float, NDArray[np.float64])
LINEAR_CHUNK: Final = 64
"""Tokens that linear attention takes at once in prefill and training (gated delta rule by chunks, arXiv 2412.06464)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """The attention of one layer.

    ``full``: multi-head, grouped or multi-query; whole, in a sliding window, sparse (an indexer scores every key, the
    core reads the best), or over compressed keys. ``mla``: multi-head latent attention, one latent for all heads
    (``kv_heads`` 1, ``head_dim`` with the rotary part). ``linear``: gated delta rule; ``heads`` are its value heads,
    ``kv_heads`` its key heads, ``head_dim`` and ``value_dim`` the sizes of a key and a value.
    """

    kind: Literal["full", "mla", "linear"]
    heads: int
    kv_heads: int
    head_dim: int
    """Of a query and a key, per head."""
    value_dim: int
    q_lora: int = 0
    """Rank of the query's low-rank projection; 0: none."""
    kv_lora: int = 0
    """mla: size of the cached latent."""
    rope_dim: int = 0
    """mla: size of the rotary key that is cached beside the latent."""
    window: int | None = None
    """Tokens that a query sees; None: all."""
    index_heads: int = 0
    index_dim: int = 0
    index_topk: int = 0
    """Keys that the core reads of those that the indexer has scored; 0: no indexer."""
    compression: int = 0
    """Tokens that one cached entry stands for, read beside the window (as in DeepSeek-V4); 0: none."""
    shared_kv: bool = False
    """Whether keys and values are the same numbers, cached once."""
    output_lora: int = 0
    """Rank of the output projection in each of ``output_groups``; 0: one whole matrix."""
    output_groups: int = 0
    output_gate: bool = False
    """Whether a projection as large as the output gates it."""
    conv_kernel: int = 0
    """linear: length of the convolution over queries, keys and values."""

    def query_parameters(self, hidden: int) -> int:
        """Return what tensor parallelism splits without replicating: query, output, gate; mla: also latent to heads."""
        out = self.heads * self.value_dim
        if self.kind == "linear":
            mixed = 2 * self.kv_heads * self.head_dim + out
            return hidden * (mixed + out + 2 * self.heads) + self.conv_kernel * mixed + out * hidden
        query = self.heads * self.head_dim
        source = self.q_lora or hidden
        total = hidden * self.q_lora + source * query
        total += source * self.index_heads * self.index_dim + hidden * self.index_heads
        total += self.kv_lora * self.heads * (self.head_dim - self.rope_dim + self.value_dim)
        total += hidden * out if self.output_gate else 0
        if self.output_groups:
            return total + out * self.output_lora + self.output_groups * self.output_lora * hidden
        return total + out * hidden

    @property
    def expansion_parameters(self) -> int:
        """Return what makes keys and values of a cached latent, part of the query parameters; 0 but for mla."""
        return self.kv_lora * self.heads * (self.head_dim - self.rope_dim + self.value_dim) if self.kind == "mla" else 0

    def key_value_parameters(self, hidden: int) -> int:
        """Return what is replicated when the tensor group exceeds ``kv_heads``: keys, values, latent, indexer keys."""
        if self.kind == "linear":
            return 0
        if self.kind == "mla":
            return hidden * (self.kv_lora + self.rope_dim + self.index_dim)
        sizes = self.head_dim if self.shared_kv else self.head_dim + self.value_dim
        total = hidden * self.kv_heads * sizes
        if self.compression:
            # Entries and their weights; entries that an indexer chooses from overlap with their neighbours.
            overlap = 2 if self.index_topk else 1
            return total + 2 * overlap * hidden * (self.head_dim + self.index_dim)
        return total + hidden * self.index_dim

    def parameters(self, hidden: int) -> int:
        """Return the parameters of this layer's projections."""
        return self.query_parameters(hidden) + self.key_value_parameters(hidden)

    def effective_context(self, context: F) -> F:
        """Return the keys (or entries) that the core of one query reads; 0 for linear attention."""
        if self.kind == "linear":
            return context * 0.0
        if not self.compression:
            return _at_most(_at_most(context, self.window), self.index_topk or None)
        entries = _at_most(context / self.compression, self.index_topk or None)
        return entries + (_at_most(context, self.window) if self.window else 0.0)

    def decode_core_flops(self, context: F) -> F:
        """Return FLOPs of one query token over ``context`` cached tokens, indexer included; mla absorbed."""
        width = 2 * self.kv_lora + self.rope_dim if self.kind == "mla" else self.head_dim + self.value_dim
        return self.effective_context(context) * float(2 * self.heads * width) + self._other_flops(context, 0)

    def prefill_core_flops(self, context: F) -> F:
        """Return FLOPs of one query token over ``context`` keys, indexer included; mla uncompressed."""
        width = float(2 * self.heads * (self.head_dim + self.value_dim))
        return self.effective_context(context) * width + self._other_flops(context, LINEAR_CHUNK)

    def causal_core_flops(self, sequence_length: F) -> F:
        """Return FLOPs of a token, the mean over a sequence in which each sees what came before; mla uncompressed."""
        if self.kind == "linear":
            return self._other_flops(sequence_length, LINEAR_CHUNK)
        if self.compression:
            reach = self.index_topk * self.compression or None
            keys = _mean_of_at_most(sequence_length, reach) / self.compression
            keys = keys + (_mean_of_at_most(sequence_length, self.window) if self.window else 0.0)
        else:
            limits = [limit for limit in (self.window, self.index_topk) if limit]
            keys = _mean_of_at_most(sequence_length, min(limits, default=None))
        width = float(2 * self.heads * (self.head_dim + self.value_dim))
        return keys * width + self._other_flops(sequence_length / 2, LINEAR_CHUNK)

    def _other_flops(self, context: F, chunk: int) -> F:
        """Return FLOPs of the indexer, or of linear attention: state update, convolution, products in a chunk."""
        if self.kind != "linear":
            return context * (2.0 * self.index_heads * self.index_dim / max(1, self.compression))
        state = 6 * self.heads * self.head_dim * self.value_dim
        state += 2 * self.conv_kernel * (2 * self.kv_heads * self.head_dim + self.heads * self.value_dim)
        inside = 2 * chunk * self.heads * (3 * self.head_dim + 2 * self.value_dim)
        return context * 0.0 + float(state + inside)

    @property
    def cached_values(self) -> float:
        """Values that a token adds to the cache, indexer keys apart; of a window's last tokens only."""
        if self.kind == "linear":
            return 0.0
        if self.kind == "mla":
            return float(self.kv_lora + self.rope_dim)
        sizes = self.head_dim if self.shared_kv else self.head_dim + self.value_dim
        return self.kv_heads * sizes / max(1, self.compression)

    @property
    def index_values(self) -> float:
        """Values of indexer keys that a token adds to the cache."""
        return self.index_dim / max(1, self.compression)

    @property
    def state_values(self) -> float:
        """Values that a sequence holds whatever its length: linear attention's state and its convolution's."""
        if self.kind != "linear":
            return 0.0
        mixed = 2 * self.kv_heads * self.head_dim + self.heads * self.value_dim
        return float(self.heads * self.head_dim * self.value_dim + max(0, self.conv_kernel - 1) * mixed)

    def sequence_values(self, context: F) -> F:
        """Return all values that a sequence of ``context`` tokens holds, indexer keys apart."""
        if self.kind == "linear":
            return context * 0.0 + self.state_values
        if not self.compression:
            return _at_most(context, self.window) * self.cached_values
        recent = _at_most(context, self.window) if self.window else context * 0.0
        return context * self.cached_values + recent * (self.cached_values * self.compression)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward:
    """The feed-forward block of one layer: dense (``experts`` 0), or routed experts with shared ones beside them."""

    width: int
    """Intermediate size of a dense block; 0 where there are experts."""
    gated: bool
    """Three matrices (gate, up, down) rather than two."""
    experts: int = 0
    top_k: int = 0
    """Experts that a token is sent to."""
    expert_width: int = 0
    shared_width: int = 0
    """Sum over the experts that every token goes through."""
    slices: int = 1
    """Equal parts that each real expert is split into: ``experts``, ``top_k`` and ``expert_width`` are of parts."""

    @property
    def is_moe(self) -> bool:
        """Whether there are routed experts."""
        return self.experts > 0

    @property
    def matrices(self) -> int:
        """Matrices of a block or an expert."""
        return 3 if self.gated else 2

    def dense_parameters(self, hidden: int) -> int:
        """Return the parameters of a dense block; 0 where there are experts."""
        return self.matrices * hidden * self.width

    def expert_parameters(self, hidden: int) -> int:
        """Return the parameters of one routed expert."""
        return self.matrices * hidden * self.expert_width

    def shared_parameters(self, hidden: int) -> int:
        """Return the parameters of all shared experts together."""
        return self.matrices * hidden * self.shared_width

    def router_parameters(self, hidden: int) -> int:
        """Return the parameters of the router."""
        return hidden * self.experts // self.slices

    def active_parameters(self, hidden: int) -> int:
        """Return the parameters that one token meets."""
        common = self.dense_parameters(hidden) + self.shared_parameters(hidden) + self.router_parameters(hidden)
        return common + self.top_k * self.expert_parameters(hidden)

    def parameters(self, hidden: int) -> int:
        """Return all parameters of the block."""
        return self.active_parameters(hidden) + (self.experts - self.top_k) * self.expert_parameters(hidden)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGroup:
    """Equal layers that follow one another."""

    count: int
    attention: Attention
    feed_forward: FeedForward

    def parameters(self, hidden: int) -> int:
        """Return the parameters of one layer, its two norms included."""
        return self.attention.parameters(hidden) + self.feed_forward.parameters(hidden) + 2 * hidden

    def element_values(self, hidden: int, tensor: F, *, sequence_parallel: bool = False, sorts: bool = False) -> F:
        """Return the values that element-wise operators read and write for a token, on one die of a tensor group.

        The group splits what belongs to a head or to a column of the feed-forward block: rotation, quantisation or
        copy of the core's result, activation. Norms, residuals, casts of the hidden state, and sorting a token's copies
        by expert (``sorts``) are every die's own work on all tokens, unless the tokens are split for them.
        """
        attention, block = self.attention, self.feed_forward
        whole = 8.0 * hidden + 2.0 * (attention.q_lora + attention.kv_lora)
        if sorts:
            whole += 2.0 * (1 + block.top_k) * hidden
        heads = 2.0 * attention.heads * (attention.head_dim + attention.value_dim)
        columns = 3.0 * (block.width + block.top_k * block.expert_width + block.shared_width)
        keys = 2.0 * attention.kv_heads * attention.head_dim
        split = (heads + columns) / tensor + keys / _at_most(tensor, attention.kv_heads)
        return split + (whole / tensor if sequence_parallel else whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A transformer by what running and training it costs."""

    name: str
    hidden: int
    vocab: int
    tied: bool
    """Whether the output head is the input embedding."""
    groups: tuple[LayerGroup, ...]
    """In order; neighbours differ."""
    mtp_layers: int = 0
    """Layers for multi-token prediction, beside the model's own and in none of the counts below."""
    learned_positions: int = 0
    kinds: tuple[LayerGroup, ...] = field(init=False, repr=False, compare=False)
    """The distinct layers with how many there are, in order of appearance: what sums go over."""
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        totals: dict[tuple[Attention, FeedForward], int] = {}
        for group in self.groups:
            key = (group.attention, group.feed_forward)
            totals[key] = totals.get(key, 0) + group.count
        kinds = tuple(LayerGroup(count=n, attention=a, feed_forward=f) for (a, f), n in totals.items())
        object.__setattr__(self, "kinds", kinds)
        parts = (self.name, self.hidden, self.vocab, self.tied, self.groups, self.mtp_layers, self.learned_positions)
        object.__setattr__(self, "_hash", hash(parts))

    def __hash__(self) -> int:
        # Plans are looked up by architecture; hashing every layer each time would cost more than the plan.
        return self._hash

    @property
    def layers(self) -> int:
        """Number of layers."""
        return sum(group.count for group in self.groups)

    @property
    def moe_layers(self) -> int:
        """Number of layers with routed experts."""
        return sum(group.count for group in self.kinds if group.feed_forward.is_moe)

    @property
    def is_moe(self) -> bool:
        """Whether any layer has routed experts."""
        return self.moe_layers > 0

    @property
    def embedding_parameters(self) -> int:
        """Of the input embedding, learned positions included."""
        return (self.vocab + self.learned_positions) * self.hidden

    @property
    def head_parameters(self) -> int:
        """Of the output head, whether its own or the embedding's."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """Of the whole model, embeddings included, layers for multi-token prediction not."""
        layers = sum(group.count * group.parameters(self.hidden) for group in self.kinds)
        return layers + self.embedding_parameters + (0 if self.tied else self.head_parameters) + self.hidden

    @property
    def active_parameters(self) -> int:
        """Those that one token meets: all but the routed experts that it is not sent to (embeddings included)."""
        idle = 0
        for group in self.kinds:
            block = group.feed_forward
            idle += group.count * (block.experts - block.top_k) * block.expert_parameters(self.hidden)
        return self.parameters - idle

    @property
    def matmul_flops_per_token(self) -> float:
        """FLOPs of a token's products with weights, forward: layers and output head, embeddings not."""
        total = self.head_parameters
        for group in self.kinds:
            active = group.feed_forward.active_parameters(self.hidden)
            total += group.count * (group.attention.parameters(self.hidden) + active)
        return 2.0 * total

    def attention_flops(self, context: F) -> F:
        """Return FLOPs of a token's attention in all layers over ``context`` keys, forward, uncompressed."""
        return _total(group.attention.prefill_core_flops(context) * group.count for group in self.kinds)

    def causal_attention_flops(self, sequence_length: F) -> F:
        """Return FLOPs of a token's attention in all layers, forward, the mean over a causal sequence."""
        return _total(group.attention.causal_core_flops(sequence_length) * group.count for group in self.kinds)

    def training_flops_per_token(self, sequence_length: F) -> F:
        """Return 6 N + causal attention, the FLOPs per token that MFU counts; N are the active parameters."""
        return self.causal_attention_flops(sequence_length) * 3.0 + 6.0 * self.active_parameters

    def kv_bytes_per_token(self, bytes_per_value: float = 2.0, index_bytes_per_value: float | None = None) -> float:
        """Return the cache bytes that a token adds in all layers while every window still holds it.

        Indexer keys have ``index_bytes_per_value``, None: the same. :meth:`kv_bytes` is exact at any context.
        """
        index = bytes_per_value if index_bytes_per_value is None else index_bytes_per_value
        return sum(
            group.count * (group.attention.cached_values * bytes_per_value + group.attention.index_values * index)
            for group in self.kinds
        )

    def kv_bytes(self, context: F, bytes_per_value: float = 2.0, index_bytes_per_value: float | None = None) -> F:
        """Return the cache bytes of a sequence of ``context`` tokens, windows and linear states counted."""
        index = bytes_per_value if index_bytes_per_value is None else index_bytes_per_value
        return _total(
            (
                group.attention.sequence_values(context) * bytes_per_value
                + context * (group.attention.index_values * index)
            )
            * group.count
            for group in self.kinds
        )


def _total(terms: Iterable[F]) -> F:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


def _at_most(value: F, limit: float | None) -> F:
    if limit is None:
        return value
    return np.minimum(value, limit) if isinstance(value, np.ndarray) else min(value, float(limit))


def _mean_of_at_most(length: F, limit: float | None) -> F:
    """Return the mean of min(i, limit) over positions i of a sequence: half of it, or less where the limit holds."""
    if limit is None:
        return length / 2
    held = _at_most(length, limit)
    return held - held * held / (2.0 * length)
