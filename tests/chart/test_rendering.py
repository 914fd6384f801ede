"""What the chart renders, and that the programs in the image understand it."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from supernode_api.names import CABINET_ROLE_LABEL, NODE_LABEL, PLURALS, POD_RESOURCES_SOCKET
from supernode_deviceplugin.settings import read_settings
from supernode_operator.config import load_config
from support.chart import (
    AGENT_NAMESPACE,
    CHART,
    NAMESPACE,
    RELEASE,
    ROOT,
    HelmError,
    find,
    helm,
    pod_specs,
    render,
)

ALL_ON = {
    "networkPolicy.enabled": True,
    "metrics.serviceMonitor.enabled": True,
    "imagePullSecrets": ["registry"],
    "otel.endpoint": "http://collector:4317",
}


def environment(spec: dict[str, Any], fields: dict[str, str]) -> dict[str, str]:
    """Return a container's environment as its process sees it, with these values of pod fields."""
    found = {}
    for entry in spec["containers"][0]["env"]:
        reference = entry.get("valueFrom")
        found[entry["name"]] = fields[reference["fieldRef"]["fieldPath"]] if reference else entry["value"]
    return found


def operator_environment(values: dict[str, Any] | None = None) -> dict[str, str]:
    spec = find(render(values), "Deployment", "operator")["spec"]["template"]["spec"]
    return environment(spec, {"metadata.namespace": NAMESPACE, "metadata.name": "supernode-operator-x"})


def test_the_chart_is_clean_for_helm_lint() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, "--kube-version", "1.34.0")


def test_a_cluster_that_is_too_old_is_told_so() -> None:
    with pytest.raises(HelmError, match=r"requires kubeVersion: >=1\.34\.0-0 which is incompatible .* v1\.33\.9"):
        render(kube_version="1.33.9")


@pytest.mark.parametrize("version", ["1.34.0", "1.37.1", "1.34.3-gke.100", "1.35.0+k3s1"])
def test_clusters_from_1_34_on_are_taken_also_those_of_distributions(version: str) -> None:
    assert render(kube_version=version)


@pytest.mark.parametrize("values", [{}, ALL_ON, {"workloads.clusterWide": True}], ids=["default", "all", "wide"])
def test_every_object_has_the_recommended_labels_and_a_namespace_of_ours(values: dict[str, Any]) -> None:
    for obj in render(values):
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "supernode", obj["metadata"]
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["app.kubernetes.io/part-of"] == "supernode"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert {"app.kubernetes.io/component", "app.kubernetes.io/version", "helm.sh/chart"} <= set(labels)
        assert obj["metadata"].get("namespace", NAMESPACE) in (NAMESPACE, AGENT_NAMESPACE, "default")


def test_no_object_is_there_twice() -> None:
    objects = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in render(ALL_ON)]
    assert len(objects) == len(set(objects))


def test_selectors_hold_only_what_never_changes() -> None:
    wanted = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
    for kind, name in (("Deployment", "operator"), ("DaemonSet", "agent"), ("PodDisruptionBudget", "operator")):
        assert set(find(render(), kind, name)["spec"]["selector"]["matchLabels"]) == wanted


def test_the_crds_are_the_generated_ones_and_stay_on_uninstall() -> None:
    rendered = {o["metadata"]["name"]: o for o in render() if o["kind"] == "CustomResourceDefinition"}
    assert set(rendered) == {f"{plural}.supernode.io" for plural in PLURALS.values()}
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        source = yaml.safe_load(path.read_text(encoding="utf-8"))
        crd = rendered[source["metadata"]["name"]]
        assert crd["spec"] == source["spec"]
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_crds_can_be_left_out_or_left_to_helm() -> None:
    assert not [o for o in render({"crds.install": False}) if o["kind"] == "CustomResourceDefinition"]
    for obj in render({"crds.keep": False}):
        assert "helm.sh/resource-policy" not in obj["metadata"].get("annotations", {})


def test_every_command_is_a_module_of_ours_that_can_be_run() -> None:
    commands = {tuple(spec["containers"][0]["command"]) for _, spec in pod_specs(render())}
    modules = {command[2] for command in commands if command[:2] == ("python3", "-m")}
    assert len(modules) == len(commands) == 4
    for module in modules:
        package = "." not in module
        assert importlib.util.find_spec(f"{module}.__main__" if package else module), module


