"""Killed after each write of a machine's and a workload's life, it comes to the same end: run, scale, move, delete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supernode_operator.rbac import RULES
from support.killing import Write, killed_until, kind_of
from support.operator_world import API, MERGE, NAMESPACE, OperatorProcess, ScriptedAgent, World, wait_for

Start = Callable[..., OperatorProcess]
KINDS = {
    "supernodes finalizer off",
    "supernodes/status applied",
    "nodes label on",
    "nodes label off",
    "computenodes applied",
    "computenodes deleted",
    "computenodes finalizer off",
    "statefulsets applied",
    "statefulsets deleted",
    "jobs scaled",
    "jobs suspended",
    "supernodeworkloads/status applied",
    "events created",
}
"""Kinds of writes after those of the creation, which has a test of its own."""
MADE = {("supernodes", "patch"), ("services", "patch"), ("jobs", "patch")}


def one_server(path: str) -> bool:
    """Every write; of the 48 ComputeNodes one."""
    return "/computenodes/" not in path or path.split("?", maxsplit=1)[0].endswith("-24")


def no_status(path: str) -> bool:
    """All but statuses: they follow the machine's digest, so each of the 48 servers would give one to cut."""
    return one_server(path) and "/status" not in path


class Life:
    """The stages of one life; what was cut, and what there was after each stage."""

    def __init__(self, world: World, agent: ScriptedAgent, start: Start, folder: Path, *, kill: bool) -> None:
        self.world, self.agent, self.start, self.folder, self.kill = world, agent, start, folder, kill
        self.cut: list[Write] = []
        self.outlines: dict[str, Any] = {}
        self.operator: OperatorProcess | None = None

    def live(self) -> None:
        self.make()
        for stage in (self.run, self.change, self.breaks, self.complete, self.move, self.delete):
            stage()
        if self.operator is not None:
            self.operator.kill()

    def until(self, stage: str, settled: Callable[[], bool], counts: Callable[[str], bool] = one_server) -> None:
        """Let the operator work until it is so: killed after each write, or undisturbed."""
        if self.kill:
            self.cut += killed_until(self.world, self.start, self.folder, settled, counts)
        else:
            wait_for(settled, stage, 40)
        self.outlines[stage] = outline(self.world)

    def make(self) -> None:
        """Undisturbed: the creation has a test of its own."""
        self.world.forget_lease()
        self.world.node("node-a")
        self.world.node("node-b", pool="none")
        self.world.super_node(cabinetsPerPod=16)
        self.world.workload("llama", {"managed": {"nodes": 2}})
        self.operator = self.start(name="maker")
        wait_for(lambda: len(self.sets()) == 1, "the StatefulSet")
        self.world.cabinets_ready()
        self.world.wait_condition(self.world.get_super_node, "Ready", "True", "AsExpected", 30)
        wait_for(lambda: self.world.get_job("llama"), "the Job")
        self.world.wait_condition(self.llama, "Ready", "False", "WaitingForPods")
        if self.kill:
            self.operator.kill()

    def run(self) -> None:
        """Two pods run: placement, performance, progress, and the machine's figures."""
        for rank in (0, 1):
            self.world.rank_pod("llama", rank)
            self.agent.hold(4 + rank, f"llama-{rank}", links="0-111")

        def settled() -> bool:
            llama = self.llama()  # one look: the rate is that of the reason
            status, machine = llama.get("status", {}), self.world.get_super_node()["status"]
            return (
                self.reason(llama) == "Running"
                and machine["performance"]["tokensPerSecond"] == status["performance"]["tokensPerSecond"]
                and machine["model"] == status["model"]
            )

        self.until("run", settled)

    def change(self) -> None:
        """Another size of the workload, other cabinet pods."""
        world = self.world
        world.call("PATCH", f"{API}/supernodes/cm384", {"spec": {"cabinetsPerPod": 4}}, content_type=MERGE)
        size = {"spec": {"pods": {"managed": {"nodes": 4}}}}
        world.call("PATCH", f"{API}/namespaces/default/supernodeworkloads/llama", size, content_type=MERGE)

        def settled() -> bool:
            return (
                self.reason(self.llama()) == "Incomplete"
                and (world.get_job("llama") or {})["spec"]["completions"] == 4
                and self.sets() == ["cm384-bus", "cm384-compute"]
                and self.agreed("llama")
            )

        self.until("change", settled)

    def breaks(self) -> None:
        """A fault; of what it makes the operator write only the Event is cut."""
        fault = {"apiVersion": "supernode.io/v1alpha1", "kind": "ComputeNode", "metadata": {"name": "cm384-03"}}
        fault["spec"] = {"faults": [{"name": "burnt", "die": 5, "code": "80E18402"}]}
        path = f"{API}/computenodes/cm384-03"
        self.world.call("PATCH", path, fault, content_type="application/apply-patch+yaml", fieldManager="sre")

        def settled() -> bool:
            degraded = self.world.condition(self.world.get_super_node(), "Degraded").get("reason")
            return degraded == "FaultsInForce" and self.agreed("llama")

        self.until("breaks", settled, lambda path: "/events" in path)
        assert len(self.world.events("cm384", "FaultsInForce")) == 1

    def complete(self) -> None:
        """A short run of a pod that somebody else made, to its end."""
        select = {"selector": {"matchLabels": {"run": "short"}}}
        self.world.workload("short", select, steps=1)
        self.world.pod("solo", "node-a", run="short")
        self.agent.hold(9, "solo")

        def settled() -> bool:
            short = self.world.get_workload("short")
            done = self.world.condition(short, "Complete").get("status") == "True"
            return done and self.agreed("short") and self.agreed("llama")

        self.until("complete", settled)

    def move(self) -> None:
        """All servers to another node."""
        world = self.world
        for pod in ("llama-0", "llama-1", "solo"):
            world.delete_pod(pod)
        self.agent.held.clear()
        world.label_node("node-b", pool="a")
        world.label_node("node-a", pool="none")

        def settled() -> bool:
            machine = world.get_super_node()
            label = world.try_get("/api/v1/nodes/node-a")["metadata"]["labels"].get("supernode.io/supernode")
            return (
                {cn["spec"].get("nodeName") for cn in world.compute_nodes()} == {"node-b"}
                and len(world.compute_nodes()) == 48
                and label is None
                and world.condition(machine, "DevicesReady").get("status") == "True"
                and self.agreed("llama")
            )

        self.until("move", settled, no_status)

    def delete(self) -> None:
        """The machine goes, and its workload stays behind with a suspended Job."""
        self.world.delete(f"{API}/supernodes/cm384")

        def settled() -> bool:
            return self.reason(self.llama()) == "SuperNodeNotFound" and not self.nodes_labelled()

        self.until("delete", settled, no_status)

    def llama(self) -> dict[str, Any]:
        return self.world.get_workload("llama")

    def agreed(self, workload: str) -> bool:
        """Whether machine and workload have the figures of the same inputs."""
        stamp = self.world.get_workload(workload).get("status", {}).get("model")
        return bool(stamp == self.world.get_super_node()["status"]["model"])

    def reason(self, obj: dict[str, Any]) -> str:
        return str(self.world.condition(obj, "Ready").get("reason"))

    def sets(self) -> list[str]:
        found = self.world.call("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets")["items"]
        return sorted(one["metadata"]["name"] for one in found)

    def nodes_labelled(self) -> list[str]:
        nodes = self.world.call("GET", "/api/v1/nodes")["items"]
        return [n["metadata"]["name"] for n in nodes if "supernode.io/supernode" in n["metadata"].get("labels", {})]


