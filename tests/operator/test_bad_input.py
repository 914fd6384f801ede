"""Bad input ends as a condition with a stable reason and a message a person can act on, one Event, and no storm."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from support.operator_world import API, MERGE, NAMESPACE, NPU, RANK, OperatorProcess, ScriptedAgent, World, wait_for
from support.told import told_once

Start = Callable[..., OperatorProcess]


def test_an_unknown_profile_is_refused_once(world: World, start: Start) -> None:
    world.node("node-a")
    world.super_node(profile="cloudmatrix-9000")
    start()
    said = world.wait_condition(world.get_super_node, "Ready", "False", "ProfileNotFound")
    assert "cloudmatrix-9000" in said["message"]
    assert "cloudmatrix-384" in said["message"]
    assert told_once(world, "cm384", "ProfileNotFound")
    assert world.compute_nodes() == []
    assert "finalizers" not in world.get_super_node()["metadata"]


def test_a_super_pod_id_is_used_once(world: World, start: Start) -> None:
    world.node("node-a")
    world.super_node("first")
    time.sleep(1.1)
    world.super_node("second")
    start()
    said = world.wait_condition(lambda: world.get_super_node("second"), "Ready", "False", "SuperPodIDTaken")
    assert "SuperNode first" in said["message"]
    assert told_once(world, "second", "SuperPodIDTaken")
    wait_for(lambda: len(world.compute_nodes()) == 48, "the first has its servers")
    world.delete(f"{API}/supernodes/first")
    wait_for(
        lambda: world.condition(world.get_super_node("second"), "Ready").get("reason") != "SuperPodIDTaken", "free"
    )


def test_a_selector_without_nodes_says_so_and_recovers(world: World, start: Start) -> None:
    world.node("node-a", pool="other")
    world.super_node()
    start()
    said = world.wait_condition(world.get_super_node, "NodesReady", "False", "NoNodesMatch")
    assert "spec.nodes.selector" in said["message"]
    assert told_once(world, "cm384", "NoNodesMatch")
    world.label_node("node-a", pool="a")
    world.wait_condition(world.get_super_node, "NodesReady", "True", "AsExpected")


def test_a_node_of_another_super_node_is_refused(world: World, start: Start) -> None:
    world.node("node-a")
    world.super_node("first")
    time.sleep(1.1)
    world.super_node("second", superPodID=2)
    start()
    second = lambda: world.get_super_node("second")  # noqa: E731
    said = world.wait_condition(second, "NodesReady", "False", "NodeTaken")
    assert "SuperNode first" in said["message"]
    assert told_once(world, "second", "NodeTaken")
    world.delete(f"{API}/supernodes/first")
    world.wait_condition(second, "NodesReady", "True", "AsExpected")
    assert {cn["spec"]["superNode"] for cn in world.compute_nodes()} == {"second"}


def test_a_machine_that_no_node_takes_has_no_cabinet_pods(world: World, start: Start) -> None:
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets"

    def cabinets(of: str) -> list[str]:
        names = (one["metadata"]["name"] for one in world.call("GET", path)["items"])
        return sorted(name for name in names if name.startswith(of))

    world.node("node-a")
    world.super_node("first")
    time.sleep(1.1)
    world.super_node("second", superPodID=2)
    start()
    second = lambda: world.get_super_node("second")  # noqa: E731
    said = world.wait_condition(second, "CabinetsReady", "False", "NodeTaken")
    assert "SuperNode first" in said["message"]
    wait_for(lambda: cabinets("first") == ["first-bus", "first-compute"], "the cabinets of the first")
    assert cabinets("second") == []

    world.delete(f"{API}/supernodes/first")
    world.wait_condition(second, "NodesReady", "True", "AsExpected")
    wait_for(lambda: cabinets("second") == ["second-bus", "second-compute"], "the cabinets of the second")

    world.node("node-b")
    world.set_capacity("node-b", **{NPU: 8})
    world.delete("/api/v1/nodes/node-a")
    world.wait_condition(second, "CabinetsReady", "False", "ForeignDevicePlugin")
    wait_for(lambda: cabinets("second") == [], "they go with its last node")


def test_a_node_with_a_foreign_device_plugin_is_refused_until_it_is_gone(world: World, start: Start) -> None:
    world.node("node-a")
    world.set_capacity("node-a", **{NPU: 8})
    world.super_node()
    start()
    said = world.wait_condition(world.get_super_node, "NodesReady", "False", "ForeignDevicePlugin")
    assert NPU in said["message"]
    assert told_once(world, "cm384", "ForeignDevicePlugin")
    assert "supernode.io/supernode" not in world.try_get("/api/v1/nodes/node-a")["metadata"]["labels"]
    world.set_capacity("node-a", **{NPU: 0})
    world.wait_condition(world.get_super_node, "NodesReady", "True", "AsExpected")


def test_garbage_in_an_agents_status_is_named_and_left_out(world: World, start: Start, agent: ScriptedAgent) -> None:
    world.node("node-a")
    world.super_node()
    start()
    wait_for(lambda: len([c for c in world.compute_nodes() if c.get("status")]) == 48, "48 servers have an agent")
    world.pod("holder", "node-a")
    agent.hold(1, "holder", dies="0-99")
    agent.hold(2, "holder")
    said = world.wait_condition(world.get_super_node, "DevicesReady", "False", "InvalidAgentStatus")
    assert said["message"].startswith("cm384-01:")
    assert told_once(world, "cm384", "InvalidAgentStatus")
    wait_for(lambda: world.get_super_node()["status"]["allocated"]["dies"] == 16, "the others still count")
    agent.held.pop(1)
    wait_for(
        lambda: world.condition(world.get_super_node(), "DevicesReady")["reason"] != "InvalidAgentStatus", "it recovers"
    )


def test_a_kubelet_whose_socket_is_not_there_is_said_once_and_comes_back(
    world: World, start: Start, agent: ScriptedAgent
) -> None:
    world.node("node-a")
    world.super_node()
    start()
    sets = lambda: world.call("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets")["items"]  # noqa: E731
    wait_for(lambda: len(sets()) == 2, "two StatefulSets")
    world.cabinets_ready()
    world.wait_condition(world.get_super_node, "Ready", "True", "AsExpected", 30)
    agent.unreachable |= {0, 1, 2}
    said = world.wait_condition(world.get_super_node, "Ready", "False", "KubeletUnreachable")
    assert "is the kubelet running?" in said["message"]
    assert world.condition(world.get_super_node(), "DevicesReady")["reason"] == "KubeletUnreachable"
    agent.unreachable |= set(range(48))
    wait_for(lambda: "(and 47 more)" in world.condition(world.get_super_node(), "Ready")["message"], "all 48 are lost")
    assert told_once(world, "cm384", "KubeletUnreachable")
    agent.unreachable.clear()
    world.wait_condition(world.get_super_node, "Ready", "True", "AsExpected")


BAD_WORKLOADS: list[tuple[str, dict[str, Any], str, str]] = [
    ("no-machine", {"super_node": "nowhere"}, "SuperNodeNotFound", "nowhere"),
    ("no-model", {"model": {"name": "llama-9"}}, "ModelNotFound", "llama-9"),
    (
        "bad-config",
        {"model": {"config": '{"model_type": "llama", "hidden_size": "x"}'}},
        "InvalidModel",
        "model.config.hidden_size must be a whole number from 1 to",
    ),
    ("no-product", {"parallelism": {"tensor": 8, "pipeline": 3}}, "InvalidParallelism", "spec.training.parallelism"),
    (
        "no-room",
        {"model": {"name": "llama-3.1-405b"}, "parallelism": {"tensor": 8, "pipeline": 2}},
        "DoesNotFit",
        "even with full recompute, and a die has 64 GiB: weights",
    ),
]


@pytest.mark.parametrize(("name", "spec", "reason", "said"), BAD_WORKLOADS, ids=[one[0] for one in BAD_WORKLOADS])
def test_a_workload_that_cannot_run_gets_no_job(
    world: World, start: Start, name: str, spec: dict[str, Any], reason: str, said: str
) -> None:
    world.super_node()
    start()
    world.workload(name, {"managed": {"nodes": 1}}, **spec)
    got = world.wait_condition(lambda: world.get_workload(name), "Accepted", "False", reason)
    assert said in got["message"]
    assert world.condition(world.get_workload(name), "Ready")["reason"] == reason
    assert told_once(world, name, reason)
    assert world.get_job(name) is None


def test_what_does_not_fit_is_said_with_its_arithmetic(world: World, start: Start) -> None:
    world.super_node()
    start()
    name, spec, reason, _ = BAD_WORKLOADS[-1]
    world.workload(name, {"managed": {"nodes": 1}}, **spec)
    said = world.wait_condition(lambda: world.get_workload(name), "Accepted", "False", reason)["message"]
    found = re.search(r"needs ([\d.]+) GiB on a die of stage 0 .* and a die has 64 GiB: ([^;]+); raise tensor", said)
    assert found, said
    parts = {re.split(r" over| (?=[\d.]+$)", one)[0]: float(one.split()[-1]) for one in found[2].split(" + ")}
    assert set(parts) == {"weights", "gradients", "optimizer", "logits", "buffers", "activations"}
    assert sum(parts.values()) == pytest.approx(float(found[1]), abs=0.05 * (len(parts) + 1))  # each is rounded
    # 405.85e9 parameters on 8 x 2 dies: 2 bytes each of weights, 4 of gradients, 12 of the optimizer in one replica.
    gib = 405.85e9 / 16 / 2**30
    assert [parts[key] for key in ("weights", "gradients", "optimizer")] == pytest.approx(
        [2 * gib, 4 * gib, 12 * gib], rel=0.01
    )


def test_a_namespace_that_is_not_allowed_gets_no_job(world: World, start: Start) -> None:
    world.super_node()
    start(SUPERNODE_WORKLOAD_NAMESPACES="team-a,team-b")
    world.workload("llama", {"managed": {"nodes": 1}})
    said = world.wait_condition(lambda: world.get_workload("llama"), "Accepted", "False", "NamespaceNotAllowed")
    assert "default" in said["message"]
    assert told_once(world, "llama", "NamespaceNotAllowed")
    assert world.get_job("llama") is None


def test_a_foreign_job_of_the_same_name_is_a_conflict_and_untouched(world: World, start: Start) -> None:
    world.super_node()
    container = {"name": "c", "image": "none"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "llama"}, "spec": {"template": template}}
    before = world.call("POST", "/apis/batch/v1/namespaces/default/jobs", body)
    start()
    world.workload("llama", {"managed": {"nodes": 1}})
    said = world.wait_condition(lambda: world.get_workload("llama"), "Ready", "False", "JobConflict")
    assert "default/llama" in said["message"]
    assert told_once(world, "llama", "JobConflict")
    after = world.get_job("llama")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_pods_that_ask_for_too_much_show_what_the_scheduler_says(world: World, start: Start) -> None:
    world.super_node()
    start()
    world.workload("train", {"selector": {"matchLabels": {"run": "train"}}})
    world.pod("greedy", run="train")
    message = "0/1 nodes are available: 1 Insufficient huawei.com/Ascend910."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    path = "/api/v1/namespaces/default/pods/greedy/status"
    world.call("PATCH", path, {"status": {"conditions": [condition]}}, content_type=MERGE)
    said = world.wait_condition(lambda: world.get_workload("train"), "Ready", "False", "Unschedulable")
    assert said["message"] == f"pod greedy: {message}"
    condition["message"] = "0/2 nodes are available: 2 Insufficient huawei.com/Ascend910."
    world.call("PATCH", path, {"status": {"conditions": [condition]}}, content_type=MERGE)
    ready = lambda: world.condition(world.get_workload("train"), "Ready")  # noqa: E731
    wait_for(lambda: "0/2 nodes" in ready()["message"], "the scheduler's next word")
    assert told_once(world, "train", "Unschedulable")


def _index(number: int) -> Any:
    """Return the label of a rank as an argument, which it is not by name."""
    return {RANK: str(number)}


def test_a_pod_whose_index_no_status_can_hold_is_refused_by_name_and_once(
    world: World, machine: OperatorProcess, agent: ScriptedAgent
) -> None:
    world.workload("train", {"selector": {"matchLabels": {"run": "train"}}})
    world.pod("good", "node-a", run="train", **_index(65535))
    agent.hold(0, "good")
    world.wait_condition(lambda: world.get_workload("train"), "Ready", "True", "Running")
    world.pod("far", "node-a", run="train", **_index(65536))
    said = world.wait_condition(lambda: world.get_workload("train"), "Accepted", "False", "InvalidRank")
    assert "pod far has index 65536" in said["message"]
    status = world.get_workload("train")["status"]
    assert world.condition({"status": status}, "Ready")["reason"] == "InvalidRank"
    assert (status["placement"].get("ranks", []), status["performance"]["tokensPerSecond"]) == ([], "0")
    assert told_once(world, "train", "InvalidRank")
    world.delete_pod("far")
    world.wait_condition(lambda: world.get_workload("train"), "Ready", "True", "Running")
    assert world.condition(world.get_workload("train"), "Accepted")["status"] == "True"


def test_a_setting_that_makes_no_sense_is_one_line_and_exit_code_two(world: World, start: Start) -> None:
    operator = start(lead=False, SUPERNODE_HEALTH_PORT="http")
    assert operator.process.wait(20) == 2
    text = operator.log.read_text()
    assert text.count("\n") == 1
    assert "SUPERNODE_HEALTH_PORT" in text
