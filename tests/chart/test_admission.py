"""What a real API server says to the chart's objects: Pod Security, the policy for agents, the permissions."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from support.apiserver import ApiServer, KubectlError, running_api_server
from support.chart import AGENT_NAMESPACE, NAMESPACE, RELEASE, find, helm, pod_specs, render

pytestmark = pytest.mark.api

AGENT = f"{RELEASE}-agent"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


def named(kind: str, name: str, spec: dict[str, Any], namespace: str | None = None) -> dict[str, Any]:
    api = "supernode.io/v1alpha1" if kind == "ComputeNode" else "v1"
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def installed() -> Iterator[ApiServer]:
    """An API server of its own with the chart installed by helm; nothing runs there, so nothing is waited for.

    Its own, because the chart's policy and namespaces would meet other tests' objects on the shared one.
    """
    with running_api_server() as server:
        server.kubectl("create", "namespace", NAMESPACE)
        server.kubectl("label", "namespace", NAMESPACE, RESTRICTED)
        options = ["--namespace", NAMESPACE, "--set", "crds.install=false", "--wait=hookOnly"]
        helm("install", RELEASE, "helm/supernode", *options, kubeconfig=server.kubeconfig)
        yield server


def test_helm_installs_everything_that_is_rendered(installed: ApiServer) -> None:
    for obj in render({"crds.install": False}):
        if "helm.sh/hook" in obj["metadata"].get("annotations", {}):
            continue
        namespace = obj["metadata"].get("namespace")
        scope = ["-n", namespace] if namespace else []
        assert installed.kubectl("get", f"{obj['kind']}/{obj['metadata']['name']}", *scope, "-o", "name")


def test_the_crds_of_the_chart_are_taken_too(installed: ApiServer) -> None:
    crds = [o for o in render() if o["kind"] == "CustomResourceDefinition"]
    applied = installed.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", input=documents(crds)
    )
    assert applied.count("serverside-applied") == len(crds) == 3


@pytest.mark.parametrize("name", ["Deployment/supernode-operator", "Job/supernode-uninstall", "Pod/supernode-test"])
def test_pods_of_the_release_namespace_pass_the_restricted_standard(installed: ApiServer, name: str) -> None:
    spec = dict(pod_specs(render()))[name]
    status, answer = create_pod(installed, spec, NAMESPACE)
    assert status == 201, answer
    spec = {**spec, "hostNetwork": True}
    status, answer = create_pod(installed, spec, NAMESPACE)
    assert status == 403
    assert "restricted" in answer["message"]


def test_the_agents_pod_passes_in_its_own_namespace_and_nowhere_restricted(installed: ApiServer) -> None:
    spec = dict(pod_specs(render()))[f"DaemonSet/{AGENT}"]
    assert create_pod(installed, spec, AGENT_NAMESPACE)[0] == 201
    status, answer = create_pod(installed, spec, NAMESPACE)
    assert status == 403
    assert "hostPath" in answer["message"]


def create_pod(server: ApiServer, spec: dict[str, Any], namespace: str) -> tuple[int, Any]:
    spec = {**spec, "priorityClassName": ""}  # the class's own objects come with a controller
    pod = named("Pod", "would-be", spec, namespace)
    return server.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod, dryRun="All")


def documents(objects: list[dict[str, Any]]) -> str:
    return "\n---\n".join(json.dumps(obj) for obj in objects)


# ------------------------------------------------------------ what an agent may write


@pytest.fixture(scope="module")
def agent(installed: ApiServer) -> Iterator[ApiServer]:
    """A ComputeNode on each of two nodes, one on none, and an agent's pod on each node."""
    spec: dict[str, Any]
    for node in ("here", "there"):
        installed.kubectl(
            "apply", "-f", "-", input=documents([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}])
        )
        spec = {
            "serviceAccountName": AGENT,
            "nodeName": node,
            "containers": [{"name": "agent", "image": "docker.io/library/supernode:0.1.0"}],
        }
        installed.kubectl("apply", "-f", "-", input=json.dumps(named("Pod", f"agent-{node}", spec, AGENT_NAMESPACE)))
    for index, node in enumerate(("here", "there", "")):
        spec = {
            "superNode": "cm384",
            "cabinet": 0,
            "serverIndex": index,
            "devices": {
                "npuResource": "huawei.com/Ascend910",
                "busLinkResource": "supernode.io/bus-link",
                "firstDie": 0,
                "dies": 16,
                "planes": 7,
            },
            **({"nodeName": node} if node else {}),
        }
        installed.kubectl("apply", "-f", "-", input=json.dumps(named("ComputeNode", f"cm384-{node or 'none'}", spec)))
    yield installed
    installed.kubectl("delete", "node", "here", "there")
    installed.kubectl("delete", "pod", "--all", "-n", AGENT_NAMESPACE, "--force", "--grace-period=0")


def write_status(server: ApiServer, token: str, name: str) -> str:
    """Patch a status with a token and return what the API server says; kubectl would read the object first."""
    request = urllib.request.Request(
        f"{server.url}/apis/supernode.io/v1alpha1/computenodes/{name}/status",
        data=json.dumps({"status": {"observedGeneration": 1}}).encode(),
        headers={"Content-Type": "application/merge-patch+json", "Authorization": f"Bearer {token}"},
        method="PATCH",
    )
    context = ssl.create_default_context(cafile=str(server.ca))
    try:
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            return f"{answer.status} written"
    except urllib.error.HTTPError as error:
        return f"{error.code} {json.load(error)['message']}"


