"""The kubelet's side of the folder: is it there, has it started anew, and registration of one resource with it.

A kubelet that starts deletes every socket in the folder and creates ``kubelet.sock``; whoever wants to be known binds
anew and registers again. It never comes back to a plugin whose stream has ended, so that too means registering again.
A look at the folder every 0.2 s finds all of this: it costs one ``stat`` each and needs no inotify.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from supernode_api.conditions import Reason
from supernode_deviceplugin.errors import KubeletUnreachableError, RegistrationRefusedError
from supernode_deviceplugin.feed import Feed, wait_event
from supernode_deviceplugin.files import Identity, identity_of, socket_age_seconds
from supernode_deviceplugin.plugin import SOCKET_PREFIX, Answers, PluginServer
from supernode_deviceplugin.state import DeviceList
from supernode_deviceplugin.v1beta1 import api_pb2, api_pb2_grpc

__all__ = ["KubeletFolder", "Registration", "register", "remove_stale_sockets"]

_API_VERSION: Final = "v1beta1"
_LOOK_SECONDS: Final = 0.2
_FIRST_STREAM_SECONDS: Final = 10.0
_REGISTER_SECONDS: Final = 15.0
_GRACE_SECONDS: Final = 3.0
_STEADY_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KubeletFolder:
    """Where the kubelet's registration socket, its checkpoint and our sockets are."""

    path: Path

    @property
    def socket(self) -> Path:
        """The kubelet's registration socket."""
        return self.path / "kubelet.sock"

    def identity(self) -> Identity | None:
        """Identity of the registration socket, None while there is none; a new one means a new kubelet."""
        return identity_of(self.socket)

    def checkpoint_mark(self) -> Identity | None:
        """Identity of the kubelet's checkpoint, which it replaces after each container's allocations."""
        return identity_of(self.path / "kubelet_internal_checkpoint")

    def age_seconds(self) -> float:
        """Seconds since the kubelet created its socket; 0 while there is none."""
        return socket_age_seconds(self.socket)


