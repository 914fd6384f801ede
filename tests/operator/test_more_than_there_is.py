"""A managed workload that wants more servers than the machine has, with the real scheduler and Job controller."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.apiserver import ApiServer
from support.operator_world import API, MERGE, NPU, OperatorProcess, ScriptedAgent, World, wait_for
from support.told import told_once

Start = Callable[..., OperatorProcess]


@pytest.fixture
def world(controlled_api_server: ApiServer) -> Iterator[World]:
    made = World(controlled_api_server)
    yield made
    made.clean()
    for pod in pods(made):
        made.delete_pod(pod["metadata"]["name"])


def pods(world: World) -> list[dict[str, Any]]:
    return list(world.call("GET", "/api/v1/namespaces/default/pods")["items"])


def bound(world: World) -> int:
    """Let go of pods that are to end, as their kubelet would; return how many of the rest have a node."""
    ending = [pod for pod in pods(world) if "deletionTimestamp" in pod["metadata"]]
    for pod in ending:
        world.delete_pod(pod["metadata"]["name"])
    return sum("nodeName" in pod["spec"] for pod in pods(world)) if not ending else 0


def test_49_servers_of_a_machine_of_48_are_unschedulable_which_is_said_once_until_fewer_are_asked_for(
    world: World, start: Start, agent: ScriptedAgent
) -> None:
    world.node("node-a")
    world.set_capacity("node-a", cpu=1000, memory=10**12, pods=500)
    world.super_node()
    operator = start()
    wait_for(lambda: world.try_get("/api/v1/nodes/node-a")["status"]["allocatable"].get(NPU) == "768", "768 dies", 30)
    # 49 and 48 servers are 98 and 96 replicas of 8 dies: the batch divides among either.
    world.workload("llama", {"managed": {"nodes": 49}}, globalBatchSize=98 * 48)
    read = lambda: world.get_workload("llama")  # noqa: E731
    said = world.wait_condition(read, "Ready", "False", "Unschedulable", 40)
    wait_for(lambda: bound(world) == 48, "48 pods have a node", 40)
    said = world.wait_condition(read, "Ready", "False", "Unschedulable")
    ours, _, the_schedulers = said["message"].partition("; ")
    assert ours == "spec.pods.managed.nodes asks for 49 servers and the machine has 48: lower it"
    assert re.match(r"pod llama-\d+-\w+: 0/1 nodes are available: 1 Insufficient huawei.com/Ascend910", the_schedulers)
    assert world.condition(read(), "Accepted")["status"] == "True"
    assert read()["status"]["performance"]["tokensPerSecond"] == "0"
    assert told_once(world, "llama", "Unschedulable")

    patch = {"spec": {"pods": {"managed": {"nodes": 48}}}}
    world.call("PATCH", f"{API}/namespaces/default/supernodeworkloads/llama", patch, content_type=MERGE)
    wait_for(lambda: bound(world) == 48 == len(pods(world)), "all 48 have a node", 40)
    wait_for(lambda: world.condition(read(), "Ready")["reason"] != "Unschedulable", "nothing is in the way any more")
    assert len(world.events("llama", "Unschedulable")) == 1
    assert operator.process.poll() is None