def test_the_operator_reads_what_the_chart_sets() -> None:
    config = load_config(operator_environment())
    assert config.namespace == NAMESPACE
    assert config.image == "docker.io/library/supernode:0.1.0"
    assert config.image_pull_policy == "IfNotPresent"
    assert config.cabinet_service_account == find(render(), "ServiceAccount", "cabinet")["metadata"]["name"]
    assert config.workload_namespaces == {"default"}
    assert config.identity == "supernode-operator-x"
    assert config.kubeconfig is None
    assert (config.log_level, config.log_format) == ("INFO", "json")
    assert config.telemetry == {}


@pytest.mark.parametrize(
    ("values", "allowed", "forbidden"),
    [
        ({"workloads.namespaces": ["a", "b"]}, {"a", "b"}, {"default"}),
        ({"workloads.namespaces": []}, set(), {"default"}),
        ({"workloads.clusterWide": True}, {"default", "anything"}, set()),
    ],
)
def test_jobs_are_allowed_where_the_values_say_and_bound_nowhere_else(
    values: dict[str, Any], allowed: set[str], forbidden: set[str]
) -> None:
    config = load_config(operator_environment(values))
    assert all(config.allows_jobs_in(namespace) for namespace in allowed)
    assert not any(config.allows_jobs_in(namespace) for namespace in forbidden)
    role = f"{RELEASE}-workloads"
    bound = [o for o in render(values) if o.get("roleRef", {}).get("name") == role]
    if values.get("workloads.clusterWide"):
        assert [o["kind"] for o in bound] == ["ClusterRoleBinding"]
    else:
        assert {o["metadata"]["namespace"] for o in bound} == allowed
        assert {o["kind"] for o in bound} <= {"RoleBinding"}


def test_telemetry_settings_become_standard_variables() -> None:
    values = {
        "otel.endpoint": "http://collector.observability:4317",
        "otel.headers": {"x-team": "a b,c=d"},
        "otel.env": {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=ci"},
    }
    assert load_config(operator_environment(values)).telemetry == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.observability:4317",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-team=a%20b%2Cc%3Dd",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=ci",
    }


def test_the_agent_reads_what_the_chart_sets() -> None:
    spec = find(render(), "DaemonSet", "agent")["spec"]["template"]["spec"]
    fields = {"spec.nodeName": "worker", "metadata.namespace": AGENT_NAMESPACE, "metadata.name": "supernode-agent-x"}
    settings = read_settings(environment(spec, fields))
    assert settings.node_name == "worker"
    assert settings.own_pod == (AGENT_NAMESPACE, "supernode-agent-x")
    container = spec["containers"][0]
    assert container["name"] == "agent"
    assert {port["containerPort"] for port in container["ports"]} == {settings.health_port}
    mounts = {Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    assert settings.kubelet_dir in mounts
    assert settings.pod_resources == Path(POD_RESOURCES_SOCKET)
    assert settings.pod_resources.parent in mounts


def test_probes_ask_the_ports_that_the_programs_listen_on() -> None:
    config = load_config(operator_environment())
    ports = find(render(), "Deployment", "operator")["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert {port["name"]: port["containerPort"] for port in ports} == {
        "health": config.health_port,
        "metrics": config.metrics_port,
    }
    for kind, name in (("Deployment", "operator"), ("DaemonSet", "agent")):
        container = find(render(), kind, name)["spec"]["template"]["spec"]["containers"][0]
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}


def test_the_agent_runs_exactly_where_the_operator_says_and_tolerates_every_taint() -> None:
    daemon_set = find(render(), "DaemonSet", "agent")["spec"]
    spec = daemon_set["template"]["spec"]
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchExpressions": [{"key": NODE_LABEL, "operator": "Exists"}]}
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["priorityClassName"] == "system-node-critical"
    assert daemon_set["updateStrategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_two_operators_prefer_two_nodes_and_drains_leave_one() -> None:
    deployment = find(render(), "Deployment", "operator")["spec"]
    assert deployment["replicas"] == 2
    terms = deployment["template"]["spec"]["affinity"]["podAntiAffinity"]
    (term,) = terms["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["labelSelector"] == deployment["selector"]
    assert find(render(), "PodDisruptionBudget", "operator")["spec"]["maxUnavailable"] == 1
    assert not [o for o in render({"operator.podDisruptionBudget": False}) if o["kind"] == "PodDisruptionBudget"]


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({}, "docker.io/library/supernode:0.1.0"),
        ({"image.repository": "mirror.internal/supernode", "image.tag": "edge"}, "mirror.internal/supernode:edge"),
        ({"image.digest": f"sha256:{'a' * 64}"}, f"docker.io/library/supernode@sha256:{'a' * 64}"),
    ],
)
def test_one_image_serves_all_parts(values: dict[str, Any], image: str) -> None:
    assert {spec["containers"][0]["image"] for _, spec in pod_specs(render(values))} == {image}
    assert operator_environment(values)["SUPERNODE_IMAGE"] == image


