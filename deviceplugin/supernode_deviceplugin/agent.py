"""The agent: brings ComputeNodes, the kubelet's sockets and PodResources together around the node's state.

Tasks, all in one event loop: follow the ComputeNodes; publish device lists; keep each resource registered; ask who
holds what, and withdraw what is to be handed over; write statuses; answer probes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import grpc.aio

from supernode_deviceplugin.domain.allocations import Settling
from supernode_deviceplugin.errors import AgentError, PodResourcesError
from supernode_deviceplugin.feed import Feed, wait_event
from supernode_deviceplugin.kube import ComputeNodes, follow
from supernode_deviceplugin.kubelet import KubeletFolder, Registration, remove_stale_sockets
from supernode_deviceplugin.podresources.client import PodResources
from supernode_deviceplugin.probes import ProbeServer, dial
from supernode_deviceplugin.settings import Settings
from supernode_deviceplugin.state import NodeState
from supernode_deviceplugin.writer import StatusWriter

__all__ = ["Agent"]

_COALESCE_SECONDS: Final = 0.01
_AFTER_ALLOCATE_SECONDS: Final = 0.3
_POLL_PENDING_SECONDS: Final = 0.5
"""Every answer names every held device: asking oftener takes from the pods that are starting."""
_POLL_HELD_SECONDS: Final = 1.0
_POLL_IDLE_SECONDS: Final = 10.0
_REST: Final = 20.0
_LONGEST_REST_SECONDS: Final = 1.0
"""A question that took long is not asked again for so many times as long, at most that: a kubelet that starts 48 pods
answers with thousands of devices, and has better to do."""
_CONFIRM_SECONDS: Final = 0.5
_GRACE_SECONDS: Final = 3.0
_log = logging.getLogger(__name__)

Json = dict[str, Any]


class Agent:
    """The node agent of one Kubernetes node."""

    def __init__(self, settings: Settings, nodes: ComputeNodes) -> None:
        self.settings = settings
        self.state = NodeState()
        self.registrations: dict[str, Registration] = {}
        self.folder = KubeletFolder(settings.kubelet_dir)
        self._nodes = nodes
        self._pods = PodResources(settings.pod_resources)
        self._writer = StatusWriter(nodes, self._plan_status, self._status_written)
        self._probes = ProbeServer(settings.health_port, {"/healthz": self._health, "/readyz": self._readiness})
        self._synced = asyncio.Event()
        self._changed = asyncio.Event()
        self._poke = asyncio.Event()
        self._settling = Settling()
        self._free_since: dict[str, float] = {}
        self._pods_lost_at: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then withdraw everything; an error that ends a task ends the agent."""
        # gRPC would end its poller with the last channel or server, from the garbage collector too, and can hang in it.
        grpc.aio.init_grpc_aio()
        removed = remove_stale_sockets(self.settings.kubelet_dir)
        if removed:
            _log.info("removed sockets of an earlier run", extra={"sockets": removed})
        if self.settings.health_port:
            await self._probes.start()
        for work in (follow(self._nodes, self), self._publish(), self._poll(), self._writer.run()):
            self._watch_over(asyncio.create_task(work))
        try:
            await self._until(stop)
        finally:
            await self._shut_down()

    # what the API server says

    def replaced(self, objects: list[Json]) -> None:
        """Take over a complete list."""
        self.state.replace_objects(objects)
        self._synced.set()
        self._changed.set()

    def changed(self, kind: str, obj: Json) -> None:
        """Take over one object, unless it is older than what our own write returned."""
        name = obj["metadata"]["name"]
        if kind == "DELETED":
            self.state.remove_object(name)
        elif not _is_older(obj, self.state.objects.get(name)):
            self.state.set_object(obj)
        self._changed.set()

    # what the kubelet asks

    def prefer(self, resource: str, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        """Choose devices for a container."""
        mark = self.folder.checkpoint_mark()
        return self.state.prefer(resource, available, must, size, now=time.monotonic(), mark=mark)

    def allocate(self, resource: str, ids: Sequence[str]) -> dict[str, str]:
        """Grant devices to a container."""
        mark = self.folder.checkpoint_mark()
        environment = self.state.allocate(resource, ids, now=time.monotonic(), mark=mark)
        _log.info("allocated", extra={"resource": resource, "devices": len(ids), "first": min(ids, default="")})
        asyncio.get_running_loop().call_later(_AFTER_ALLOCATE_SECONDS, self._poke.set)
        return environment

    # device lists

    async def _publish(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(_COALESCE_SECONDS)  # a burst of events is one list
            self._changed.clear()
            self._publish_now()

    def _publish_now(self) -> None:
        servers = len(self.state.inventory.servers)
        self.state.refresh()
        lists = self.state.lists()
        for resource, devices in lists.items():
            registration = self.registrations.get(resource)
            if registration is None:
                self._add(resource, Feed(devices))
            elif not registration.closing and registration.feed.publish(devices):
                bad = sum(not healthy for _, healthy in devices)
                _log.info("devices", extra={"resource": resource, "devices": len(devices), "unhealthy": bad})
        for resource in self.registrations.keys() - lists.keys():
            self._retire(self.registrations[resource])
        if len(self.state.inventory.servers) != servers or any(s.deleting for s in self.state.servers.values()):
            self._poke.set()
        self._writer.mark(self.state.objects)

    def _add(self, resource: str, feed: Feed[Any]) -> None:
        registration = Registration(resource, self.folder, feed, self, self._kubelet_changed)
        self.registrations[resource] = registration
        self._watch_over(registration.start())
        _log.info("serving", extra={"resource": resource, "devices": len(feed.value)})

    def _retire(self, registration: Registration) -> None:
        if registration.closing:
            return
        registration.closing = True

        async def close() -> None:
            await registration.close()
            self.registrations.pop(registration.resource, None)
            _log.info("no longer serving", extra={"resource": registration.resource})
            self._changed.set()

        self._watch_over(asyncio.create_task(close(), name=f"close {registration.resource}"))

    def _kubelet_changed(self) -> None:
        self._poke.set()
        self._writer.mark(self.state.objects)

    # who holds what

    async def _poll(self) -> None:
        while True:
            settled = False
            began = time.monotonic()
            if self.state.inventory.servers:
                settled = await self._ask()
            rest = min(_REST * (time.monotonic() - began), _LONGEST_REST_SECONDS)
            await self._hand_over(settled)
            await wait_event(self._poke, self._interval())
            await asyncio.sleep(began + rest - time.monotonic())
            self._poke.clear()

    async def _ask(self) -> bool:
        """Ask PodResources; return whether the answer says all."""
        error_before = self.state.pod_resources_error
        try:
            answer = await self._pods.list()
        except PodResourcesError as error:
            self._pods_failed(str(error))
            return False
        self._pods_lost_at = None
        await asyncio.sleep(0)  # a call of the kubelet goes first
        # a kubelet that starts answers here well before it replaces its registration socket, so the younger counts
        settled = self._settling.judge(
            age_seconds=min(self.folder.age_seconds(), self._pods.age_seconds()),
            own_pod=self.settings.own_pod,
            pods=answer.pods,
            known=self.state.holders,
            listed=answer.holders,
            now=time.monotonic(),
        )
        held_before = len(self.state.holders)
        changed = self.state.set_holders(answer.holders, settled=settled)
        if changed:
            counts = {"before": held_before, "now": len(self.state.holders), "settled": settled}
            _log.info("containers that hold devices", extra=counts)
        self._writer.mark(self.state.objects if error_before else changed)
        return settled

    def _pods_failed(self, problem: str) -> None:
        """Note that PodResources does not answer, and report it once that lasts longer than a kubelet's restart."""
        now = time.monotonic()
        self._pods_lost_at = now if self._pods_lost_at is None else self._pods_lost_at
        if now - self._pods_lost_at >= _GRACE_SECONDS and not self.state.pod_resources_error:
            _log.warning("PodResources is unreachable", extra={"problem": problem})
            self.state.pod_resources_error = problem
            self._writer.mark(self.state.objects)

    async def _hand_over(self, settled: bool) -> None:
        """Withdraw servers that are being deleted once two answers in a row, some time apart, say that they are free.

        Only after the kubelet has heard that they are unhealthy: from then on it allocates none of them.
        """
        now = time.monotonic()
        deleting = {name for name, server in self.state.servers.items() if server.deleting}
        self._writer.mark(deleting)
        if not settled or not deleting or not self._is_sent():
            self._free_since.clear()
            return
        free = self.state.withdrawable(now)
        self._free_since = {name: self._free_since.get(name, now) for name in free}
        done = {name for name, since in self._free_since.items() if now - since >= _CONFIRM_SECONDS}
        if not done:
            return
        self.state.withdraw(done)
        self._publish_now()
        _log.info("withdrawn", extra={"compute_nodes": sorted(done)})
        for registration in list(self.registrations.values()):
            if registration.server is not None:
                await registration.server.drain(2.0)
        self._writer.mark(done)

    def _interval(self) -> float:
        now = time.monotonic()
        if self.state.grants.pending(now) or any(s.deleting for s in self.state.servers.values()):
            return _POLL_PENDING_SECONDS
        if self.state.holders or self._pods_lost_at is not None:
            return _POLL_HELD_SECONDS
        return _POLL_IDLE_SECONDS

    def _is_sent(self) -> bool:
        return all(registration.is_sent() for registration in self.registrations.values())

    # status

    def _plan_status(self, name: str) -> tuple[str, Json] | None:
        obj = self.state.objects.get(name)
        if obj is None:
            return None
        kubelet = {r.resource: r.state for r in self.registrations.values() if r.state is not None}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = self.state.plan_status(name, kubelet, sent=self._is_sent(), now=now, monotonic=time.monotonic())
        return None if status is None else (str(obj["metadata"].get("resourceVersion", "")), status)

    def _status_written(self, obj: Json) -> None:
        name = obj["metadata"]["name"]
        if name in self.state.objects and not _is_older(obj, self.state.objects[name]):
            self.changed("MODIFIED", obj)

    # probes

    async def _health(self) -> str:
        return await dial([r.server.path for r in self.registrations.values() if r.server is not None])

    async def _readiness(self) -> str:
        if not self._synced.is_set():
            return "ComputeNodes have not been listed yet"
        waiting = sorted(r.resource for r in self.registrations.values() if not r.is_registered)
        return f"not registered with the kubelet: {', '.join(waiting)}" if waiting else await self._health()

    # tasks

    def _watch_over(self, task: asyncio.Task[None]) -> None:
        """An error that ends this task ends the agent."""
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._broken.done():
            self._broken.set_exception(error)

    async def _until(self, stop: asyncio.Event) -> None:
        """Return when stop is set; raise what ended a task before."""
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({stopped, self._broken}, return_when=asyncio.FIRST_COMPLETED)
            if self._broken.done():
                self._broken.result()
        finally:
            stopped.cancel()
            self._broken.cancel()

    async def _shut_down(self) -> None:
        _log.info("withdrawing all devices", extra={"resources": sorted(self.registrations)})
        mine = [r.task for r in self.registrations.values()]
        others = [task for task in self._tasks if task not in mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        results = await asyncio.gather(*(r.close() for r in self.registrations.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, AgentError):
                _log.error("could not withdraw", extra={"problem": repr(result)})
        await self._pods.close()
        await self._probes.stop()


def _is_older(obj: Json, than: Json | None) -> bool:
    """Whether an event brings an object as it was before what we have: versions of one object are ordered numbers."""
    if than is None or obj["metadata"].get("uid") != than["metadata"].get("uid"):
        return False
    try:
        return int(obj["metadata"]["resourceVersion"]) < int(than["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return False
