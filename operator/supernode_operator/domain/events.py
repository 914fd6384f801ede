"""Events: one for each condition transition that a person should hear of, and only with it.

The name is a digest of the transition and of the version of the object that it was seen from, so the same transition
reported twice (after a crash, by two replicas) is one Event, and one that comes again later is another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from supernode_api.conditions import ConditionType, Reason, find_condition
from supernode_api.names import API_VERSION, FIELD_MANAGER
from supernode_operator.domain.objects import Object, name, uid

__all__ = ["build_events"]

_BAD_WHEN_TRUE: Final = frozenset(
    {
        ConditionType.DEGRADED,
        ConditionType.DELETION_BLOCKED,
        ConditionType.SPANS_SERVERS,
        ConditionType.LINKS_MISMATCH,
        ConditionType.PODS_CONTESTED,
    }
)
_SILENT: Final = frozenset(
    {ConditionType.PROGRESSING, ConditionType.NODES_READY, ConditionType.DEVICES_READY, ConditionType.CABINETS_READY}
)
"""Ready repeats the first of these that is False; an Event for each would be noise."""
_LEFT_OUT: Final = frozenset({Reason.NODE_TAKEN, Reason.FOREIGN_DEVICE_PLUGIN})
"""Reasons for which NodesReady speaks although it is True: the machine stands, on fewer nodes than were chosen."""
_CALM: Final = frozenset(
    {
        Reason.AS_EXPECTED,
        Reason.RUNNING,
        Reason.COMPLETED,
        Reason.WAITING_FOR_PODS,
        Reason.WAITING_FOR_AGENT,
        Reason.WAITING_FOR_CABINETS,
        Reason.RECONCILING,
        Reason.DELETING,
        Reason.DEVICES_MISSING,
    }
)
"""Reasons that belong to a normal life."""


def build_events(
    kind: str, obj: Object, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], now: str
) -> list[dict[str, Any]]:
    """Build the Events of one status change: a condition's status or reason became another."""
    events = []
    summary = (find_condition([dict(c) for c in new], ConditionType.READY) or {}).get("reason")
    for condition in new:
        type_ = condition["type"]
        before = find_condition([dict(c) for c in old], type_)
        if condition["status"] == "Unknown" or (type_ in _SILENT and not _leaves_out(condition)):
            continue
        if before is None and condition["reason"] in _CALM | {Reason.INCOMPLETE}:
            continue
        if before is not None and (before["status"], before["reason"]) == (condition["status"], condition["reason"]):
            continue
        if type_ != ConditionType.READY and condition["reason"] == summary:
            continue  # Ready says the same
        events.append(_event(kind, obj, condition, now))
    return events


def _leaves_out(condition: Mapping[str, Any]) -> bool:
    return condition["status"] == "True" and condition["reason"] in _LEFT_OUT


def _event(kind: str, obj: Object, condition: Mapping[str, Any], now: str) -> dict[str, Any]:
    version = obj["metadata"]["resourceVersion"]
    text = "/".join((uid(obj), condition["type"], condition["status"], condition["reason"], version))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    involved = {"apiVersion": API_VERSION, "kind": kind, "name": name(obj), "uid": uid(obj)}
    # Events of cluster-scoped objects live in the namespace "default", as Kubernetes' own do.
    namespace = obj["metadata"].get("namespace") or "default"
    if obj["metadata"].get("namespace"):
        involved["namespace"] = namespace
    return {
        "metadata": {"name": f"{name(obj)[:200]}.{digest}", "namespace": namespace},
        "involvedObject": involved,
        "type": "Normal" if _is_good(condition) else "Warning",
        "reason": condition["reason"],
        "message": condition["message"] or f"{condition['type']} is {condition['status']}",
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "reportingInstance": FIELD_MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "action": condition["type"],
    }


def _is_good(condition: Mapping[str, Any]) -> bool:
    if condition["reason"] in _CALM | _LEFT_OUT:
        return condition["reason"] in _CALM
    good = "False" if condition["type"] in _BAD_WHEN_TRUE else "True"
    return bool(condition["status"] == good)
