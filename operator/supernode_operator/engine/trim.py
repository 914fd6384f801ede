"""What is kept of a watched object: only what a decision reads, so that 10,000 pods cost megabytes, not hundreds.

Pure: raw JSON in, smaller raw JSON of the same shape out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["trim", "without_version"]

_META: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "finalizers",
    "ownerReferences",
)
_POD_ANNOTATIONS: Final = ("batch.kubernetes.io/job-completion-index", "leaderworkerset.sigs.k8s.io/size")


def trim(kind: str, obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an object that decisions read."""
    if kind == "Pod":
        return _trim_pod(obj)
    if kind == "Node":
        return _trim_node(obj)
    kept = {key: value for key, value in obj.items() if key != "metadata"}
    kept["metadata"] = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    return kept


def without_version(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object without its resourceVersion: equal means nothing that we read has changed."""
    metadata = {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}
    return {**obj, "metadata": metadata}


def _metadata(obj: Mapping[str, Any], annotations: tuple[str, ...] = ()) -> dict[str, Any]:
    metadata = obj["metadata"]
    kept = {key: metadata[key] for key in _META if key in metadata}
    chosen = {k: v for k, v in (metadata.get("annotations") or {}).items() if k in annotations}
    if chosen:
        kept["annotations"] = chosen
    return kept


def _trim_pod(obj: Mapping[str, Any]) -> dict[str, Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    running = [
        {"name": c.get("name", ""), "state": {"running": {}}}
        for c in [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
        if (c.get("state") or {}).get("running") is not None
    ]
    scheduled = [
        {key: c.get(key, "") for key in ("type", "status", "reason", "message")}
        for c in status.get("conditions") or []
        if c.get("type") == "PodScheduled" and c.get("status") != "True"
    ]
    kept: dict[str, Any] = {"phase": status.get("phase", "")}
    if running:
        kept["containerStatuses"] = running
    if scheduled:
        kept["conditions"] = scheduled
    node = {"nodeName": spec["nodeName"]} if spec.get("nodeName") else {}
    return {"metadata": _metadata(obj, _POD_ANNOTATIONS), "spec": node, "status": kept}


def _trim_node(obj: Mapping[str, Any]) -> dict[str, Any]:
    status = obj.get("status") or {}
    # Heartbeats change lastHeartbeatTime only: the status of Ready is all that is read.
    ready = [
        {"type": "Ready", "status": c.get("status", "Unknown")}
        for c in status.get("conditions") or []
        if c.get("type") == "Ready"
    ]
    kept: dict[str, Any] = {"conditions": ready}
    for field in ("capacity", "allocatable"):
        kept[field] = {name: value for name, value in (status.get(field) or {}).items() if "/" in name}
    return {"metadata": _metadata(obj), "status": kept}
