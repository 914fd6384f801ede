"""A kubelet as far as a device plugin meets it, on real unix sockets, that can also misbehave.

It does what the kubelet's device manager does: dials the endpoint of a registration and asks for its options, keeps a
ListAndWatch stream, counts, allocates for one container after another (resources in the order asked for), writes a
checkpoint after each container, and answers PodResources. A start deletes all sockets in the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from supernode_deviceplugin.podresources import api_pb2 as pods_pb2
from supernode_deviceplugin.podresources import api_pb2_grpc as pods_grpc
from supernode_deviceplugin.v1beta1 import api_pb2, api_pb2_grpc

grpc.aio.init_grpc_aio()  # never ends its poller: with one event loop a test, that can hang

__all__ = ["AdmissionError", "Plugin", "ScriptedKubelet"]


class AdmissionError(Exception):
    """The pod was refused."""


@dataclass
class Plugin:
    """One plugin that has registered."""

    resource: str
    endpoint: str
    stub: Any
    channel: grpc.aio.Channel
    lists: list[tuple[float, dict[str, str]]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    ended: bool = False


class ScriptedKubelet(api_pb2_grpc.RegistrationServicer, pods_grpc.PodResourcesListerServicer):
    """Start it, make it slow, refusing or forgetful, stop it, start it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "dp"
        self.pod_resources = folder / "pod-resources.sock"
        self.folder.mkdir(exist_ok=True)
        self.plugins: dict[str, Plugin] = {}
        self.registrations: list[tuple[float, str, str]] = []
        self.refuse: str = ""
        self.register_delay = 0.0
        self.read_delay = 0.0
        self.no_streams = False
        self.pods_fail = ""
        self.hide_pods = False
        self.extra_pods: list[tuple[str, str]] = []
        self.held: dict[tuple[str, str, str], dict[str, list[str]]] = {}
        self.started_at = 0.0
        self.changed = asyncio.Event()
        self._servers: list[grpc.aio.Server] = []
        self._random = random.Random(1)

    @property
    def socket(self) -> Path:
        return self.folder / "kubelet.sock"

    async def start(self) -> None:
        for path in self.folder.iterdir():
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
        registry, lister = grpc.aio.server(), grpc.aio.server()
        api_pb2_grpc.add_RegistrationServicer_to_server(self, registry)
        pods_grpc.add_PodResourcesListerServicer_to_server(self, lister)
        self.pod_resources.unlink(missing_ok=True)
        lister.add_insecure_port(f"unix:{self.pod_resources}")
        await lister.start()
        registry.add_insecure_port(f"unix:{self.socket}")
        self.started_at = time.monotonic()
        await registry.start()
        self._servers = [registry, lister]

    async def stop(self, *, leave_socket: bool = False) -> None:
        """End it; ``leave_socket`` as a killed process does."""
        for plugin in self.plugins.values():
            await self.disconnect(plugin)
        self.plugins.clear()
        for server in self._servers:
            await server.stop(0)
        self._servers = []
        if leave_socket:
            import socket

            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(self.socket))

    async def disconnect(self, plugin: Plugin) -> None:
        if plugin.task is not None:
            plugin.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await plugin.task
        await plugin.channel.close()

    # registration

    async def Register(self, request: Any, context: Any) -> Any:
        if self.register_delay:
            await asyncio.sleep(self.register_delay)
        if self.refuse:
            await context.abort(grpc.StatusCode.UNKNOWN, self.refuse)
        if request.version != "v1beta1":
            await context.abort(grpc.StatusCode.UNKNOWN, "unsupported version")
        path = self.folder / request.endpoint
        options = [("grpc.max_receive_message_length", 4 << 20)]
        channel = grpc.aio.insecure_channel(f"unix:{path}", options=options)
        stub = api_pb2_grpc.DevicePluginStub(channel)
        try:
            await stub.GetDevicePluginOptions(api_pb2.Empty(), timeout=10)
        except grpc.aio.AioRpcError as error:
            await channel.close()
            await context.abort(grpc.StatusCode.UNKNOWN, f"failed to get device plugin options: {error.details()}")
        old = self.plugins.get(request.resource_name)
        if old is not None:
            await self.disconnect(old)
        plugin = Plugin(request.resource_name, request.endpoint, stub, channel)
        self.plugins[request.resource_name] = plugin
        self.registrations.append((time.monotonic(), request.resource_name, request.endpoint))
        if not self.no_streams:
            plugin.task = asyncio.create_task(self._watch(plugin))
        self.changed.set()
        return api_pb2.Empty()

    async def _watch(self, plugin: Plugin) -> None:
        try:
            async for response in plugin.stub.ListAndWatch(api_pb2.Empty()):
                if self.read_delay:
                    await asyncio.sleep(self.read_delay)
                plugin.lists.append((time.monotonic(), {d.ID: d.health for d in response.devices}))
                self._write_checkpoint()
                self.changed.set()
        except grpc.aio.AioRpcError:
            pass
        plugin.ended = True
        self.changed.set()

    # what a node's status says

    def devices(self, resource: str) -> dict[str, str]:
        plugin = self.plugins.get(resource)
        return plugin.lists[-1][1] if plugin is not None and plugin.lists and not plugin.ended else {}

    def allocatable(self, resource: str) -> int:
        return sum(health == "Healthy" for health in self.devices(resource).values())

    def capacity(self, resource: str) -> int:
        return len(self.devices(resource))

    def allocated_resources_status(
        self, pod: str, *, namespace: str = "default", container: str = "main"
    ) -> dict[str, dict[str, str]]:
        """What pod.status.containerStatuses[].allocatedResourcesStatus says: resource -> device id -> health.

        By the kubelet's rule (UpdateAllocatedResourcesStatus in pkg/kubelet/cm/devicemanager of Kubernetes 1.37): a
        held device that is in no list any more reads as Healthy.
        """
        held = self.held.get((namespace, pod, container), {})
        return {
            resource: {i: "Healthy" if plugin.get(i, "Healthy") == "Healthy" else "Unhealthy" for i in ids}
            for resource, ids in held.items()
            for plugin in [self._latest(resource)]
        }

    def _latest(self, resource: str) -> dict[str, str]:
        plugin = self.plugins.get(resource)
        return plugin.lists[-1][1] if plugin is not None and plugin.lists else {}

    async def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> float:
        """Wait for something to be so and return how long it took."""
        start = time.monotonic()
        while not condition():
            left = start + seconds - time.monotonic()
            if left <= 0:
                raise AssertionError(f"did not happen within {seconds} s")
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), min(left, 0.02))
        return time.monotonic() - start

    # admission

    async def admit(
        self, pod: str, limits: dict[str, int], *, namespace: str = "default", container: str = "main"
    ) -> dict[str, str]:
        """Allocate a container's resources in the given order, as the kubelet does, and return its environment."""
        environment: dict[str, str] = {}
        mine: dict[str, list[str]] = {}
        for resource, size in limits.items():
            available = self.available(resource)
            if len(available) < size:
                raise AdmissionError(f"requested number of devices unavailable for {resource}")
            self._random.shuffle(available)
            stub = self.plugins[resource].stub
            preferred = await stub.GetPreferredAllocation(
                api_pb2.PreferredAllocationRequest(
                    container_requests=[
                        api_pb2.ContainerPreferredAllocationRequest(available_deviceIDs=available, allocation_size=size)
                    ]
                )
            )
            ids = [i for i in preferred.container_responses[0].deviceIDs if i in set(available)][:size]
            ids += [i for i in available if i not in set(ids)][: size - len(ids)]
            self._random.shuffle(ids)
            request = api_pb2.AllocateRequest(container_requests=[api_pb2.ContainerAllocateRequest(devices_ids=ids)])
            try:
                answer = await stub.Allocate(request)
            except grpc.aio.AioRpcError as error:
                raise AdmissionError(error.details()) from error
            environment.update(answer.container_responses[0].envs)
            mine[resource] = ids
            self.held[namespace, pod, container] = mine
        self._write_checkpoint()
        return environment

    def available(self, resource: str) -> list[str]:
        taken = {i for held in self.held.values() for i in held.get(resource, ())}
        return [i for i, health in self.devices(resource).items() if health == "Healthy" and i not in taken]

    def remove(self, pod: str, namespace: str = "default") -> None:
        for key in [k for k in self.held if k[:2] == (namespace, pod)]:
            del self.held[key]

    def _write_checkpoint(self) -> None:
        temporary = self.folder / ".tmp"
        temporary.write_text(str(time.monotonic_ns()))
        os.replace(temporary, self.folder / "kubelet_internal_checkpoint")

    # PodResources

    async def List(self, request: Any, context: Any) -> Any:
        if self.pods_fail:
            await context.abort(grpc.StatusCode.INTERNAL, self.pods_fail)
        response = pods_pb2.ListPodResourcesResponse()
        if self.hide_pods:
            return response
        for namespace, name in self.extra_pods:
            response.pod_resources.add(namespace=namespace, name=name)
        for (namespace, name, container), resources in self.held.items():
            entry = response.pod_resources.add(namespace=namespace, name=name)
            parts = entry.containers.add(name=container)
            for resource, ids in resources.items():
                half = len(ids) // 2  # as on two NUMA nodes
                for part in (ids[:half], ids[half:]):
                    parts.devices.add(resource_name=resource, device_ids=part)
        return response

    async def GetAllocatableResources(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    async def Get(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
