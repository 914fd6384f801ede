"""Killed after each of its writes in turn; watches that lie; two replicas and a killed leader."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.kube_proxy import KubeProxy
from support.operator_world import API, MERGE, NAMESPACE, OperatorProcess, ScriptedAgent, World, wait_for

Start = Callable[..., OperatorProcess]
_VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "ownerReferences", "selfLink")


def picture(world: World) -> dict[str, Any]:
    """Everything that the operator made, without what differs from run to run."""
    found: dict[str, Any] = {}
    paths = {
        "computenodes": f"{API}/computenodes",
        "supernodes": f"{API}/supernodes",
        "workloads": f"{API}/supernodeworkloads",
        "statefulsets": f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets",
        "services": f"/api/v1/namespaces/{NAMESPACE}/services",
        "jobs": "/apis/batch/v1/jobs",
        "nodes": "/api/v1/nodes",
    }
    for kind, path in paths.items():
        for one in world.call("GET", path)["items"]:
            kept = copy.deepcopy(one)
            for key in _VOLATILE:
                kept["metadata"].pop(key, None)
            for condition in kept.get("status", {}).get("conditions", []):
                condition.pop("lastTransitionTime", None)
                condition.pop("lastHeartbeatTime", None)
            for key in ("clusterIP", "clusterIPs"):
                kept["spec"].pop(key, None)
            if kind == "jobs":
                kept["spec"].pop("selector", None)
                kept["spec"]["template"]["metadata"].pop("labels", None)
            found[f"{kind}/{kept['metadata']['name']}"] = kept
    return found


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
    assert picture(world) == wanted, cut
    for part in (
        "/supernodes/cm384",
        "/nodes/node-a",
        "/computenodes/",
        "/services/",
        "/statefulsets/",
        "/jobs/",
        "/status",
    ):
        assert any(part in one for one in cut), (part, cut)


def is_a_cut(path: str) -> bool:
    """Every write; of the 48 ComputeNodes the first, one in the middle and the last."""
    return "/computenodes/" not in path or path.split("?", maxsplit=1)[0].endswith(("-00", "-24", "-47"))


def killed_until(world: World, start: Start, tmp_path: Path, settled_now: Callable[[], bool]) -> list[str]:
    """Start the operator again and again, each time killed after one write, until it has nothing left to write.

    Returned are the writes that were on their way when it was killed: workers write side by side, so there may be
    others beside the one that was answered with the kill.
    """
    cut: list[str] = []
    for run in range(30):
        world.forget_lease()
        with KubeProxy(world.server) as proxy:
            proxy.cut_after, proxy.counts = 1, is_a_cut
            operator = start(proxy.kubeconfig(tmp_path), name=f"victim-{run}", lead=False)
            proxy.on_cut = operator.process.kill

            def over(operator: OperatorProcess = operator, proxy: KubeProxy = proxy) -> bool:
                if operator.process.poll() is not None:
                    return True
                if not settled_now() or '"leading": true' not in operator.get(operator.health_port, "/readyz")[1]:
                    return False
                time.sleep(2.5)  # a status write may wait for its second
                return not proxy.writes

            wait_for(over, "cut or done", 60)
            operator.kill()
            if not proxy.writes:
                return cut
            cut += [f"{method} {path}".split("?")[0] for method, path, _ in proxy.writes]
    raise AssertionError(f"still writing after 30 kills: {cut}")


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
    began = time.monotonic()
    leader.kill()
    world.super_node()
    standby.wait_leading(20)
    assert time.monotonic() - began < 20
    world.wait_condition(world.get_super_node, "NodesReady", "True", "AsExpected", 20 - (time.monotonic() - began))


def test_a_leader_that_stops_hands_the_lease_over_at_once(world: World, start: Start) -> None:
    leader = start(name="operator-a")
    standby = start(name="operator-b", lead=False)
    time.sleep(2)
    began = time.monotonic()
    assert leader.stop() == 0
    standby.wait_leading(10)
    assert time.monotonic() - began < 8


def test_a_leader_that_loses_its_lease_exits(world: World, start: Start) -> None:
    leader = start(name="operator-a")
    path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/supernode-operator"
    stolen = {"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 15}}
    world.call("PATCH", path, stolen, content_type=MERGE)
    assert leader.process.wait(20) == 1
    assert any("lease lost" in line["event"] for line in leader.lines())
    leader.log.write_text("")  # its error was wanted
