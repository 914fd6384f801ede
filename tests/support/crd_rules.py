"""Every rule of a CRD's schema, and for each that is mechanical an object that breaks it and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Breach", "SchemaRule", "break_rule", "schema_rules", "walk"]

Path = tuple[str, ...]
_BREAKABLE: Final = (
    "type",
    "format",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
)
_WRONG_TYPE: Final = {"string": 7, "integer": "seven", "boolean": "yes", "array": {}, "object": []}


@dataclass(frozen=True)
class SchemaRule:
    """One keyword at one place; ``path`` holds names, ``[]`` for an entry of a list and ``*`` for a value of a map."""

    path: Path
    keyword: str
    value: Any

    def __str__(self) -> str:
        place = ".".join(self.path).replace(".[]", "[]")
        return f"{place} {self.keyword}{f' {self.value}' if self.keyword == 'required' else ''}"


@dataclass(frozen=True)
class Breach:
    """An object that breaks one rule, and the field that the refusal has to name."""

    body: dict[str, Any]
    field: str


def walk(schema: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every node of a schema with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, (*path, name))
    if "items" in schema:
        yield from walk(schema["items"], (*path, "[]"))
    if "additionalProperties" in schema:
        yield from walk(schema["additionalProperties"], (*path, "*"))


def schema_rules(schema: dict[str, Any]) -> Iterator[SchemaRule]:
    """Yield everything that spec and status promise, CEL apart."""
    for path, node in walk(schema):
        if path[:1] not in (("spec",), ("status",)):
            continue
        for keyword in _BREAKABLE:
            if keyword in node and not (keyword == "type" and "enum" in node):
                yield SchemaRule(path, keyword, node[keyword])
        for name in node.get("required", ()):
            yield SchemaRule(path, "required", name)
        if keys := node.get("x-kubernetes-list-map-keys"):
            yield SchemaRule(path, "unique", keys)


def break_rule(rule: SchemaRule, samples: tuple[dict[str, Any], ...]) -> Breach | None:
    """Return the first sample that reaches the rule's place, broken there; None when no sample gets there."""
    for sample in samples:
        body = deepcopy(sample)
        if (place := _resolve(body, rule.path)) is not None:
            parent, key, field = place
            return Breach(body, _break(rule, parent, key, field))
    return None


def _resolve(value: Any, path: Path) -> tuple[Any, Any, str] | None:
    """Follow a path into an object: the container, the key in it, and the field as the API server writes it."""
    if not path:
        return None
    step, rest = path[0], path[1:]
    if step == "[]":
        keys: list[tuple[Any, str]] = [(index, f"[{index}]") for index in range(len(value))]
    elif step == "*":
        keys = [(key, f".{key}") for key in value]
    else:
        keys = [(step, f".{step}")] if step in value else []
    for key, shown in keys:
        if not rest:
            return value, key, shown.removeprefix(".")
        if (found := _resolve(value[key], rest)) is not None:
            inner = found[2] if found[2].startswith("[") else f".{found[2]}"
            return found[0], found[1], (shown + inner).removeprefix(".")
    return None


def _break(rule: SchemaRule, parent: Any, key: Any, field: str) -> str:
    """Change the object in place; return the field that is now wrong."""
    old = parent[key]
    if rule.keyword == "required":
        del old[rule.value]
        return f"{field}.{rule.value}"
    if rule.keyword == "unique":
        parent[key] = [*old, deepcopy(old[0])]
        return f"{field}[{len(old)}]"
    parent[key] = _bad_value(rule, old)
    return field


def _bad_value(rule: SchemaRule, old: Any) -> Any:
    match rule.keyword:
        case "type":
            return _WRONG_TYPE[rule.value]
        case "format":
            return "yesterday" if rule.value == "date-time" else 2 ** (31 if rule.value == "int32" else 63)
        case "enum":
            return "no-such-value" if isinstance(rule.value[0], str) else max(rule.value) + 1
        case "pattern":
            return next(bad for bad in ("!", "-", "Not A Name") if not re.search(rule.value, bad))
        case "minimum":
            return rule.value - 1
        case "maximum":
            return rule.value + 1
        case "minLength":
            return "a" * (rule.value - 1)
        case "maxLength":
            return "1" * (rule.value + 1)
        case "maxItems":
            return [_copy_of(old[0], number) for number in range(rule.value + 1)]
        case "maxProperties":
            return {f"key-{number}": "value" for number in range(rule.value + 1)}
    raise AssertionError(f"no way is known to break {rule.keyword}")


def _copy_of(entry: Any, number: int) -> Any:
    """Copy an entry of a list so that copies do not count as duplicates."""
    if not isinstance(entry, dict):
        return entry
    changed = {}
    for name in ("name", "type", "rank", "pod"):
        if name in entry:
            changed[name] = number if isinstance(entry[name], int) else f"{entry[name]}{number}"
    return {**deepcopy(entry), **changed}
