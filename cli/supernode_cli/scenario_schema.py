"""``docs/scenario.schema.json``, generated from the models: ``python3 -m supernode_cli.scenario_schema FILE``.

An editor that knows JSON Schema completes and checks scenario files with it. Rules across fields are not in it; the
command line says them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from supernode_cli.scenario import Scenario
from supernode_dataplane.catalogue import model_names
from supernode_dataplane.changed_profile import figure_names
from supernode_dataplane.profile import profile_names
from supernode_dataplane.stacks import stack_names

__all__ = ["main", "scenario_schema", "schema_text"]


def scenario_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a scenario; names of machines, figures, stacks and models are listed."""
    schema = Scenario.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    for name in definitions:
        definitions[name].setdefault("additionalProperties", False)
        if "enum" in definitions[name]:
            del definitions[name]["additionalProperties"]
    machine = definitions["Machine"]["properties"]
    machine["profile"]["enum"] = list(profile_names())
    machine["figures"]["propertyNames"] = {"enum": list(figure_names())}
    schema["properties"]["stack"]["anyOf"][0]["enum"] = list(stack_names())
    definitions["ScenarioModel"]["properties"]["name"]["examples"] = list(model_names())
    schema["oneOf"] = [{"required": each} for each in (["model", "training"], ["model", "inference"], ["kernel"])]
    for owner in (schema, *definitions.values()):
        for name, field in owner.get("properties", {}).items():
            owner["properties"][name] = _without_null(field)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """Return a field's schema without null, which the models take and scenarios do not: what is absent is left out."""
    kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
    if not kinds or len(kinds) == len(field["anyOf"]):
        return field
    rest = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
    return {**rest, **kinds[0]} if len(kinds) == 1 else {**rest, "anyOf": kinds}


def schema_text() -> str:
    """Return the schema as the file holds it."""
    return json.dumps(scenario_schema(), indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the schema to the file named on the command line."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python3 -m supernode_cli.scenario_schema docs/scenario.schema.json\n")
        return 2
    Path(arguments[0]).write_text(schema_text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
