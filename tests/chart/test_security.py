"""Pod Security and permissions on the rendered chart: each field that a reviewer would look for."""

from __future__ import annotations

from typing import Any

import pytest

from supernode_api.names import FIELD_MANAGER, PLURALS
from supernode_operator.rbac import RULES
from support.chart import AGENT_NAMESPACE, NAMESPACE, RELEASE, find, pod_specs, render

ESCALATING = {"escalate", "bind", "impersonate", "approve", "sign"}
ROLES = ("Role", "ClusterRole")


def rules_of(objects: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    wanted = {f"{RELEASE}-{name}" for name in names}
    return [r for o in objects if o["kind"] in ROLES and o["metadata"]["name"] in wanted for r in o["rules"]]


def all_rules() -> list[dict[str, Any]]:
    return [rule for o in render({"workloads.clusterWide": True}) if o["kind"] in ROLES for rule in o["rules"]]


PODS = ["Deployment/supernode-operator", "DaemonSet/supernode-agent", "Job/supernode-uninstall", "Pod/supernode-test"]


def test_no_pod_is_missing_in_these_tests() -> None:
    assert sorted(dict(pod_specs(render()))) == sorted(PODS)


@pytest.mark.parametrize("name", PODS)
def test_every_container_gives_up_what_it_can(name: str) -> None:
    spec = dict(pod_specs(render()))[name]
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "initContainers"} & set(spec)
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not context.get("privileged")
        assert not any("hostPort" in port for port in container.get("ports", []))
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def test_everything_in_the_release_namespace_is_restricted() -> None:
    specs = dict(pod_specs([o for o in render() if o["metadata"].get("namespace") == NAMESPACE]))
    assert set(specs) == {
        "Deployment/supernode-operator",
        "Job/supernode-uninstall",
        "Pod/supernode-test",
    }
    for spec in specs.values():
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["runAsGroup"] == 65532
        assert {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"} <= {"emptyDir"}


def test_the_agent_is_root_without_any_power_but_two_folders_of_the_kubelet() -> None:
    daemon_set = find(render(), "DaemonSet", "agent")
    assert daemon_set["metadata"]["namespace"] == AGENT_NAMESPACE
    spec = daemon_set["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsUser"] == 0
    assert spec["containers"][0]["securityContext"]["privileged"] is False
    paths = {v["hostPath"]["path"]: v["hostPath"]["type"] for v in spec["volumes"] if "hostPath" in v}
    assert paths == {
        "/var/lib/kubelet/device-plugins": "Directory",
        "/var/lib/kubelet/pod-resources": "Directory",
    }


def test_only_the_agents_namespace_is_privileged_and_the_chart_makes_it() -> None:
    namespaces = [o for o in render() if o["kind"] == "Namespace"]
    assert [n["metadata"]["name"] for n in namespaces] == [AGENT_NAMESPACE]
    assert namespaces[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


def test_tokens_are_mounted_only_where_a_pod_says_so() -> None:
    objects = render()
    for account in (o for o in objects if o["kind"] == "ServiceAccount"):
        # Pods of cabinets are made by the operator and take the account's word for it.
        wanted = account["metadata"]["name"] == f"{RELEASE}-cabinet"
        assert account["automountServiceAccountToken"] is wanted, account["metadata"]["name"]
    assert all(spec["automountServiceAccountToken"] is True for _, spec in pod_specs(objects))
    used = {spec["serviceAccountName"] for _, spec in pod_specs(objects)} | {f"{RELEASE}-cabinet"}
    assert used == {o["metadata"]["name"] for o in objects if o["kind"] == "ServiceAccount"}


def test_no_rule_has_a_wildcard_or_grants_more_rights() -> None:
    for rule in all_rules():
        words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert not any("*" in word for word in words), rule
        assert not ESCALATING & set(rule["verbs"]), rule
        assert rule["verbs"], rule
        assert rule["resources"], rule


def test_nobody_reads_secrets_or_makes_pods_or_runs_commands_in_them() -> None:
    for rule in all_rules():
        assert not {"secrets", "pods/exec", "pods/attach", "serviceaccounts/token", "nodes/proxy"} & set(
            rule["resources"]
        )
        if "pods" in rule["resources"]:
            assert {"get", "list", "watch"} >= set(rule["verbs"])


def test_the_agent_writes_status_and_nothing_else() -> None:
    assert rules_of(render(), "agent") == [
        {"apiGroups": ["supernode.io"], "resources": ["computenodes"], "verbs": ["list", "watch"]},
        {"apiGroups": ["supernode.io"], "resources": ["computenodes/status"], "verbs": ["patch"]},
    ]


def test_cabinets_write_nothing() -> None:
    (rule,) = rules_of(render(), "cabinet")
    assert rule["apiGroups"] == ["supernode.io"]
    assert rule["verbs"] == ["list", "watch"]
    assert set(rule["resources"]) == set(PLURALS.values())


def test_hooks_change_supernodes_only_and_the_test_reads_nodes_to_choose_one() -> None:
    ours = {"apiGroups": ["supernode.io"], "resources": ["supernodes"]}
    assert rules_of(render(), "uninstall") == [{**ours, "verbs": ["list", "delete"]}]
    assert rules_of(render(), "test") == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]},
        {**ours, "verbs": ["list", "create"]},
        {**ours, "resourceNames": [f"{RELEASE}-test"], "verbs": ["get", "delete"]},
    ]


