"""The agent killed after each of its writes in turn: it comes to what an undisturbed one writes, and no die is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
import pytest_asyncio
from lightkube import AsyncClient, KubeConfig

from supernode_deviceplugin.kube import ApiComputeNodes
from support.memory_nodes import DIES, LINKS, compute_node

KIND = "/apis/supernode.io/v1alpha1/computenodes"
Json = dict[str, Any]


class CutNodes(ApiComputeNodes):
    """The agent's way to the API server; armed, a write goes through and its answer never comes."""

    armed = False
    cut = False
    written: list[tuple[str, Json]]

    async def patch_status(self, name: str, version: str, status: Mapping[str, Any]) -> Json:
        answer = await super().patch_status(name, version, status)
        self.written.append((name, dict(status)))
        if self.armed:
            self.cut = True
            await asyncio.Event().wait()
        return answer


@pytest_asyncio.fixture(loop_scope="session")
async def nodes(api_server) -> AsyncIterator[CutNodes]:
    client = AsyncClient(config=KubeConfig.from_file(api_server.kubeconfig), trust_env=False)
    made = CutNodes(client, "node-a")
    made.written = []
    yield made
    await client.close()
    api_server.remove_objects()


class Life:
    """Two servers: registered, held, broken, drained, released."""

    def __init__(self, api_server, world, nodes: CutNodes, *, kill: bool) -> None:
        self.api_server, self.world, self.nodes, self.kill = api_server, world, nodes, kill
        self.pictures: dict[str, Any] = {}
        self.kills = 0

    async def live(self) -> None:
        for stage in (self.register, self.hold, self.fail, self.drain, self.release):
            await stage()
        self.nodes.armed = False
        await self.world.stop_agent()

    async def until(self, stage: str, do: Callable[[], Awaitable[None]], goal: Callable[[], bool]) -> None:
        """Do something and let the agent write what comes of it: killed after each write, or undisturbed."""
        self.nodes.armed, self.nodes.cut = self.kill, False
        await do()
        for _ in range(20):
            await self.world.until(lambda: self.nodes.cut or goal(), 30)
            if not self.nodes.cut:
                await asyncio.sleep(1.5)  # an object is written once a second
            if not self.nodes.cut:
                self.pictures[stage] = {name: self.status(name) for name in ("cm384-00", "cm384-01")}
                return
            self.kills += 1
            await self.world.kill_agent()
            self.nodes.cut = False
            await self.start()
        raise AssertionError(f"{stage}: still writing after 20 kills: {self.nodes.written[-5:]}")

    async def start(self) -> None:
        await self.world.start_agent()
        self.world.settle()

    async def register(self) -> None:
        for index in (0, 1):
            obj = compute_node(index)
            obj["metadata"] = {"name": obj["metadata"]["name"], "finalizers": ["supernode.io/handover"]}
            assert self.api_server.request("POST", KIND, obj)[0] == 201
        await self.until(
            "register",
            self.start,
            lambda: all(self.condition(f"cm384-0{i}", "Ready") == ("True", "Registered") for i in (0, 1)),
        )
        await self.world.serving(32, 224)

    async def hold(self) -> None:
        async def admit() -> None:
            await self.world.kubelet.admit("p", {LINKS: 112, DIES: 16})

        await self.until("hold", admit, lambda: bool(self.status("cm384-00").get("allocations")))
        await self.world.serving(32, 224)

    async def fail(self) -> None:
        async def break_die() -> None:
            self.change("PATCH", f"{KIND}/cm384-01", {"spec": {"faults": [{"name": "a", "die": 1}]}})

        await self.until("fail", break_die, lambda: self.unhealthy("cm384-01") == 1)
        await self.world.serving(31, 224 - 7)

    async def drain(self) -> None:
        async def delete() -> None:
            self.change("DELETE", f"{KIND}/cm384-00", None)

        await self.until("drain", delete, lambda: self.condition("cm384-00", "Released") == ("False", "Draining"))
        assert self.world.kubelet.capacity(DIES) == 32, "held devices stay"

    async def release(self) -> None:
        async def end() -> None:
            self.world.kubelet.remove("p")

        await self.until("release", end, lambda: self.condition("cm384-00", "Released") == ("True", "Released"))
        await self.world.until(lambda: self.world.kubelet.capacity(DIES) == 16)

    def change(self, method: str, path: str, body: Any) -> None:
        status, answer = self.api_server.request(method, path, body, content_type="application/merge-patch+json")
        assert status == 200, answer

    def status(self, name: str) -> Json:
        """The status without the moments of its transitions."""
        status = self.api_server.request("GET", f"{KIND}/{name}")[1].get("status", {})
        for condition in status.get("conditions", []):
            condition.pop("lastTransitionTime")
        return dict(status)

    def condition(self, name: str, type_: str) -> tuple[str, str]:
        conditions = self.status(name).get("conditions", [])
        return next(((c["status"], c["reason"]) for c in conditions if c["type"] == type_), ("", ""))

    def unhealthy(self, name: str) -> int:
        sizes = {one["name"]: one.get("unhealthy", 0) for one in self.status(name).get("resources", [])}
        return int(sizes.get(DIES, 0))


@pytest.mark.timeout(240)
async def test_killed_after_each_of_its_writes_it_writes_what_an_undisturbed_agent_writes(api_server, nodes, world):
    world.nodes = nodes
    await world.kubelet.start()
    calm = Life(api_server, world, nodes, kill=False)
    await calm.live()
    written = len(nodes.written)
    api_server.remove_objects()
    killed = Life(api_server, world, nodes, kill=True)
    await killed.live()
    assert killed.pictures == calm.pictures
    assert killed.kills >= len(calm.pictures), "at least one write of each stage"
    assert len(nodes.written) - written >= killed.kills
