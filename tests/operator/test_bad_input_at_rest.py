"""Much bad input at once, a Job that a policy of the cluster denies among it: all is said, then nothing is done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from supernode_operator.domain.jobs import reject_job
from support.operator_world import MERGE, NAMESPACE, NPU, RANK, OperatorProcess, ScriptedAgent, World, wait_for
from support.told import told_once

Start = Callable[..., OperatorProcess]
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
NO_JOBS = "Jobs need the label team"
WATCHED_SECONDS = 18
RARELY = {"SuperNode": 1, "ComputeNode": 1, "SuperNodeWorkload": 3}
"""Reconciliations in that time of all objects of a kind: two Jobs that are refused are tried again every 30 s, and one
look more may still have been under way. One single object that is looked at every 3 s is above each of them."""


def job(name: str) -> dict[str, Any]:
    """Build a Job that somebody else may make."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "none"}]}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template}}


@contextlib.contextmanager
def denied(world: World, name: str, reason: str) -> Iterator[Callable[[], None]]:
    """Deny Jobs of that name, as a cluster's own policy may; yields what lifts it."""
    group = "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    policy = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "teams"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "matchConditions": [{"name": "name", "expression": f"object.metadata.name == '{name}'"}],
            "validations": [{"expression": "has(object.metadata.labels.team)", "message": NO_JOBS, "reason": reason}],
        },
    }
    spec = {"policyName": "teams", "validationActions": ["Deny"]}
    binding = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "teams"},
        "spec": spec,
    }

    def lift() -> None:
        world.delete(f"{BINDINGS}/teams")
        world.delete(f"{POLICIES}/teams")

    try:
        world.call("POST", POLICIES, policy)
        world.call("POST", BINDINGS, binding)
        dry = lambda: world.server.request("POST", JOBS, job(name), dryRun="All")[0]  # noqa: E731
        wait_for(lambda: dry() >= 400, "the policy to be in force")
        yield lift
    finally:
        lift()


def counts(operator: OperatorProcess) -> dict[str, float]:
    """Reconciliations so far, by kind."""
    found: dict[str, float] = dict.fromkeys(RARELY, 0.0)
    head = 'controller_runtime_reconcile_total{controller="'
    for line in operator.get(operator.metrics_port, "/metrics")[1].splitlines():
        if line.startswith(head):
            found[line.removeprefix(head).split('"')[0]] += float(line.rsplit(" ", 1)[1])
    return found


def settled(operator: OperatorProcess) -> bool:
    before = counts(operator)
    time.sleep(2)
    return counts(operator) == before


def bad_machines(world: World, agent: ScriptedAgent) -> dict[str, tuple[str, str]]:
    """Make a machine with one misfortune and others that cannot be; returned: condition and reason of each."""
    world.node("node-a")
    world.node("node-f", pool="f")
    world.set_capacity("node-f", **{NPU: 8})
    world.super_node("cm384")
    time.sleep(1.1)  # the oldest
    others: dict[str, dict[str, Any]] = {
        "odd": {"profile": "cloudmatrix-9000"},
        "twin": {"superPodID": 0},
        "lost": {"nodes": {"selector": {"matchLabels": {"pool": "none"}}}},
        "late": {},
        "alien": {"nodes": {"selector": {"matchLabels": {"pool": "f"}}}},
    }
    for number, (name, spec) in enumerate(others.items()):
        world.super_node(name, **{"superPodID": number + 1, **spec})
    world.pod("holder", "node-a")
    agent.hold(1, "holder", dies="0-99")
    return {
        "cm384": ("DevicesReady", "InvalidAgentStatus"),
        "odd": ("Ready", "ProfileNotFound"),
        "twin": ("Ready", "SuperPodIDTaken"),
        "lost": ("NodesReady", "NoNodesMatch"),
        "late": ("NodesReady", "NodeTaken"),
        "alien": ("NodesReady", "ForeignDevicePlugin"),
    }