def test_pull_secrets_are_on_every_account() -> None:
    accounts = [o for o in render({"imagePullSecrets": ["registry"]}) if o["kind"] == "ServiceAccount"]
    assert len(accounts) == 5
    assert all(account["imagePullSecrets"] == [{"name": "registry"}] for account in accounts)


def test_network_policies_open_only_named_ports() -> None:
    policies = [o for o in render(ALL_ON) if o["kind"] == "NetworkPolicy"]
    ports = {o["metadata"]["name"]: {p["port"] for r in o["spec"]["ingress"] for p in r["ports"]} for o in policies}
    assert ports == {
        "supernode-operator": {"health", "metrics"},
        "supernode-cabinet": {"http"},
        "supernode-agent": {"health"},
    }
    assert all(o["spec"]["policyTypes"] == ["Ingress"] for o in policies)
    (cabinet,) = (o for o in policies if o["metadata"]["name"] == "supernode-cabinet")
    assert cabinet["spec"]["podSelector"]["matchExpressions"][0]["key"] == CABINET_ROLE_LABEL
    assert not [o for o in render() if o["kind"] in ("NetworkPolicy", "ServiceMonitor")]


def test_metrics_may_be_closed_to_all_but_some() -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    policy = find(render({**ALL_ON, "networkPolicy.metricsFrom": [peer]}), "NetworkPolicy", "operator")
    (rule,) = (r for r in policy["spec"]["ingress"] if r["ports"] == [{"port": "metrics"}])
    assert rule["from"] == [peer]


def test_hooks_run_at_their_time_and_leave_nothing() -> None:
    hooks = [o for o in render() if "helm.sh/hook" in o["metadata"].get("annotations", {})]
    by_hook: dict[str, set[str]] = {}
    for obj in hooks:
        annotations = obj["metadata"]["annotations"]
        by_hook.setdefault(annotations["helm.sh/hook"], set()).add(obj["kind"])
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded,hook-failed"
        if obj["kind"] in ("Job", "Pod"):
            assert annotations["helm.sh/hook-output-log-policy"] == "hook-succeeded,hook-failed"
    accounts = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding"}
    assert by_hook == {"pre-delete": {*accounts, "Job"}, "test": {*accounts, "Pod"}}
    assert not [
        o for o in render({"uninstall.deleteSuperNodes": False}) if o["metadata"]["name"].endswith("-uninstall")
    ]


def test_accounts_of_hooks_exist_before_their_pods() -> None:
    weights: dict[tuple[str, str], int] = {}
    for obj in render():
        annotations = obj["metadata"].get("annotations", {})
        if "helm.sh/hook" in annotations:
            weights[annotations["helm.sh/hook"], obj["kind"]] = int(annotations["helm.sh/hook-weight"])
    for hook, last in (("pre-delete", "Job"), ("test", "Pod")):
        assert weights[hook, "ClusterRole"] < weights[hook, "ClusterRoleBinding"] < weights[hook, last]


def test_a_release_name_that_leaves_no_room_for_names_is_refused() -> None:
    with pytest.raises(HelmError, match="at most 40 characters"):
        render(release="a" * 41)
    assert render(release="a" * 40)


def test_the_chart_has_the_version_of_the_product() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == chart["version"] == project["version"]
    images = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])
    assert [image["image"] for image in images] == [f"docker.io/library/supernode:{project['version']}"]
    crds = yaml.safe_load(chart["annotations"]["artifacthub.io/crds"])
    assert {crd["kind"]: crd["name"] for crd in crds} == {k: f"{p}.supernode.io" for k, p in PLURALS.items()}
