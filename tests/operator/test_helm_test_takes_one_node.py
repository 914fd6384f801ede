"""`helm test` among many nodes: it takes one that is free, and no other has a label or a server of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from supernode_operator.chart_test import build_super_node
from supernode_operator.domain.free_node import NodeSearch, find_free_node
from support.operator_world import MERGE, NPU, OperatorProcess, ScriptedAgent, World, wait_for
from support.processes import child

Start = Callable[..., OperatorProcess]
OS, HOSTNAME, CONTROL_PLANE = "kubernetes.io/os", "kubernetes.io/hostname", "node-role.kubernetes.io/control-plane"
OURS = "supernode.io/supernode"
TEST = build_super_node("supernode-test", 384384, {OS: "linux"})


def node(name: str, *, ready: bool = True, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Build a Node as the API server has it, whose host is named differently."""
    return {
        "metadata": {"name": name, "labels": {OS: "linux", HOSTNAME: f"host-{name}", **(labels or {})}},
        "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def machine(pool: str) -> dict[str, Any]:
    """Build a SuperNode that is there already."""
    found = build_super_node("cm384", 0, {"pool": pool})
    return {**found, "metadata": {"name": "cm384", "creationTimestamp": "2026-01-01T00:00:00Z"}}


def taint(effect: str) -> dict[str, str]:
    return {"key": "team", "effect": effect}


@pytest.mark.parametrize(
    ("candidate", "why_not"),
    [
        (node("a", ready=False), "node a is not Ready"),
        (node("a", unschedulable=True), "node a is cordoned"),
        (node("a", taints=[taint("NoSchedule")]), "node a has the taint team:NoSchedule"),
        (node("a", taints=[taint("NoExecute")]), "node a has the taint team:NoExecute"),
        (node("a", labels={HOSTNAME: ""}), f"node a has no label {HOSTNAME} of its own"),
        (node("a", labels={"pool": "x"}), "node a belongs to the older SuperNode cm384"),
        (node("a", labels={OURS: "cm384"}), "node a is not yet released by SuperNode cm384"),
        (
            {**node("a"), "status": {**node("a")["status"], "capacity": {NPU: "8"}}},
            f"node a already has {NPU} from another device plugin",
        ),
    ],
    ids=lambda value: value.removeprefix("node a ") if isinstance(value, str) else "",
)
def test_a_node_that_cannot_have_it_is_left_out_and_the_reason_is_said(candidate: dict[str, Any], why_not: str) -> None:
    assert find_free_node(TEST, [machine("x")], [candidate]) == NodeSearch(why_not=why_not)
    assert find_free_node(TEST, [machine("x")], [candidate, node("b")]) == NodeSearch("b", "host-b")


def test_a_taint_that_only_prefers_keeps_nothing_away() -> None:
    assert find_free_node(TEST, [], [node("a", taints=[taint("PreferNoSchedule")])]).node == "a"


def test_two_nodes_of_one_host_name_cannot_be_told_apart() -> None:
    twins = [node("a", labels={HOSTNAME: "h"}), node("b", labels={HOSTNAME: "h", OS: "windows"})]
    assert find_free_node(TEST, [], twins).why_not == f"node a has no label {HOSTNAME} of its own"


def test_workers_come_before_the_control_plane_and_then_names_decide() -> None:
    plane = node("a", labels={CONTROL_PLANE: ""})
    assert find_free_node(TEST, [], [node("c"), plane, node("b")]).node == "b"
    assert find_free_node(TEST, [], [plane]).node == "a"


def test_only_nodes_of_the_selector_are_chosen_from_and_none_has_no_reason() -> None:
    assert find_free_node(TEST, [], [node("a", labels={OS: "windows"}), node("b")]).node == "b"
    assert find_free_node(TEST, [], [node("a", labels={OS: "windows"})]) == NodeSearch()


def test_of_many_nodes_the_first_few_are_named() -> None:
    said = find_free_node(TEST, [], [node(f"n{number}", ready=False) for number in range(9)]).why_not
    assert said.endswith("node n4 is not Ready and 4 more")


def test_among_eight_nodes_one_free_worker_gets_the_machine_and_the_others_nothing(
    world: World,
    start: Start,
    agent: ScriptedAgent,
) -> None:
    for name in ("a-plane", "b-cordoned", "c-taken", "d-lost", "e-free", "f-free", "g-free", "0-windows"):
        world.node(name, ready=name != "d-lost", pool="a" if name == "c-taken" else "b")
        system = "windows" if name == "0-windows" else "linux"
        world.label_node(name, **{OS: system, HOSTNAME: f"{name}.local"})
    plane = {"taints": [{"key": CONTROL_PLANE, "effect": "NoSchedule"}]}
    for name in world.made_nodes:  # the API server gives each new Node a taint, which a controller takes away
        spec = {"a-plane": plane, "b-cordoned": {"taints": None, "unschedulable": True}}.get(name, {"taints": None})
        world.call("PATCH", f"/api/v1/nodes/{name}", {"spec": spec}, content_type=MERGE)
    world.super_node("cm384")
    start()
    wait_for(lambda: len(world.compute_nodes()) == 48, "the machine that is there")
    before = marked(world)
    assert before == {"c-taken": "cm384"}

    argv = ["--name", "supernode-test", "--super-pod-id", "384384", "--node-label", f"{OS}=linux", "--timeout", "60"]
    environment = {**os.environ, "KUBECONFIG": str(world.server.kubeconfig)}
    command = [sys.executable, "-m", "supernode_operator.chart_test", *argv]
    with child(command, env=environment, stdout=subprocess.PIPE, text=True) as run:
        servers = wait_for(lambda: of_the_test(world), "48 servers of the test's machine")
        assert {one["spec"].get("nodeName") for one in servers} == {"e-free"}
        wait_for(lambda: marked(world) == {**before, "e-free": "supernode-test"}, "a label on this node, and no other")
        while run.poll() is None:
            world.cabinets_ready()
            time.sleep(0.3)
        told = run.stdout.read() if run.stdout else ""
    assert run.returncode == 0, told
    assert told.startswith("creating SuperNode supernode-test on node e-free\n")
    assert "48 compute servers on 1 Kubernetes node, 768 dies" in told
    assert marked(world) == before
    assert world.get_super_node("supernode-test") == {}


def marked(world: World) -> dict[str, str]:
    """Which nodes belong to which machine."""
    found = {n["metadata"]["name"]: n["metadata"]["labels"] for n in world.call("GET", "/api/v1/nodes")["items"]}
    return {name: labels[OURS] for name, labels in found.items() if OURS in labels}


def of_the_test(world: World) -> list[dict[str, Any]]:
    """The servers of the test's machine, once all are there."""
    found = [one for one in world.compute_nodes() if one["spec"]["superNode"] == "supernode-test"]
    return found if len(found) == 48 else []