def token_of(server: ApiServer, node: str) -> str:
    """Return a token as the kubelet projects it: bound to the agent's pod, which is on that node."""
    bound = ["--bound-object-kind", "Pod", "--bound-object-name", f"agent-{node}"]
    return server.kubectl("create", "token", AGENT, "-n", AGENT_NAMESPACE, *bound).strip()


def test_an_agent_writes_the_status_of_servers_on_its_node(agent: ApiServer) -> None:
    assert write_status(agent, token_of(agent, "here"), "cm384-here") == "200 written"
    assert write_status(agent, token_of(agent, "there"), "cm384-there") == "200 written"


def test_an_agent_is_refused_on_another_node_with_both_names(agent: ApiServer) -> None:
    told = write_status(agent, token_of(agent, "here"), "cm384-there")
    assert told.startswith("403 ")
    assert "node agent on node 'here' may not write the status of ComputeNode 'cm384-there'" in told
    assert "which is on node 'there'" in told


def test_a_server_without_a_node_takes_no_agents_word(agent: ApiServer) -> None:
    told = write_status(agent, token_of(agent, "here"), "cm384-none")
    assert "may not write the status of ComputeNode 'cm384-none', which is on node ''" in told


def test_a_token_of_the_agents_account_without_a_node_is_worth_nothing(agent: ApiServer) -> None:
    token = agent.kubectl("create", "token", AGENT, "-n", AGENT_NAMESPACE).strip()
    told = write_status(agent, token, "cm384-here")
    assert "the token of the node agent names no node" in told


def test_an_agent_cannot_write_anything_but_that_status(agent: ApiServer) -> None:
    bound = ["--bound-object-kind", "Pod", "--bound-object-name", "agent-here"]
    kubeconfig = f"--kubeconfig={agent.service_account_kubeconfig(AGENT_NAMESPACE, AGENT, *bound)}"
    for command in (
        ["delete", "computenode", "cm384-here"],
        ["label", "computenode", "cm384-here", "a=b"],
        ["label", "node", "here", "a=b"],
        ["get", "pods", "-A"],
        ["get", "supernodes"],
    ):
        assert "forbidden" in agent.kubectl(kubeconfig, *command, check=False), command


def test_the_policy_leaves_everybody_else_alone(agent: ApiServer) -> None:
    path = "/apis/supernode.io/v1alpha1/computenodes/cm384-there/status"
    patch = {"status": {"observedGeneration": 2}}
    assert agent.request("PATCH", path, patch, content_type="application/merge-patch+json")[0] == 200


def test_the_policys_expressions_have_the_types_that_the_api_has(controlled_api_server: ApiServer) -> None:
    policy = find(render(), "ValidatingAdmissionPolicy", "agent-node")
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    assert controlled_api_server.request("POST", path, policy)[0] == 201
    try:
        deadline = time.monotonic() + 20
        checked: dict[str, Any] = {}
        while "typeChecking" not in checked and time.monotonic() < deadline:
            time.sleep(0.1)  # a controller checks them
            checked = controlled_api_server.request("GET", f"{path}/{RELEASE}-agent-node")[1].get("status", {})
        assert checked["typeChecking"].get("expressionWarnings", []) == []
    finally:
        controlled_api_server.request("DELETE", f"{path}/{RELEASE}-agent-node")


def can(server: ApiServer, account: str, namespace: str, verb: str, resource: str, where: str) -> bool:
    subject = f"--as=system:serviceaccount:{namespace}:{account}"
    answer = server.kubectl("auth", "can-i", verb, resource, subject, "-n", where, check=False)
    return answer.splitlines()[-1].strip() == "yes"


def test_the_operator_may_make_jobs_where_the_values_say_and_nowhere_else(installed: ApiServer) -> None:
    operator = (installed, f"{RELEASE}-operator", NAMESPACE)
    assert can(*operator, "create", "jobs.batch", "default")
    assert not can(*operator, "create", "jobs.batch", "kube-system")
    assert not can(*operator, "create", "jobs.batch", NAMESPACE)
    assert can(*operator, "create", "statefulsets.apps", NAMESPACE)
    assert not can(*operator, "create", "statefulsets.apps", "default")
    assert not can(*operator, "get", "secrets", NAMESPACE)


def test_a_namespace_that_is_not_there_stops_the_installation_with_its_name(api_server: ApiServer) -> None:
    binding = next(
        o for o in render({"workloads.namespaces": ["nowhere"]}) if o["metadata"].get("namespace") == "nowhere"
    )
    with pytest.raises(KubectlError, match='namespaces "nowhere" not found'):
        api_server.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(binding))


def test_all_toggles_on_are_taken_by_the_api_server(installed: ApiServer) -> None:
    policies = [o for o in render({"networkPolicy.enabled": True}) if o["kind"] == "NetworkPolicy"]
    assert installed.kubectl("apply", "--dry-run=server", "-f", "-", input=documents(policies)).count("created") == 3
    hooks = [o for o in render() if "helm.sh/hook" in o["metadata"].get("annotations", {})]
    made = installed.kubectl("apply", "--dry-run=server", "-f", "-", input=documents(hooks))
    assert made.count("created") == len(hooks)
    assert find(hooks, "Job", "uninstall")
