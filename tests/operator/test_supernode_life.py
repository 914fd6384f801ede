"""A SuperNode from apply to delete, against the real API server, with bare Nodes and a scripted node agent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from support.kube_proxy import KubeProxy
from support.operator_world import API, MERGE, NAMESPACE, NPU, OperatorProcess, ScriptedAgent, World, wait_for
from support.told import told_once

Start = Callable[..., OperatorProcess]


def make_ready(world: World) -> dict:
    """Wait for the cabinets' StatefulSets, say that they run, and wait for Ready."""
    wait_for(lambda: len(statefulsets(world)) == 2, "two StatefulSets")
    world.cabinets_ready()
    world.wait_condition(world.get_super_node, "Ready", "True", "AsExpected", 30)
    return world.get_super_node()


def statefulsets(world: World) -> list[dict]:
    return world.call("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets")["items"]


def test_a_packed_machine_becomes_ready_on_two_nodes(world: World, start: Start, agent: ScriptedAgent) -> None:
    world.node("node-a")
    world.node("node-b")
    world.super_node()
    start()
    machine = make_ready(world)
    status = machine["status"]
    assert status["capacity"]["dies"] == 768
    assert status["capacity"]["busLinks"] == 5376
    assert (status["placedNodes"], status["kubernetesNodes"], status["readyCabinets"]) == (48, 2, 16)
    assert status["allocatable"] == {"dies": 768, "busLinks": 5376}
    assert status["performance"]["ratedPetaflops"] == "288.8"
    servers = world.compute_nodes()
    assert Counter(cn["spec"]["nodeName"] for cn in servers) == {"node-a": 24, "node-b": 24}
    seventh = next(cn for cn in servers if cn["metadata"]["name"] == "cm384-07")
    assert seventh["spec"]["devices"]["firstDie"] == 7 * 16
    assert seventh["spec"]["cabinet"] == 1
    assert [r["kind"] for r in seventh["metadata"]["ownerReferences"]] == ["SuperNode"]
    for node in ("node-a", "node-b"):
        assert world.try_get(f"/api/v1/nodes/{node}")["metadata"]["labels"]["supernode.io/supernode"] == "cm384"


def test_a_second_operator_run_writes_nothing(
    world: World, start: Start, agent: ScriptedAgent, proxy: KubeProxy, tmp_path: Path
) -> None:
    world.node("node-a")
    world.super_node()
    first = start()
    make_ready(world)
    time.sleep(2)  # the last status write may wait for its second
    assert first.stop() == 0
    second = start(proxy.kubeconfig(tmp_path), name="operator-b")
    time.sleep(6)
    assert proxy.writes == []
    text = second.get(second.metrics_port, "/metrics")[1]
    assert 'controller_runtime_reconcile_total{controller="SuperNode",result="success"}' in text
    assert 'leader_election_master_status{name="supernode-operator"} 1.0' in text


def test_the_metric_of_cached_objects_follows_each_that_comes_and_goes(world: World, start: Start) -> None:
    world.node("node-a")
    operator = start()

    def cached(count: int) -> bool:
        line = f'supernode_operator_cached_objects{{kind="Node"}} {count}.0\n'
        return line in operator.get(operator.metrics_port, "/metrics")[1]

    wait_for(lambda: cached(1), "one node")
    time.sleep(3)  # lists are compared with the cache once, soon after the start
    world.node("node-b")
    wait_for(lambda: cached(2), "two nodes", 5)
    world.delete("/api/v1/nodes/node-b")
    wait_for(lambda: cached(1), "one node again", 5)


def test_dedicated_takes_one_node_each_and_is_partly_up_until_there_are_enough(
    world: World, start: Start, agent: ScriptedAgent
) -> None:
    for number in range(46):
        world.node(f"node-{number:02d}")
    world.super_node(nodes={"selector": {"matchLabels": {"pool": "a"}}, "placement": "Dedicated"})
    start()
    said = world.wait_condition(world.get_super_node, "NodesReady", "False", "NotEnoughNodes")
    assert said["message"].startswith("2 of 48 servers have no Kubernetes node")
    placed = {cn["metadata"]["name"]: cn["spec"].get("nodeName") for cn in world.compute_nodes()}
    assert len(placed) == 48
    assert len({node for node in placed.values() if node}) == 46
    assert {cn["spec"]["devices"]["firstDie"] for cn in world.compute_nodes()} == {0}
    world.node("node-46")
    ready = lambda: world.condition(world.get_super_node(), "Ready")["message"]  # noqa: E731
    wait_for(lambda: ready().startswith("1 of 48"), "one more has a node")
    assert told_once(world, "cm384", "NotEnoughNodes")
    world.node("node-47")
    world.wait_condition(world.get_super_node, "NodesReady", "True", "AsExpected")
    after = {cn["metadata"]["name"]: cn["spec"].get("nodeName") for cn in world.compute_nodes()}
    assert {name: node for name, node in after.items() if placed[name]} == {n: p for n, p in placed.items() if p}
    make_ready(world)


