"""The device plugin of one resource: a gRPC server on a unix socket in the kubelet's folder.

Every registration gets a socket of its own: the kubelet refuses a path that it still believes connected. ListAndWatch
sends the full list at once and again whenever it changes, to any number of streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import grpc
import grpc.aio

from supernode_deviceplugin.errors import SocketPathError
from supernode_deviceplugin.feed import Feed
from supernode_deviceplugin.state import DeviceList, RefusedError
from supernode_deviceplugin.v1beta1 import api_pb2, api_pb2_grpc

__all__ = ["SOCKET_PREFIX", "Answers", "PluginServer", "socket_name"]

SOCKET_PREFIX: Final = "supernode-"
_MAX_PATH_BYTES: Final = 105
_HEALTHY, _UNHEALTHY = "Healthy", "Unhealthy"
_log = logging.getLogger(__name__)
_starts = count(1)
_Context = grpc.aio.ServicerContext[Any, Any]


class Answers(Protocol):
    """What the plugin asks the agent."""

    def prefer(self, resource: str, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        """Choose devices for a container."""

    def allocate(self, resource: str, ids: Sequence[str]) -> dict[str, str]:
        """Grant devices and return the container's environment, or raise RefusedError."""


class PluginServer(api_pb2_grpc.DevicePluginServicer):
    """Serves one resource from :meth:`start` to :meth:`stop`."""

    def __init__(self, resource: str, folder: Path, feed: Feed[DeviceList], answers: Answers) -> None:
        self.resource = resource
        self.path = folder / socket_name(resource, folder)
        self._feed = feed
        self._answers = answers
        self._server: grpc.aio.Server | None = None
        self._identity: tuple[int, int] | None = None
        self._sent: dict[int, int] = {}
        self._streams = count(1)
        self._stopping = False
        self.had_stream = False
        self.changed = asyncio.Event()
        """Set whenever a stream opens or ends."""

    @property
    def endpoint(self) -> str:
        """Name of the socket, as the kubelet is told."""
        return self.path.name

    @property
    def streams(self) -> int:
        """ListAndWatch streams that are open."""
        return len(self._sent)

    def owns_socket(self) -> bool:
        """Whether the socket is still the one that was bound."""
        return self._identity is not None and _identity(self.path) == self._identity

    def is_sent(self) -> bool:
        """Whether every open stream has got the latest list."""
        return all(version == self._feed.version for version in self._sent.values())

    async def start(self) -> None:
        """Bind the socket, readable by root alone, and serve."""
        server = grpc.aio.server(maximum_concurrent_rpcs=64)
        api_pb2_grpc.add_DevicePluginServicer_to_server(self, server)
        mask = os.umask(0o077)  # a socket's mode is its only protection
        try:
            server.add_insecure_port(f"unix:{self.path}")
        finally:
            os.umask(mask)
        await server.start()
        self._server, self._identity = server, _identity(self.path)

    async def stop(self) -> None:
        """End all streams and remove the socket, if it is still ours."""
        self._stopping = True
        self._feed.wake()
        mine = self.owns_socket()
        if self._server is not None:
            await self._server.stop(grace=0.5)
            self._server = None
        if mine and self.owns_socket():
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()

    async def drain(self, timeout_seconds: float) -> bool:
        """Wait until every stream has got the latest list; False when that takes too long."""
        end = time.monotonic() + timeout_seconds
        while not self.is_sent():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.01)
        return True

    # the kubelet's calls

    async def GetDevicePluginOptions(self, request: api_pb2.Empty, context: _Context) -> api_pb2.DevicePluginOptions:
        """Say that GetPreferredAllocation is worth calling."""
        return api_pb2.DevicePluginOptions(get_preferred_allocation_available=True)

    async def ListAndWatch(
        self, request: api_pb2.Empty, context: _Context
    ) -> AsyncIterator[api_pb2.ListAndWatchResponse]:
        """Send the full list now and after every change."""
        stream = next(self._streams)
        self._sent[stream] = 0
        self.had_stream = True
        self.changed.set()
        try:
            while True:
                version = self._feed.version
                if version != self._sent[stream]:
                    yield _response(self._feed.value)
                    self._sent[stream] = version
                    continue
                if self._stopping:
                    return
                await self._feed.wait()
        finally:
            del self._sent[stream]
            self.changed.set()

    async def GetPreferredAllocation(
        self, request: api_pb2.PreferredAllocationRequest, context: _Context
    ) -> api_pb2.PreferredAllocationResponse:
        """Choose devices; an error would reject the pod, so whatever happens a valid choice is returned."""
        responses = []
        for asked in request.container_requests:
            available, must = list(asked.available_deviceIDs), list(asked.must_include_deviceIDs)
            try:
                ids = self._answers.prefer(self.resource, available, must, asked.allocation_size)
            except Exception:
                _log.exception("preferred allocation failed; the first devices are taken", extra=self._extra())
                ids = list(dict.fromkeys([*must, *sorted(available)]))[: max(asked.allocation_size, 0)]
            responses.append(api_pb2.ContainerPreferredAllocationResponse(deviceIDs=ids))
        return api_pb2.PreferredAllocationResponse(container_responses=responses)

    async def Allocate(self, request: api_pb2.AllocateRequest, context: _Context) -> api_pb2.AllocateResponse:
        """Grant the devices, in the order of the containers; INVALID_ARGUMENT names one that is not to be had."""
        responses = []
        for asked in request.container_requests:
            try:
                environment = self._answers.allocate(self.resource, list(asked.devices_ids))
            except RefusedError as error:
                _log.warning("Allocate refused", extra={**self._extra(), "problem": str(error)})
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            responses.append(api_pb2.ContainerAllocateResponse(envs=environment))
        return api_pb2.AllocateResponse(container_responses=responses)

    async def PreStartContainer(self, request: api_pb2.PreStartContainerRequest, context: _Context) -> NoReturn:
        """Refuse: the options say that it is not to be called."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "PreStartContainer is not offered")

    def _extra(self) -> dict[str, str]:
        return {"resource": self.resource}


def socket_name(resource: str, folder: Path) -> str:
    """Name a socket that no earlier or other one has; SocketPathError when the folder's path leaves no room."""
    start = f"{int(time.time() * 1000):x}-{next(_starts)}"
    plain = re.sub(r"[^A-Za-z0-9.-]", "_", resource)
    room = _MAX_PATH_BYTES - len(os.fsencode(folder)) - len(f"/{SOCKET_PREFIX}-{start}.sock")
    if len(plain) > room:
        plain = hashlib.sha256(resource.encode()).hexdigest()[:10]
    if len(plain) > room:
        raise SocketPathError(f"{folder} is too long for sockets in it; choose a shorter SUPERNODE_KUBELET_DIR")
    return f"{SOCKET_PREFIX}{plain}-{start}.sock"


def _response(devices: DeviceList) -> api_pb2.ListAndWatchResponse:
    response = api_pb2.ListAndWatchResponse()
    for device_id, healthy in devices:  # built in place: a message of its own for each costs megabytes
        response.devices.add(ID=device_id, health=_HEALTHY if healthy else _UNHEALTHY)
    return response


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
