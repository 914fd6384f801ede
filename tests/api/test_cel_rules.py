"""Each CEL rule (what crosses fields, what is immutable) refuses a bad object and names the field."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from supernode_api import KINDS
from supernode_api.crd import build_crd
from support.api_samples import SAMPLES, compute_node, super_node, workload
from support.api_tries import Tries
from support.crd_rules import walk

Json = dict[str, Any]
SELECTOR_RULE = "selector needs at least one term in matchLabels or matchExpressions"
KEY_RULE = "matchLabels has a key that is no label key"
VALUES_RULE = "values are needed with In and NotIn, and not allowed with Exists and DoesNotExist"
FAULT_RULE = "a fault names a die or plane that this server does not have"
ONE_FAULT_RULE = "a fault needs exactly one of die, diePort, uplink, l1"
MODEL_RULE = "model needs exactly one of name and config"


def at(path: str, value: Any) -> Callable[[Json], None]:
    """Set a field, an entry of a list by its number; ``None`` removes it."""

    def change(body: Json) -> None:
        *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        target: Any = body
        for step in way:
            target = target[step]
        if value is None:
            del target[last]
        else:
            target[last] = value

    return change


def both(*changes: Callable[[Json], None]) -> Callable[[Json], None]:
    def change(body: Json) -> None:
        for one in changes:
            one(body)

    return change


OTHER = SAMPLES["SuperNodeWorkload"][1]
SERVING, GENERATING, READING = SAMPLES["SuperNodeWorkload"][2:5]
ONE_OF_BOTH = "a workload needs exactly one of training and inference"
LOAD_RULE = "decoding needs exactly one of batch and load; mode Prefill takes neither"
NODES_RULE = "mode Disaggregated needs prefill.nodes"
GONE = "is immutable: delete the SuperNode and create it anew"

# kind, field that the refusal names, the rule's message, the object that is changed, what makes it bad.
CREATED = [
    (
        "SuperNode",
        "",
        "metadata.name must be a DNS label of at most 40 characters",
        super_node(),
        at("metadata.name", "a" * 41),
    ),
    (
        "SuperNode",
        "",
        "metadata.name must be a DNS label of at most 40 characters",
        super_node(),
        at("metadata.name", "a.b"),
    ),
    ("SuperNode", "spec.nodes.selector", SELECTOR_RULE, super_node(), at("spec.nodes.selector", {})),
    ("SuperNode", "spec.nodes.selector", SELECTOR_RULE, super_node(), at("spec.nodes.selector", {"matchLabels": {}})),
    (
        "SuperNode",
        "spec.nodes.selector.matchLabels",
        KEY_RULE,
        super_node(),
        at("spec.nodes.selector.matchLabels", {"a b": ""}),
    ),
    (
        "SuperNode",
        "spec.nodes.selector.matchLabels",
        KEY_RULE,
        super_node(),
        at("spec.nodes.selector.matchLabels", {"a" * 318: ""}),
    ),
    (
        "SuperNode",
        "spec.nodes.selector.matchExpressions[0].values",
        VALUES_RULE,
        super_node(),
        at("spec.nodes.selector.matchExpressions.0.values", []),
    ),
    (
        "SuperNode",
        "spec.nodes.selector.matchExpressions[0].values",
        VALUES_RULE,
        super_node(),
        at("spec.nodes.selector.matchExpressions.0.operator", "Exists"),
    ),
    (
        "SuperNode",
        "spec.resources.busLink",
        "resources.npu and resources.busLink must differ",
        super_node(),
        at("spec.resources.npu", "supernode.io/bus-link"),
    ),
    ("ComputeNode", "spec.faults", FAULT_RULE, compute_node(), at("spec.faults.0.die", 16)),
    ("ComputeNode", "spec.faults", FAULT_RULE, compute_node(), at("spec.faults.1.diePort.die", 16)),
    ("ComputeNode", "spec.faults", FAULT_RULE, compute_node(), at("spec.faults.1.diePort.plane", 7)),
    ("ComputeNode", "spec.faults", FAULT_RULE, compute_node(), at("spec.faults.2.uplink.plane", 7)),
    ("ComputeNode", "spec.faults", FAULT_RULE, compute_node(), at("spec.faults.3.l1.plane", 7)),
    ("ComputeNode", "spec.faults[0]", ONE_FAULT_RULE, compute_node(), at("spec.faults.0.die", None)),
    ("ComputeNode", "spec.faults[0]", ONE_FAULT_RULE, compute_node(), at("spec.faults.0.l1", {"plane": 0})),
    (
        "SuperNodeWorkload",
        "",
        "metadata.name must be a DNS label of at most 52 characters",
        workload(),
        at("metadata.name", "a" * 53),
    ),
    ("SuperNodeWorkload", "spec.model", MODEL_RULE, workload(), at("spec.model", {})),
    ("SuperNodeWorkload", "spec.model", MODEL_RULE, workload(), at("spec.model.config", "{}")),
    (
        "SuperNodeWorkload",
        "spec.training.parallelism.expert",
        "expert must divide data",
        workload(),
        at("spec.training.parallelism", {"data": 6, "expert": 4}),
    ),
    (
        "SuperNodeWorkload",
        "spec.training.steps",
        "training takes tokens or steps, not both",
        workload(),
        at("spec.training.steps", 1),
    ),
    ("SuperNodeWorkload", "spec.training", ONE_OF_BOTH, workload(), at("spec.training", None)),
    ("SuperNodeWorkload", "spec.training", ONE_OF_BOTH, SERVING, at("spec.training", workload()["spec"]["training"])),
    (
        "SuperNodeWorkload",
        "spec.inference.decode",
        "mode Prefill has no decode pool",
        READING,
        at("spec.inference.decode", {}),
    ),
    (
        "SuperNodeWorkload",
        "spec.inference.prefill",
        "modes Decode and Colocated have one pool",
        GENERATING,
        at("spec.inference.prefill", {}),
    ),
    ("SuperNodeWorkload", "spec.inference.prefill", NODES_RULE, SERVING, at("spec.inference.prefill.nodes", None)),
    ("SuperNodeWorkload", "spec.inference.prefill", NODES_RULE, SERVING, at("spec.inference.prefill", None)),
    ("SuperNodeWorkload", "spec.inference.prefill", NODES_RULE, READING, at("spec.inference.prefill", {"nodes": 1})),
    (
        "SuperNodeWorkload",
        "spec.inference.outputTokens",
        "outputTokens is needed, except in mode Prefill",
        GENERATING,
        at("spec.inference.outputTokens", None),
    ),
    (
        "SuperNodeWorkload",
        "spec.inference.outputTokens",
        "outputTokens is needed, except in mode Prefill",
        READING,
        at("spec.inference.outputTokens", 1),
    ),
    ("SuperNodeWorkload", "spec.inference.load", LOAD_RULE, GENERATING, at("spec.inference.batch", None)),
    (
        "SuperNodeWorkload",
        "spec.inference.load",
        LOAD_RULE,
        SERVING,
        at("spec.inference.batch", {"sequencesPerCard": 1}),
    ),
    ("SuperNodeWorkload", "spec.inference.load", LOAD_RULE, READING, at("spec.inference.load", {"concurrency": 1})),
    (
        "SuperNodeWorkload",
        "spec.inference.promptsPerBatch",
        "mode Decode reads no prompts: leave promptsPerBatch out",
        GENERATING,
        at("spec.inference.promptsPerBatch", 1),
    ),
    (
        "SuperNodeWorkload",
        "spec.inference.cache",
        "mode Decode reads no prompts: leave cache.reusePercent out",
        GENERATING,
        at("spec.inference.cache", {"reusePercent": 1}),
    ),
    (
        "SuperNodeWorkload",
        "spec.inference.requests",
        "inference takes tokens or requests, not both",
        GENERATING,
        at("spec.inference.tokens", 1),
    ),
    (
        "SuperNodeWorkload",
        "spec.inference.speculation.acceptancePercent",
        "acceptancePercent needs one number for each draft",
        SERVING,
        at("spec.inference.speculation.drafts", 1),
    ),
    (
        "SuperNodeWorkload",
        "spec.pods",
        "pods needs exactly one of managed and selector",
        workload(),
        at("spec.pods", {}),
    ),
    (
        "SuperNodeWorkload",
        "spec.pods",
        "pods needs exactly one of managed and selector",
        workload(),
        at("spec.pods.selector", {"matchLabels": {"a": "b"}}),
    ),
    ("SuperNodeWorkload", "spec.pods.selector", SELECTOR_RULE, OTHER, at("spec.pods.selector", {})),
    (
        "SuperNodeWorkload",
        "spec.pods.selector.matchLabels",
        KEY_RULE,
        OTHER,
        at("spec.pods.selector.matchLabels", {"/": ""}),
    ),
    (
        "SuperNodeWorkload",
        "spec.pods.selector.matchExpressions[0].values",
        VALUES_RULE,
        OTHER,
        at("spec.pods.selector.matchExpressions.0.operator", "DoesNotExist"),
    ),
]
CHANGED = [
    ("SuperNode", "spec.profile", f"profile {GONE}", super_node(), at("spec.profile", "other")),
    ("SuperNode", "spec.superPodID", f"superPodID {GONE}", super_node(), at("spec.superPodID", 1)),
    (
        "SuperNode",
        "spec.nodes.placement",
        f"nodes.placement {GONE}",
        super_node(),
        at("spec.nodes.placement", "Dedicated"),
    ),
    (
        "SuperNode",
        "spec.resources",
        "resources are immutable",
        super_node(),
        at("spec.resources.npu", "huawei.com/npu"),
    ),
    ("ComputeNode", "spec.superNode", "superNode is immutable", compute_node(), at("spec.superNode", "other")),
    ("ComputeNode", "spec.serverIndex", "serverIndex is immutable", compute_node(), at("spec.serverIndex", 8)),
    ("ComputeNode", "spec.cabinet", "cabinet is immutable", compute_node(), at("spec.cabinet", 2)),
    ("ComputeNode", "spec.devices", "devices are immutable", compute_node(), at("spec.devices.firstDie", 0)),
    ("ComputeNode", "spec.nodeName", "nodeName is immutable once set", compute_node(), at("spec.nodeName", "node-2")),
    ("ComputeNode", "spec.nodeName", "nodeName is immutable once set", compute_node(), at("spec.nodeName", None)),
    ("SuperNodeWorkload", "spec.superNode", "superNode is immutable", workload(), at("spec.superNode", "other")),
    ("SuperNodeWorkload", "spec.model", "model is immutable", workload(), at("spec.model.name", "llama-3.1-8b")),
    ("SuperNodeWorkload", "spec.stack", "stack is immutable", workload(), at("spec.stack", "open-source")),
    ("SuperNodeWorkload", "spec.training", "training is immutable", workload(), at("spec.training.tokens", None)),
    (
        "SuperNodeWorkload",
        "spec.inference",
        "inference is immutable",
        SERVING,
        at("spec.inference.load.concurrency", 9),
    ),
    (
        "SuperNodeWorkload",
        "spec.inference",
        "inference is immutable",
        GENERATING,
        at("spec.inference", READING["spec"]["inference"]),
    ),
    (
        "SuperNodeWorkload",
        "spec.training",
        "training is immutable",
        workload(),
        both(at("spec.inference", READING["spec"]["inference"]), at("spec.training", None)),
    ),
    (
        "SuperNodeWorkload",
        "spec.training",
        "training is immutable",
        workload(),
        at("spec.training.parallelism.data", 6),
    ),
    (
        "SuperNodeWorkload",
        "spec.pods",
        "pods is immutable but for managed.nodes",
        workload(),
        at("spec.pods", {"selector": {"matchLabels": {"a": "b"}}}),
    ),
    (
        "SuperNodeWorkload",
        "spec.pods",
        "pods is immutable but for managed.nodes",
        OTHER,
        at("spec.pods.selector", {"matchLabels": {"a": "b"}}),
    ),
    (
        "SuperNodeWorkload",
        "spec.pods",
        "pods.managed.nodes is immutable when training.parallelism.data is given",
        OTHER,
        at("spec.pods.selector", {"matchLabels": {"a": "b"}}),
    ),
]
ALLOWED = [
    ("a machine's nodes can be selected anew", super_node(), at("spec.nodes.selector", {"matchLabels": {"a": "b"}})),
    ("cabinets can be packed anew", super_node(), at("spec.cabinetsPerPod", 16)),
    ("telemetry can be slowed", super_node(), at("spec.telemetry", {"intervalSeconds": 60, "detail": "Node"})),
    ("faults come", compute_node(), at("spec.faults.0.die", 15)),
    ("faults go", compute_node(), at("spec.faults", [])),
    ("a managed workload grows", workload(), at("spec.pods.managed.nodes", 49)),
    ("a managed deployment grows", SERVING, at("spec.pods.managed.nodes", 24)),
]


def parameters(table: list[Any]) -> list[Any]:
    return [pytest.param(*row, id=f"{row[0]} {row[1] or 'name'} {number}") for number, row in enumerate(table)]


def changed(body: Json, change: Callable[[Json], None]) -> Json:
    body = deepcopy(body)
    change(body)
    return body


@pytest.mark.parametrize(("kind", "field", "message", "body", "change"), parameters(CREATED))
def test_a_bad_new_object_is_refused(
    tries: Tries, kind: str, field: str, message: str, body: Json, change: Any
) -> None:
    answer = tries.create(changed(body, change))
    assert answer.status == 422, answer.body
    assert message in answer.message
    assert not field or field in answer.fields, answer.message


@pytest.mark.parametrize(("kind", "field", "message", "body", "change"), parameters(CHANGED))
def test_a_bad_change_is_refused(tries: Tries, kind: str, field: str, message: str, body: Json, change: Any) -> None:
    assert tries.create(changed(body, change)).accepted, "bad by itself: that would say nothing about the change"
    answer = tries.change(changed(body, change))
    assert answer.status == 422, answer.body
    assert message in answer.message
    assert field in answer.fields, answer.message


@pytest.mark.parametrize(("body", "change"), [pytest.param(*row[1:], id=row[0]) for row in ALLOWED])
def test_what_may_change_can_change(tries: Tries, body: Json, change: Any) -> None:
    answer = tries.change(changed(body, change))
    assert answer.accepted, answer.body


def test_a_managed_workload_with_a_data_degree_keeps_its_size(tries: Tries, server_with_data: Json) -> None:
    answer = tries.change(changed(server_with_data, at("spec.pods.managed.nodes", 96)))
    assert "pods.managed.nodes is immutable when training.parallelism.data is given" in answer.message
    assert answer.fields == ["spec.pods"]


@pytest.fixture
def server_with_data(tries: Tries) -> Json:
    body = changed(workload("sized"), at("spec.training.parallelism.data", 6))
    tries.keep(body)
    return body


def test_a_node_name_can_be_set_later(tries: Tries) -> None:
    body = changed(compute_node("cm384-08"), both(at("spec.nodeName", None), at("spec.serverIndex", 8)))
    tries.keep(body)
    assert tries.change(changed(body, at("spec.nodeName", "node-1"))).accepted


def test_no_rule_is_without_a_bad_object() -> None:
    named = {(row[0], row[1], row[2]) for row in [*CREATED, *CHANGED]}
    untested = []
    for kind in KINDS:
        schema = build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for path, node in walk(schema):
            for rule in node.get("x-kubernetes-validations", ()):
                place = ".".join(path).replace(".[]", "[0]") + rule.get("fieldPath", "") if path else ""
                if not any(k == kind.kind_name and f == place and rule["message"].startswith(m) for k, f, m in named):
                    untested.append(f"{kind.kind_name} {place}: {rule['message']}")
    assert not untested
