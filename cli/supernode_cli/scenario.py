"""What a scenario says: one operating point that needs no cluster, as models that its JSON Schema is generated from.

A scenario is a workload's training or inference with a machine, or one communication kernel on it::

    machine: {profile: cloudmatrix-384, nodes: 20}    # or dies; both absent = all
    model: {name: deepseek-r1}
    stack: vendor-tuned
    inference: {mode: Decode, inputTokens: 4096, outputTokens: 256, batch: {sequencesPerCard: 96}}

It can say more than the API does: other machines, changed figures, failures, software stacks that are only compared
with, and details of training that no managed workload needs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, JsonValue, StringConstraints

from supernode_api.base import ApiModel
from supernode_api.training import MAX_CONFIG_CHARACTERS, Parallelism, Training
from supernode_cli.failed import Failed
from supernode_cli.scenario_inference import ScenarioInference
from supernode_cli.scenario_kernel import ScenarioKernel

__all__ = [
    "GradientType",
    "Machine",
    "OptimizerSharding",
    "Recompute",
    "Reliability",
    "Scenario",
    "ScenarioModel",
    "ScenarioParallelism",
    "ScenarioTraining",
]

_STRICT = ConfigDict(extra="forbid")
Name = Annotated[str, StringConstraints(min_length=1, max_length=63)]


class OptimizerSharding(StrEnum):
    """What replicas share out."""

    NONE = "none"
    ZERO1 = "zero1"
    ZERO3 = "zero3"


class GradientType(StrEnum):
    """Number format that gradients are kept and reduced in."""

    FP32 = "fp32"
    BF16 = "bf16"


class Recompute(StrEnum):
    """Activations that are computed again."""

    AUTO = "auto"
    NONE = "none"
    FULL = "full"


class Machine(ApiModel):
    """Which machine, what is changed about it, and how many of its servers or dies the workload gets."""

    model_config = _STRICT
    profile: Name = Field(default="cloudmatrix-384", description="Hardware profile.")
    nodes: int | None = Field(
        default=None, ge=1, le=1024, description="Servers in use, the first of the machine; absent: all."
    )
    dies: int | None = Field(
        default=None,
        ge=1,
        le=1 << 16,
        description="Dies in use instead of nodes, the first of the machine: also a part of a server.",
    )
    supernodes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Machines like this one that are joined by RDMA; each has the same servers in use. For training; "
        "failures are those of the first one.",
    )
    oversubscription: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Ports of an RDMA leaf switch to its servers over its links to spines, between supernodes.",
    )
    figures: Annotated[dict[str, int | float | str], Field(max_length=64)] = Field(
        default_factory=dict,
        description="Figures of the profile that are different, by their names there in camelCase with the unit, "
        "for example rdmaGigabytesPerSecond: 50.",
    )
    failed: Failed = Field(default_factory=Failed, description="What does not work.")


class ScenarioModel(ApiModel):
    """A model: a name from the catalogue or a config of one's own."""

    model_config = _STRICT
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None, description="Name in the catalogue, for example deepseek-r1."
    )
    config: (
        Annotated[str, StringConstraints(min_length=2, max_length=MAX_CONFIG_CHARACTERS)] | dict[str, JsonValue] | None
    ) = Field(default=None, description="Hugging Face style config.json: as a mapping, or as text.")


class ScenarioParallelism(Parallelism):
    """How a model is split for training."""

    expert_tensor: int | None = Field(
        default=None, ge=1, le=4096, description="Dies of a tensor group that split one expert."
    )
    context: int | None = Field(default=None, ge=1, le=4096, description="Dies that split a sequence (ring attention).")


class ScenarioTraining(Training):
    """A training run."""

    parallelism: ScenarioParallelism = Field(default_factory=ScenarioParallelism, description="How the model is split.")
    optimizer_sharding: OptimizerSharding | None = Field(
        default=None, description="What replicas share out: nothing, optimizer states (zero1), or weights too (zero3)."
    )
    gradient_type: GradientType | None = Field(default=None, description="Format of gradients: fp32 or bf16.")
    recompute: Recompute | None = Field(
        default=None, description="Activations computed again: as many as memory demands (auto), none, or all (full)."
    )
    stage_layers: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=1, max_length=4096)] | None = (
        Field(default=None, description="Layers of each pipeline stage; absent: as even as possible.")
    )
    expert_imbalance: float | None = Field(
        default=None, ge=1, le=1000, description="Load of the hottest expert rank over the mean; absent: even."
    )
    overlap_exchange: bool | None = Field(
        default=None, description="Whether tokens travel to experts beside another micro-batch's work (DualPipe)."
    )
    mtp_layers: int | None = Field(
        default=None,
        ge=0,
        le=16,
        description="Layers for multi-token prediction that are trained beside the model's own; absent: none.",
    )


class Reliability(ApiModel):
    """How often a training run is interrupted, and what each interruption costs; what is absent is assumed."""

    model_config = _STRICT
    mtbf_hours: float | None = Field(
        default=None,
        gt=0,
        le=1e7,
        description="Mean time between failures that stop the run; absent: as published for 8,192 NPUs, by cards.",
    )
    mttr_minutes: float | None = Field(
        default=None, gt=0, le=1e6, description="Mean time to repair, in which nothing runs; absent: 75, as published."
    )
    checkpoint_seconds: float | None = Field(
        default=None, gt=0, le=1e6, description="To write a checkpoint; absent: 60, assumed."
    )
    restart_seconds: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="From the repaired machine to training again; absent: 600, as published.",
    )


class Scenario(ApiModel):
    """One operating point."""

    model_config = _STRICT
    machine: Machine = Field(default_factory=Machine, description="The machine.")
    model: ScenarioModel = Field(
        default_factory=ScenarioModel,
        description="What is trained or served; of a kernel, hidden size and experts of a token.",
    )
    stack: Name | None = Field(
        default=None,
        description="Software stack; absent: the machine's, which is gpu-tuned for GPUs and vendor-tuned for others.",
    )
    training: ScenarioTraining | None = Field(default=None, description="A training run.")
    inference: ScenarioInference | None = Field(
        default=None,
        description="An inference deployment. Formats that it leaves out are those of the config's "
        "quantization_config; without one weights and activations are the machine's: fp8 on GPUs and int8 on others.",
    )
    kernel: ScenarioKernel | None = Field(
        default=None, description="One communication kernel, alone on a healthy machine."
    )
    reliability: Reliability | None = Field(
        default=None, description="Of a training run: interruptions, and what its goodput is with them."
    )

    def workload_spec(self) -> dict[str, Any]:
        """Return the scenario as the spec of a SuperNodeWorkload, without its pods."""
        import json

        # What is only about queues changes nothing of the steady state, nor its digest.
        apart: dict[str, Any] = {"machine": True, "reliability": True, "inference": {"engine"}}
        spec = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=apart)
        if isinstance(spec["model"].get("config"), dict):
            spec["model"]["config"] = json.dumps(spec["model"]["config"])
        return spec
