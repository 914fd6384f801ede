"""Documents that are plainly right become the models that a validator makes of them; it judges all others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError, field_validator

from supernode_cli import plain_models
from supernode_cli.model_kinds import Kind, fields_of, is_model, kinds_of
from supernode_cli.plain_models import dumped
from supernode_cli.scenario import Scenario
from supernode_cli.scenario_files import read_document

ROOT = Path(__file__).resolve().parents[2]
ODD = st.sampled_from(
    [None, True, 0, -1, 1, 2, 2.0, 0.5, 1e300, float("nan"), float("inf"), "", "3", "one", [], {}, [1]]
)


def constructed(model: type[BaseModel], document: Any) -> Any:
    """Return what is made of a document without a validator, however many there were and whether it exists."""
    try:
        return plain_models._model(model, document)
    except plain_models._NotPlainError:
        return None


def documents(kind: Kind) -> st.SearchStrategy[Any]:
    """Values of a kind, most of them right and a few not."""
    if is_model(kind.type):
        return st.fixed_dictionaries({}, optional={name: values(kinds) for name, kinds in fields_of(kind.type).items()})
    low, high = kind.bound("ge", "gt"), kind.bound("le", "lt")
    if kind.type is int:
        return st.integers(-1 if low is None else low - 1, 10 if high is None else high + 1)
    if kind.type is float:
        return st.floats(-1 if low is None else low, 10 if high is None else high) | st.integers(0, 3)
    if kind.type is list:
        return st.lists(values(kinds_of(kind.parts[0])), max_size=3)
    if kind.type is dict:
        return st.dictionaries(st.text(max_size=3), values(kinds_of(kind.parts[1])), max_size=3)
    if kind.type in (bool, str):
        return st.booleans() if kind.type is bool else st.text(max_size=3)
    return st.sampled_from([member.value for member in kind.type])


def values(kinds: tuple[Kind, ...]) -> st.SearchStrategy[Any]:
    if not kinds:
        return st.recursive(
            ODD, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner)
        )
    return st.integers(0, 19).flatmap(lambda n: ODD if n == 0 else st.one_of([documents(kind) for kind in kinds]))


def parts(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for kinds in fields_of(model).values():
        for kind in kinds:
            if is_model(kind.type):
                yield from parts(kind.type)


PARTS = sorted(set(parts(Scenario)), key=lambda model: model.__name__)


@pytest.mark.parametrize("model", PARTS, ids=lambda model: model.__name__)
@settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_what_is_made_without_a_validator_is_what_it_would_make(model: type[BaseModel], data: st.DataObject) -> None:
    document = data.draw(documents(Kind(model)))
    ours = constructed(model, document)
    if ours is None:
        return
    theirs = model.model_validate(document)
    assert repr(ours) == repr(theirs)
    assert ours.model_fields_set == theirs.model_fields_set
    assert repr(dumped(ours)) == repr(theirs.model_dump(mode="json", by_alias=True, exclude_none=True))
    assert _deep(ours) == _deep(theirs)


def _deep(value: Any) -> Any:
    """Return the kinds of a model's values, and of those in it what was given."""
    if isinstance(value, BaseModel):
        return type(value), value.model_fields_set, {name: _deep(each) for name, each in value}
    return [_deep(each) for each in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize("name", ["Scenario", "Machine", "Failed", "ScenarioTraining", "ScenarioInference"])
def test_most_plain_documents_need_no_validator(name: str) -> None:
    model = next(model for model in PARTS if model.__name__ == name)
    example = {
        "Scenario": {"model": {"name": "llama-3.1-405b"}, "machine": {"figures": {"planes": 6}}, "stack": "mine"},
        "Machine": {"nodes": 3, "failed": {"planes": [1]}},
        "Failed": {"dies": [{"server": 0, "die": 1}]},
        "ScenarioTraining": {"sequenceLength": 1, "globalBatchSize": 2, "expertImbalance": 2, "recompute": "full"},
        "ScenarioInference": {"mode": "Decode", "inputTokens": 3, "precision": {"weights": "int8"}},
    }[name]
    assert constructed(model, example) == model.model_validate(example)


def test_the_examples_need_none() -> None:
    for path in ("llama-3.1-405b-training.yaml", "deepseek-r1-decode.yaml"):
        for manifest in yaml.safe_load_all((ROOT / "examples" / path).read_text()):
            if manifest.get("kind") == "SuperNodeWorkload":
                document = read_document(str(ROOT / "examples" / path), manifest["metadata"]["name"])
                assert constructed(Scenario, document) == Scenario.model_validate(document)


def test_a_config_keeps_its_nulls_and_the_order_of_its_keys() -> None:
    document = {"model": {"config": {"b": None, "a": [1, {"c": 2.5}]}}}
    scenario = constructed(Scenario, document)
    assert json.dumps(dumped(scenario)["model"]["config"]) == '{"b": null, "a": [1, {"c": 2.5}]}'


class Short(BaseModel):
    """A model whose annotations say more than bounds."""

    code: str = Field(default="AB", pattern="^[A-Z]+$")
    even: int = Field(default=0, multiple_of=2)


class Judged(BaseModel):
    """A model with a judgement of its own."""

    value: int = 0

    @field_validator("value")
    @classmethod
    def _not_seven(cls, value: int) -> int:
        if value == 7:
            raise ValueError("seven")
        return value


@pytest.mark.parametrize(
    ("model", "document"), [(Short, {"code": "ab"}), (Short, {"even": 3}), (Judged, {"value": 7})], ids=str
)
def test_what_annotations_say_beside_bounds_is_left_to_the_validator(
    model: type[BaseModel], document: dict[str, Any]
) -> None:
    assert constructed(model, document) is None
    with pytest.raises(ValidationError):
        model.model_validate(document)


def test_many_documents_are_the_validators() -> None:
    class Fresh(BaseModel, defer_build=True):
        value: int = 0

    answers = [plain_models.constructed(Fresh, {"value": number}) for number in range(20)]
    first = next(number for number, answer in enumerate(answers) if answer is None)
    assert 1 < first < 20
    assert answers[:first] == [Fresh(value=number) for number in range(first)]
    assert set(answers[first:]) == {None}