def granted(kind: str, name: str) -> set[tuple[str, str, str]]:
    """Return (group, resource, verb) of one role."""
    role = find(render(), kind, name)
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize(
    ("scope", "kind", "name"),
    [
        ("cluster", "ClusterRole", "operator"),
        ("release", "Role", "operator"),
        ("workloads", "ClusterRole", "workloads"),
    ],
)
def test_the_operator_is_granted_exactly_what_its_table_says(scope: str, kind: str, name: str) -> None:
    wanted = {(rule.group, rule.resource, verb) for rule in RULES if rule.scope == scope for verb in rule.verbs}
    assert granted(kind, name) == wanted


def test_no_permission_of_the_operator_is_granted_twice() -> None:
    cluster, release = granted("ClusterRole", "operator"), granted("Role", "operator")
    assert not cluster & release
    assert not cluster & granted("ClusterRole", "workloads")


def test_only_one_lease_can_be_taken() -> None:
    rules = [rule for rule in rules_of(render(), "operator") if rule["resources"] == ["leases"]]
    assert {verb for rule in rules if "resourceNames" not in rule for verb in rule["verbs"]} == {"create"}
    assert {name for rule in rules for name in rule.get("resourceNames", [])} == {FIELD_MANAGER}


def test_every_role_is_bound_to_an_account_that_exists() -> None:
    objects = render()
    accounts = {(o["metadata"]["namespace"], o["metadata"]["name"]) for o in objects if o["kind"] == "ServiceAccount"}
    roles = {(o["kind"], o["metadata"]["name"]) for o in objects if o["kind"] in ROLES}
    bound = set()
    for obj in objects:
        if obj["kind"].endswith("Binding") and "roleRef" in obj:
            bound.add((obj["roleRef"]["kind"], obj["roleRef"]["name"]))
            assert {(s["namespace"], s["name"]) for s in obj["subjects"]} <= accounts
    assert bound == roles


def test_the_policy_names_the_agents_account_and_the_status_of_computenodes() -> None:
    objects = render()
    account = find(objects, "ServiceAccount", "agent")["metadata"]
    policy = find(objects, "ValidatingAdmissionPolicy", "agent-node")["spec"]
    (condition,) = policy["matchConditions"]
    assert f'"system:serviceaccount:{account["namespace"]}:{account["name"]}"' in condition["expression"]
    (rule,) = policy["matchConstraints"]["resourceRules"]
    assert rule["resources"] == ["computenodes/status"]
    assert policy["failurePolicy"] == "Fail"
    binding = find(objects, "ValidatingAdmissionPolicyBinding", "agent-node")["spec"]
    assert binding == {"policyName": "supernode-agent-node", "validationActions": ["Deny"]}
