"""Which keys a change concerns. Level-triggered: it only says who should look, never what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from supernode_api.names import NODE_LABEL, SUPERNODE_LABEL
from supernode_operator.domain.accept import Rejection, parse_super_node
from supernode_operator.domain.objects import Object, labels, owner, selects
from supernode_operator.engine.kinds import (
    COMPUTE_NODE,
    JOB,
    NODE,
    POD,
    SUPER_NODE,
    WORKLOAD,
    Key,
    Kind,
)
from supernode_operator.engine.store import Store

__all__ = ["Dispatcher"]


class Dispatcher:
    """Turns changes in the cache into keys on the queue."""

    def __init__(self, store: Store, add: Callable[[Key], None]) -> None:
        self._store = store
        self._add = add

    def on_change(self, kind: Kind, key: Key, old: Object | None, new: Object | None) -> None:
        """Queue whoever a change concerns."""
        for concerned in dict.fromkeys(self._concerned(kind, key, old, new)):
            self._add(concerned)

    def everything(self) -> None:
        """Queue everything once, at start."""
        for kind in (SUPER_NODE, COMPUTE_NODE, WORKLOAD):
            for obj in self._store.list(kind):
                self._add(kind.key(obj))

    def _concerned(self, kind: Kind, key: Key, old: Object | None, new: Object | None) -> Iterator[Key]:
        if kind is SUPER_NODE:
            yield from self._of_super_node(key, old, new)
        elif kind is COMPUTE_NODE:
            yield from self._of_compute_node(key, old, new)
        elif kind is WORKLOAD:
            yield from self._of_workload(key, old, new)
        elif kind is NODE:
            yield from self._of_node(old, new)
        elif kind is POD:
            yield from self._of_pod(key, old, new)
        elif kind is JOB:
            reference = owner(new or old or {"metadata": {}})
            if reference and reference.get("kind") == WORKLOAD.name:
                yield Key(WORKLOAD.name, key.namespace, str(reference["name"]))
        else:  # StatefulSet, Service
            super_node = labels(new or old or {"metadata": {}}).get(SUPERNODE_LABEL)
            if super_node:
                yield Key(SUPER_NODE.name, "", super_node)

    def _of_super_node(self, key: Key, old: Object | None, new: Object | None) -> Iterator[Key]:
        yield key
        if old is None or new is None or _beyond_status(old) != _beyond_status(new):
            # Another one may now have its nodes or its number; its own workloads and servers see it come and go.
            for other in self._store.list(SUPER_NODE):
                yield SUPER_NODE.key(other)
            yield from self._workloads(key.name)
            for compute_node in self._store.find(COMPUTE_NODE, "superNode", key.name):
                yield COMPUTE_NODE.key(compute_node)

    def _of_compute_node(self, key: Key, old: Object | None, new: Object | None) -> Iterator[Key]:
        super_node = str((new or old or {}).get("spec", {}).get("superNode", ""))
        if new is not None and new["metadata"].get("deletionTimestamp"):
            yield key
        yield Key(SUPER_NODE.name, "", super_node)
        if new is None:  # a node is free for another SuperNode
            for other in self._store.list(SUPER_NODE):
                yield SUPER_NODE.key(other)
        if old is None or new is None or _devices(old) != _devices(new):
            yield from self._workloads(super_node)

    def _of_workload(self, key: Key, old: Object | None, new: Object | None) -> Iterator[Key]:
        yield key
        if old is None or new is None or _load(old) != _load(new):
            super_node = str((new or old or {}).get("spec", {}).get("superNode", ""))
            yield Key(SUPER_NODE.name, "", super_node)
            yield from self._workloads(super_node)
            for other in self._store.list(WORKLOAD, key.namespace):  # its pods may be free for them
                yield WORKLOAD.key(other)

    def _of_node(self, old: Object | None, new: Object | None) -> Iterator[Key]:
        states = [labels(node) for node in (old, new) if node is not None]
        for super_node in self._store.list(SUPER_NODE):
            if any(_may_use(super_node, state) for state in states):
                yield SUPER_NODE.key(super_node)
        mine = {state[NODE_LABEL] for state in states if NODE_LABEL in state}
        for super_node_name in sorted(mine):
            yield Key(SUPER_NODE.name, "", super_node_name)
            yield from self._workloads(super_node_name)
        here = str((new or old or {"metadata": {}})["metadata"].get("name"))
        for compute_node in self._store.find(COMPUTE_NODE, "nodeName", here):
            yield Key(SUPER_NODE.name, "", str(compute_node["spec"].get("superNode")))
            if compute_node["metadata"].get("deletionTimestamp") and (new is None or mine):
                yield COMPUTE_NODE.key(compute_node)

    def _of_pod(self, key: Key, old: Object | None, new: Object | None) -> Iterator[Key]:
        for workload in self._store.list(WORKLOAD, key.namespace):
            if not (workload.get("status") or {}).get("completionTime"):
                yield WORKLOAD.key(workload)
        # Holding devices begins and ends with being bound, alive and not terminal.
        if old is None or new is None or _binding(old) != _binding(new):
            where = (new or old or {}).get("spec", {}).get("nodeName")
            node = self._store.get(NODE, str(where)) if where else None
            super_node = labels(node).get(NODE_LABEL) if node is not None else None
            if super_node:
                yield Key(SUPER_NODE.name, "", super_node)

    def _workloads(self, super_node: str) -> Iterator[Key]:
        for workload in self._store.find(WORKLOAD, "superNode", super_node):
            yield WORKLOAD.key(workload)


def _may_use(super_node: Object, node_labels: Mapping[str, str]) -> bool:
    """Whether a SuperNode chooses nodes with these labels; one that cannot be read is looked at in any case."""
    parsed = parse_super_node(super_node)
    return isinstance(parsed, Rejection) or selects(parsed.spec.nodes.selector, node_labels)


def _beyond_status(obj: Object) -> tuple[Any, ...]:
    metadata = obj["metadata"]
    return (metadata.get("uid"), obj.get("spec"), metadata.get("deletionTimestamp"))


def _devices(compute_node: Object) -> tuple[Any, ...]:
    return (compute_node.get("spec"), (compute_node.get("status") or {}).get("allocations"))


def _load(workload: Object) -> tuple[Any, ...]:
    status = workload.get("status") or {}
    metadata = workload["metadata"]
    placement = (status.get("placement"), status.get("completionTime"))
    return (metadata.get("uid"), workload.get("spec"), metadata.get("deletionTimestamp"), *placement)


def _binding(pod: Object) -> tuple[Any, ...]:
    ended = pod["status"].get("phase") in ("Succeeded", "Failed")
    return (pod["metadata"].get("uid"), pod["spec"].get("nodeName"), ended)
