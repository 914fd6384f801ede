"""SuperNodeWorkload (snw): these pods run this model like so; status has what the machine makes of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field, StringConstraints

from supernode_api.common import (
    ApiModel,
    Condition,
    DecimalString,
    Kind,
    LabelSelector,
    ListMap,
    ModelStamp,
    PrinterColumn,
    RangeString,
    Rule,
    Timestamp,
)
from supernode_api.inference import Inference
from supernode_api.training import MAX_CONFIG_CHARACTERS, Parallelism, Training

__all__ = [
    "MAX_RANK",
    "MAX_RANKS",
    "Bound",
    "ManagedPods",
    "ModelRef",
    "Parallelism",
    "Part",
    "Pods",
    "Rank",
    "Stack",
    "SuperNodeWorkload",
    "Training",
    "WorkloadPerformance",
    "WorkloadPlacement",
    "WorkloadProgress",
    "WorkloadSpec",
    "WorkloadStatus",
]

MAX_RANKS: Final = 1024
"""Pods of one workload."""
MAX_RANK: Final = 65535
"""The highest number that a rank can have."""


class Stack(StrEnum):
    """Software stack: what an operator and a step cost beside the hardware."""

    VENDOR_TUNED = "vendor-tuned"
    OPEN_SOURCE = "open-source"


class Bound(StrEnum):
    """What the step time is mostly made of."""

    COMPUTE = "Compute"
    HBM = "HBM"
    BUS = "Bus"
    RDMA = "RDMA"
    PIPELINE = "Pipeline"


class ModelRef(ApiModel):
    """A model: a name from the catalogue or a config of one's own."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.name) != has(self.config)", "model needs exactly one of name and config"),
    )
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None, description="Name in the catalogue, for example llama-3.1-405b."
    )
    config: Annotated[str, StringConstraints(min_length=2, max_length=MAX_CONFIG_CHARACTERS)] | None = Field(
        default=None, description="Hugging Face style config.json as a JSON string."
    )


class ManagedPods(ApiModel):
    """Pods that the operator creates, as an Indexed Job: one pod with all dies of a server for each."""

    nodes: int = Field(ge=1, le=MAX_RANKS, description="Pods, each with a whole server's dies and links.")


class Pods(ApiModel):
    """The pods of the workload: created by the operator or adopted."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.managed) != has(self.selector)", "pods needs exactly one of managed and selector"),
    )
    managed: ManagedPods | None = Field(default=None, description="The operator creates an Indexed Job.")
    selector: LabelSelector | None = Field(
        default=None, description="Adopt pods of this namespace that somebody else creates."
    )


class WorkloadSpec(ApiModel):
    """What runs. Immutable but for pods.managed.nodes, and that too when parallelism.data is given."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.superNode == oldSelf.superNode", "superNode is immutable", field_path=".superNode"),
        Rule("self.model == oldSelf.model", "model is immutable", field_path=".model"),
        Rule("self.stack == oldSelf.stack", "stack is immutable", field_path=".stack"),
        Rule(
            "has(self.training) != has(self.inference)",
            "a workload needs exactly one of training and inference",
            field_path=".training",
        ),
        Rule(
            "has(self.training) == has(oldSelf.training) && (!has(self.training) || self.training == oldSelf.training)",
            "training is immutable",
            field_path=".training",
        ),
        Rule(
            "has(self.inference) == has(oldSelf.inference) && "
            "(!has(self.inference) || self.inference == oldSelf.inference)",
            "inference is immutable",
            field_path=".inference",
        ),
        Rule(
            "has(self.pods.managed) == has(oldSelf.pods.managed) && "
            "has(self.pods.selector) == has(oldSelf.pods.selector) && "
            "(!has(self.pods.selector) || self.pods.selector == oldSelf.pods.selector)",
            "pods is immutable but for managed.nodes",
            field_path=".pods",
        ),
        Rule(
            "!has(self.training) || !has(self.training.parallelism.data) || self.pods == oldSelf.pods",
            "pods.managed.nodes is immutable when training.parallelism.data is given",
            field_path=".pods",
        ),
    )
    super_node: Annotated[str, StringConstraints(min_length=1, max_length=40)] = Field(
        description="SuperNode that it runs on. Immutable."
    )
    model: ModelRef = Field(description="What is trained or served. Immutable.")
    stack: Stack = Field(
        default=Stack.VENDOR_TUNED, description="Software stack: vendor-tuned or open-source. Immutable."
    )
    training: Training | None = Field(default=None, description="A training run. Immutable.")
    inference: Inference | None = Field(default=None, description="An inference deployment. Immutable.")
    pods: Pods = Field(description="The pods that run it.")


class Part(ApiModel):
    """What one rank holds on one server."""

    server: int = Field(ge=0, le=1023, description="serverIndex.")
    dies: RangeString = Field(description="phyIDs, as ranges.")
    links: RangeString = Field(description="all, or ranges of phyID x planes + plane.")


class Rank(ApiModel):
    """One pod of the workload and where it is."""

    rank: int = Field(ge=0, le=MAX_RANK, description="Rank of the pod.")
    pod: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(description="Name of the pod.")
    running: bool = Field(
        description="Whether it does work: bound to a Ready node, not terminating, container running."
    )
    parts: Annotated[list[Part], Field(max_length=64)] = Field(
        default_factory=list, description="Dies and links, for each server."
    )


