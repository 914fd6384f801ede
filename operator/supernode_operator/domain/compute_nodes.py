"""ComputeNodes: building them, and when one may go.

We apply only our own fields, so fault entries that others applied stay. A server moves by deleting its ComputeNode;
the finalizer holds it until its node agent has handed everything back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supernode_api import SuperNode
from supernode_api.conditions import ConditionType
from supernode_api.names import (
    API_VERSION,
    CABINET_LABEL,
    HANDOVER_FINALIZER,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    SUPERNODE_LABEL,
    compute_node_name,
)
from supernode_api.supernode import Placement
from supernode_dataplane.profile import Profile
from supernode_operator.domain.objects import Object, condition_is, extended_quantity, is_deleting, owner_reference

__all__ = ["build_compute_node", "is_released", "node_name", "server_index"]


def build_compute_node(
    raw: Object, super_node: SuperNode, profile: Profile, server: int, node: str | None
) -> dict[str, Any]:
    """Build the ComputeNode of a server; ``node`` None: it has no place yet."""
    packed = super_node.spec.nodes.placement is Placement.PACKED
    cabinet = server // profile.servers_per_cabinet
    spec: dict[str, Any] = {
        "superNode": super_node.metadata.name,
        "cabinet": cabinet,
        "serverIndex": server,
        "devices": {
            "npuResource": super_node.spec.resources.npu,
            "busLinkResource": super_node.spec.resources.bus_link,
            "firstDie": server * profile.dies_per_server if packed else 0,
            "dies": profile.dies_per_server,
            "planes": profile.planes,
        },
    }
    if node is not None:
        spec["nodeName"] = node
    return {
        "metadata": {
            "name": compute_node_name(super_node.metadata.name, server),
            "labels": {
                MANAGED_BY_LABEL: MANAGED_BY,
                SUPERNODE_LABEL: super_node.metadata.name,
                CABINET_LABEL: str(cabinet),
            },
            "ownerReferences": [owner_reference(API_VERSION, "SuperNode", raw)],
            "finalizers": [HANDOVER_FINALIZER],
        },
        "spec": spec,
    }


def is_released(compute_node: Object, nodes: Mapping[str, Object]) -> bool:
    """Whether a deleted ComputeNode may go: handed back, its node is gone, or nobody ever took it over."""
    if not is_deleting(compute_node):
        return False
    where = node_name(compute_node)
    if where is None or where not in nodes:
        return True
    if condition_is(compute_node, ConditionType.RELEASED):
        return True
    status = compute_node.get("status") or {}
    if (
        status.get("conditions")
        or status.get("resources")
        or status.get("allocations")
        or status.get("observedGeneration")
    ):
        return False
    # No agent has ever reported on it, and the kubelet has nothing of it either.
    devices = compute_node["spec"]["devices"]
    return all(extended_quantity(nodes[where], devices[field]) == 0 for field in ("npuResource", "busLinkResource"))


def node_name(compute_node: Object) -> str | None:
    """Return the Kubernetes node that a ComputeNode is on, or None."""
    return (compute_node.get("spec") or {}).get("nodeName")


def server_index(compute_node: Object) -> int:
    """Return the number of the server."""
    return int(compute_node["spec"]["serverIndex"])
