"""Condition types, reasons and the one way to change a condition list.

Types and reasons are part of the API: people and alerts match on them. ``docs/conditions.md`` lists them with the
remedy, and a test compares the page with this module.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

__all__ = ["ConditionType", "Reason", "find_condition", "set_condition"]


class ConditionType(StrEnum):
    """Types of metav1.Condition that our objects carry."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    # SuperNode
    NODES_READY = "NodesReady"
    DEVICES_READY = "DevicesReady"
    CABINETS_READY = "CabinetsReady"
    DELETION_BLOCKED = "DeletionBlocked"
    TELEMETRY_EXPORTED = "TelemetryExported"
    # ComputeNode
    RELEASED = "Released"
    # SuperNodeWorkload
    ACCEPTED = "Accepted"
    COMPLETE = "Complete"
    SPANS_SERVERS = "SpansServers"
    LINKS_MISMATCH = "LinksMismatch"
    PODS_CONTESTED = "PodsContested"


class Reason(StrEnum):
    """Stable, CamelCase reasons of conditions and Events."""

    # shared
    AS_EXPECTED = "AsExpected"
    RECONCILING = "Reconciling"
    DELETING = "Deleting"
    INVALID_OBJECT = "InvalidObject"
    # SuperNode
    PROFILE_NOT_FOUND = "ProfileNotFound"
    SUPER_POD_ID_TAKEN = "SuperPodIDTaken"
    NO_NODES_MATCH = "NoNodesMatch"
    NOT_ENOUGH_NODES = "NotEnoughNodes"
    NODE_TAKEN = "NodeTaken"
    FOREIGN_DEVICE_PLUGIN = "ForeignDevicePlugin"
    NODE_NOT_READY = "NodeNotReady"
    WAITING_FOR_RELEASE = "WaitingForRelease"
    WAITING_FOR_AGENT = "WaitingForAgent"
    WAITING_FOR_CABINETS = "WaitingForCabinets"
    DEVICES_MISSING = "DevicesMissing"
    FAULTS_IN_FORCE = "FaultsInForce"
    DEVICES_HELD = "DevicesHeld"
    INVALID_AGENT_STATUS = "InvalidAgentStatus"
    OTLP_ENDPOINT_UNREACHABLE = "OtlpEndpointUnreachable"
    OTLP_EXPORT_REFUSED = "OtlpExportRefused"
    INVALID_OTLP_SETTINGS = "InvalidOtlpSettings"
    # ComputeNode
    REGISTERED = "Registered"
    KUBELET_UNREACHABLE = "KubeletUnreachable"
    REGISTRATION_FAILED = "RegistrationFailed"
    POD_RESOURCES_UNREACHABLE = "PodResourcesUnreachable"
    CONFLICT = "Conflict"
    DRAINING = "Draining"
    RELEASED = "Released"
    # SuperNodeWorkload
    SUPER_NODE_NOT_FOUND = "SuperNodeNotFound"
    MODEL_NOT_FOUND = "ModelNotFound"
    INVALID_MODEL = "InvalidModel"
    INVALID_PARALLELISM = "InvalidParallelism"
    DOES_NOT_FIT = "DoesNotFit"
    JOB_CONFLICT = "JobConflict"
    JOB_REJECTED = "JobRejected"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    TOO_MANY_PODS = "TooManyPods"
    INVALID_RANK = "InvalidRank"
    WAITING_FOR_PODS = "WaitingForPods"
    UNSCHEDULABLE = "Unschedulable"
    INCOMPLETE = "Incomplete"
    RUNNING = "Running"
    COMPLETED = "Completed"
    SUSPENDED = "Suspended"
    PODS_CONTESTED = "PodsContested"
    SPANS_SERVERS = "SpansServers"
    LINKS_MISMATCH = "LinksMismatch"
    DIES_FAULTY = "DiesFaulty"
    LINKS_FAULTY = "LinksFaulty"


def find_condition(conditions: list[dict[str, Any]], type_: str) -> dict[str, Any] | None:
    """Return the condition of that type, or None."""
    return next((c for c in conditions if c.get("type") == type_), None)


def set_condition(
    conditions: list[dict[str, Any]],
    type_: ConditionType,
    status: bool | None,
    reason: Reason,
    message: str,
    *,
    generation: int,
    now: str,
) -> list[dict[str, Any]]:
    """Return a new list with the condition set; ``lastTransitionTime`` changes only when its status does.

    ``status`` None is ``Unknown``; ``now`` is RFC 3339 to the second. Messages are cut at the API's bound.
    """
    text = {True: "True", False: "False", None: "Unknown"}[status]
    old = find_condition(conditions, type_)
    moment = old.get("lastTransitionTime", now) if old is not None and old.get("status") == text else now
    new = {
        "type": str(type_),
        "status": text,
        "reason": str(reason),
        "message": message if len(message) <= 1024 else message[:1021] + "...",
        "lastTransitionTime": moment,
        "observedGeneration": generation,
    }
    if old is None:
        return [*conditions, new]
    return [new if c is old else c for c in conditions]
