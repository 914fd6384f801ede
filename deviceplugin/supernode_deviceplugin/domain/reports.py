"""ComputeNode.status as the agent reports it, from what it knows; equal knowledge gives an equal status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supernode_api.conditions import ConditionType, Reason, find_condition, set_condition
from supernode_deviceplugin.domain.devices import Server

__all__ = ["Report", "ResourceReport", "build_invalid_status", "build_status", "is_released"]

_FIELDS = ("conditions", "observedGeneration", "resources", "allocations")
_NAMED_PODS = 5


@dataclass(frozen=True, slots=True)
class ResourceReport:
    """How one resource of a server stands with the kubelet."""

    name: str
    devices: int
    unhealthy: int
    reason: Reason
    message: str = ""

    @property
    def is_registered(self) -> bool:
        """Whether the kubelet has it."""
        return self.reason == Reason.REGISTERED


@dataclass(frozen=True, slots=True)
class Report:
    """All that the status of one ComputeNode is made of."""

    server: Server
    resources: tuple[ResourceReport, ...]
    allocations: Sequence[Mapping[str, str]] = ()
    conflict: str = ""
    """Name of the ComputeNode that has the same device ids, or empty."""
    pod_resources_error: str = ""
    released: bool = False
    pending: int = 0
    """Devices allocated a moment ago that no pod shows yet."""


def build_status(report: Report, current: Mapping[str, Any], now: str) -> dict[str, Any] | None:
    """Return the status to write, or None when it stands there already. ``now`` is RFC 3339."""
    ok, reason, message = _ready(report)
    server = report.server
    conditions = set_condition(
        _conditions(current), ConditionType.READY, ok, reason, message, generation=server.generation, now=now
    )
    if server.deleting:
        done, why, text = _released(report)
        conditions = set_condition(
            conditions, ConditionType.RELEASED, done, why, text, generation=server.generation, now=now
        )
    gone = report.released or bool(report.conflict)
    status = {
        "conditions": conditions,
        "observedGeneration": server.generation,
        "resources": [
            {"name": r.name, "devices": r.devices, "unhealthy": r.unhealthy}
            for r in sorted(report.resources, key=lambda r: r.name)
            if r.is_registered and not gone
        ],
        "allocations": [dict(a) for a in report.allocations],
    }
    return None if _same(status, current) else status


def build_invalid_status(generation: int, problem: str, current: Mapping[str, Any], now: str) -> dict[str, Any] | None:
    """Return the status of a ComputeNode that cannot be read, or None when it stands there already."""
    conditions = set_condition(
        _conditions(current),
        ConditionType.READY,
        False,
        Reason.INVALID_OBJECT,
        f"{problem}; the node agent does not serve this object",
        generation=generation,
        now=now,
    )
    status = {"conditions": conditions, "observedGeneration": generation, "resources": [], "allocations": []}
    return None if _same(status, current) else status


def is_released(status: Mapping[str, Any]) -> bool:
    """Whether the status says that this server has been handed over already."""
    condition = find_condition(_conditions(status), ConditionType.RELEASED)
    return condition is not None and condition.get("status") == "True"


def _ready(report: Report) -> tuple[bool, Reason, str]:
    server = report.server
    if report.conflict:
        text = f"ComputeNode {report.conflict} has the same device ids on this node; delete one of the two"
        return False, Reason.CONFLICT, text
    if report.released:
        return False, Reason.RELEASED, "its devices have been withdrawn"
    if server.deleting:
        return False, Reason.DRAINING, "it is being deleted: its devices are unhealthy until nobody holds them"
    failed = next((r for r in report.resources if not r.is_registered), None)
    if failed is not None:
        return False, failed.reason, failed.message
    if report.pod_resources_error:
        text = f"who holds devices is not known: {report.pod_resources_error}"
        return False, Reason.POD_RESOURCES_UNREACHABLE, text
    text = ", ".join(f"{r.devices} {r.name}" for r in report.resources)
    problems = f"; ignored: {'; '.join(server.problems)}" if server.problems else ""
    return True, Reason.REGISTERED, f"the kubelet has {text}{problems}"


def _released(report: Report) -> tuple[bool, Reason, str]:
    if report.released:
        return True, Reason.RELEASED, "nothing is held and nothing is advertised"
    if report.pod_resources_error:
        text = f"whether pods hold its devices is not known: {report.pod_resources_error}"
        return False, Reason.POD_RESOURCES_UNREACHABLE, text
    pods = sorted({f"{a['namespace']}/{a['pod']}" for a in report.allocations})
    if pods:
        more = f" and {len(pods) - _NAMED_PODS} more" if len(pods) > _NAMED_PODS else ""
        return False, Reason.DRAINING, f"devices are held by pods: {', '.join(pods[:_NAMED_PODS])}{more}"
    if report.pending:
        return False, Reason.DRAINING, f"{report.pending} devices were allocated a moment ago"
    return False, Reason.DRAINING, "the kubelet is asked whether pods hold its devices"


def _conditions(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    raw = status.get("conditions")
    return [c for c in raw if isinstance(c, dict) and "type" in c] if isinstance(raw, list) else []


def _same(status: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    return all(status[name] == current.get(name) for name in _FIELDS)