def bad_workloads(world: World) -> dict[tuple[str, str], str]:
    """Make workloads that cannot run; returned: the reason of each one's Ready, by namespace and name."""
    managed = {"managed": {"nodes": 1}}
    world.workload("no-machine", managed, super_node="nowhere")
    world.workload("no-model", managed, model={"name": "llama-9"})
    world.workload("bad-config", managed, model={"config": '{"hidden_size": "x"}'})
    world.workload("no-product", managed, parallelism={"tensor": 8, "pipeline": 3})
    world.workload("no-room", managed, model={"name": "llama-3.1-405b"}, parallelism={"tensor": 8, "pipeline": 2})
    world.workload("elsewhere", managed, namespace=NAMESPACE)
    world.call("POST", JOBS, job("occupied"))
    world.workload("occupied", managed)
    world.workload("denied", managed)
    for name in ("greedy", "far"):
        world.workload(name, {"selector": {"matchLabels": {"run": name}}})
    world.pod("greedy", run="greedy")
    stuck = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}
    path = "/api/v1/namespaces/default/pods/greedy/status"
    world.call("PATCH", path, {"status": {"conditions": [stuck]}}, content_type=MERGE)
    labels: dict[str, Any] = {"run": "far", RANK: "65536"}
    world.pod("far", "node-a", **labels)
    reasons = {
        "no-machine": "SuperNodeNotFound",
        "no-model": "ModelNotFound",
        "bad-config": "InvalidModel",
        "no-product": "InvalidParallelism",
        "no-room": "DoesNotFit",
        "occupied": "JobConflict",
        "denied": "JobRejected",
        "greedy": "Unschedulable",
        "far": "InvalidRank",
    }
    return {(NAMESPACE, "elsewhere"): "NamespaceNotAllowed", **{("default", n): r for n, r in reasons.items()}}


def test_all_bad_input_together_is_said_once_and_then_left_alone_and_a_denied_job_comes_when_it_may(
    world: World, start: Start, agent: ScriptedAgent
) -> None:
    with denied(world, "denied", "Forbidden") as lift:
        machines = bad_machines(world, agent)
        operator = start(SUPERNODE_WORKLOAD_NAMESPACES="default")
        wait_for(lambda: len([c for c in world.compute_nodes() if c.get("status")]) == 48, "48 servers have an agent")
        workloads = bad_workloads(world)
        for name, (type_, reason) in machines.items():
            world.wait_condition(lambda name=name: world.get_super_node(name), type_, "False", reason)  # type: ignore[misc]
        for (namespace, name), reason in workloads.items():
            read = lambda name=name, namespace=namespace: world.get_workload(name, namespace)  # noqa: E731
            world.wait_condition(read, "Ready", "False", reason)
        wait_for(lambda: settled(operator), "the last of it to be done", 30)

        before = counts(operator)
        time.sleep(WATCHED_SECONDS)
        after = counts(operator)
        assert before["SuperNode"] > 0
        assert {kind: after[kind] - before[kind] for kind in RARELY if after[kind] - before[kind] > RARELY[kind]} == {}
        said = {name: reason for name, (_, reason) in machines.items()}
        said |= {name: reason for (namespace, name), reason in workloads.items() if namespace == "default"}
        assert {name: len(world.events(name, reason)) for name, reason in said.items()} == dict.fromkeys(said, 1)

        assert world.get_job("denied") is None
        lift()
        wait_for(lambda: world.get_job("denied"), "the Job, tried again by itself", 45)
        world.wait_condition(lambda: world.get_workload("denied"), "Accepted", "True", "AsExpected")


@pytest.mark.parametrize("said", ["no", "quota exceeded.\n", "x" * 5000], ids=["word", "sentence", "book"])
def test_however_much_the_api_server_says_the_remedy_is_not_cut_off(said: str) -> None:
    message = reject_job(said, 30.0).message
    assert len(message) <= 1024
    assert message.startswith(f"the API server refuses the Job: {said.rstrip()[:600].rstrip('.')}")
    assert message.endswith("missing permission): the Job is tried again every 30 s")
    assert ".;" not in message.replace("...;", "")


def test_a_job_that_a_policy_denies_is_said_once_with_the_policys_words_and_the_remedy(
    world: World, start: Start
) -> None:
    world.super_node()
    with denied(world, "train", "Invalid"):
        start()
        world.workload("train", {"managed": {"nodes": 1}})
        said = world.wait_condition(lambda: world.get_workload("train"), "Accepted", "False", "JobRejected")
        assert said["message"].startswith("the API server refuses the Job: ")
        assert "ValidatingAdmissionPolicy 'teams' with binding 'teams' denied request: " + NO_JOBS in said["message"]
        assert said["message"].endswith(
            "; lift what refuses it (an admission policy, a webhook, a quota or a missing permission): "
            "the Job is tried again every 30 s"
        )
        assert world.condition(world.get_workload("train"), "Ready")["reason"] == "JobRejected"
        assert told_once(world, "train", "JobRejected")
        (event,) = world.events("train", "JobRejected")
        assert (event["type"], event["message"]) == ("Warning", said["message"])
        assert world.get_job("train") is None
