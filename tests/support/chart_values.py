"""docs/chart-values.md from the chart's schema and default values. `make gen` writes it, a test compares it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["PAGE", "render", "rows"]

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "helm" / "supernode"
PAGE: Final = ROOT / "docs" / "chart-values.md"
_ABSENT: Final = object()
_HEAD: Final = """# Values of the chart

Generated from `helm/supernode/values.schema.json` and `values.yaml` by `make gen`. Helm refuses a key that is not here.

| key | default | meaning |
|---|---|---|
"""


def rows(schema: dict[str, Any], values: Any, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (key, default, meaning) of every key that has a default; headings have none of their own."""
    for key, node in schema.get("properties", {}).items():
        path = f"{prefix}{key}"
        default = values.get(key, _ABSENT) if isinstance(values, dict) else _ABSENT
        if default is _ABSENT:
            continue  # a part of the Kubernetes API, or not ours to set
        meaning = node["description"]
        if choices := node.get("enum"):
            meaning += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
        has_rows = "properties" in node and bool(default)
        yield path, "" if has_rows else f"`{json.dumps(default, ensure_ascii=False)}`", meaning
        if has_rows:
            yield from rows(node, default, f"{path}.")


def render() -> str:
    """Return the page."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    lines = [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in rows(schema, values)]
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")
