"""Models and API server agree on what is valid: random objects pass both, broken ones neither."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from supernode_api import KINDS
from supernode_api.crd import build_crd
from supernode_api.ranges import format_ranges, parse_ranges
from support.api_samples import SAMPLES, compute_node, super_node, workload
from support.api_tries import Tries
from support.crd_rules import SchemaRule, break_rule, schema_rules

MODELS = {kind.kind_name: kind for kind in KINDS}
CALM = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

label = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,20}[A-Za-z0-9])?", fullmatch=True)
dns = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
term = st.one_of(
    st.fixed_dictionaries(
        {"key": label, "operator": st.sampled_from(["In", "NotIn"]), "values": st.lists(label, min_size=1)}
    ),
    st.fixed_dictionaries({"key": label, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)
selector = st.one_of(
    st.fixed_dictionaries({"matchLabels": st.dictionaries(label, label, min_size=1, max_size=16)}),
    st.fixed_dictionaries({"matchExpressions": st.lists(term, min_size=1, max_size=16)}),
)
super_node_spec = st.fixed_dictionaries(
    {
        "profile": dns,
        "nodes": st.fixed_dictionaries(
            {"selector": selector}, optional={"placement": st.sampled_from(["Packed", "Dedicated"])}
        ),
    },
    optional={
        "superPodID": st.integers(0, 2**31 - 1),
        "cabinetsPerPod": st.sampled_from([1, 2, 4, 16]),
        "resources": st.fixed_dictionaries({}, optional={"npu": st.just("huawei.com/npu")}),
        "telemetry": st.fixed_dictionaries({}, optional={"intervalSeconds": st.integers(1, 3600)}),
    },
)
die, plane = st.integers(0, 15), st.integers(0, 6)
target = st.one_of(
    st.fixed_dictionaries({"die": die}),
    st.fixed_dictionaries({"diePort": st.fixed_dictionaries({"die": die, "plane": plane})}),
    st.fixed_dictionaries({"uplink": st.fixed_dictionaries({"plane": plane, "port": die})}),
    st.fixed_dictionaries({"l1": st.fixed_dictionaries({"plane": plane})}),
)
fault = st.builds(lambda name, what, code: {"name": name, "code": code, **what}, dns, target, st.text(max_size=64))
training = st.builds(
    lambda given, end: {**given, **end},
    st.fixed_dictionaries(
        {"sequenceLength": st.integers(1, 2**24), "globalBatchSize": st.integers(1, 2**20)},
        optional={"parallelism": st.fixed_dictionaries({}, optional={"data": st.integers(1, 65536)})},
    ),
    st.one_of(
        st.just({}), st.builds(dict, tokens=st.integers(1, 2**53 - 1)), st.builds(dict, steps=st.integers(1, 2**53 - 1))
    ),
)
workload_spec = st.fixed_dictionaries(
    {
        "superNode": dns,
        "model": st.one_of(st.builds(dict, name=dns), st.builds(dict, config=st.text(min_size=2, max_size=200))),
        "training": training,
        "pods": st.one_of(
            st.builds(lambda nodes: {"managed": {"nodes": nodes}}, st.integers(1, 1024)),
            st.builds(dict, selector=selector),
        ),
    },
    optional={"stack": st.sampled_from(["vendor-tuned", "open-source"])},
)


def check(tries: Tries, body: dict[str, Any]) -> None:
    """Accepted by the server, and what it returns means to the model what was sent."""
    answer = tries.create(body)
    assert answer.accepted, answer.body
    model = MODELS[body["kind"]]
    assert model.model_validate({**body, "status": {}}).spec == model.model_validate(answer.body).spec


@CALM
@given(spec=super_node_spec)
def test_any_valid_supernode_passes_both(tries: Tries, spec: Any) -> None:
    check(tries, {**super_node("random"), "spec": spec})


@CALM
@given(faults=st.lists(fault, max_size=8, unique_by=lambda one: one["name"]))
def test_any_valid_faults_pass_both(tries: Tries, faults: Any) -> None:
    body = compute_node("random")
    body["spec"]["faults"] = faults
    check(tries, body)


@CALM
@given(spec=workload_spec)
def test_any_valid_workload_passes_both(tries: Tries, spec: Any) -> None:
    check(tries, {**workload("random"), "spec": spec})


def is_models_business(rule: SchemaRule) -> bool:
    """Pydantic takes any 64 bit integer, any text as a time, "yes" as true, and knows no list maps."""
    return rule.keyword not in ("format", "unique") and (rule.keyword, rule.value) != ("type", "boolean")


MECHANICAL = [
    pytest.param(kind, rule, id=f"{kind.kind_name}.{rule}")
    for kind in KINDS
    for rule in schema_rules(build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    if is_models_business(rule)
]


@pytest.mark.parametrize(("kind", "rule"), MECHANICAL)
def test_the_models_refuse_what_the_server_refuses(kind: Any, rule: SchemaRule) -> None:
    breach = break_rule(rule, SAMPLES[kind.kind_name])
    assert breach is not None
    with pytest.raises(ValidationError):
        kind.model_validate(breach.body)


@settings(deadline=None)
@given(st.sets(st.integers(0, 2047)))
def test_ranges_say_what_they_were_made_of(numbers: set[int]) -> None:
    text = format_ranges(numbers)
    assert parse_ranges(text) == sorted(numbers)
    assert len(text) <= 4608


def test_the_longest_ranges_fit_the_api() -> None:
    text = format_ranges(range(0, 64 * 32, 2))
    body = compute_node()
    body["status"]["allocations"][0]["links"] = text
    MODELS["ComputeNode"].model_validate(body)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=60), st.from_regex(r"[0-9,-]{0,40}", fullmatch=True)))
def test_garbage_is_a_value_error_and_nothing_else(text: str) -> None:
    with contextlib.suppress(ValueError):
        numbers = parse_ranges(text)
        assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    "text", ["3-1", "0-1048576", "9" * 4600, "1-" + "9" * 4600, ",", "1,,2", "-1", "0x10", "٣", " 1"]
)
def test_what_is_no_range_is_named_shortly(text: str) -> None:
    with pytest.raises(ValueError, match="range") as caught:
        parse_ranges(text)
    assert len(str(caught.value)) < 120
