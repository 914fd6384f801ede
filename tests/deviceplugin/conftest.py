"""A running agent between a scripted kubelet and ComputeNodes in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio

from supernode_deviceplugin.agent import Agent
from supernode_deviceplugin.settings import read_settings
from support.memory_nodes import DIES, LINKS, MemoryNodes
from support.scripted_kubelet import ScriptedKubelet


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for all async tests of this folder: gRPC's poller does not outlive a loop unharmed."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


class World:
    """What a test of the agent has in its hands."""

    def __init__(self, folder: Path) -> None:
        self.kubelet = ScriptedKubelet(folder)
        self.nodes = MemoryNodes()
        self.agent: Agent | None = None
        self.environment: dict[str, str] = {}
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start_agent(self) -> Agent:
        """Start the agent; a second call after a stop is a restart."""
        settings = read_settings(
            {
                "NODE_NAME": "node-a",
                "SUPERNODE_KUBELET_DIR": str(self.kubelet.folder),
                "SUPERNODE_POD_RESOURCES": str(self.kubelet.pod_resources),
                "SUPERNODE_HEALTH_PORT": "0",
                **self.environment,
            }
        )
        self._stop = asyncio.Event()
        self.agent = Agent(settings, self.nodes)
        self._task = asyncio.create_task(self.agent.run(self._stop))
        return self.agent

    async def stop_agent(self) -> None:
        """End it as SIGTERM does."""
        if self._task is not None:
            self._stop.set()
            task, self._task = self._task, None
            await task

    async def kill_agent(self) -> None:
        """End it without a word: no empty list, nothing removed."""
        assert self._task is not None
        assert self.agent is not None
        for registration in self.agent.registrations.values():
            registration.close = _nothing  # type: ignore[method-assign, assignment]
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for registration in self.agent.registrations.values():
            server, registration.server = registration.server, None
            if registration.task is not None:
                registration.task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await registration.task
            del server
        self._task = None

    async def until(self, condition: Callable[[], bool], seconds: float = 15.0) -> float:
        """Wait for something to be so, fail at once when the agent has died; return the seconds that it took."""

        def checked() -> bool:
            if self._task is not None and self._task.done():
                self._task.result()
                raise AssertionError("the agent has ended")
            return condition()

        return await self.kubelet.until(checked, seconds)

    async def up(self, dies: int, links: int) -> None:
        """Start both and wait until the kubelet has this many healthy devices."""
        await self.kubelet.start()
        await self.start_agent()
        await self.serving(dies, links)

    async def serving(self, dies: int, links: int, seconds: float = 15.0) -> float:
        """Wait until the kubelet has this many healthy devices."""
        return await self.until(
            lambda: self.kubelet.allocatable(DIES) == dies and self.kubelet.allocatable(LINKS) == links, seconds
        )

    def settle(self) -> None:
        """Make the kubelet old enough for its answers to count as complete."""
        assert self.agent is not None
        self.agent.folder = _OldFolder(self.agent.folder.path)  # type: ignore[assignment]
        self.agent._pods.age_seconds = lambda: 3600.0  # type: ignore[method-assign]


async def _nothing(*_: object) -> None:
    return None


class _OldFolder:
    """The kubelet's folder, with a kubelet that has run for an hour."""

    def __new__(cls, path: Path):
        from supernode_deviceplugin.kubelet import KubeletFolder

        class Old(KubeletFolder):
            def age_seconds(self) -> float:
                return 3600.0 if self.identity() else 0.0

        return Old(path)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="sn-", dir="/tmp") as path:
        yield Path(path)


@pytest_asyncio.fixture(loop_scope="session")
async def world(folder: Path) -> AsyncIterator[World]:
    made = World(folder)
    yield made
    await made.stop_agent()
    await made.kubelet.stop()


@pytest_asyncio.fixture(loop_scope="session", scope="session", autouse=True)
async def _no_server_outlives_the_loop() -> AsyncIterator[None]:
    """gRPC's servers schedule their end on their loop when they are collected, so that has to happen before its end."""
    yield
    gc.collect()
    await asyncio.sleep(0.1)
    for found in gc.get_objects():  # those that the traceback of a failed test keeps
        if isinstance(found, grpc.aio.Server):
            vars(found).pop("_server", None)
