"""Killed after each of its writes in turn; watches that lie; two replicas and a killed leader."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from supernode_dataplane.progress import parse_time
from support.killing import killed_until, kind_of, picture
from support.kube_proxy import KubeProxy
from support.operator_world import API, MERGE, NAMESPACE, OperatorProcess, ScriptedAgent, World, wait_for
from support.pace import NOISE

Start = Callable[..., OperatorProcess]
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/supernode-operator"
CREATING = {
    "supernodes finalizer on",
    "nodes label on",
    "computenodes applied",
    "services applied",
    "statefulsets applied",
    "jobs applied",
    "supernodes/status applied",
    "supernodeworkloads/status applied",
}


def make(world: World) -> None:
    world.node("node-a")
    world.super_node(cabinetsPerPod=4)
    world.workload("llama", {"managed": {"nodes": 2}})


def settled(world: World) -> bool:
    machine, workload = world.get_super_node(), world.get_workload("llama")
    return (
        world.condition(machine, "NodesReady").get("status") == "True"
        and world.condition(workload, "Ready").get("reason") == "WaitingForPods"
        and world.get_job("llama") is not None
        and workload["status"].get("model") == machine["status"].get("model")
        and len(world.compute_nodes()) == 48
    )


@pytest.mark.timeout(300)
def test_killed_after_each_of_its_writes_in_turn_it_comes_to_the_same_end(
    world: World, start: Start, tmp_path: Path
) -> None:
    make(world)
    first = start()
    wait_for(lambda: settled(world), "settled")
    time.sleep(1.5)
    first.kill()
    wanted = picture(world)
    world.clean()

    # The workload comes second: its status follows the machine's digest, so it would be cut between all the servers.
    world.node("node-a")
    world.super_node(cabinetsPerPod=4)
    placed = lambda: world.condition(world.get_super_node(), "NodesReady").get("status") == "True"  # noqa: E731
    cut = killed_until(world, start, tmp_path, placed)
    world.workload("llama", {"managed": {"nodes": 2}})
    cut += killed_until(world, start, tmp_path, lambda: settled(world))
    kinds = {kind_of(*write) for write in cut}
    assert picture(world) == wanted, kinds
    assert kinds >= CREATING


@pytest.mark.timeout(300)
def test_killed_after_each_write_of_a_deletion_it_leaves_nothing(
    world: World, start: Start, agent: ScriptedAgent, tmp_path: Path
) -> None:
    for k in (1, 49, 97, 98, 99):
        world.node(f"node-{k}")
        world.super_node(cabinetsPerPod=16)
        operator = start(name=f"maker-{k}")
        world.wait_condition(world.get_super_node, "NodesReady", "True", "AsExpected")
        operator.kill()
        world.forget_lease()
        world.delete(f"{API}/supernodes/cm384")
        with KubeProxy(world.server) as cutting:
            cutting.cut_after = k
            victim = start(cutting.kubeconfig(tmp_path), name=f"victim-{k}", lead=False)
            cutting.on_cut = victim.process.kill
            wait_for(lambda: victim.process.poll() is not None or not world.get_super_node(), "cut or done")  # noqa: B023
            victim.kill()
        world.forget_lease()
        survivor = start(name=f"survivor-{k}")
        wait_for(lambda: not world.get_super_node(), f"gone after a kill at write {k}")
        assert world.compute_nodes() == []
        assert "supernode.io/supernode" not in world.try_get(f"/api/v1/nodes/node-{k}")["metadata"]["labels"]
        survivor.kill()
        world.clean()


@pytest.mark.parametrize("spoil", ["double", "late", "stale"])
def test_events_that_come_twice_late_or_stale_change_nothing(
    world: World, start: Start, proxy: KubeProxy, tmp_path: Path, spoil: str
) -> None:
    proxy.spoil = spoil
    make(world)
    start(proxy.kubeconfig(tmp_path))
    wait_for(lambda: settled(world), "settled", 40)
    time.sleep(3)
    writes = len(proxy.writes)
    time.sleep(3)
    assert len(proxy.writes) == writes


def test_what_vanished_while_the_watches_were_gone_is_noticed(
    world: World, start: Start, proxy: KubeProxy, tmp_path: Path
) -> None:
    world.node("node-b")
    make(world)
    operator = start(proxy.kubeconfig(tmp_path))
    wait_for(lambda: settled(world), "settled")
    time.sleep(11)  # the watches' own start is over
    proxy.break_watches(refuse=8)
    world.delete("/api/v1/nodes/node-b")
    wait_for(
        lambda: (
            {cn["spec"].get("nodeName") for cn in world.compute_nodes()} == {"node-a"}
            and len(world.compute_nodes()) == 48
        ),
        "all servers on the node that is left",
        40,
    )
    text = operator.get(operator.metrics_port, "/metrics")[1]
    assert "supernode_operator_watch_restarts_total" in text


def test_an_api_server_that_is_away_for_a_while_is_waited_for(
    world: World, start: Start, proxy: KubeProxy, tmp_path: Path
) -> None:
    world.node("node-a")
    world.super_node()
    operator = start(proxy.kubeconfig(tmp_path))
    world.wait_condition(world.get_super_node, "NodesReady", "True", "AsExpected")
    proxy.down = True
    proxy.break_watches()
    time.sleep(4)
    world.node("node-b")
    world.call("PATCH", f"{API}/supernodes/cm384", {"spec": {"cabinetsPerPod": 16}}, content_type=MERGE)
    proxy.down = False
    sets = lambda: world.call("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets")["items"]  # noqa: E731
    wait_for(lambda: [s["metadata"]["name"] for s in sets()] == ["cm384-cabinets"], "it went on", 40)
    assert operator.process.poll() is None


def test_a_killed_leader_is_replaced_in_under_twenty_seconds(world: World, start: Start) -> None:
    world.node("node-a")
    leader = start(name="operator-a")
    standby = start(name="operator-b", lead=False)
    ready = lambda: standby.get(standby.health_port, "/readyz")  # noqa: E731
    wait_for(lambda: ready()[0] == 200, "the standby is ready too")
    assert '"leading": false' in ready()[1]
    began = time.time()
    leader.kill()
    world.super_node()
    standby.wait_leading(60)
    assert taken_over(world) - began < 20
    world.wait_condition(world.get_super_node, "NodesReady", "True", "AsExpected")


def test_a_leader_that_stops_hands_the_lease_over_at_once(world: World, start: Start) -> None:
    leader = start(name="operator-a")
    standby = start(name="operator-b", lead=False)
    time.sleep(2)
    began = time.time()
    assert leader.stop() == 0
    standby.wait_leading()
    assert taken_over(world) - began < 8 * NOISE


def taken_over(world: World) -> float:
    """The moment from which the lease's holder has it, as the lease says."""
    spec = world.call("GET", LEASE)["spec"]
    assert spec["holderIdentity"].startswith("operator-b")
    return parse_time(spec["acquireTime"]) / 1e6


def test_a_leader_that_loses_its_lease_exits(world: World, start: Start) -> None:
    leader = start(name="operator-a")
    stolen = {"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 15}}
    world.call("PATCH", LEASE, stolen, content_type=MERGE)
    assert leader.process.wait(20) == 1
    assert any("lease lost" in line["event"] for line in leader.lines())
    leader.log.write_text("")  # its error was wanted
