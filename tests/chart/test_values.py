"""The chart's values: every key has a comment and a description, and nonsense is refused with its name."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from supernode_operator import chart_test
from support.chart import CHART, HelmError, render
from support.chart_values import PAGE
from support.chart_values import render as render_page

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
OPEN = {
    # Parts of the Kubernetes API, checked by the API server, and Helm's own key.
    "operator.affinity",
    "networkPolicy.metricsFrom[].podSelector",
    "networkPolicy.metricsFrom[].namespaceSelector",
    "networkPolicy.metricsFrom[].ipBlock",
    "global",
}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema node under a property, item or pattern."""
    for key, child in schema.get("properties", {}).items():
        name = f"{path}.{key}".strip(".")
        yield name, child
        yield from nodes(child, name)
    for child in [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]:
        if isinstance(child, dict):
            yield f"{path}.<name>", child
    if "items" in schema:
        yield f"{path}[]", schema["items"]
        yield from nodes(schema["items"], f"{path}[]")


def value_paths(values: Any, path: str = "") -> Iterator[str]:
    for key, value in values.items() if isinstance(values, dict) else ():
        yield f"{path}.{key}".strip(".")
        yield from value_paths(value, f"{path}.{key}".strip("."))


def test_the_schema_is_a_valid_draft_7_schema_and_takes_the_defaults() -> None:
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate(VALUES)


def test_every_key_is_described() -> None:
    undescribed = [path for path, node in nodes(SCHEMA) if not node.get("description", "").endswith(".")]
    assert undescribed == []


def test_every_object_is_closed_but_parts_of_the_kubernetes_api() -> None:
    assert SCHEMA["additionalProperties"] is False
    open_objects = {
        path for path, node in nodes(SCHEMA) if node.get("type") == "object" and "additionalProperties" not in node
    }
    assert open_objects == OPEN


def test_every_default_value_is_in_the_schema() -> None:
    known = {path for path, _ in nodes(SCHEMA)}
    for path in value_paths(VALUES):
        parent = path.rpartition(".")[0]
        assert path in known or f"{parent}.<name>" in known or "nodeSelector" in path, path


def test_every_key_in_the_values_file_has_a_comment_above_it() -> None:
    lines = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
    resources = r"requests|limits|cpu|memory|kubernetes\.io/os"  # named by the comment of what they are in
    bare = [
        line.strip()
        for above, line in itertools.pairwise(lines)
        if re.match(r"\s*[A-Za-z]", line)
        and not re.match(rf"\s*({resources}):", line)
        and not above.lstrip().startswith("#")
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"replicas": 3}, r"additional properties 'replicas' not allowed"),
        ({"operator.replica": 3}, r"/operator.*'replica' not allowed"),
        ({"operator.replicas": "two"}, r"/operator/replicas.*want integer"),
        ({"operator.replicas": 9}, r"/operator/replicas.*maximum"),
        ({"operator.resources.limits.memory": "much"}, r"/operator/resources/limits/memory.*pattern"),
        ({"logLevel": "loud"}, r"/logLevel.*'debug', 'info', 'warning', 'error'"),
        ({"image.pullPolicy": "Sometimes"}, r"/image/pullPolicy.*'Always', 'IfNotPresent', 'Never'"),
        ({"image.digest": "sha256:abc"}, r"/image/digest.*pattern"),
        ({"workloads.namespaces": "default"}, r"/workloads/namespaces.*want array"),
        ({"workloads.namespaces": ["Default"]}, r"/workloads/namespaces/0.*pattern"),
        ({"otel.endpoint": "collector:4317"}, r"/otel/endpoint.*pattern"),
        ({"otel.protocol": "http/protobuf"}, r"/otel/protocol.*grpc"),
        ({"otel.env": {"FOO": "bar"}}, r"/otel/env.*'FOO' not allowed"),
        ({"agent.kubeletRoot": "var/lib/kubelet"}, r"/agent/kubeletRoot.*pattern"),
        ({"agent.tolerations": [{"op": "Exists"}]}, r"/agent/tolerations/0.*'op' not allowed"),
        ({"test.superPodID": -1}, r"/test/superPodID.*minimum"),
        ({"test.nodeSelector": None}, r"/test.*missing property 'nodeSelector'"),
        ({"test.timeoutSeconds": 226}, r"/test/timeoutSeconds.*maximum: got 226, want 225"),
        ({"uninstall.timeoutSeconds": 0}, r"/uninstall/timeoutSeconds.*minimum"),
        ({"uninstall.timeoutSeconds": 286}, r"/uninstall/timeoutSeconds.*maximum: got 286, want 285"),
        ({"metrics.serviceMonitor.interval": "soon"}, r"/metrics/serviceMonitor/interval.*pattern"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_value_that_makes_no_sense_is_refused_by_its_name(values: dict[str, Any], told: str) -> None:
    with pytest.raises(HelmError, match=re.compile(told, re.DOTALL)):
        render(values)


@pytest.mark.parametrize(
    "values",
    [
        {"operator.replicas": 1, "operator.podDisruptionBudget": False},
        {"operator.replicas": 0},
        {"test.timeoutSeconds": 225, "uninstall.timeoutSeconds": 285},
        {"workloads.namespaces": ["team-a", "team-b"]},
        {"workloads.namespaces": []},
        {"operator.tolerations": [{"key": "dedicated", "operator": "Equal", "value": "infra", "effect": "NoSchedule"}]},
        {"operator.affinity": {"nodeAffinity": {}}},
        {"otel.endpoint": "https://collector:4317", "otel.headers": {"authorization": "x"}},
        {"agent.kubeletRoot": "/opt/kubelet"},
        {"global": {"anything": 1}},
    ],
    ids=lambda value: next(iter(value)),
)
def test_values_that_people_need_are_taken(values: dict[str, Any]) -> None:
    assert render(values)


def test_the_longest_test_ends_within_helms_five_minutes() -> None:
    longest = SCHEMA["properties"]["test"]["properties"]["timeoutSeconds"]["maximum"]
    around = (chart_test._HOPELESS_SECONDS, chart_test._DELETE_SECONDS)  # a node is chosen before, it is deleted after
    assert longest + sum(around) < 300


def test_the_table_of_values_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(), "run: make gen"


def test_the_table_has_every_value_that_can_be_set() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for path in value_paths(VALUES):
        if "kubernetes.io" not in path:
            assert f"| `{path}` |" in page
