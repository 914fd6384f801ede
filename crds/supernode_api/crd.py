"""Whole CustomResourceDefinitions from the kinds: names, scope, columns, subresources, schema. Pure."""

from __future__ import annotations

from typing import Any

from supernode_api.common import Kind, PrinterColumn
from supernode_api.names import CATEGORY, GROUP, VERSION
from supernode_api.schema import build_schema

__all__ = ["build_crd", "crd_name"]


def crd_name(kind: type[Kind]) -> str:
    """Name the CRD of a kind, for example ``supernodes.supernode.io``."""
    return f"{kind.plural}.{GROUP}"


def build_crd(kind: type[Kind]) -> dict[str, Any]:
    """Return the CRD of a kind; SchemaError when its model has no structural schema."""
    singular = kind.kind_name.lower()
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
        "selectableFields": [{"jsonPath": path} for path in kind.selectable],
        "schema": {"openAPIV3Schema": _root_schema(kind)},
    }
    if not kind.selectable:
        del version["selectableFields"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": crd_name(kind)},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.kind_name,
                "listKind": f"{kind.kind_name}List",
                "plural": kind.plural,
                "singular": singular,
                "shortNames": [kind.short_name],
                "categories": [CATEGORY],
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [version],
        },
    }


def _column(column: PrinterColumn) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.json_path,
        "description": column.description,
    }
    if column.wide:
        result["priority"] = 1
    return result


def _root_schema(kind: type[Kind]) -> dict[str, Any]:
    """Return the schema of the whole object; spec is required, status never."""
    schema: dict[str, Any] = {
        "description": kind.description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": f"Always {GROUP}/{VERSION}.", "type": "string"},
            "kind": {"description": f"Always {kind.kind_name}.", "type": "string"},
            "metadata": {"type": "object"},  # the server describes it, and forbids to say more
        },
    }
    if kind.cel_rules:
        schema["x-kubernetes-validations"] = [rule.to_schema() for rule in kind.cel_rules]
    for name in ("spec", "status"):
        field = kind.model_fields[name]
        struct = build_schema(_struct(kind, name), defaults=name == "spec")
        schema["properties"][name] = {**struct, "description": field.description}
    return schema


def _struct(kind: type[Kind], name: str) -> Any:
    return kind.model_fields[name].annotation
