"""The inference part of a SuperNodeWorkload: what is served, by which pools of dies, at which load.

No floats: shares are in percent. The data plane reads the same fields with the same bounds from raw JSON.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from supernode_api.base import ApiModel, Rule

__all__ = [
    "ActivationFormat",
    "Batch",
    "CacheFormat",
    "ContextCache",
    "DecodePool",
    "HeadFormat",
    "Inference",
    "InferenceMode",
    "Load",
    "MicroBatches",
    "Percent",
    "PoolExperts",
    "PoolParallelism",
    "Precision",
    "PrefillPool",
    "Speculation",
    "WeightFormat",
]

Percent = Annotated[int, Field(ge=0, le=100)]


class InferenceMode(StrEnum):
    """Which phases of a request the workload runs, and whether in one pool or two."""

    PREFILL = "Prefill"
    DECODE = "Decode"
    COLOCATED = "Colocated"
    DISAGGREGATED = "Disaggregated"


class WeightFormat(StrEnum):
    """Number formats of weights."""

    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"
    INT4 = "int4"


class ActivationFormat(StrEnum):
    """Number formats that products are computed in."""

    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"


class CacheFormat(StrEnum):
    """Number formats of cached keys and values."""

    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"


class HeadFormat(StrEnum):
    """Number formats of the output head."""

    BF16 = "bf16"
    INT8 = "int8"


class MicroBatches(StrEnum):
    """Micro-batches in flight: two hide the exchange of tokens with experts behind other work."""

    AUTO = "auto"
    ONE = "one"
    TWO = "two"


class Precision(ApiModel):
    """The number format of each class of tensors."""

    weights: WeightFormat | None = Field(
        default=None,
        description="Of weights: bf16, int8, fp8 or int4; absent: as the model's quantization_config, else int8. "
        "Products with bf16 weights are computed in bf16.",
    )
    attention: WeightFormat | None = Field(
        default=None,
        description="Of attention's projections, where it is not that of the other weights: bf16, int8, fp8 or int4.",
    )
    experts: WeightFormat | None = Field(
        default=None,
        description="Of routed experts, where it is not that of the other weights: bf16, int8, fp8 or int4. W4A8 of "
        "DeepSeek R1 is weights int8, experts int4.",
    )
    activations: ActivationFormat | None = Field(
        default=None,
        description="That products are computed in: bf16, int8 or fp8, where one that the hardware lacks runs as bf16; "
        "absent: as the model's quantization_config, else int8.",
    )
    kv_cache: CacheFormat | None = Field(
        default=None,
        description="Of cached keys and values: bf16, int8 or fp8; absent: as the model's quantization_config, else "
        "bf16.",
    )
    head: HeadFormat | None = Field(
        default=None,
        description="Of the output head: bf16 or int8; absent: as the model's quantization_config, else bf16.",
    )


class PoolParallelism(ApiModel):
    """How the pool splits the model; data parallelism is what its dies leave: dies / tensor groups."""

    tensor: int = Field(default=1, ge=1, le=4096, description="Dies that share the heads of one sequence.")
    expert: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Dies over which the experts are spread; absent: all of the pool; "
        "1: each tensor group has all experts, split by tensor.",
    )


class PoolExperts(ApiModel):
    """Where experts are beyond one replica of each routed one, and how even their load is."""

    redundant: int = Field(
        default=0, ge=0, le=65536, description="More replicas of routed experts, over one set of expert ranks."
    )
    shared_ranks: int = Field(
        default=0,
        ge=0,
        le=4095,
        description="Ranks that hold only a replica of the shared experts; 0: every rank has them beside its own.",
    )
    imbalance_percent: int | None = Field(
        default=None,
        ge=100,
        le=10000,
        description="Load of the hottest rank over the mean, in percent: 100 is even; absent: as the stack balances.",
    )


class DecodePool(ApiModel):
    """The dies that generate tokens."""

    parallelism: PoolParallelism = Field(default_factory=PoolParallelism, description="How the pool splits the model.")
    experts: PoolExperts = Field(default_factory=PoolExperts, description="Replicas and balance of experts.")
    micro_batches: MicroBatches = Field(
        default=MicroBatches.AUTO, description="Micro-batches in flight: auto (the faster), one or two."
    )


class PrefillPool(DecodePool):
    """The dies that read prompts."""

    nodes: int | None = Field(
        default=None,
        ge=1,
        le=1023,
        description="Nodes of the pool, the first by rank; the others decode. With mode Disaggregated only.",
    )


class Batch(ApiModel):
    """A fixed batch."""

    sequences_per_card: int = Field(
        ge=1, le=65536, description="Sequences that run on each package of the decode pool."
    )


class Load(ApiModel):
    """What clients keep in flight."""

    concurrency: int = Field(ge=1, le=16777216, description="Sequences that decode at once, over the whole workload.")


class Speculation(ApiModel):
    """Draft tokens that a decode step checks beside the next one (multi-token prediction)."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.acceptancePercent.size() == self.drafts",
            "acceptancePercent needs one number for each draft",
            field_path=".acceptancePercent",
        ),
    )
    drafts: int = Field(ge=1, le=16, description="Draft tokens of a step.")
    acceptance_percent: Annotated[list[Percent], Field(max_length=16)] = Field(
        description="Chance that draft 1, 2, … is accepted when all before it were, in percent."
    )


