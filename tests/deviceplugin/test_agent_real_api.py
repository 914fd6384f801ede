"""The agent's client against a real API server, and the whole agent between it and a scripted kubelet."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from lightkube import AsyncClient, KubeConfig

from supernode_api.compute_node import ComputeNodeStatus
from supernode_deviceplugin.kube import (
    FIELD_MANAGER,
    ApiComputeNodes,
    ApiUnavailableError,
    ConflictError,
    ExpiredError,
    NotFoundError,
)
from support.memory_nodes import DIES, LINKS, compute_node

KIND = "/apis/supernode.io/v1alpha1/computenodes"


def create(api_server, *indexes: int, node: str = "node-a", finalizer: bool = False) -> None:
    for index in indexes:
        obj = compute_node(index, nodeName=node)
        finalizers = ["supernode.io/handover"] if finalizer else []
        obj["metadata"] = {"name": obj["metadata"]["name"], "finalizers": finalizers}
        status, answer = api_server.request("POST", KIND, obj)
        assert status == 201, answer


def change(api_server, name: str, spec: dict) -> None:
    body = {"spec": spec}
    status, answer = api_server.request("PATCH", f"{KIND}/{name}", body, content_type="application/merge-patch+json")
    assert status == 200, answer


def get(api_server, name: str) -> dict:
    return api_server.request("GET", f"{KIND}/{name}")[1]


def condition(api_server, name: str, type_: str = "Ready") -> tuple[str, str]:
    conditions = get(api_server, name).get("status", {}).get("conditions", [])
    return next(((c["status"], c["reason"]) for c in conditions if c["type"] == type_), ("", ""))


@pytest_asyncio.fixture(loop_scope="session")
async def nodes(api_server) -> AsyncIterator[ApiComputeNodes]:
    client = AsyncClient(config=KubeConfig.from_file(api_server.kubeconfig), trust_env=False)
    yield ApiComputeNodes(client, "node-a")
    await client.close()
    api_server.remove_objects()


async def test_only_the_objects_of_the_own_node_are_listed_and_watched(api_server, nodes):
    create(api_server, 0)
    create(api_server, 1, node="node-b")
    objects, version = await nodes.list()
    assert [o["metadata"]["name"] for o in objects] == ["cm384-00"]
    watch = nodes.watch(version)
    create(api_server, 2, node="node-b")
    create(api_server, 3)
    change(api_server, "cm384-00", {"faults": [{"name": "a", "die": 1}]})
    api_server.request("DELETE", f"{KIND}/cm384-03")
    seen = [await asyncio.wait_for(anext(watch), 20) for _ in range(3)]
    assert [(kind, o["metadata"]["name"]) for kind, o in seen] == [
        ("ADDED", "cm384-03"),
        ("MODIFIED", "cm384-00"),
        ("DELETED", "cm384-03"),
    ]
    await watch.aclose()


async def test_a_status_is_replaced_whole_under_our_own_name(api_server, nodes):
    create(api_server, 0)
    version = get(api_server, "cm384-00")["metadata"]["resourceVersion"]
    allocation = {"namespace": "d", "pod": "p", "container": "c", "dies": "0-3", "links": ""}
    status = {"conditions": [], "observedGeneration": 1, "resources": [], "allocations": [allocation]}
    written = await nodes.patch_status("cm384-00", version, status)
    assert written["status"]["allocations"] == [allocation]
    managers = {m["manager"] for m in written["metadata"]["managedFields"] if m.get("subresource") == "status"}
    assert managers == {FIELD_MANAGER}
    other = copy.deepcopy(status)
    other["allocations"] = []
    written = await nodes.patch_status("cm384-00", written["metadata"]["resourceVersion"], other)
    assert written["status"].get("allocations", []) == []


async def test_an_object_that_is_gone_or_another_is_not_written(api_server, nodes):
    create(api_server, 0)
    old = get(api_server, "cm384-00")["metadata"]["resourceVersion"]
    api_server.request("DELETE", f"{KIND}/cm384-00")
    with pytest.raises(NotFoundError):
        await nodes.patch_status("cm384-00", old, {"observedGeneration": 5})
    create(api_server, 0)
    with pytest.raises(ConflictError):
        await nodes.patch_status("cm384-00", old, {"observedGeneration": 5})
    assert get(api_server, "cm384-00").get("status", {}).get("observedGeneration", 0) == 0


async def test_an_old_version_and_a_refused_status_are_told_apart(api_server, nodes):
    create(api_server, 0)
    with pytest.raises(ExpiredError):
        watch = nodes.watch("1")
        await asyncio.wait_for(anext(watch), 30)
    version = get(api_server, "cm384-00")["metadata"]["resourceVersion"]
    with pytest.raises(ApiUnavailableError, match="resources"):
        await nodes.patch_status("cm384-00", version, {"resources": [{"name": "x", "devices": -1}]})


async def test_a_server_that_is_not_there_is_unavailable(tmp_path):
    config = tmp_path / "config"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "users": [{"name": "x", "user": {}}],
    }
    config.write_text(json.dumps(document))
    client = AsyncClient(config=KubeConfig.from_file(config), trust_env=False)
    nobody = ApiComputeNodes(client, "node-a")
    with pytest.raises(ApiUnavailableError):
        await nobody.list()
    with pytest.raises(ApiUnavailableError):
        await anext(nobody.watch("1"))
    with pytest.raises(ApiUnavailableError):
        await nobody.patch_status("a", "", {})
    await client.close()


async def test_the_whole_way_from_objects_to_the_kubelet_and_back(api_server, nodes, world):
    create(api_server, *range(3), finalizer=True)
    world.nodes = nodes
    await world.kubelet.start()
    await world.start_agent()
    await world.serving(48, 336, 30)
    await world.until(lambda: condition(api_server, "cm384-02") == ("True", "Registered"), 30)
    change(api_server, "cm384-01", {"faults": [{"name": "a", "die": 1}, {"name": "b", "l1": {"plane": 0}}]})
    await world.serving(47, 336 - 16 - 6, 30)
    await world.kubelet.admit("p", {LINKS: 112, DIES: 16})
    await world.until(lambda: get(api_server, "cm384-00")["status"]["allocations"], 30)
    status = get(api_server, "cm384-00")["status"]
    ComputeNodeStatus.model_validate(status)
    assert status["allocations"][0]["links"] == "0-111"
    world.settle()
    api_server.request("DELETE", f"{KIND}/cm384-02")
    await world.until(lambda: condition(api_server, "cm384-02", "Released")[0] == "True", 30)
    assert world.kubelet.capacity(DIES) == 32


async def test_a_steady_agent_sends_no_write(api_server, nodes, world):
    create(api_server, 0)
    world.nodes = nodes
    await world.kubelet.start()
    await world.start_agent()
    await world.until(lambda: condition(api_server, "cm384-00") == ("True", "Registered"), 30)
    await asyncio.sleep(2.0)
    version = get(api_server, "cm384-00")["metadata"]["resourceVersion"]

    def writes() -> int:
        events = [e for e in api_server.audit_events() if e["verb"] in ("patch", "update", "create")]
        return sum("cm384-00" in e["requestURI"] and e["stage"] == "ResponseComplete" for e in events)

    before = writes()
    await asyncio.sleep(4.0)
    assert writes() == before
    assert get(api_server, "cm384-00")["metadata"]["resourceVersion"] == version
