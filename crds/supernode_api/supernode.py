"""SuperNode (sn): the user says that this cluster has such a machine."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, ClassVar

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
    Rule,
)
from supernode_api.detail import Detail
from supernode_api.names import DEFAULT_BUS_LINK_RESOURCE, DEFAULT_NPU_RESOURCE

__all__ = [
    "CabinetsPerPod",
    "Detail",
    "DeviceCounts",
    "MachineCapacity",
    "MachinePerformance",
    "NodeSelection",
    "Placement",
    "Resources",
    "SuperNode",
    "SuperNodeSpec",
    "SuperNodeStatus",
    "Telemetry",
]

ResourceName = Annotated[
    str,
    StringConstraints(
        max_length=317,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    ),
]


class Placement(StrEnum):
    """How compute servers are put on Kubernetes nodes."""

    PACKED = "Packed"
    DEDICATED = "Dedicated"


class CabinetsPerPod(IntEnum):
    """How many cabinets one pod stands for."""

    ONE = 1
    TWO = 2
    FOUR = 4
    ALL = 16


class NodeSelection(ApiModel):
    """Which Kubernetes nodes the machine's servers may be on."""

    selector: LabelSelector = Field(description="Kubernetes nodes that this machine may use.")
    placement: Placement = Field(
        default=Placement.PACKED,
        description="Packed: servers are dealt over the selected nodes, however few. "
        "Dedicated: one Kubernetes node for each server. Immutable.",
    )


class Resources(ApiModel):
    """Names of the extended resources that pods ask for."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.npu != self.busLink", "resources.npu and resources.busLink must differ", field_path=".busLink"),
    )
    npu: ResourceName = Field(default=DEFAULT_NPU_RESOURCE, description="Resource of the dies; one device is one die.")
    bus_link: ResourceName = Field(
        default=DEFAULT_BUS_LINK_RESOURCE,
        description="Resource of the bus links; one device is one die's port on one plane.",
    )


class Telemetry(ApiModel):
    """What the cabinets publish and how often."""

    interval_seconds: int = Field(default=5, ge=1, le=3600, description="Seconds between two OTLP exports.")
    detail: Detail = Field(
        default=Detail.DEVICE, description="Finest level that is published: Device, Node or SuperNode."
    )


class SuperNodeSpec(ApiModel):
    """What machine this cluster has. profile, superPodID, placement and resources are immutable."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.profile == oldSelf.profile",
            "profile is immutable: delete the SuperNode and create it anew",
            field_path=".profile",
        ),
        Rule(
            "self.superPodID == oldSelf.superPodID",
            "superPodID is immutable: delete the SuperNode and create it anew",
            field_path=".superPodID",
        ),
        Rule(
            "self.nodes.placement == oldSelf.nodes.placement",
            "nodes.placement is immutable: delete the SuperNode and create it anew",
            field_path=".nodes.placement",
        ),
        Rule(
            "self.resources == oldSelf.resources",
            "resources are immutable: delete the SuperNode and create it anew",
            field_path=".resources",
        ),
    )
    profile: Annotated[
        str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    ] = Field(
        description="Hardware profile: cabinets, servers, dies, links and power: cloudmatrix-384 or atlas-a2-cluster. "
        "The command line's other profiles (gb200-nvl72, h100-cluster, h800-cluster) are there to be compared with "
        "only: a SuperNode with one of them, or with an unknown name, is refused (ProfileNotFound). Immutable."
    )
    super_pod_id: int = Field(
        default=0,
        ge=0,
        le=2147483647,
        alias="superPodID",
        description="Number of the machine, unique in the cluster. Immutable.",
    )
    nodes: NodeSelection = Field(description="Kubernetes nodes of the machine.")
    resources: Resources = Field(default_factory=Resources, description="Names of the extended resources. Immutable.")
    cabinets_per_pod: CabinetsPerPod = Field(
        default=CabinetsPerPod.ONE, description="Cabinets that one cabinet pod stands for: 1, 2, 4 or 16."
    )
    telemetry: Telemetry = Field(default_factory=Telemetry, description="Telemetry of the cabinets.")


class MachineCapacity(ApiModel):
    """What the profile says the machine is made of."""

    compute_cabinets: int = Field(default=0, ge=0, description="Compute cabinets.")
    bus_cabinets: int = Field(default=0, ge=0, description="Bus cabinets.")
    nodes: int = Field(default=0, ge=0, description="Compute servers.")
    packages: int = Field(default=0, ge=0, description="NPU packages (cards).")
    dies: int = Field(default=0, ge=0, description="Dies.")
    bus_links: int = Field(default=0, ge=0, description="Bus links: die ports, one for each die and plane.")
    l1_chips: int = Field(default=0, ge=0, description="L1 switch chips in the servers.")
    l2_chips: int = Field(default=0, ge=0, description="L2 switch chips in the bus cabinets.")
    uplinks: int = Field(default=0, ge=0, description="Links between L1 and L2 chips.")


