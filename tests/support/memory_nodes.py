"""ComputeNodes in memory behind the agent's seam, and ways to make the API server misbehave."""

from __future__ import annotations

import asyncio
import copy
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from supernode_api.names import API_VERSION, compute_node_name
from supernode_deviceplugin.kube import ApiUnavailableError, ConflictError, ExpiredError, NotFoundError

__all__ = ["DIES", "LINKS", "MemoryNodes", "compute_node"]

DIES = "huawei.com/Ascend910"
LINKS = "supernode.io/bus-link"
Json = dict[str, Any]
_uids = itertools.count(1)


def compute_node(
    index: int = 0, *, name: str = "", dies: int = 16, planes: int = 7, first_die: int | None = None, **spec: Any
) -> Json:
    """Build a ComputeNode as the operator writes it, in Packed."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ComputeNode",
        "metadata": {
            "name": name or compute_node_name("cm384", index),
            "uid": f"uid-{next(_uids)}",
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": f"2026-11-21T00:00:{index % 60:02d}Z",
            "finalizers": ["supernode.io/handover"],
        },
        "spec": {
            "superNode": "cm384",
            "cabinet": index // 4,
            "serverIndex": index,
            "nodeName": "node-a",
            "devices": {
                "npuResource": DIES,
                "busLinkResource": LINKS,
                "firstDie": index * dies if first_die is None else first_die,
                "dies": dies,
                "planes": planes,
            },
            **spec,
        },
    }


class MemoryNodes:
    """The four methods of the seam; every write is kept in ``writes``."""

    def __init__(self, *objects: Json) -> None:
        self.objects: dict[str, Json] = {}
        self.writes: list[tuple[float, str, Json]] = []
        self.down = False
        self.lists = 0
        self.watches = 0
        self._events: list[tuple[int, str, Json]] = []
        self._floor = 0
        self._version = itertools.count(2)
        self._changed = asyncio.Condition()
        self._cut = 0
        for obj in objects:
            self.put(obj)

    # the seam

    async def list(self) -> tuple[list[Json], str]:
        await asyncio.sleep(0)
        self._check()
        self.lists += 1
        return copy.deepcopy(list(self.objects.values())), str(self._events[-1][0] if self._events else 1)

    async def watch(self, version: str) -> AsyncIterator[tuple[str, Json]]:
        self._check()
        self.watches += 1
        seen, cut = int(version), self._cut
        if seen < self._floor:
            raise ExpiredError("too old resource version")
        while True:
            for at, kind, obj in [event for event in self._events if event[0] > seen]:
                seen = at
                yield kind, copy.deepcopy(obj)
            await asyncio.sleep(0.002)
            self._check()
            if self._cut != cut:
                return

    async def patch_status(self, name: str, version: str, status: Mapping[str, Any]) -> Json:
        await asyncio.sleep(0)
        self._check()
        obj = self.objects.get(name)
        if obj is None:
            raise NotFoundError(name)
        if obj["metadata"]["resourceVersion"] != version:
            raise ConflictError(name)
        self.writes.append((time.monotonic(), name, copy.deepcopy(dict(status))))
        obj = copy.deepcopy(obj)
        obj["status"] = copy.deepcopy(dict(status))
        return copy.deepcopy(self.put(obj))

    # the test's side

    def put(self, obj: Json) -> Json:
        """Create or replace an object."""
        name = obj["metadata"]["name"]
        kind = "MODIFIED" if name in self.objects else "ADDED"
        version = next(self._version)
        obj["metadata"]["resourceVersion"] = str(version)
        self.objects[name] = obj
        self._events.append((version, kind, copy.deepcopy(obj)))
        return obj

    def change(self, name: str, **spec: Any) -> None:
        """Change the spec, as the operator or a user does."""
        obj = copy.deepcopy(self.objects[name])
        obj["spec"].update(spec)
        obj["metadata"]["generation"] += 1
        self.put(obj)

    def delete(self, name: str) -> None:
        """Ask for deletion; finalizers hold it up."""
        obj = copy.deepcopy(self.objects[name])
        obj["metadata"]["deletionTimestamp"] = "2026-11-21T01:00:00Z"
        self.put(obj)

    def finish(self, name: str) -> None:
        """Drop the finalizer of an object that is being deleted: it is gone."""
        obj = self.objects.pop(name)
        version = next(self._version)
        obj["metadata"]["resourceVersion"] = str(version)
        self._events.append((version, "DELETED", copy.deepcopy(obj)))

    def cut(self, *, forget: bool = False) -> None:
        """End all watches; ``forget`` makes their versions too old."""
        self._cut += 1
        if forget and self._events:
            self._floor = self._events[-1][0] + 1
            next(self._version)
            self._events.append((self._floor, "BOOKMARK", {"metadata": {"resourceVersion": str(self._floor)}}))

    def status(self, name: str) -> Json:
        """The status as it stands."""
        status: Json = self.objects[name].get("status", {})
        return status

    def condition(self, name: str, type_: str = "Ready") -> tuple[str, str, str]:
        """(status, reason, message) of a condition, empty texts when it is not there."""
        for condition in self.status(name).get("conditions", ()):
            if condition["type"] == type_:
                return condition["status"], condition["reason"], condition["message"]
        return "", "", ""

    def _check(self) -> None:
        if self.down:
            raise ApiUnavailableError("connection refused")
