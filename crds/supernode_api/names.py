"""Every name that more than one part of the product must agree on.

Group, labels, annotations, finalizers, field managers, device ids, ports and paths. Nothing here is computed from a
cluster; the few functions are arithmetic on names (design: device ids never change).
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "API_VERSION",
    "BASELINE_PROFILE",
    "CABINET_LABEL",
    "CABINET_PORT",
    "CABINET_ROLE_LABEL",
    "CATEGORY",
    "DEFAULT_BUS_LINK_RESOURCE",
    "DEFAULT_NPU_RESOURCE",
    "FIELD_MANAGER",
    "GROUP",
    "HANDOVER_FINALIZER",
    "KUBELET_SOCKET",
    "LINKS_ALL",
    "MANAGED_BY",
    "MANAGED_BY_LABEL",
    "NODES_FINALIZER",
    "NODE_LABEL",
    "PLURALS",
    "POD_RESOURCES_SOCKET",
    "SUPERNODE_LABEL",
    "VERSION",
    "WORKLOAD_LABEL",
    "cabinet_service_name",
    "compute_node_name",
    "die_device_id",
    "link_device_id",
    "managed_job_name",
]

GROUP: Final = "supernode.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "supernode-all"
PLURALS: Final = {
    "SuperNode": "supernodes",
    "ComputeNode": "computenodes",
    "SuperNodeWorkload": "supernodeworkloads",
}

FIELD_MANAGER: Final = "supernode-operator"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "supernode-operator"

NODE_LABEL: Final = f"{GROUP}/supernode"
"""On a Kubernetes node: the SuperNode that has it. The agent's DaemonSet selects nodes where it exists."""
SUPERNODE_LABEL: Final = f"{GROUP}/supernode"
"""On children (ComputeNodes, StatefulSets, cabinet pods): the SuperNode they belong to. Same key as on nodes."""
CABINET_ROLE_LABEL: Final = f"{GROUP}/cabinet-role"
"""On cabinet pods: ``compute`` or ``bus``."""
CABINET_LABEL: Final = f"{GROUP}/cabinet"
"""On ComputeNodes: the cabinet's number as a string."""
WORKLOAD_LABEL: Final = f"{GROUP}/workload"
"""On managed Jobs and their pods: the SuperNodeWorkload's name."""

NODES_FINALIZER: Final = f"{GROUP}/nodes"
"""On a SuperNode: node labels and devices are still to be handed back."""
HANDOVER_FINALIZER: Final = f"{GROUP}/handover"
"""On a ComputeNode: its devices are still advertised or held."""

DEFAULT_NPU_RESOURCE: Final = "huawei.com/Ascend910"
DEFAULT_BUS_LINK_RESOURCE: Final = f"{GROUP}/bus-link"
BASELINE_PROFILE: Final = "atlas-a2-cluster"

KUBELET_SOCKET: Final = "/var/lib/kubelet/device-plugins/kubelet.sock"
POD_RESOURCES_SOCKET: Final = "/var/lib/kubelet/pod-resources/kubelet.sock"
CABINET_PORT: Final = 8080
LINKS_ALL: Final = "all"
"""Value of ``links`` in a placement part whose container asked for no links: it has all links of its dies."""


def compute_node_name(super_node: str, server_index: int) -> str:
    """Name the ComputeNode of a server, for example ``cm384-07``."""
    return f"{super_node}-{server_index:02d}"


def cabinet_service_name(super_node: str) -> str:
    """Name the Service in front of all cabinets of a SuperNode (in the release namespace)."""
    return f"{super_node}-cabinets"


def managed_job_name(workload: str) -> str:
    """Name the Job of a managed workload: the workload's own name."""
    return workload


def die_device_id(number: int) -> str:
    """Device id of a die; ``number`` is ``spec.devices.firstDie`` + phyID."""
    return f"Ascend910-{number}"


def link_device_id(number: int, plane: int) -> str:
    """Device id of a die's port on a plane; ``number`` as in :func:`die_device_id`."""
    return f"bus-{number}-{plane}"
