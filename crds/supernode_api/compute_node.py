"""ComputeNode (cn): the contract between operator (spec) and node agent (status), one small object per server."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from supernode_api.common import ApiModel, Condition, Kind, ListMap, PrinterColumn, RangeString, Rule
from supernode_api.faults import FaultLevel

__all__ = [
    "Allocation",
    "ComputeNode",
    "ComputeNodeSpec",
    "ComputeNodeStatus",
    "DevicePort",
    "Devices",
    "Fault",
    "FaultLevel",
    "L1Chip",
    "RegisteredResource",
    "Uplink",
]

Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]


class DevicePort(ApiModel):
    """One die's UB port on one plane."""

    die: int = Field(ge=0, le=63, description="phyID of the die in its server.")
    plane: int = Field(ge=0, le=31, description="Plane, from 0.")


class Uplink(ApiModel):
    """One port of a server's L1 chip towards the L2 chips of its plane."""

    plane: int = Field(ge=0, le=31, description="Plane, from 0.")
    port: int = Field(ge=0, le=15, description="Port of the L1 chip, 0 to 15.")


class L1Chip(ApiModel):
    """A server's L1 switch chip of one plane."""

    plane: int = Field(ge=0, le=31, description="Plane, from 0.")


class Fault(ApiModel):
    """Something that is broken now: exactly one of die, diePort, uplink or l1."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.die), has(self.diePort), has(self.uplink), has(self.l1)].filter(x, x).size() == 1",
            "a fault needs exactly one of die, diePort, uplink, l1",
        ),
    )
    name: Annotated[
        str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    ] = Field(description="Key of the fault on this server.")
    level: FaultLevel = Field(
        default=FaultLevel.SEPARATE_NPU,
        description="How MindCluster treats it. "
        "NotHandleFault, SubHealthFault and RestartRequest leave devices schedulable.",
    )
    code: Annotated[str, StringConstraints(max_length=64)] = Field(
        default="", description="Fault code, for example 80E18402; shown, not interpreted."
    )
    die: int | None = Field(default=None, ge=0, le=63, description="phyID of the broken die.")
    die_port: DevicePort | None = Field(default=None, description="A broken die port (bus link).")
    uplink: Uplink | None = Field(default=None, description="A broken uplink of an L1 chip.")
    l1: L1Chip | None = Field(default=None, description="A broken L1 switch chip.")


class Devices(ApiModel):
    """What the node agent advertises for this server; arithmetic, never changes."""

    npu_resource: Annotated[str, StringConstraints(min_length=1, max_length=317)] = Field(
        description="Resource of the dies."
    )
    bus_link_resource: Annotated[str, StringConstraints(min_length=1, max_length=317)] = Field(
        description="Resource of the bus links."
    )
    first_die: int = Field(
        ge=0, le=1048576, description="Number n of phyID 0 in device ids: 0 in Dedicated, serverIndex x dies in Packed."
    )
    dies: int = Field(ge=1, le=64, description="Dies of the server.")
    planes: int = Field(ge=1, le=32, description="Planes; each die has one port on each.")


class ComputeNodeSpec(ApiModel):
    """Written by the operator; users may apply faults under a field manager of their own."""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.superNode == oldSelf.superNode", "superNode is immutable", field_path=".superNode"),
        Rule("self.serverIndex == oldSelf.serverIndex", "serverIndex is immutable", field_path=".serverIndex"),
        Rule("self.cabinet == oldSelf.cabinet", "cabinet is immutable", field_path=".cabinet"),
        Rule("self.devices == oldSelf.devices", "devices are immutable", field_path=".devices"),
        Rule(
            "!has(oldSelf.nodeName) || (has(self.nodeName) && self.nodeName == oldSelf.nodeName)",
            "nodeName is immutable once set: a server moves by deleting its ComputeNode",
            field_path=".nodeName",
        ),
        Rule(
            "!has(self.faults) || self.faults.all(f, (!has(f.die) || f.die < self.devices.dies) && "
            "(!has(f.diePort) || (f.diePort.die < self.devices.dies && f.diePort.plane < self.devices.planes)) && "
            "(!has(f.uplink) || f.uplink.plane < self.devices.planes) && "
            "(!has(f.l1) || f.l1.plane < self.devices.planes))",
            "a fault names a die or plane that this server does not have",
            field_path=".faults",
        ),
    )
    super_node: Annotated[str, StringConstraints(min_length=1, max_length=40)] = Field(
        description="SuperNode it belongs to. Immutable."
    )
    cabinet: int = Field(ge=0, le=255, description="Number of its compute cabinet. Immutable.")
    server_index: int = Field(ge=0, le=1023, description="Number of the server in the machine. Immutable.")
    node_name: Name | None = Field(default=None, description="Kubernetes node that it is on. Immutable once set.")
    devices: Devices = Field(description="What the server has. Immutable.")
    faults: Annotated[list[Fault], Field(max_length=256), ListMap(("name",))] = Field(
        default_factory=list, description="What is broken now."
    )


class RegisteredResource(ApiModel):
    """One resource as the kubelet has it from the agent."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=317)] = Field(description="Resource name.")
    devices: int = Field(ge=0, description="Devices of this server that are advertised.")
    unhealthy: int = Field(default=0, ge=0, description="Of these, unhealthy.")


