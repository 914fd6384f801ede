"""What a scenario's inference says beyond the API's: layouts, loads and engines that no managed workload needs.

``load`` and ``engine`` are for `supernode serve-sim`, whose flags override them; `supernode simulate` takes the steady
state at ``load.concurrency``, or at a batch.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from supernode_api.base import ApiModel
from supernode_api.inference import (
    ContextCache,
    DecodePool,
    Inference,
    Load,
    Percent,
    PoolExperts,
    PoolParallelism,
    PrefillPool,
    Speculation,
)

__all__ = [
    "AttentionSplit",
    "Reserve",
    "Routing",
    "ScenarioCache",
    "ScenarioDecodeParallelism",
    "ScenarioDecodePool",
    "ScenarioEngine",
    "ScenarioExperts",
    "ScenarioInference",
    "ScenarioLoad",
    "ScenarioPoolParallelism",
    "ScenarioPrefillParallelism",
    "ScenarioPrefillPool",
    "ScenarioSpeculation",
    "TraceFormat",
]

_STRICT = ConfigDict(extra="forbid")
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Tokens = Annotated[int, Field(ge=1, le=1 << 24)]


class TraceFormat(StrEnum):
    """Formats of request traces."""

    AZURE = "azure"
    MOONCAKE = "mooncake"


class Routing(StrEnum):
    """Which instance gets a request."""

    ROUND_ROBIN = "round-robin"
    LEAST_LOADED = "least-loaded"


class Reserve(StrEnum):
    """KV blocks that a request is admitted with."""

    PROMPT = "prompt"
    OUTPUT = "output"


class ScenarioPoolParallelism(PoolParallelism):
    """How a pool splits the model."""

    expert_tensor: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Dies that an expert's matrices are split over, of those that expert counts; a token's copy goes "
        "to all of them.",
    )
    pipeline: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Stages that the layers are split into, each on its equal part of the dies; expert and tensor are "
        "inside a stage.",
    )
    sequence: bool = Field(
        default=False,
        description="Sequence parallelism: a tensor group splits the tokens for what each die would else do in full.",
    )


class ScenarioDecodeParallelism(ScenarioPoolParallelism):
    """How the pool that generates splits the model."""

    in_flight: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Micro-batches of a step that are in the stages of a pipeline at once; absent: one for each stage.",
    )


class ScenarioPrefillParallelism(ScenarioPoolParallelism):
    """How the pool that reads prompts splits model and prompts."""

    context: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Tensor groups that share the tokens of a prompt and pass keys and values around (ring attention).",
    )


class ScenarioExperts(PoolExperts):
    """Replicas and balance of experts."""

    per_die: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Replicas of routed experts on each expert rank, instead of redundant: what is beyond one replica "
        "of each expert is redundant.",
    )


class AttentionSplit(ApiModel):
    """Attention and experts on dies of their own."""

    model_config = _STRICT
    expert_dies: int = Field(
        ge=1, le=1 << 20, description="Dies with experts, the last ones of the pool; the others have attention."
    )
    domains: int = Field(
        default=1, ge=1, le=4096, description="Equal parts of the attention dies that take turns at the experts."
    )


class ScenarioDecodePool(DecodePool):
    """The dies that generate tokens."""

    parallelism: ScenarioDecodeParallelism = Field(
        default_factory=ScenarioDecodeParallelism, description="How the pool splits the model."
    )
    experts: ScenarioExperts = Field(default_factory=ScenarioExperts, description="Replicas and balance of experts.")
    attention_core_percent: int | None = Field(
        default=None,
        ge=1,
        le=99,
        description="Share of the cores that attention has when two micro-batches run, in percent; experts have the "
        "rest; absent: the stack's.",
    )
    split: AttentionSplit | None = Field(
        default=None, description="Attention and experts on dies of their own; absent: every die has both."
    )


class ScenarioPrefillPool(PrefillPool):
    """The dies that read prompts."""

    dies: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Dies of the pool instead of nodes, the first of the workload: also a part of a server. With mode "
        "Disaggregated only.",
    )
    parallelism: ScenarioPrefillParallelism = Field(
        default_factory=ScenarioPrefillParallelism, description="How the pool splits model and prompts."
    )
    experts: ScenarioExperts = Field(default_factory=ScenarioExperts, description="Replicas and balance of experts.")


class ScenarioLoad(Load):
    """What clients send: so many in flight, requests at a rate (both: at most so many in flight), or a trace."""

    concurrency: int | None = Field(  # type: ignore[assignment]  # the steady state needs it, serve-sim may not
        default=None,
        ge=1,
        le=16777216,
        description="Sequences that decode at once, over the whole workload; for serve-sim, clients that wait for "
        "their answer before they ask again.",
    )
    rate: float | None = Field(default=None, ge=1e-6, le=1e9, description="Requests per second, for serve-sim.")
    burst: float | None = Field(
        default=None, gt=0, le=1e3, description="Coefficient of variation of the gaps at a rate; absent: 1, Poisson."
    )
    trace: Text | None = Field(
        default=None,
        description="Request trace for serve-sim, .csv or .jsonl, plain or .gz; beside the scenario's file.",
    )
    trace_format: TraceFormat | None = Field(default=None, description="Of the trace; absent: by its name.")
    speed: float | None = Field(default=None, gt=0, le=1e6, description="Play the trace so many times as fast.")
    preset: Text | None = Field(
        default=None, description="Statistics of a public trace for serve-sim: azure-conversation, azure-code, …"
    )
    prompts: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Requests to generate; absent: 1000; or to take from the start of a trace; absent: all.",
    )


class ScenarioEngine(ApiModel):
    """How the instances of serve-sim schedule; the share of HBM for caches is cache.memoryFractionPercent."""

    model_config = _STRICT
    chunk_tokens: Tokens | None = Field(
        default=None,
        description="Read prompts in chunks: tokens of a step of each data-parallel group, decoding sequences first; "
        "absent: prompts are read whole.",
    )
    prompt_tokens: Tokens | None = Field(
        default=None,
        description="Where prompts are read whole: prompt tokens of a step of each data-parallel group, or one longer "
        "prompt; absent: 8192.",
    )
    kv_block_tokens: Tokens | None = Field(default=None, description="Tokens of a KV block; absent: 128.")
    prefill_max_running: Tokens | None = Field(
        default=None, description="Sequences of an instance that reads prompts only; absent: what its memory holds."
    )
    decode_max_running: Tokens | None = Field(
        default=None, description="Sequences of an instance that decodes; absent: what its memory holds."
    )
    group_queues: bool = Field(
        default=False,
        description="Whether data-parallel groups have a queue each and step together, as long as the fullest one; "
        "else an instance has one queue.",
    )
    gather_steps: int = Field(
        default=0,
        ge=0,
        le=1 << 20,
        description="With groupQueues, where prompts are read whole: decode steps for which a prompt waits until every "
        "group has one to read.",
    )
    reserve: Reserve = Field(
        default=Reserve.PROMPT,
        description="KV blocks that a request is admitted with: those of its prompt (it grows and may be preempted), "
        "or all up to the end of its output.",
    )
    routing: Routing | None = Field(default=None, description="Which instance gets a request; absent: round-robin.")
    prefix_cache: bool = Field(default=True, description="Whether prompts share the KV blocks of common beginnings.")


class ScenarioSpeculation(Speculation):
    """Draft tokens that a decode step checks beside the next one: acceptance of each, or their mean."""

    acceptance_percent: Annotated[list[Percent], Field(max_length=16)] | None = Field(  # type: ignore[assignment]
        default=None, description="Chance that draft 1, 2, … is accepted when all before it were, in percent."
    )
    tokens_per_step: float | None = Field(
        default=None,
        ge=1,
        le=17,
        description="Mean tokens of a step, the accepted drafts and one more, instead of acceptancePercent.",
    )


class ScenarioCache(ContextCache):
    """What is kept of contexts, where, and how much HBM may hold."""

    domain_dies: int | None = Field(
        default=None,
        ge=1,
        le=1 << 20,
        description="Dies that share one context cache, of those that read prompts; a prompt comes to any of the "
        "domains, and the first to come to each misses. Absent: all share one.",
    )
    gigabytes_per_second: float | None = Field(
        default=None,
        ge=1e-3,
        le=1e5,
        description="What a die loads from the context cache; absent: the way to other servers, an upper bound.",
    )


class ScenarioInference(Inference):
    """An inference deployment."""

    decode: ScenarioDecodePool | None = Field(
        default=None, description="The pool that generates (and reads, if Colocated)."
    )
    prefill: ScenarioPrefillPool | None = Field(default=None, description="The pool that reads prompts.")
    load: ScenarioLoad | None = Field(default=None, description="What clients send.")
    engine: ScenarioEngine = Field(default_factory=ScenarioEngine, description="How instances schedule, for serve-sim.")
    speculation: ScenarioSpeculation | None = Field(default=None, description="Multi-token prediction; absent: none.")
    cache: ScenarioCache = Field(default_factory=ScenarioCache, description="Context cache and HBM for caches.")
