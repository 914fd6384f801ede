"""Workloads against the real API server: Jobs, adopted pods, progress, completion."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from supernode_dataplane.progress import parse_time
from support.operator_world import API, MERGE, NPU, OperatorProcess, ScriptedAgent, World, wait_for
from support.pace import NOISE
from support.told import told_once

Start = Callable[..., OperatorProcess]
SELECT = {"selector": {"matchLabels": {"run": "train"}}}


def test_a_managed_workload_gets_an_indexed_job(world: World, machine: OperatorProcess) -> None:
    world.workload("llama", {"managed": {"nodes": 2}})
    job = wait_for(lambda: world.get_job("llama"), "the Job")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (2147483647, "Failed")
    assert spec["podFailurePolicy"]["rules"][0]["action"] == "Ignore"
    assert pod["automountServiceAccountToken"] is False
    assert pod["containers"][0]["resources"]["limits"][NPU] == "16"
    assert pod["containers"][0]["resources"]["limits"]["supernode.io/bus-link"] == "112"
    env = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
    assert env["SUPERNODE_WORKLOAD_URL"] == (
        "http://cm384-cabinets.supernode-system.svc:8080/v1/workloads/default/llama"
    )
    assert job["metadata"]["ownerReferences"][0]["kind"] == "SuperNodeWorkload"
    world.wait_condition(lambda: world.get_workload("llama"), "Ready", "False", "WaitingForPods")
    world.wait_condition(lambda: world.get_workload("llama"), "Accepted", "True", "AsExpected")


def test_placement_and_performance_follow_the_pods_and_stop_with_one_of_them(
    world: World, machine: OperatorProcess, agent: ScriptedAgent
) -> None:
    world.workload("llama", {"managed": {"nodes": 2}})
    wait_for(lambda: world.get_job("llama"), "the Job")
    for rank in (0, 1):
        world.rank_pod("llama", rank)
        agent.hold(4 + rank, f"llama-{rank}", links="0-111")
    said = world.wait_condition(lambda: world.get_workload("llama"), "Ready", "True", "Running")
    status = world.get_workload("llama")["status"]
    assert (status["placement"]["nodes"], status["placement"]["dies"], status["placement"]["cabinets"]) == (2, 32, 1)
    assert status["placement"]["ranks"][1] == {
        "rank": 1,
        "pod": "llama-1",
        "running": True,
        "parts": [{"server": 5, "dies": "0-15", "links": "0-111"}],
    }
    assert status["performance"]["tokensPerSecondPerCard"] in said["message"]
    rate = status["performance"]["tokensPerSecond"]
    assert status["progress"]["tokensPerSecond"] == rate
    wait_for(lambda: world.get_super_node()["status"]["performance"]["tokensPerSecond"] == rate, "the machine's rate")
    wait_for(
        lambda: world.get_super_node()["status"]["model"] == world.get_workload("llama")["status"]["model"], "stamp"
    )

    world.delete_pod("llama-1")
    agent.held.pop(5)
    world.wait_condition(lambda: world.get_workload("llama"), "Ready", "False", "Incomplete", 4)
    # The agent's word that nobody holds the dies may come before that of the pod's end.
    message = lambda: world.condition(world.get_workload("llama"), "Ready")["message"]  # noqa: E731
    wait_for(lambda: "1 of 2 ranks have no pod" in message(), "the pod that is missing")
    status = world.get_workload("llama")["status"]
    assert status["performance"]["tokensPerSecond"] == "0"
    assert status["progress"]["tokensPerSecond"] == "0"
    assert status["progress"]["tokens"] > 0
    world.rank_pod("llama", 1, "llama-1b")
    agent.hold(5, "llama-1b", links="0-111")
    world.wait_condition(lambda: world.get_workload("llama"), "Ready", "True", "Running")
    assert world.get_workload("llama")["status"]["performance"]["tokensPerSecond"] == rate


def test_a_silent_node_and_a_deleted_node_stop_the_rate_and_cordoning_does_not(
    world: World, machine: OperatorProcess, agent: ScriptedAgent
) -> None:
    world.workload("train", SELECT)
    world.pod("solo", "node-a", run="train")
    agent.hold(0, "solo")
    world.wait_condition(lambda: world.get_workload("train"), "Ready", "True", "Running")
    before = settled(world, "train")
    world.call("PATCH", "/api/v1/nodes/node-a", {"spec": {"unschedulable": True}}, content_type=MERGE)
    time.sleep(3)  # a silent node takes 2 s at most
    assert world.get_workload("train")["metadata"]["resourceVersion"] == before, "cordoning changes nothing"
    assert world.condition(world.get_workload("train"), "Ready")["reason"] == "Running"
    world.set_ready("node-a", False)
    assert seconds_until(world, "False", "Incomplete") < 2 * NOISE
    assert "not running: rank 0 (solo)" in world.condition(world.get_workload("train"), "Ready")["message"]
    world.set_ready("node-a", True)
    assert seconds_until(world, "True", "Running") < 2 * NOISE
    assert world.get_workload("train")["metadata"]["resourceVersion"] != before
    world.delete("/api/v1/nodes/node-a")
    assert seconds_until(world, "False", "Incomplete") < 2 * NOISE


def settled(world: World, name: str) -> str:
    """Wait until nothing has been written to a workload for a while; return its version."""
    for _ in range(10):
        version = str(world.get_workload(name)["metadata"]["resourceVersion"])
        time.sleep(1.5)
        if world.get_workload(name)["metadata"]["resourceVersion"] == version:
            return version
    raise AssertionError(f"{name} is written to all the time")


def seconds_until(world: World, status: str, reason: str) -> float:
    """Return how long from now (just before, the API server said what has changed) it takes the operator to act on it.

    That moment is the one that its status says: from then on the run has another rate.
    """
    said = time.time()
    world.wait_condition(lambda: world.get_workload("train"), "Ready", status, reason)
    return parse_time(world.get_workload("train")["status"]["progress"]["at"]) / 1e6 - said


def test_a_run_completes_with_exactly_its_tokens_although_the_operator_was_killed(
    world: World, start: Start, machine: OperatorProcess, agent: ScriptedAgent
) -> None:
    world.workload("train", SELECT, steps=1)
    world.pod("solo", "node-a", run="train")
    agent.hold(0, "solo")
    progress = wait_for(lambda: world.get_workload("train").get("status", {}).get("progress"), "progress")
    machine.kill()
    world.forget_lease()
    start(name="operator-b")
    seconds = 64 * 4096 / float(progress["tokensPerSecond"])
    world.wait_condition(lambda: world.get_workload("train"), "Complete", "True", "Completed", seconds + 15)
    status = world.get_workload("train")["status"]
    assert (status["progress"]["tokens"], status["progress"]["steps"]) == (64 * 4096, 1)
    took = (parse_time(status["completionTime"]) - parse_time(progress["at"])) / 1e6
    assert took == pytest.approx(seconds, abs=2e-6)
    assert status["performance"]["tokensPerSecond"] == "0"
    assert status["progress"]["tokensPerSecond"] == "0"
    assert world.condition(world.get_workload("train"), "Ready")["reason"] == "Completed"


def test_a_hand_scaled_job_is_put_back_and_the_workload_scales_it(world: World, machine: OperatorProcess) -> None:
    world.workload("llama", {"managed": {"nodes": 2}})
    wait_for(lambda: world.get_job("llama"), "the Job")
    path = "/apis/batch/v1/namespaces/default/jobs/llama"
    world.call("PATCH", path, {"spec": {"parallelism": 1, "completions": 1}}, content_type=MERGE)
    size = lambda: (world.get_job("llama")["spec"]["parallelism"], world.get_job("llama")["spec"]["completions"])  # noqa: E731
    wait_for(lambda: size() == (2, 2), "the Job is put back")
    patch = {"spec": {"pods": {"managed": {"nodes": 4}}}}
    world.call("PATCH", f"{API}/namespaces/default/supernodeworkloads/llama", patch, content_type=MERGE)
    wait_for(lambda: size() == (4, 4), "the Job is scaled")


def test_a_size_that_does_not_divide_is_refused_and_the_last_job_stays(world: World, machine: OperatorProcess) -> None:
    world.workload("llama", {"managed": {"nodes": 2}}, parallelism={"tensor": 8, "pipeline": 4})
    wait_for(lambda: world.get_job("llama"), "the Job")
    patch = {"spec": {"pods": {"managed": {"nodes": 3}}}}
    world.call("PATCH", f"{API}/namespaces/default/supernodeworkloads/llama", patch, content_type=MERGE)
    said = world.wait_condition(lambda: world.get_workload("llama"), "Accepted", "False", "InvalidParallelism")
    assert "48" in said["message"]
    assert world.get_job("llama")["spec"]["completions"] == 2


def test_a_deleted_super_node_suspends_its_jobs(world: World, machine: OperatorProcess, agent: ScriptedAgent) -> None:
    world.workload("llama", {"managed": {"nodes": 1}})
    wait_for(lambda: world.get_job("llama"), "the Job")
    world.pod("holder", "node-a")
    agent.hold(0, "holder")
    wait_for(lambda: world.get_super_node()["status"]["allocated"]["dies"] == 16, "16 dies are held")
    world.delete(f"{API}/supernodes/cm384")
    wait_for(lambda: world.get_job("llama")["spec"]["suspend"], "the Job is suspended")
    world.wait_condition(lambda: world.get_workload("llama"), "Ready", "False", "Suspended")
    world.delete_pod("holder")
    agent.held.clear()
    world.wait_condition(lambda: world.get_workload("llama"), "Ready", "False", "SuperNodeNotFound")
    assert world.get_job("llama")["spec"]["suspend"] is True


def test_two_workloads_that_select_one_pod_contest_it_and_the_older_wins(
    world: World, machine: OperatorProcess, agent: ScriptedAgent
) -> None:
    world.workload("elder", SELECT)
    world.wait_condition(lambda: world.get_workload("elder"), "Accepted", "True", "AsExpected")
    time.sleep(1.1)  # creation times have whole seconds
    world.workload("younger", SELECT)
    world.pod("solo", "node-a", run="train")
    agent.hold(0, "solo")
    world.wait_condition(lambda: world.get_workload("elder"), "Ready", "True", "Running")
    said = world.wait_condition(lambda: world.get_workload("younger"), "PodsContested", "True", "PodsContested")
    assert "solo" in said["message"]
    assert "default/elder" in said["message"]
    assert world.get_workload("younger")["status"]["placement"]["dies"] == 0
    world.pod("second", "node-a", run="train")
    contest = lambda: world.condition(world.get_workload("younger"), "PodsContested")  # noqa: E731
    wait_for(lambda: "second" in contest()["message"], "the second pod is contested too")
    assert told_once(world, "younger", "PodsContested")
    assert world.events("elder", "PodsContested") == []
    world.delete_pod("second")
    world.delete(f"{API}/namespaces/default/supernodeworkloads/elder")
    world.wait_condition(lambda: world.get_workload("younger"), "Ready", "True", "Running")
    assert world.condition(world.get_workload("younger"), "PodsContested")["status"] == "False"


def test_scattered_dies_lower_the_rate_and_the_status_says_why(
    world: World, machine: OperatorProcess, agent: ScriptedAgent
) -> None:
    world.workload("train", SELECT)
    world.pod("solo", "node-a", run="train")
    agent.hold(0, "solo")
    world.wait_condition(lambda: world.get_workload("train"), "Ready", "True", "Running")
    whole = float(world.get_workload("train")["status"]["performance"]["tokensPerSecond"])
    agent.held.clear()
    for server in range(4):
        agent.hold(server, "solo", dies="0-3")
    said = world.wait_condition(lambda: world.get_workload("train"), "SpansServers", "True", "SpansServers")
    assert "rank 0" in said["message"]
    wait_for(lambda: len(world.get_workload("train")["status"]["placement"]["ranks"][0]["parts"]) == 4, "four parts")
    assert told_once(world, "train", "SpansServers")
    scattered = world.get_workload("train")
    assert float(scattered["status"]["performance"]["tokensPerSecond"]) < whole
    assert "span servers" in json.dumps(scattered["status"]["conditions"])
