"""``docs/objects.md`` from the generated schemas: every field with its type, default, bounds and meaning. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from supernode_api.common import Kind
from supernode_api.crd import build_crd
from supernode_api.names import API_VERSION, CATEGORY

__all__ = ["build_objects_page"]

_INTRO = f"""# Objects

Generated from the models in `crds/supernode_api` by `make gen`. All kinds are in `{API_VERSION}` and in the category
`{CATEGORY}`: `kubectl get {CATEGORY} -A` lists everything. The meaning of conditions is in
[conditions.md](conditions.md), examples are in [`examples/`](../examples).

A field with no default is optional unless it says **required**. Status has no defaults: what nobody wrote is absent.
"""


def build_objects_page(kinds: Iterable[type[Kind]]) -> str:
    """Return the page for these kinds."""
    return "\n".join([_INTRO, *(_section(kind) for kind in kinds)])


def _section(kind: type[Kind]) -> str:
    crd = build_crd(kind)
    version = crd["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    lines = [
        f"## {kind.kind_name} (`{kind.short_name}`)",
        "",
        f"{schema['description']} {crd['spec']['scope']}-scoped." if not kind.namespaced else schema["description"],
        "",
        f"Columns: {', '.join(c.name for c in kind.columns if not c.wide)}; "
        f"with `-o wide` also {', '.join(c.name for c in kind.columns if c.wide)}.",
    ]
    if kind.selectable:
        selectors = ", ".join(f"`{path.removeprefix('.')}`" for path in kind.selectable)
        lines.append(f"Field selectors: {selectors}.")
    rules = [f"- `{path}`: {rule['message']}" for path, rule in _rules(schema, "")]
    if rules:
        lines += ["", "Rules across fields:", "", *rules]
    for part in ("spec", "status"):
        lines += ["", f"### {kind.kind_name}.{part}", "", "| field | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(*field) for field in _fields(schema["properties"][part], part)]
    return "\n".join([*lines, ""])


def _fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child, name in schema.get("required", ())
        if child["type"] == "array":
            yield from _fields(child["items"], f"{path}.{name}[]")
        else:
            yield from _fields(child, f"{path}.{name}")


def _rules(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield (path or ".") + (rule.get("fieldPath", "") if path else ""), rule
    for name, child in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        yield from _rules(child["items"], f"{below}[]") if child["type"] == "array" else _rules(child, below)


def _row(path: str, schema: dict[str, Any], required: bool) -> str:
    default = schema.get("default")
    if required:
        shown = "**required**"
    elif default in (None, "", [], {}) or isinstance(default, dict):
        shown = ""
    else:
        shown = f"`{default}`"
    meaning = schema["description"].replace("|", "\\|")
    return f"| `{path.partition('.')[2]}` | {_type(schema)} | {shown} | {meaning} |"


def _type(schema: dict[str, Any]) -> str:
    kind = str(schema["type"])
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if kind == "array":
        keys = ", ".join(schema.get("x-kubernetes-list-map-keys", ()))
        return f"list of {_type(schema['items'])}, at most {schema['maxItems']}" + (
            f", keyed by {keys}" if keys else ""
        )
    if kind == "object" and "additionalProperties" in schema:
        return f"map, at most {schema['maxProperties']}"
    if kind == "integer" and {"minimum", "maximum"} <= set(schema):
        return f"integer, {schema['minimum']} to {schema['maximum']}"
    if kind == "integer" and "minimum" in schema:
        return f"integer, from {schema['minimum']}"
    if kind == "string" and "maxLength" in schema and schema.get("format") != "date-time":
        return f"string, at most {schema['maxLength']}"
    return "RFC 3339 time" if schema.get("format") == "date-time" else kind
