"""The fields of a scenario as its JSON Schema has them, with values that they may and may not have.

Nothing is listed by hand: a new field of the models joins every test that draws from here. The laws are in `obeys`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from supernode_cli.scenario_schema import scenario_schema
from support.scenarios import run_on_file

__all__ = ["Field", "changes_of", "fields_of", "obeys", "with_changes"]

_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 1 << 40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@dataclass(frozen=True)
class Field:
    """One field: where it is, and its schema with references resolved."""

    path: tuple[str, ...]
    schema: dict[str, Any]

    def values(self) -> st.SearchStrategy[Any]:
        """Return values of every kind, three in four of them of the field's own: in its bounds and around them."""
        own = _own(self.schema)
        return st.one_of(own, own, own, _ANYTHING)


def fields_of(*sections: str) -> list[Field]:
    """Return every field of these sections of a scenario, the sections and all that holds others included."""
    schema = scenario_schema()
    known = {name: schema["properties"][name] for name in sections}
    return list(_walk(known, (), schema["$defs"]))


def changes_of(fields: list[Field], most: int = 3) -> st.SearchStrategy[list[tuple[tuple[str, ...], Any]]]:
    """Return lists of changes, each a path and a value."""
    one = st.sampled_from(fields).flatmap(lambda field: st.tuples(st.just(field.path), field.values()))
    return st.lists(one, min_size=1, max_size=most)


def with_changes(base: dict[str, Any], changes: list[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    """Return a copy of a document with these values, where what holds them is still a mapping."""
    document = deepcopy(base)
    for path, value in changes:
        node: Any = document
        for key in path[:-1]:
            node = node.setdefault(key, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node[path[-1]] = value
    return document


def obeys(folder: Path, scenario: dict[str, Any], command: str = "simulate") -> None:
    """Check the laws: an answer whose figures are finite, or status 2 with one line and nothing printed."""
    status, out, err = run_on_file(folder, command, scenario, "-o", "json")
    assert status in (0, 2), (status, out, err)
    assert "Traceback" not in err
    assert "defect" not in err
    if status == 2:
        assert out == "", "no part of an answer"
        assert err.startswith("Error: ")
        assert len(err.splitlines()) == 1, err
        return
    figures = json.loads(out, parse_constant=_refuse)["workloads"][0]["figures"]
    values = [figure["value"] for figure in figures.values()]
    assert all(math.isfinite(float(value)) for value in values if _is_number(value)), figures


def _refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _walk(properties: dict[str, Any], path: tuple[str, ...], defs: dict[str, Any]) -> Iterator[Field]:
    for name, given in properties.items():
        schema = _resolved(given, defs)
        yield Field((*path, name), schema)
        yield from _walk(schema.get("properties", {}), (*path, name), defs)


def _resolved(schema: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without references of its own or in its items."""
    if "$ref" in schema:
        schema = {**defs[schema["$ref"].rpartition("/")[2]], **{k: v for k, v in schema.items() if k != "$ref"}}
    if "items" in schema:
        schema = {**schema, "items": _resolved(schema["items"], defs)}
    if "properties" in schema:
        schema = {**schema, "properties": {k: _resolved(v, defs) for k, v in schema["properties"].items()}}
    return schema


def _own(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return values near those that a schema allows."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "examples" in schema:
        return st.sampled_from(schema["examples"])
    if "anyOf" in schema:
        return st.one_of(*(_own(each) for each in schema["anyOf"]))
    match schema.get("type"):
        case "boolean":
            return st.booleans()
        case "integer" | "number":
            return _numbers(schema)
        case "array":
            return st.lists(_own(schema["items"]), max_size=3)
        case "object" if "properties" in schema:
            return st.fixed_dictionaries({}, optional={k: _own(v) for k, v in schema["properties"].items()})
        case "object":
            names = schema.get("propertyNames", {}).get("enum", ["a", "b"])
            extra = schema.get("additionalProperties")
            values = _own(extra) if isinstance(extra, dict) else _ANYTHING
            return st.dictionaries(st.sampled_from(names), values, max_size=2)
    return st.text(max_size=8)


def _numbers(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return numbers around both bounds, and small ones, which are those that often run."""
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    most = schema.get("maximum", 1e9)
    edges = [least - 1, least, least + 1, most - 1, most, most + 1]
    if schema["type"] == "integer":
        edges = [int(edge) for edge in edges]
        return st.sampled_from(edges) | st.integers(0, 400) | st.integers(int(least), int(most))
    return st.sampled_from(edges) | st.floats(0.0, 400.0) | st.floats()
