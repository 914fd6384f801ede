"""Inference workloads against the real API server: Job, placement, latencies, progress, completion, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from supernode_dataplane.progress import parse_time
from support.operator_world import API, OperatorProcess, ScriptedAgent, World, wait_for

Start = Callable[..., OperatorProcess]
SERVING: dict[str, Any] = {
    "mode": "Colocated",
    "inputTokens": 2000,
    "outputTokens": 500,
    "decode": {"parallelism": {"tensor": 4}},
    "load": {"concurrency": 200},
}


def serve(world: World, name: str, pods: dict[str, Any], **inference: Any) -> None:
    """Make a small deployment of Qwen3-32B."""
    spec = {
        "superNode": "cm384",
        "model": {"name": "qwen3-32b"},
        "inference": {**SERVING, **inference},
        "pods": pods,
    }
    body = {
        "apiVersion": "supernode.io/v1alpha1",
        "kind": "SuperNodeWorkload",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }
    world.call("POST", f"{API}/namespaces/default/supernodeworkloads", body)


def test_a_managed_deployment_gets_a_job_a_rate_latencies_and_an_end(
    world: World, machine: OperatorProcess, agent: ScriptedAgent
) -> None:
    serve(world, "qwen", {"managed": {"nodes": 1}}, requests=40)
    job = wait_for(lambda: world.get_job("qwen"), "the Job")
    assert job["spec"]["completions"] == 1
    world.rank_pod("qwen", 0)
    agent.hold(4, "qwen-0", links="0-111")
    progress = wait_for(lambda: world.get_workload("qwen").get("status", {}).get("progress"), "progress")
    status = world.get_workload("qwen")["status"]
    performance = status["performance"]
    assert progress["tokensPerSecond"] == performance["tokensPerSecond"]
    assert float(performance["tpotSeconds"]) > 0
    assert float(performance["ttftSeconds"]) > 0
    assert float(performance["promptTokensPerSecond"]) == pytest.approx(
        4 * float(performance["tokensPerSecond"]), rel=1e-3
    )
    said = world.condition(world.get_workload("qwen"), "Ready")
    assert f"TPOT {float(performance['tpotSeconds']) * 1e3:.4g} ms" in said["message"]
    seconds = 40 * 500 / float(progress["tokensPerSecond"])
    world.wait_condition(lambda: world.get_workload("qwen"), "Complete", "True", "Completed", seconds + 15)
    done = world.get_workload("qwen")["status"]
    assert (done["progress"]["tokens"], done["progress"]["steps"]) == (40 * 500, 40)
    took = (parse_time(done["completionTime"]) - parse_time(progress["at"])) / 1e6
    assert took == pytest.approx(seconds, abs=2e-6)


def test_one_that_cannot_fit_or_be_split_gets_no_job_and_the_arithmetic(world: World, machine: OperatorProcess) -> None:
    serve(world, "large", {"managed": {"nodes": 1}}, load={"concurrency": 100_000})
    said = world.wait_condition(lambda: world.get_workload("large"), "Accepted", "False", "DoesNotFit")
    assert "GiB on a die" in said["message"]
    assert "spec.inference.decode" in said["message"]
    serve(world, "odd", {"managed": {"nodes": 1}}, decode={"parallelism": {"tensor": 3}})
    said = world.wait_condition(lambda: world.get_workload("odd"), "Accepted", "False", "InvalidParallelism")
    assert "tensor 3 does not divide 1 x 16 = 16 dies" in said["message"]
    assert world.get_job("large") is None
    assert world.get_job("odd") is None


def test_adopted_pods_serve_when_they_hold_enough(world: World, machine: OperatorProcess, agent: ScriptedAgent) -> None:
    serve(world, "adopted", {"selector": {"matchLabels": {"run": "serve"}}}, decode={"parallelism": {"tensor": 32}})
    world.pod("serve-0", "node-a", run="serve")
    agent.hold(0, "serve-0")
    world.wait_condition(lambda: world.get_workload("adopted"), "Ready", "False", "Incomplete")
    message = lambda: world.condition(world.get_workload("adopted"), "Ready")["message"]  # noqa: E731
    wait_for(lambda: "a decode pool needs at least 32" in message(), "the status to say what is too little")
    world.pod("serve-1", "node-a", run="serve")
    agent.hold(1, "serve-1")
    world.wait_condition(lambda: world.get_workload("adopted"), "Ready", "True", "Running")