class WorkloadPlacement(ApiModel):
    """Where the scheduler and the kubelets really put the pods."""

    nodes: int = Field(default=0, ge=0, description="Servers in use.")
    dies: int = Field(default=0, ge=0, description="Dies in use.")
    cabinets: int = Field(default=0, ge=0, description="Compute cabinets in use.")
    ranks: Annotated[list[Rank], Field(max_length=MAX_RANKS), ListMap(("rank",))] = Field(
        default_factory=list, description="Every rank that has a pod."
    )


class WorkloadPerformance(ApiModel):
    """What the machine makes of the workload. All zero while a rank is missing."""

    tokens_per_second: DecimalString = Field(
        default="0",
        description="Tokens per second of the whole workload: trained, generated, or read in mode Prefill.",
    )
    tokens_per_second_per_card: DecimalString = Field(
        default="0", description="Tokens per second for each package in use."
    )
    mfu: DecimalString = Field(
        default="0",
        description="Model FLOPs utilisation, 0 to 1, without recompute: training of the BF16 peak, inference of the "
        "peak in the format of its activations.",
    )
    step_time_seconds: DecimalString = Field(
        default="0", description="Seconds of one optimizer step, of one decode step, or of one batch in mode Prefill."
    )
    ttft_seconds: DecimalString = Field(
        default="0", description="Inference: time to the first token of a prompt that waits for no other."
    )
    tpot_seconds: DecimalString = Field(
        default="0", description="Inference: time for each token after the first, as one request sees it."
    )
    prompt_tokens_per_second: DecimalString = Field(
        default="0", description="Inference: prompt tokens per second of the whole workload, cached ones included."
    )
    bound: Bound | None = Field(
        default=None, description="What the step is mostly bound by: Compute, HBM, Bus, RDMA or Pipeline."
    )
    expected_error_percent: DecimalString | None = Field(
        default=None, description="Expected error of the rate, in percent."
    )
    recompute_percent: DecimalString = Field(
        default="0", description="Share of activations that memory forces to recompute."
    )
    hbm_gibibytes_per_die: DecimalString = Field(default="0", description="HBM in use on the fullest die, in GiB.")
    link_utilisation_percent: DecimalString = Field(
        default="0", description="Mean utilisation of the die ports in use."
    )
    power_kilowatts: DecimalString = Field(default="0", description="Power of the dies in use, in kW (modelled).")


class WorkloadProgress(ApiModel):
    """Progress is linear between changes of the rate: tokens at a moment and the rate since."""

    tokens: int = Field(default=0, ge=0, description="Tokens done at the moment `at`.")
    steps: int = Field(default=0, ge=0, description="Whole optimizer steps, or requests, done at that moment.")
    at: Timestamp = Field(description="The moment, RFC 3339 with microseconds.")
    tokens_per_second: DecimalString = Field(default="0", description="Rate since then.")


class WorkloadStatus(ApiModel):
    """What the machine makes of it."""

    conditions: Annotated[list[Condition], Field(max_length=16), ListMap(("type",))] = Field(
        default_factory=list,
        description="Ready (summary), Accepted, Complete; "
        "and SpansServers, LinksMismatch, PodsContested where they apply.",
    )
    observed_generation: int = Field(default=0, ge=0, description="metadata.generation that this status is about.")
    placement: WorkloadPlacement = Field(default_factory=WorkloadPlacement, description="Where its pods are.")
    performance: WorkloadPerformance = Field(default_factory=WorkloadPerformance, description="What it achieves there.")
    progress: WorkloadProgress | None = Field(default=None, description="How far it is.")
    completion_time: Timestamp | None = Field(default=None, description="When it completed.")
    model: ModelStamp | None = Field(default=None, description="Where the figures come from.")


class SuperNodeWorkload(Kind):
    """A workload on a SuperNode."""

    kind_name: ClassVar[str] = "SuperNodeWorkload"
    plural: ClassVar[str] = "supernodeworkloads"
    short_name: ClassVar[str] = "snw"
    namespaced: ClassVar[bool] = True
    description: ClassVar[str] = (
        "A workload on a SuperNode: which model its pods run, and what the machine makes of it."
    )
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("SuperNode", ".spec.superNode", "Machine"),
        PrinterColumn("Model", ".spec.model.name", "Model"),
        PrinterColumn("Dies", ".status.placement.dies", "Dies in use", "integer"),
        PrinterColumn("Tokens/s/card", ".status.performance.tokensPerSecondPerCard", "Rate for each card"),
        PrinterColumn("MFU", ".status.performance.mfu", "Model FLOPs utilisation"),
        PrinterColumn("Ready", ".status.conditions[?(@.type=='Ready')].status", "Summary"),
        PrinterColumn("Reason", ".status.conditions[?(@.type=='Ready')].reason", "Reason of the summary"),
        PrinterColumn("Step", ".status.performance.stepTimeSeconds", "Seconds of a step", wide=True),
        PrinterColumn("TTFT", ".status.performance.ttftSeconds", "Seconds to the first token", wide=True),
        PrinterColumn("TPOT", ".status.performance.tpotSeconds", "Seconds for each token after it", wide=True),
        PrinterColumn("Bound", ".status.performance.bound", "What bounds it", wide=True),
        PrinterColumn("Message", ".status.conditions[?(@.type=='Ready')].message", "Message of the summary", wide=True),
        PrinterColumn("Age", ".metadata.creationTimestamp", "Age", "date"),
    )
    selectable: ClassVar[tuple[str, ...]] = (".spec.superNode",)
    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 52",
            "metadata.name must be a DNS label of at most 52 characters: pod names derive from it",
        ),
    )
    spec: WorkloadSpec = Field(description="What runs, and which pods run it.")
    status: WorkloadStatus = Field(default_factory=WorkloadStatus, description="What the machine makes of it.")