def outline(world: World) -> dict[str, Any]:
    """What is there, without times, versions and what depends on how long something took."""
    found: dict[str, Any] = {}
    paths = {
        "computenodes": f"{API}/computenodes",
        "supernodes": f"{API}/supernodes",
        "workloads": f"{API}/supernodeworkloads",
        "statefulsets": f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets",
        "jobs": "/apis/batch/v1/jobs",
        "nodes": "/api/v1/nodes",
    }
    for kind, path in paths.items():
        for one in world.call("GET", path)["items"]:
            metadata, status = one["metadata"], one.get("status", {})
            conditions = {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", [])}
            spec = {k: v for k, v in one["spec"].items() if k not in ("selector", "template")}
            kept = {"spec": spec, "finalizers": metadata.get("finalizers"), "conditions": conditions}
            kept["labels"] = metadata.get("labels")
            for key in ("placement", "performance", "allocated", "allocatable", "placedNodes"):
                kept[key] = status.get(key)
            found[f"{kind}/{metadata['name']}"] = kept
    return found


def reported(world: World) -> Counter[tuple[str, str, str]]:
    """How often each transition was reported."""
    items = world.call("GET", "/api/v1/namespaces/default/events")["items"]
    ours = [e for e in items if e["source"].get("component") == "supernode-operator"]
    assert all(e["count"] == 1 for e in ours)
    return Counter((e["involvedObject"]["name"], e["action"], e["reason"]) for e in ours)


def lasting(life: Life) -> set[tuple[str, str, str]]:
    """The conditions at the ends of the stages; those between are passed too fast for one who is killed to see each."""
    found = [(path, outline) for stage in life.outlines.values() for path, outline in stage.items()]
    return {
        (path.rpartition("/")[2], type_, reason)
        for path, outline in found
        for type_, (_status, reason) in outline["conditions"].items()
    }


def verbs(cut: list[Write]) -> set[tuple[str, str]]:
    """The writes as permissions: (resource, verb)."""
    names = {"PATCH": "patch", "POST": "create", "DELETE": "delete"}
    return {(kind_of(*write).split(" ")[0], names[write[0]]) for write in cut}


@pytest.mark.timeout(420)
def test_killed_after_each_write_of_a_life_it_comes_to_the_same_end(
    world: World, start: Start, agent: ScriptedAgent, tmp_path: Path
) -> None:
    calm = Life(world, agent, start, tmp_path, kill=False)
    calm.live()
    told = reported(world)
    agent.held.clear()
    world.clean()
    killed = Life(world, agent, start, tmp_path, kill=True)
    killed.live()
    kinds = {kind_of(*write) for write in killed.cut}
    for stage, wanted in calm.outlines.items():
        assert killed.outlines[stage] == wanted, (stage, sorted(kinds))
    assert kinds >= KINDS, KINDS - kinds
    granted = {(r.resource, v) for r in RULES for v in r.verbs if v in ("patch", "delete") or r.resource == "events"}
    assert {one for one in granted if one[1] in ("patch", "delete", "create")} - verbs(killed.cut) - MADE == set()
    again = reported(world)
    assert again <= told, "a transition is reported once, however often its reporter is killed"
    assert set(told) & lasting(calm) <= set(again), "and what lasts is reported, whenever its reporter is killed"
