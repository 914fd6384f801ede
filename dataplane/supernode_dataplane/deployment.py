"""What an inference deployment is: formats, how a pool of dies splits the model, experts, speculation. Values only.

Every number may be an array; then all of them broadcast together, and what is computed from them has that shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.hardware import BYTES, Format, Hardware
from supernode_dataplane.numeric import Number
from supernode_dataplane.stacks import Stack

__all__ = ["Experts", "Pool", "Precision", "Speculation", "Split", "Streams", "WeightClass"]

WeightClass = Literal["attention", "experts", "others"]
"""Attention's projections; routed experts; dense blocks, shared experts and routers."""
Streams = Literal["auto", "one", "two"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """The number format of each class of tensors."""

    weights: Format = "int8"
    """Of all weights but the classes below that say their own."""
    activations: Format = "int8"
    kv_cache: Format = "bf16"
    head: Format = "bf16"
    """Of the output head's weights."""
    attention: Format | None = None
    """Of attention's projections; None: as ``weights``."""
    experts: Format | None = None
    """Of routed experts; None: as ``weights``."""

    def format_of(self, kind: WeightClass) -> Format:
        """Return the format of a class of weights."""
        own = {"attention": self.attention, "experts": self.experts, "others": None}[kind]
        return own or self.weights

    def bytes_of(self, kind: WeightClass) -> float:
        """Return the bytes of a weight of a class."""
        return BYTES[self.format_of(kind)]

    def product_of(self, kind: WeightClass) -> Format:
        """Return what products with a class are computed in: BF16 where its weights are, whatever the activations."""
        return "bf16" if self.format_of(kind) == "bf16" else self.activations

    @property
    def kv_bytes(self) -> float:
        """Bytes of a cached value."""
        return BYTES[self.kv_cache]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Where routed and shared experts are, beyond one replica of each routed one."""

    redundant: Number = 0
    """More replicas of routed experts, over the whole pool."""
    shared_ranks: Number = 0
    """Ranks that hold nothing but a replica of the shared experts; 0: every rank has them beside its routed ones."""
    imbalance: Number | None = None
    """Load of the hottest rank over the mean, at least 1; None: the stack's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Attention and experts on dies of their own."""

    expert_dies: int
    """Of the pool's dies, the last ones; the others have attention, dense blocks and heads."""
    domains: int = 1
    """Equal parts of the attention dies that take turns at the experts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """Draft tokens of a step and how many of them are accepted."""

    drafts: Number = 0
    accepted: Number = 0.0
    """Mean accepted drafts of a step: the sum over positions of the chance that all up to it are right."""

    @property
    def queries(self) -> Number:
        """Tokens of a sequence that go through the model in a step."""
        return self.drafts + 1

    @property
    def tokens(self) -> Number:
        """Tokens of a sequence that a step yields."""
        return self.accepted + 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Dies of one role that run one model together: dies = pipeline x context x tensor x data, plus a split's experts.

    ``architecture`` is the model as the dies see it: experts that are split over dies are slices there
    (:mod:`supernode_dataplane.expert_slices`). What pipeline, context and split make of a step is in
    :mod:`supernode_dataplane.pool_phases`.
    """

    architecture: Architecture
    hardware: Hardware
    stack: Stack
    dies: Number
    tensor: Number = 1
    """Dies that share the heads of one sequence."""
    expert: Number = 1
    """Ranks over which the routed experts are spread; 1: every tensor group has them all, split by tensor."""
    precision: Precision = field(default_factory=Precision)
    experts: Experts = field(default_factory=Experts)
    speculation: Speculation = field(default_factory=Speculation)
    sequence_parallel: bool = False
    """Whether a tensor group splits the tokens for what each die would else do in full: norms, residuals."""
    streams: Streams = "auto"
    """Micro-batches in flight in decode, and hiding of the exchange in prefill."""
    attention_share: float | None = None
    """Share of the cores that attention has beside experts when two streams run; None: the stack's."""
    pipeline: int = 1
    """Stages that follow one another, each with its layers on its own equal part of the dies."""
    in_flight: int = 1
    """Micro-batches of a decode step that are in the stages at the same time."""
    context: int = 1
    """Tensor groups that share the tokens of a prompt and pass keys and values around; prefill only."""
    split: Split | None = None

    @property
    def attention_dies(self) -> Number:
        """Dies with attention: all of them, without a split."""
        return self.dies if self.split is None else self.dies - self.split.expert_dies

    @property
    def groups(self) -> Number:
        """Data-parallel groups: each holds the caches of its own sequences."""
        return self.attention_dies / (self.tensor * self.pipeline * self.context)

    @property
    def cards(self) -> Number:
        """Packages of the pool."""
        return self.dies / self.hardware.dies_per_card

    @property
    def imbalance(self) -> Number:
        """Load of the hottest expert rank over the mean."""
        given = self.experts.imbalance
        return self.stack.expert_imbalance if given is None else given
