"""The translation of models to structural schemas: each thing that pydantic writes differently, and what is refused."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from supernode_api.common import ApiModel, ListMap, Rule
from supernode_api.schema import SchemaError, build_schema


class Inner(ApiModel):
    """Documentation of the struct."""

    some_number: int = Field(default=3, ge=0, le=9, description="A number.")


class Tree(ApiModel):
    left: Tree | None = None


def field_of(annotation: Any, default: Any = ..., **more: Any) -> dict[str, Any]:
    model = type("Model", (ApiModel,), {"__annotations__": {"a_field": annotation}, "a_field": Field(default, **more)})
    schema: dict[str, Any] = build_schema(model)["properties"]["aField"]
    return schema


def test_references_are_inlined_and_the_field_describes_itself() -> None:
    assert field_of(Inner, description="What this one is for.") == {
        "description": "What this one is for.",
        "type": "object",
        "properties": {
            "someNumber": {
                "description": "A number.",
                "type": "integer",
                "format": "int32",
                "default": 3,
                "minimum": 0,
                "maximum": 9,
            }
        },
    }


def test_optional_is_a_plain_field_that_is_not_required() -> None:
    assert field_of(int | None, None) == {"type": "integer", "format": "int64"}
    assert field_of(Inner | None, None)["type"] == "object"


def test_a_single_literal_is_an_enum_of_one() -> None:
    assert field_of(Literal["x"]) == {"type": "string", "enum": ["x"]}


def test_an_integer_enum_keeps_its_numbers() -> None:
    numbers = IntEnum("numbers", {"ONE": 1, "FOUR": 4})
    schema = field_of(numbers, numbers.FOUR)
    assert (schema["type"], schema["enum"], schema["default"]) == ("integer", [1, 4], 4)


def test_a_set_is_a_list_type() -> None:
    schema = field_of(set[str])
    assert (schema["type"], schema["x-kubernetes-list-type"]) == ("array", "set")
    assert "uniqueItems" not in schema


def test_a_plain_list_has_one_owner() -> None:
    assert field_of(list[str])["x-kubernetes-list-type"] == "atomic"


def test_a_list_map_has_its_keys() -> None:
    schema = field_of(Annotated[list[Inner], ListMap(("someNumber",))])
    assert schema["x-kubernetes-list-type"] == "map"
    assert schema["x-kubernetes-list-map-keys"] == ["someNumber"]


def test_exclusive_bounds_are_written_as_openapi_3_0_has_them() -> None:
    schema = field_of(Annotated[int, Field(gt=0, lt=10)])
    assert (schema["minimum"], schema["exclusiveMinimum"]) == (0, True)
    assert (schema["maximum"], schema["exclusiveMaximum"]) == (10, True)


def test_a_tuple_of_one_type_is_a_list_of_that_length() -> None:
    schema = field_of(tuple[int, int])
    assert (schema["minItems"], schema["maxItems"], schema["items"]["type"]) == (2, 2, "integer")


def test_the_default_of_a_factory_is_emitted_as_on_the_wire() -> None:
    model = type(
        "Model",
        (ApiModel,),
        {
            "__annotations__": {"a_field": Inner, "names": list[str]},
            "a_field": Field(default_factory=Inner),
            "names": Field(default_factory=list),
        },
    )
    schema = build_schema(model)
    assert schema["properties"]["aField"]["default"] == {"someNumber": 3}
    assert schema["properties"]["names"]["default"] == []
    assert "required" not in schema
    without = build_schema(model, defaults=False)
    assert "default" not in str(without)
    assert "required" not in without


def test_titles_and_forbidden_keywords_are_gone() -> None:
    strict = type("Strict", (ApiModel,), {"__annotations__": {"a": int}, "model_config": {"extra": "forbid"}})
    assert build_schema(strict) == {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "integer", "format": "int64"}},
    }


def test_rules_and_ownership_come_with_the_struct() -> None:
    rule = Rule("self.a == oldSelf.a", "a is immutable", field_path=".a", optional_old_self=True)
    model = type("Model", (ApiModel,), {"__annotations__": {"a": int}, "cel_rules": (rule,), "atomic": True})
    schema = field_of(model)
    assert schema["x-kubernetes-map-type"] == "atomic"
    assert schema["x-kubernetes-validations"] == [
        {"rule": "self.a == oldSelf.a", "message": "a is immutable", "fieldPath": ".a", "optionalOldSelf": True}
    ]


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        (Tree, r"Model\.aField\.left: Tree contains itself"),
        (int | str, r"Model\.aField: a union of 2 types"),
        (Inner | int, r"Model\.aField: a union of 2 types"),
        (float, r"Model\.aField: the API has no floating point numbers"),
        (tuple[int, str], r"Model\.aField: a tuple of different types"),
        (dict[str, Any], r"Model\.aField.*"),
        (Any, r"Model\.aField: a field needs exactly one type"),
        (Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})], "contentEncoding has no equivalent"),
    ],
    ids=str,
)
def test_what_has_no_structural_form_is_refused_with_its_path(annotation: Any, says: str) -> None:
    with pytest.raises(SchemaError, match=says):
        field_of(annotation)
