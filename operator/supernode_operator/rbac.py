"""Everything that the operator calls, as one table: the chart's roles are compared with it.

``list`` and ``watch`` are Kopf's and the cache's, for each watched kind. No wildcards, no namespaces, no CRDs.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from supernode_api.names import GROUP

__all__ = ["RULES", "Rule"]


class Rule(NamedTuple):
    """One permission and what it is for."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    scope: Literal["cluster", "release", "workloads"]
    """``release``: the release namespace; ``workloads``: each namespace where managed Jobs may be."""
    why: str


RULES: Final = (
    Rule(GROUP, "supernodes", ("list", "watch"), "cluster", "what is wanted"),
    Rule(GROUP, "supernodes", ("patch",), "cluster", "our finalizer"),
    Rule(GROUP, "supernodes/status", ("patch",), "cluster", "what became of it"),
    # blockOwnerDeletion in a child's ownerReference needs this where OwnerReferencesPermissionEnforcement is on.
    Rule(GROUP, "supernodes/finalizers", ("update",), "cluster", "owner of its children"),
    Rule(GROUP, "supernodeworkloads", ("list", "watch"), "cluster", "what is wanted"),
    Rule(GROUP, "supernodeworkloads/status", ("patch",), "cluster", "what became of it"),
    Rule(GROUP, "supernodeworkloads/finalizers", ("update",), "cluster", "owner of its Job"),
    Rule(
        GROUP,
        "computenodes",
        ("list", "watch", "create", "patch", "delete"),
        "cluster",
        "one for each server; create because apply makes them",
    ),
    Rule("", "nodes", ("list", "watch", "patch"), "cluster", "choosing and labelling"),
    Rule("", "pods", ("list", "watch"), "cluster", "who holds devices, which pods are a workload's"),
    Rule("", "services", ("list", "watch"), "cluster", "cabinets (watched by our label)"),
    Rule("", "services", ("create", "patch"), "release", "the Service before the cabinets"),
    Rule("apps", "statefulsets", ("list", "watch"), "cluster", "cabinets (watched by our label)"),
    Rule(
        "apps",
        "statefulsets",
        ("create", "patch", "delete"),
        "release",
        "cabinets; delete when cabinetsPerPod changes, or no node may be used",
    ),
    Rule("batch", "jobs", ("list", "watch"), "cluster", "managed Jobs (watched by our label)"),
    Rule(
        "batch", "jobs", ("get", "create", "patch"), "workloads", "managed Jobs; get tells whose a conflicting one is"
    ),
    Rule("", "events", ("create",), "cluster", "transitions; of cluster-scoped objects in namespace default"),
    Rule("coordination.k8s.io", "leases", ("get", "create", "update"), "release", "leader election"),
)
