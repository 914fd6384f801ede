"""What goes into the mathematics: servers with what is broken, workloads with what they run and where they are.

Values only; :mod:`supernode_dataplane.inputs` makes them from API objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.constants import GRADIENT_BYTES, WEIGHT_BYTES
from supernode_dataplane.deployment_plan import DeploymentPlan
from supernode_dataplane.numeric import Number
from supernode_dataplane.state import Problem

__all__ = [
    "TRAINED_IMBALANCE",
    "GradientType",
    "OptimizerSharding",
    "PartInput",
    "RankInput",
    "Recompute",
    "ServerInput",
    "TrainingSpec",
    "WorkloadInput",
]

OptimizerSharding = Literal["none", "zero1", "zero3"]
GradientType = Literal["fp32", "bf16"]
Recompute = Literal["auto", "none", "full"]
TRAINED_IMBALANCE: Final = 1.0
"""Load of the hottest expert parallel die over the mean where a training run says none: routers are balanced while they
are trained, by a bias or a loss. What a stack says of imbalance is of inference alone.
"""


@dataclass(frozen=True, slots=True)
class ServerInput:
    """One compute server and what is broken on it (only faults that take a device out of use)."""

    server: int
    dies: tuple[int, ...] = ()
    """phyIDs of broken dies."""
    ports: tuple[tuple[int, int], ...] = ()
    """Broken die ports: phyID, plane."""
    uplinks: tuple[tuple[int, int], ...] = ()
    """Broken uplinks: plane, port of the L1 chip."""
    l1: tuple[int, ...] = ()
    """Planes whose L1 chip is broken."""


@dataclass(frozen=True, slots=True)
class PartInput:
    """What a rank holds on one server: phyIDs, and links as phyID x planes + plane (None: all of its dies)."""

    server: int
    dies: tuple[int, ...]
    links: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class RankInput:
    """One pod: whether it works, and where."""

    rank: int
    running: bool
    parts: tuple[PartInput, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """A training run; ``data`` None means dies / (tensor x context x pipeline).

    What is a Number is a whole number (but for the imbalance) of one point, or an array of them, shape (points,).
    """

    model: Architecture
    stack: str
    sequence_length: Number
    global_batch_size: Number
    micro_batch_size: Number = 1
    tensor: int = 1
    pipeline: int = 1
    virtual_pipeline: int = 1
    data: int | None = None
    expert: int = 1
    """Expert parallel degree: so many consecutive replicas share the routed experts."""
    expert_tensor: int = 1
    """Dies of a tensor group that split one expert."""
    context: int = 1
    """Dies that split a sequence and pass keys and values round (ring attention)."""
    optimizer_sharding: OptimizerSharding = "zero1"
    """What replicas share out: nothing, optimizer states, or weights and gradients too."""
    gradient_type: GradientType = "fp32"
    recompute: Recompute = "auto"
    """Activations that are computed again: as many as memory demands, none, or all."""
    stage_layers: tuple[int, ...] | None = None
    """Layers of each pipeline stage; None: as even as possible."""
    expert_imbalance: Number = TRAINED_IMBALANCE
    """Load of the hottest expert parallel die over the mean."""
    overlap_exchange: bool = False
    """Whether dispatch and combine of one micro-batch run beside another's work, as DualPipe does."""
    mtp_layers: int = 0
    """Layers for multi-token prediction that are trained too; each is a layer of the model's last kind."""
    hot_rank: bool = False
    """Whether the workload says so of one die of each group, whose ports then show it."""

    @property
    def gradient_bytes(self) -> float:
        """Bytes of a gradient, as accumulated and reduced."""
        return GRADIENT_BYTES if self.gradient_type == "fp32" else WEIGHT_BYTES


@dataclass(frozen=True, slots=True)
class WorkloadInput:
    """One workload: its key (namespace/name), what it runs (neither with a problem) and its ranks."""

    key: str
    training: TrainingSpec | None = None
    ranks: tuple[RankInput, ...] = ()
    expected_ranks: int | None = None
    """Ranks that must run; None: those that are present."""
    problem: Problem | None = None
    notes: tuple[str, ...] = ()
    inference: DeploymentPlan | None = None