class ContextCache(ApiModel):
    """What is kept of contexts, and how much HBM may hold."""

    reuse_percent: int = Field(
        default=0, ge=0, le=99, description="Share of each prompt that the context cache already has, in percent."
    )
    memory_fraction_percent: int = Field(
        default=90,
        ge=1,
        le=95,
        description="Share of a die's HBM that weights, buffers and caches may fill, in percent.",
    )


class Inference(ApiModel):
    """An inference deployment; it serves until it is deleted, or until tokens or requests are reached."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.mode != 'Prefill' || !has(self.decode)",
            "mode Prefill has no decode pool: describe the prefill pool",
            field_path=".decode",
        ),
        Rule(
            "self.mode in ['Prefill', 'Disaggregated'] || !has(self.prefill)",
            "modes Decode and Colocated have one pool: describe it as decode",
            field_path=".prefill",
        ),
        Rule(
            "(self.mode == 'Disaggregated') == (has(self.prefill) && has(self.prefill.nodes))",
            "mode Disaggregated needs prefill.nodes, how many nodes read prompts; no other mode takes it",
            field_path=".prefill",
        ),
        Rule(
            "(self.mode == 'Prefill') != has(self.outputTokens)",
            "outputTokens is needed, except in mode Prefill, which generates nothing",
            field_path=".outputTokens",
        ),
        Rule(
            "self.mode == 'Prefill' ? !has(self.batch) && !has(self.load) : has(self.batch) != has(self.load)",
            "decoding needs exactly one of batch and load; mode Prefill takes neither",
            field_path=".load",
        ),
        Rule(
            "self.mode != 'Decode' || !has(self.promptsPerBatch)",
            "mode Decode reads no prompts: leave promptsPerBatch out",
            field_path=".promptsPerBatch",
        ),
        Rule(
            "self.mode != 'Decode' || !has(self.cache) || self.cache.reusePercent == 0",
            "mode Decode reads no prompts: leave cache.reusePercent out",
            field_path=".cache",
        ),
        Rule(
            "!(has(self.tokens) && has(self.requests))",
            "inference takes tokens or requests, not both",
            field_path=".requests",
        ),
    )
    mode: InferenceMode = Field(
        description="Prefill (prompts only), Decode (generation only), Colocated (both in one pool) or "
        "Disaggregated (a pool each)."
    )
    input_tokens: int = Field(ge=1, le=16777216, description="Tokens of a prompt.")
    output_tokens: int | None = Field(default=None, ge=1, le=16777216, description="Tokens that a request generates.")
    precision: Precision = Field(default_factory=Precision, description="Number formats.")
    decode: DecodePool | None = Field(default=None, description="The pool that generates (and reads, if Colocated).")
    prefill: PrefillPool | None = Field(default=None, description="The pool that reads prompts.")
    batch: Batch | None = Field(default=None, description="A fixed batch.")
    load: Load | None = Field(default=None, description="What clients keep in flight.")
    prompts_per_batch: int | None = Field(
        default=None, ge=1, le=4096, description="Prompts that a tensor group reads at once; absent: 1."
    )
    speculation: Speculation | None = Field(default=None, description="Multi-token prediction; absent: none.")
    cache: ContextCache = Field(default_factory=ContextCache, description="Context cache and HBM for caches.")
    tokens: int | None = Field(
        default=None,
        ge=1,
        le=9007199254740991,
        description="Complete after so many output tokens (prompt tokens in mode Prefill).",
    )
    requests: int | None = Field(default=None, ge=1, le=4294967296, description="Complete after so many requests.")
