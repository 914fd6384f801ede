"""Each rule of the schemas refuses a bad object with a message that names the field, and no rule is untested."""

from __future__ import annotations

from typing import Any

import pytest

from supernode_api import KINDS
from supernode_api.crd import build_crd
from support.api_samples import SAMPLES
from support.api_tries import Tries
from support.crd_rules import SchemaRule, break_rule, schema_rules


def schema_of(kind: Any) -> dict[str, Any]:
    schema: dict[str, Any] = build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


RULES = [
    pytest.param(kind.kind_name, rule, id=f"{kind.kind_name}.{rule}")
    for kind in KINDS
    for rule in schema_rules(schema_of(kind))
]


# What the server says beside the field; the rule that was broken, and not some other, has to be the reason.
SAYS = {
    "type": "must be of type",
    "format": ("must be of type", "should be less than or equal to"),
    "enum": "Unsupported value",
    "pattern": "should match",
    "minimum": "should be greater than or equal to",
    "maximum": "should be less than or equal to",
    "minLength": "should be at least",
    "maxLength": ("may not be more than", "may not be longer than"),
    "maxItems": "must have at most",
    "maxProperties": "must have at most",
    "required": "Required value",
    "unique": "Duplicate value",
}


@pytest.mark.parametrize(("kind", "rule"), RULES)
def test_a_broken_rule_is_refused_and_the_field_named(tries: Tries, kind: str, rule: SchemaRule) -> None:
    breach = break_rule(rule, SAMPLES[kind])
    assert breach is not None, f"no sample in support/api_samples.py has {rule}"
    answer = (tries.create if rule.path[0] == "spec" else tries.report)(breach.body)
    assert answer.status == 422, answer.body
    assert breach.field in answer.fields, answer.message
    expected = SAYS[rule.keyword]
    assert any(text in answer.message for text in ((expected,) if isinstance(expected, str) else expected)), (
        answer.message
    )


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_samples_that_are_broken_are_valid(tries: Tries, kind: str) -> None:
    for sample in SAMPLES[kind]:
        for answer in (tries.create(sample), tries.change(sample), tries.report(sample)):
            assert answer.accepted, answer.body


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind_name)
def test_samples_reach_every_field(kind: Any) -> None:

    missing = [str(rule) for rule in schema_rules(schema_of(kind)) if break_rule(rule, SAMPLES[kind.kind_name]) is None]
    assert not missing