class DeviceCounts(ApiModel):
    """A number of dies and bus links."""

    dies: int = Field(default=0, ge=0, description="Dies.")
    bus_links: int = Field(default=0, ge=0, description="Bus links.")


class MachinePerformance(ApiModel):
    """What the machine could do, and does."""

    rated_petaflops: DecimalString = Field(default="0", description="Dense FP16 peak as rated, in PFLOPS.")
    bf16_petaflops: DecimalString = Field(default="0", description="Dense BF16 peak of the cube units, in PFLOPS.")
    hbm_tebibytes: DecimalString = Field(default="0", description="HBM in TiB.")
    hbm_bandwidth_terabytes_per_second: DecimalString = Field(default="0", description="HBM bandwidth in TB/s.")
    bus_bandwidth_terabytes_per_second: DecimalString = Field(
        default="0", description="Bus bandwidth of all dies, one way, in TB/s, less what faults take."
    )
    power_kilowatts: DecimalString = Field(default="0", description="Power of the whole machine now, in kW (modelled).")
    tokens_per_second: DecimalString = Field(default="0", description="Tokens per second of all workloads now.")


class SuperNodeStatus(ApiModel):
    """What the operator has made of it."""

    conditions: Annotated[list[Condition], Field(max_length=16), ListMap(("type",))] = Field(
        default_factory=list,
        description="Ready (summary), NodesReady, DevicesReady, CabinetsReady, Progressing, Degraded; "
        "and DeletionBlocked, TelemetryExported where they apply.",
    )
    observed_generation: int = Field(default=0, ge=0, description="metadata.generation that this status is about.")
    capacity: MachineCapacity = Field(default_factory=MachineCapacity, description="What the profile holds.")
    kubernetes_nodes: int = Field(default=0, ge=0, description="Kubernetes nodes that the machine has.")
    placed_nodes: int = Field(default=0, ge=0, description="Compute servers that are on a Kubernetes node.")
    ready_cabinets: int = Field(default=0, ge=0, description="Cabinet pods that are ready.")
    allocatable: DeviceCounts = Field(
        default_factory=DeviceCounts, description="Healthy devices that kubelets advertise."
    )
    allocated: DeviceCounts = Field(
        default_factory=DeviceCounts, description="Devices that containers of living pods hold."
    )
    performance: MachinePerformance = Field(default_factory=MachinePerformance, description="Figures of the machine.")
    model: ModelStamp | None = Field(default=None, description="Where the figures come from.")


class SuperNode(Kind):
    """A Huawei Supernode 384 in this cluster."""

    kind_name: ClassVar[str] = "SuperNode"
    plural: ClassVar[str] = "supernodes"
    short_name: ClassVar[str] = "sn"
    description: ClassVar[str] = "A supernode (Huawei CloudMatrix 384) that this cluster has, without the hardware."
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Profile", ".spec.profile", "Hardware profile"),
        PrinterColumn("Nodes", ".status.placedNodes", "Compute servers that are placed", "integer"),
        PrinterColumn("Dies", ".status.allocatable.dies", "Allocatable dies", "integer"),
        PrinterColumn("Links", ".status.allocatable.busLinks", "Allocatable bus links", "integer"),
        PrinterColumn("Allocated", ".status.allocated.dies", "Dies that pods hold", "integer"),
        PrinterColumn("Ready", ".status.conditions[?(@.type=='Ready')].status", "Summary"),
        PrinterColumn("Reason", ".status.conditions[?(@.type=='Ready')].reason", "Reason of the summary"),
        PrinterColumn("Placement", ".spec.nodes.placement", "Packed or Dedicated", wide=True),
        PrinterColumn("Degraded", ".status.conditions[?(@.type=='Degraded')].status", "Faults in force", wide=True),
        PrinterColumn("Power", ".status.performance.powerKilowatts", "Power in kW", wide=True),
        PrinterColumn("Message", ".status.conditions[?(@.type=='Ready')].message", "Message of the summary", wide=True),
        PrinterColumn("Age", ".metadata.creationTimestamp", "Age", "date"),
    )
    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 40",
            "metadata.name must be a DNS label of at most 40 characters: names of children derive from it",
        ),
    )
    spec: SuperNodeSpec = Field(description="What machine this cluster has.")
    status: SuperNodeStatus = Field(default_factory=SuperNodeStatus, description="What the operator has made of it.")