def test_a_fault_of_somebody_else_survives_and_degrades(world: World, start: Start, agent: ScriptedAgent) -> None:
    world.node("node-a")
    world.super_node()
    start()
    make_ready(world)
    fault = {"metadata": {"name": "cm384-03"}, "spec": {"faults": [{"name": "burnt", "die": 5, "code": "80E18402"}]}}
    body = {"apiVersion": "supernode.io/v1alpha1", "kind": "ComputeNode", **fault}
    path = f"{API}/computenodes/cm384-03"
    world.call("PATCH", path, body, content_type="application/apply-patch+yaml", fieldManager="sre")
    said = world.wait_condition(world.get_super_node, "Degraded", "True", "FaultsInForce")
    assert said["message"] == "cm384-03 die 5 (SeparateNPU 80E18402)"
    wait_for(lambda: world.get_super_node()["status"]["allocatable"]["dies"] == 767, "767 dies")
    assert world.condition(world.get_super_node(), "Ready")["status"] == "True"
    assert world.try_get(path)["spec"]["faults"][0]["name"] == "burnt"
    clear = {"apiVersion": "supernode.io/v1alpha1", "kind": "ComputeNode", "metadata": {"name": "cm384-03"}}
    world.call("PATCH", path, clear, content_type="application/apply-patch+yaml", fieldManager="sre")
    world.wait_condition(world.get_super_node, "Degraded", "False", "AsExpected")
    wait_for(lambda: world.get_super_node()["status"]["allocatable"]["dies"] == 768, "768 dies")


def test_a_label_that_moves_waits_for_the_pods_and_nothing_is_held_twice(
    world: World, start: Start, agent: ScriptedAgent
) -> None:
    world.node("node-a")
    world.node("node-b", pool="none")
    world.super_node()
    start()
    make_ready(world)
    world.pod("holder", "node-a")
    agent.hold(3, "holder")
    wait_for(lambda: world.get_super_node()["status"]["allocated"]["dies"] == 16, "16 dies are held")
    uid = world.try_get(f"{API}/computenodes/cm384-03")["metadata"]["uid"]
    world.label_node("node-b", pool="a")
    world.label_node("node-a", pool="none")
    said = world.wait_condition(world.get_super_node, "NodesReady", "False", "WaitingForRelease")
    wait_for(lambda: len([c for c in world.compute_nodes() if c["spec"].get("nodeName") == "node-b"]) == 47, "47 moved")
    said = world.condition(world.get_super_node(), "NodesReady")
    assert "default/holder" in said["message"]
    still = world.try_get(f"{API}/computenodes/cm384-03")
    assert (still["metadata"]["uid"], still["spec"]["nodeName"]) == (uid, "node-a")
    assert "supernode.io/supernode" in world.try_get("/api/v1/nodes/node-a")["metadata"]["labels"]
    world.delete_pod("holder")
    agent.held.clear()
    world.wait_condition(world.get_super_node, "Ready", "True", "AsExpected")
    assert {cn["spec"]["nodeName"] for cn in world.compute_nodes()} == {"node-b"}
    labels = lambda: world.try_get("/api/v1/nodes/node-a")["metadata"]["labels"]  # noqa: E731
    wait_for(lambda: "supernode.io/supernode" not in labels(), "the label is off")


def test_a_deleted_node_frees_its_servers_for_others(world: World, start: Start, agent: ScriptedAgent) -> None:
    world.node("node-a")
    world.node("node-b")
    world.super_node()
    start()
    make_ready(world)
    world.delete("/api/v1/nodes/node-b")
    moved = lambda: {cn["spec"].get("nodeName") for cn in world.compute_nodes()} == {"node-a"}  # noqa: E731
    wait_for(lambda: moved() and len(world.compute_nodes()) == 48, "all on node-a")
    world.wait_condition(world.get_super_node, "Ready", "True", "AsExpected")


def test_deleting_names_the_pods_that_block_and_then_leaves_nothing(
    world: World, start: Start, agent: ScriptedAgent
) -> None:
    world.node("node-a")
    world.super_node()
    start()
    make_ready(world)
    world.pod("holder", "node-a")
    agent.hold(0, "holder")
    wait_for(lambda: world.get_super_node()["status"]["allocated"]["dies"] == 16, "16 dies are held")
    world.delete(f"{API}/supernodes/cm384")
    said = world.wait_condition(world.get_super_node, "DeletionBlocked", "True", "DevicesHeld")
    assert "default/holder" in said["message"]
    wait_for(lambda: len(world.events("cm384", "DevicesHeld")) == 1, "one Event")
    world.delete_pod("holder")
    agent.held.clear()
    wait_for(lambda: not world.get_super_node(), "the SuperNode is gone")
    assert world.compute_nodes() == []
    node = world.try_get("/api/v1/nodes/node-a")
    assert "supernode.io/supernode" not in node["metadata"]["labels"]
    assert node["status"]["capacity"][NPU] == "0"


def test_a_deletion_while_the_operator_is_down_is_finished_when_it_is_back(
    world: World, start: Start, agent: ScriptedAgent
) -> None:
    world.node("node-a")
    world.super_node()
    operator = start()
    make_ready(world)
    operator.kill()
    world.delete(f"{API}/supernodes/cm384")
    time.sleep(1)
    assert world.get_super_node()["metadata"]["finalizers"] == ["supernode.io/nodes"]
    world.forget_lease()
    start(name="operator-b")
    wait_for(lambda: not world.get_super_node(), "the SuperNode is gone")
    assert world.compute_nodes() == []
    assert "supernode.io/supernode" not in world.try_get("/api/v1/nodes/node-a")["metadata"]["labels"]


def test_cabinets_per_pod_changes_the_stateful_sets(world: World, start: Start) -> None:
    world.node("node-a")
    world.super_node()
    start()
    wait_for(lambda: len(statefulsets(world)) == 2, "two StatefulSets")
    sizes = {s["metadata"]["name"]: s["spec"]["replicas"] for s in statefulsets(world)}
    assert sizes == {"cm384-compute": 12, "cm384-bus": 4}
    patch = {"spec": {"cabinetsPerPod": 16}}
    world.call("PATCH", f"{API}/supernodes/cm384", patch, content_type=MERGE)
    wait_for(lambda: [s["metadata"]["name"] for s in statefulsets(world)] == ["cm384-cabinets"], "one StatefulSet")
