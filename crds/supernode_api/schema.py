"""Pydantic models to structural OpenAPI v3 schemas, the only form that a CustomResourceDefinition takes.

Pydantic writes JSON Schema 2020-12; the API server wants a subset of OpenAPI 3.0 with extensions of its own. The
translation has two steps: a generator of ours says at the source what pydantic would leave out (defaults made by
factories, CEL rules), and a walk over the result inlines references, turns what has an equivalent and refuses, with
the path, what has none. It knows no kind and does no I/O.

Status carries no defaults: what nobody wrote is absent there, not zero.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from supernode_api.common import ApiModel

__all__ = ["SchemaError", "build_schema"]

_INT32_MAX: Final = 2147483647
_DROPPED: Final = ("title", "examples")
_KEPT: Final = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
)


class SchemaError(Exception):
    """A model uses something that a structural schema cannot say; the message names the path."""


class _Generator(GenerateJsonSchema):
    """Keeps what pydantic's own generator leaves out."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Emit the default of a factory too."""
        inner = super().default_schema(schema)
        factory: Any = schema.get("default_factory")
        if factory is None or "default" in inner:
            return inner
        default = self.encode_default(factory())
        # A reference takes no sibling keyword in older drafts; allOf of one is how pydantic itself writes it.
        return {"allOf": [inner], "default": default} if "$ref" in inner else {**inner, "default": default}

    def encode_default(self, dft: Any) -> Any:
        """Write structs as they stand on the wire."""
        if isinstance(dft, BaseModel):
            return dft.model_dump(mode="json", by_alias=True, exclude_none=True)
        return super().encode_default(dft)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Add the struct's CEL rules and its ownership."""
        result = super().model_schema(schema)
        cls = schema["cls"]
        if issubclass(cls, ApiModel):
            if cls.cel_rules:
                result["x-kubernetes-validations"] = [rule.to_schema() for rule in cls.cel_rules]
            if cls.atomic:
                result["x-kubernetes-map-type"] = "atomic"
        return result


def build_schema(model: type[BaseModel], *, defaults: bool = True) -> dict[str, Any]:
    """Return the structural schema of a model by alias; SchemaError when there is none.

    With ``defaults`` false no default is emitted, and nothing that has one becomes required.
    """
    raw = model.model_json_schema(by_alias=True, schema_generator=_Generator, ref_template="#/$defs/{model}")
    definitions = raw.pop("$defs", {})
    return _Translation(definitions, defaults).translate(raw, model.__name__, ())


class _Translation:
    """One walk: the definitions that references point to, and whether defaults are kept."""

    def __init__(self, definitions: dict[str, Any], defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def translate(self, node: dict[str, Any], path: str, above: tuple[str, ...]) -> dict[str, Any]:
        """Translate one node; ``above`` holds the references that lead to it."""
        node, above = self._inline(node, path, above)
        node = _without_tuple(node, path)
        properties = node.pop("properties", None)
        items = node.pop("items", None)
        values = node.pop("additionalProperties", None)
        result = self._scalars(node, path)
        if properties is not None:
            result["properties"] = {
                name: self.translate(child, f"{path}.{name}", above) for name, child in properties.items()
            }
        elif isinstance(values, dict):
            result["additionalProperties"] = self.translate(values, f"{path}[*]", above)
        elif result["type"] == "object":
            raise SchemaError(f"{path}: an object needs fields or a type of its values, else everything is pruned")
        if items is not None:
            result["items"] = self.translate(items, f"{path}[]", above)
            result.setdefault("x-kubernetes-list-type", "atomic")
        return result

    def _inline(
        self, node: dict[str, Any], path: str, above: tuple[str, ...]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Follow references and one-armed unions until the node has a type of its own."""
        node = dict(node)
        while True:
            if reference := node.pop("$ref", None):
                name = reference.rpartition("/")[2]
                if name in above:
                    raise SchemaError(f"{path}: {name} contains itself; a structural schema cannot")
                above = (*above, name)
                node = {**self._definitions[name], **node}
            elif arms := node.pop("anyOf", None) or node.pop("oneOf", None) or node.pop("allOf", None):
                real = [arm for arm in arms if arm != {"type": "null"}]
                if len(real) != 1:
                    raise SchemaError(f"{path}: a union of {len(real)} types; use one optional struct for each variant")
                if node.get("default", 0) is None:
                    del node["default"]
                node = {**real[0], **node}
            else:
                return node, above

    def _scalars(self, node: dict[str, Any], path: str) -> dict[str, Any]:
        """Translate every keyword that does not nest."""
        if "const" in node:
            node["enum"] = [node.pop("const")]
        if node.pop("uniqueItems", False):
            node["x-kubernetes-list-type"] = "set"
        for bound in ("Minimum", "Maximum"):
            if f"exclusive{bound}" in node:
                node[bound.lower()] = node[f"exclusive{bound}"]
                node[f"exclusive{bound}"] = True
        for keyword in _DROPPED:
            node.pop(keyword, None)
        if not self._defaults:
            node.pop("default", None)
        if node.get("type") == "number":
            raise SchemaError(f"{path}: the API has no floating point numbers; use an integer with a unit or text")
        if node.get("type") == "integer" and "enum" not in node:
            node["format"] = "int32" if node.get("maximum", _INT32_MAX + 1) <= _INT32_MAX else "int64"
        if unknown := sorted(set(node) - set(_KEPT)):
            raise SchemaError(f"{path}: {', '.join(unknown)} has no equivalent in a structural schema")
        if not isinstance(node.get("type"), str):
            raise SchemaError(f"{path}: a field needs exactly one type")
        return {keyword: node[keyword] for keyword in _KEPT if keyword in node}


def _without_tuple(node: dict[str, Any], path: str) -> dict[str, Any]:
    """Turn a tuple of one type into a list of fixed length."""
    if "prefixItems" not in node:
        return node
    kinds = node.pop("prefixItems")
    if any(kind != kinds[0] for kind in kinds):
        raise SchemaError(f"{path}: a tuple of different types; use a struct")
    return {**node, "items": kinds[0], "minItems": len(kinds), "maxItems": len(kinds)}