class Allocation(ApiModel):
    """What one container holds on this server, as the kubelet's PodResources API says."""

    namespace: Annotated[str, StringConstraints(min_length=1, max_length=63)] = Field(
        description="Namespace of the pod."
    )
    pod: Name = Field(description="Name of the pod.")
    container: Annotated[str, StringConstraints(min_length=1, max_length=63)] = Field(
        description="Name of the container."
    )
    dies: RangeString = Field(default="", description="phyIDs that it holds, as ranges.")
    links: RangeString = Field(
        default="",
        description="Links that it holds, as ranges of phyID x planes + plane; empty when it asked for none.",
    )


class ComputeNodeStatus(ApiModel):
    """Written by the node agent."""

    conditions: Annotated[list[Condition], Field(max_length=8), ListMap(("type",))] = Field(
        default_factory=list,
        description="Ready (registered with the kubelet), Released (nothing held, nothing advertised).",
    )
    observed_generation: int = Field(
        default=0, ge=0, description="metadata.generation that the devices were computed from."
    )
    resources: Annotated[list[RegisteredResource], Field(max_length=4), ListMap(("name",))] = Field(
        default_factory=list, description="Resources that the kubelet has."
    )
    allocations: Annotated[list[Allocation], Field(max_length=256), ListMap(("namespace", "pod", "container"))] = Field(
        default_factory=list, description="Who holds what."
    )


class ComputeNode(Kind):
    """One compute server of a SuperNode."""

    kind_name: ClassVar[str] = "ComputeNode"
    plural: ClassVar[str] = "computenodes"
    short_name: ClassVar[str] = "cn"
    description: ClassVar[str] = (
        "A compute server of a SuperNode: its place, its devices, what is broken, who holds them."
    )
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("SuperNode", ".spec.superNode", "Machine"),
        PrinterColumn("Cabinet", ".spec.cabinet", "Compute cabinet", "integer"),
        PrinterColumn("Server", ".spec.serverIndex", "Number of the server", "integer"),
        PrinterColumn("Node", ".spec.nodeName", "Kubernetes node"),
        PrinterColumn("First-Fault", ".spec.faults[0].name", "The first of the faults in force"),
        PrinterColumn("First-Pod", ".status.allocations[0].pod", "The first of the pods that hold devices"),
        PrinterColumn("Ready", ".status.conditions[?(@.type=='Ready')].status", "Registered with the kubelet"),
        PrinterColumn("Reason", ".status.conditions[?(@.type=='Ready')].reason", "Reason", wide=True),
        PrinterColumn("Age", ".metadata.creationTimestamp", "Age", "date"),
    )
    selectable: ClassVar[tuple[str, ...]] = (".spec.superNode", ".spec.nodeName")
    spec: ComputeNodeSpec = Field(description="Its place, its devices, what is broken.")
    status: ComputeNodeStatus = Field(default_factory=ComputeNodeStatus, description="What the node agent reports.")
