"""Events of transitions: none is lost, none is told twice, and what comes again is told again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.kube_proxy import KubeProxy
from support.operator_world import API, MERGE, OperatorProcess, World, wait_for

Start = Callable[..., OperatorProcess]


@pytest.mark.parametrize("cut", ["/events", "/supernodes/cm384/status"])
def test_an_operator_killed_between_an_event_and_its_status_leaves_one_event(
    world: World, start: Start, tmp_path: Path, cut: str
) -> None:
    world.node("node-a")
    world.super_node(profile="cloudmatrix-9000")
    with KubeProxy(world.server) as proxy:
        proxy.cut_after, proxy.counts = 1, lambda path: cut in path
        victim = start(proxy.kubeconfig(tmp_path), name="victim", lead=False)
        proxy.on_cut = victim.process.kill
        wait_for(lambda: victim.process.poll() is not None, "the cut", 60)
        victim.kill()
    world.forget_lease()
    start(name="survivor")
    world.wait_condition(world.get_super_node, "Ready", "False", "ProfileNotFound")
    # Its next status, for a mended object, comes after all that it had to say of this one.
    world.delete(f"{API}/supernodes/cm384")
    wait_for(lambda: world.try_get(f"{API}/supernodes/cm384") is None, "deletion", 30)
    assert len(world.events("cm384", "ProfileNotFound")) == 1


def test_a_reason_that_comes_again_is_told_again(world: World, start: Start) -> None:
    start()
    world.super_node()
    world.workload("train", {"selector": {"matchLabels": {"run": "train"}}})
    world.pod("greedy", run="train")
    for times in (1, 2, 3):
        schedule(world, "False")
        world.wait_condition(lambda: world.get_workload("train"), "Ready", "False", "Unschedulable")
        assert len(world.events("train", "Unschedulable")) == times
        schedule(world, "True")
        world.wait_condition(lambda: world.get_workload("train"), "Ready", "False", "Incomplete")
    assert {event["count"] for event in world.events("train", "Unschedulable")} == {1}


def schedule(world: World, status: str) -> None:
    """Play the scheduler, which finds a place for the pod or not; Ready is False all the while."""
    condition = {"type": "PodScheduled", "status": status, "message": "0/1 nodes are available"}
    condition["reason"] = "Unschedulable" if status == "False" else ""
    path = "/api/v1/namespaces/default/pods/greedy/status"
    world.call("PATCH", path, {"status": {"conditions": [condition]}}, content_type=MERGE)