class Registration:
    """Keeps one resource registered: serves, registers, notices when it has to do so again."""

    def __init__(
        self,
        resource: str,
        folder: KubeletFolder,
        feed: Feed[DeviceList],
        answers: Answers,
        on_change: Callable[[], None],
    ) -> None:
        self.resource = resource
        self.folder = folder
        self.feed = feed
        self.closing = False
        self.server: PluginServer | None = None
        self.state: tuple[Reason, str] | None = None
        """Registered or what is wrong, with a message; None as long as nothing is known."""
        self._answers = answers
        self._on_change = on_change
        self._lost_at: float | None = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin, in a task of its own, and return it for whoever watches over tasks."""
        self._task = asyncio.create_task(self._run(), name=f"registration of {self.resource}")
        return self._task

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task, once started."""
        return self._task

    @property
    def is_registered(self) -> bool:
        """Whether the kubelet has this resource."""
        return self.state is not None and self.state[0] == Reason.REGISTERED

    def is_sent(self) -> bool:
        """Whether the kubelet has been told the latest list, or has no connection over which to tell it."""
        return self.server is None or self.server.is_sent()

    async def close(self, drain_seconds: float = 1.0) -> None:
        """Withdraw all devices, wait until the kubelet has heard of it, and stop serving."""
        self.feed.publish(())
        if self.server is not None and not await self.server.drain(drain_seconds):
            _log.warning("the kubelet did not take the empty list in time", extra={"resource": self.resource})
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        failures = 0
        while True:
            await self._wait_for_socket()
            identity, started = self.folder.identity(), time.monotonic()
            server = PluginServer(self.resource, self.folder.path, self.feed, self._answers)
            try:
                await server.start()
                self.server = server
                await self._register(server)
                self._set(Reason.REGISTERED, "")
                _log.info("registered", extra={"resource": self.resource, "endpoint": server.endpoint})
                why = await self._until_lost(server, identity)
                _log.info("registering again", extra={"resource": self.resource, "why": why})
            except KubeletUnreachableError as error:
                self._set(Reason.KUBELET_UNREACHABLE, str(error))
            except RegistrationRefusedError as error:
                self._set(Reason.REGISTRATION_FAILED, str(error))
            finally:
                self.server = None
                await server.stop()
            lasted = time.monotonic() - started
            failures = 0 if lasted > _STEADY_SECONDS or self.folder.identity() != identity else failures + 1
            await self._sleep(_delay(failures), identity)

    async def _register(self, server: PluginServer) -> None:
        """Register, but give up at once when a starting kubelet deletes our socket: it would dial it for 10 s."""
        task = asyncio.create_task(register(self.folder.socket, server.endpoint, self.resource))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_LOOK_SECONDS)
                if not task.done() and not server.owns_socket():
                    raise KubeletUnreachableError("the kubelet started anew during the registration")
            await task
        finally:
            task.cancel()

    async def _until_lost(self, server: PluginServer, identity: Identity | None) -> str:
        started = time.monotonic()
        while True:
            if self.folder.identity() != identity:
                return "the kubelet has started anew"
            if not server.owns_socket():
                return "our socket is gone"
            if server.had_stream and not server.streams:
                return "the kubelet has closed its stream"
            if not server.had_stream and time.monotonic() - started > _FIRST_STREAM_SECONDS:
                return "the kubelet has not asked for devices"
            server.changed.clear()
            await wait_event(server.changed, _LOOK_SECONDS)

    async def _wait_for_socket(self) -> None:
        while self.folder.identity() is None:
            self._set(Reason.KUBELET_UNREACHABLE, f"there is no socket {self.folder.socket}: is the kubelet running?")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _sleep(self, seconds: float, identity: Identity | None) -> None:
        """Wait before trying again, but not longer than until there is a new kubelet."""
        for _ in range(max(1, round(seconds / _LOOK_SECONDS))):
            if self.folder.identity() != identity:
                return
            await asyncio.sleep(min(_LOOK_SECONDS, seconds))

    def _set(self, reason: Reason, message: str) -> None:
        """Note how it stands; a kubelet that is away for as long as a restart takes is not worth a report."""
        now = time.monotonic()
        if reason == Reason.KUBELET_UNREACHABLE:
            self._lost_at = now if self._lost_at is None else self._lost_at
            if now - self._lost_at < _GRACE_SECONDS:
                return
        else:
            self._lost_at = None
        if self.state != (reason, message):
            self.state = (reason, message)
            if reason != Reason.REGISTERED:
                extra = {"resource": self.resource, "reason": str(reason), "problem": message}
                _log.warning("not registered with the kubelet", extra=extra)
            self._on_change()


async def register(kubelet_socket: Path, endpoint: str, resource: str) -> None:
    """Register once; KubeletUnreachableError or RegistrationRefusedError when that fails."""
    request = api_pb2.RegisterRequest(
        version=_API_VERSION,
        endpoint=endpoint,
        resource_name=resource,
        options=api_pb2.DevicePluginOptions(get_preferred_allocation_available=True),
    )
    async with grpc.aio.insecure_channel(f"unix:{kubelet_socket}") as channel:
        try:
            await api_pb2_grpc.RegistrationStub(channel).Register(request, timeout=_REGISTER_SECONDS)
        except grpc.aio.AioRpcError as error:
            details = error.details() or error.code().name
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise KubeletUnreachableError(f"{kubelet_socket}: {details}") from error
            raise RegistrationRefusedError(f"the kubelet refused {resource}: {details}") from error


def remove_stale_sockets(folder: Path) -> list[str]:
    """Remove sockets of earlier runs, those that nobody listens on any more, and return their names."""
    removed = []
    for path in sorted(folder.glob(f"{SOCKET_PREFIX}*.sock")) if folder.is_dir() else []:
        if stat.S_ISSOCK(path.lstat().st_mode) and not _is_listening(path):
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
        return True


def _delay(failures: int) -> float:
    """Seconds before the next try: none after success, then 0.1, doubling, up to 5."""
    return min(0.05 * 2**failures, 5.0) if failures else 0.0
