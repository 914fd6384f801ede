"""What the operator may do is what it does: it runs as a service account with exactly the table's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supernode_api.names import GROUP
from supernode_operator.rbac import RULES
from support.operator_world import API, MERGE, NAMESPACE, OperatorProcess, ScriptedAgent, World, wait_for
from support.permissions import calls_of, refusals_of

Start = Callable[..., OperatorProcess]
RBAC = "/apis/rbac.authorization.k8s.io/v1"
UNUSED_HERE = {
    (GROUP, "supernodes/finalizers", "update"),  # asked by an admission plugin that is off by default
    (GROUP, "supernodeworkloads/finalizers", "update"),
}
MADE_BY_APPLY = {
    (GROUP, "computenodes", "create"),
    ("", "services", "create"),
    ("apps", "statefulsets", "create"),
    ("batch", "jobs", "create"),
}
"""Apply makes what does not exist: the server then also asks for create."""


@pytest.fixture
def account(world: World) -> Iterator[Path]:
    """A service account with the rules of the table, and a kubeconfig for it."""
    rules = [{"apiGroups": [r.group], "resources": [r.resource], "verbs": list(r.verbs)} for r in RULES]
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": NAMESPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "operator-test"}
    sa = {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "operator"}}
    world.server.request("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", sa)
    world.call("POST", f"{RBAC}/clusterroles", {"metadata": {"name": "operator-test"}, "rules": rules})
    binding = {"metadata": {"name": "operator-test"}, "roleRef": role, "subjects": [subject]}
    world.call("POST", f"{RBAC}/clusterrolebindings", binding)
    yield world.server.service_account_kubeconfig(NAMESPACE, "operator")
    world.delete(f"{RBAC}/clusterrolebindings/operator-test")
    world.delete(f"{RBAC}/clusterroles/operator-test")


def test_it_needs_every_permission_of_the_table_and_no_other(
    world: World, start: Start, agent: ScriptedAgent, account: Path
) -> None:
    world.node("node-a")
    world.super_node()
    operator = start(account)
    world.workload("llama", {"managed": {"nodes": 1}})
    job = wait_for(lambda: world.get_job("llama"), "the Job")
    path = "/apis/batch/v1/namespaces/default/jobs/llama"
    world.call("PATCH", path, {"spec": {"parallelism": 2, "completions": 2}}, content_type=MERGE)
    wait_for(lambda: world.get_job("llama")["spec"]["parallelism"] == 1, "the Job is put back")
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "none"}]}}
    foreign = {"metadata": {"name": "taken"}, "spec": {"template": template}}
    world.call("POST", "/apis/batch/v1/namespaces/default/jobs", foreign)
    world.workload("taken", {"managed": {"nodes": 1}})
    world.wait_condition(lambda: world.get_workload("taken"), "Ready", "False", "JobConflict")
    world.call("PATCH", f"{API}/supernodes/cm384", {"spec": {"cabinetsPerPod": 16}}, content_type=MERGE)
    sets = lambda: world.call("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets")["items"]  # noqa: E731
    wait_for(lambda: [s["metadata"]["name"] for s in sets()] == ["cm384-cabinets"], "one StatefulSet")
    world.delete(f"{API}/supernodes/cm384")
    wait_for(lambda: not world.get_super_node(), "the SuperNode is gone")
    operator.stop()
    assert job["metadata"]["labels"]["supernode.io/workload"] == "llama"

    user = f"system:serviceaccount:{NAMESPACE}:operator"
    assert refusals_of(world.server, user) == set()
    called = calls_of(world.server, user)
    granted = {(rule.group, rule.resource, verb) for rule in RULES for verb in rule.verbs}
    assert granted - called == UNUSED_HERE | MADE_BY_APPLY
    assert called <= granted
