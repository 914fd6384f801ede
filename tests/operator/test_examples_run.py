"""Examples as they stand, with the operator at work: what each file's first lines say is what becomes of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.operator_world import MERGE, NAMESPACE, RANK, OperatorProcess, ScriptedAgent, World, wait_for

Start = Callable[..., OperatorProcess]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
POOL = "supernode.io/pool"


def test_the_dedicated_machine_gets_a_node_for_each_server_and_is_partly_up_until_then(
    world: World, start: Start, agent: ScriptedAgent
) -> None:
    for number in range(47):
        pooled(world, f"node-{number:02d}", "cm384-dedicated")
    pooled(world, "stranger", "cm384")
    world.server.kubectl("apply", "-f", EXAMPLES / "supernode-dedicated.yaml")
    start()
    machine = lambda: world.get_super_node("cm384-dedicated")  # noqa: E731
    said = world.wait_condition(machine, "NodesReady", "False", "NotEnoughNodes")
    assert said["message"].startswith("1 of 48 servers have no Kubernetes node")
    pooled(world, "node-47", "cm384-dedicated")
    world.wait_condition(machine, "NodesReady", "True", "AsExpected", 60)
    servers = world.compute_nodes()
    assert [one["spec"]["serverIndex"] for one in sorted(servers, key=lambda one: one["metadata"]["name"])] == [
        *range(48)
    ]
    assert {one["spec"]["superNode"] for one in servers} == {"cm384-dedicated"}
    assert sorted(one["spec"]["nodeName"] for one in servers) == [f"node-{number:02d}" for number in range(48)]
    sets = world.call("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets")["items"]
    assert {one["metadata"]["name"]: one["spec"]["replicas"] for one in sets} == {
        "cm384-dedicated-compute": 3,  # four cabinets in each pod
        "cm384-dedicated-bus": 1,
    }
    world.cabinets_ready()
    world.wait_condition(machine, "Ready", "True", "AsExpected", 60)
    assert machine()["status"]["kubernetesNodes"] == 48


def test_the_workload_of_adopted_pods_has_exactly_the_pods_of_its_job_and_a_rate(
    world: World, start: Start, agent: ScriptedAgent
) -> None:
    pooled(world, "worker", "cm384")
    world.server.kubectl("apply", "-f", EXAMPLES / "supernode-384.yaml", "-f", EXAMPLES / "adopted-pods.yaml")
    start()
    workload = lambda: world.get_workload("llama-3-1-8b")  # noqa: E731
    world.wait_condition(workload, "Ready", "False", "WaitingForPods")
    wait_for(lambda: len([c for c in world.compute_nodes() if c.get("status")]) == 48, "48 servers have an agent")
    job = world.get_job("llama-3-1-8b")
    assert job is not None
    assert job["spec"]["completions"] == 2
    for index in range(2):
        job_pod(world, job, index)
        hold(agent, 10 + index, f"llama-3-1-8b-{index}", "trainer")
    world.pod("stranger", "worker", training="llama-3-1-70b")
    hold(agent, 20, "stranger", "worker")
    said = world.wait_condition(workload, "Ready", "True", "Running", 60)
    assert "tokens/s on each card, 32 dies on 2 servers" in said["message"]
    status = workload()["status"]
    assert [(one["rank"], one["pod"], one["running"]) for one in status["placement"]["ranks"]] == [
        (0, "llama-3-1-8b-0", True),
        (1, "llama-3-1-8b-1", True),
    ]
    assert (status["placement"]["dies"], status["placement"]["nodes"]) == (32, 2)
    assert float(status["performance"]["tokensPerSecond"]) > 0
    world.wait_condition(workload, "Accepted", "True", "AsExpected")
    jobs = world.call("GET", "/apis/batch/v1/jobs")["items"]
    assert [(one["metadata"]["name"], one["metadata"]["uid"]) for one in jobs] == [
        ("llama-3-1-8b", job["metadata"]["uid"])
    ]


def pooled(world: World, name: str, pool: str) -> None:
    """Make a Node with the label that the example tells its reader to put on it."""
    world.node(name)
    world.label_node(name, **{POOL: pool})


def job_pod(world: World, job: dict[str, Any], index: int) -> None:
    """Play Job controller, scheduler and kubelet: a pod of the Job's own template, bound, and its container runs."""
    name, namespace = f"{job['metadata']['name']}-{index}", job["metadata"]["namespace"]
    pods = f"/api/v1/namespaces/{namespace}/pods"
    pod = copy.deepcopy(job["spec"]["template"])
    reference = {"apiVersion": "batch/v1", "kind": "Job", "controller": True}
    reference |= {key: job["metadata"][key] for key in ("name", "uid")}
    pod["metadata"] |= {"name": name, "ownerReferences": [reference]}
    pod["metadata"]["labels"][RANK] = str(index)
    world.call("POST", pods, {"apiVersion": "v1", "kind": "Pod", **pod})
    world.made.append(f"{pods}/{name}")
    target = {"apiVersion": "v1", "kind": "Node", "name": "worker"}
    world.call("POST", f"{pods}/{name}/binding", {"metadata": {"name": name}, "target": target})
    (container,) = pod["spec"]["containers"]
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    running = {"image": "", "imageID": "", "ready": True, "restartCount": 0, "state": state, "name": container["name"]}
    status = {"status": {"phase": "Running", "containerStatuses": [running]}}
    world.call("PATCH", f"{pods}/{name}/status", status, content_type=MERGE)


def hold(agent: ScriptedAgent, server: int, pod: str, container: str) -> None:
    """Say that a pod's container holds a whole server with its links."""
    entry = {"namespace": "default", "pod": pod, "container": container, "dies": "0-15", "links": "0-111"}
    agent.held[server] = [entry]
