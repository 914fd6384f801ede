"""The kinds that the operator reads and writes, as values: where the API server has them and how a key looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from supernode_api.names import API_VERSION, MANAGED_BY, MANAGED_BY_LABEL

__all__ = [
    "COMPUTE_NODE",
    "EVENT",
    "JOB",
    "KINDS",
    "LEASE",
    "NODE",
    "POD",
    "SERVICE",
    "STATEFUL_SET",
    "SUPER_NODE",
    "WATCHED",
    "WORKLOAD",
    "Key",
    "Kind",
]


class Key(NamedTuple):
    """Names one object: the unit of the queue. ``namespace`` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object; ``label_selector`` narrows what is watched."""

    name: str
    api_version: str
    plural: str
    namespaced: bool
    label_selector: str = ""

    @property
    def group(self) -> str:
        """API group, empty for the core."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """Version inside the group."""
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of a collection, an object or its subresource."""
        parts = [f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)

    def key(self, obj: Mapping[str, Any]) -> Key:
        """Return the key of an object of this kind."""
        metadata = obj["metadata"]
        return Key(self.name, metadata.get("namespace", "") if self.namespaced else "", metadata["name"])


_OURS: Final = f"{MANAGED_BY_LABEL}={MANAGED_BY}"

SUPER_NODE: Final = Kind("SuperNode", API_VERSION, "supernodes", False)
COMPUTE_NODE: Final = Kind("ComputeNode", API_VERSION, "computenodes", False)
WORKLOAD: Final = Kind("SuperNodeWorkload", API_VERSION, "supernodeworkloads", True)
NODE: Final = Kind("Node", "v1", "nodes", False)
POD: Final = Kind("Pod", "v1", "pods", True)
SERVICE: Final = Kind("Service", "v1", "services", True, _OURS)
STATEFUL_SET: Final = Kind("StatefulSet", "apps/v1", "statefulsets", True, _OURS)
JOB: Final = Kind("Job", "batch/v1", "jobs", True, _OURS)
EVENT: Final = Kind("Event", "v1", "events", True)
LEASE: Final = Kind("Lease", "coordination.k8s.io/v1", "leases", True)

WATCHED: Final = (SUPER_NODE, COMPUTE_NODE, WORKLOAD, NODE, POD, SERVICE, STATEFUL_SET, JOB)
KINDS: Final = {kind.name: kind for kind in (*WATCHED, EVENT, LEASE)}
