"""Reading raw API objects: the few accessors that every decision uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from supernode_api.common import LabelSelector
from supernode_api.conditions import find_condition

__all__ = [
    "Object",
    "age_key",
    "condition_is",
    "extended_quantity",
    "is_deleting",
    "labels",
    "name",
    "namespaced_name",
    "natural_key",
    "node_is_ready",
    "owner",
    "owner_reference",
    "selects",
    "some",
    "subsumes",
    "uid",
]

Object = Mapping[str, Any]


def name(obj: Object) -> str:
    """Name of an object."""
    return str(obj["metadata"]["name"])


def namespaced_name(obj: Object) -> str:
    """``namespace/name``, the key under which the mathematics knows a workload."""
    return f"{obj['metadata'].get('namespace', '')}/{name(obj)}"


def uid(obj: Object) -> str:
    """UID of an object."""
    return str(obj["metadata"].get("uid", ""))


def labels(obj: Object) -> Mapping[str, str]:
    """Labels of an object."""
    return obj["metadata"].get("labels") or {}


def is_deleting(obj: Object) -> bool:
    """Whether its deletion was asked for."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def age_key(obj: Object) -> tuple[str, str, str]:
    """Sort key, oldest first; the name decides between equals, so that all agree."""
    metadata = obj["metadata"]
    return (str(metadata.get("creationTimestamp", "")), str(metadata.get("namespace", "")), name(obj))


def owner(obj: Object) -> Mapping[str, Any] | None:
    """Return the ownerReference of the controller, or None."""
    references = obj["metadata"].get("ownerReferences") or []
    return next((r for r in references if r.get("controller")), None)


def owner_reference(api_version: str, kind: str, obj: Object) -> dict[str, Any]:
    """Build the reference that makes ``obj`` the controller of a child."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name(obj),
        "uid": uid(obj),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def condition_is(obj: Object, type_: str, status: str = "True") -> bool:
    """Whether a condition of an object's status has this status; garbage counts as no."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    found = find_condition([c for c in conditions if isinstance(c, dict)], type_)
    return found is not None and found.get("status") == status


def node_is_ready(node: Object | None) -> bool:
    """Whether a Kubernetes node exists and its kubelet reports in."""
    return node is not None and condition_is(node, "Ready")


def extended_quantity(node: Object, resource: str) -> int:
    """How much of an extended resource a node shows, in capacity or in allocatable, whichever is more."""
    status = node.get("status") or {}
    return max(_count((status.get(field) or {}).get(resource)) for field in ("capacity", "allocatable"))


def selects(selector: LabelSelector, present: Mapping[str, str]) -> bool:
    """Whether a label selector matches labels, as in Kubernetes."""
    if any(present.get(key) != value for key, value in selector.match_labels.items()):
        return False
    for term in selector.match_expressions:
        value = present.get(term.key)
        if term.operator == "In" and value not in term.values:
            return False
        if term.operator == "NotIn" and value is not None and value in term.values:
            return False
        if term.operator == "Exists" and value is None:
            return False
        if term.operator == "DoesNotExist" and value is not None:
            return False
    return True


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which ``pod-2`` is before ``pod-10``."""
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"([0-9]+)", text) if p)


def some(names: list[str], limit: int = 5) -> str:
    """List a few names for people: ``a, b and 46 more``."""
    rest = len(names) - limit
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:limit])} and {rest} more"


def subsumes(live: Any, desired: Any) -> bool:
    """Whether a live value has everything desired; fields that the API server defaulted do not matter."""
    if isinstance(desired, Mapping):
        if not isinstance(live, Mapping):
            return False
        # The API server drops empty maps and lists.
        return all(subsumes(live[key], value) if key in live else value in ({}, []) for key, value in desired.items())
    if isinstance(desired, list):
        return isinstance(live, list) and len(live) == len(desired) and all(map(subsumes, live, desired))
    return bool(live == desired)


def _count(quantity: Any) -> int:
    # Extended resources are integers; the API server may write 1000 as "1k".
    text = str(quantity or "0")
    scale = {"k": 1000, "M": 1_000_000}.get(text[-1:], 1)
    digits = text[:-1] if scale > 1 else text
    return int(digits) * scale if digits.isdigit() else 0
