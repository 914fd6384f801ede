"""Scenarios for `supernode serve-sim`, and what it answers to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from supernode_cli.main import cli

__all__ = ["COLOCATED", "DISAGGREGATED", "changed", "figures", "run"]

COLOCATED: dict[str, Any] = {
    "machine": {"nodes": 2},
    "model": {"name": "deepseek-r1"},
    "inference": {
        "mode": "Colocated",
        "inputTokens": 1024,
        "outputTokens": 64,
        "load": {"concurrency": 40},
        "decode": {"parallelism": {"expert": 32}},
    },
}
DISAGGREGATED: dict[str, Any] = {
    "machine": {"nodes": 6},
    "model": {"name": "deepseek-r1"},
    "inference": {
        "mode": "Disaggregated",
        "inputTokens": 1024,
        "outputTokens": 64,
        "batch": {"sequencesPerCard": 4},
        "prefill": {"nodes": 4, "parallelism": {"expert": 32}},
        "decode": {"parallelism": {"expert": 32}},
    },
}


def run(tmp_path: Path, scenario: Any, *flags: str) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error of one run."""
    file = tmp_path / "scenario.yaml"
    file.write_text(yaml.safe_dump(scenario), encoding="utf-8")
    result = CliRunner().invoke(cli, ["serve-sim", "-f", str(file), *flags])
    return result.exit_code, result.stdout, result.stderr


def figures(tmp_path: Path, scenario: Any, *flags: str) -> dict[str, Any]:
    """Return the answer as JSON; the run must be without a word on standard error."""
    status, out, error = run(tmp_path, scenario, "-o", "json", *flags)
    assert (status, error) == (0, "")
    document: dict[str, Any] = json.loads(out)
    return document


def changed(scenario: dict[str, Any], **path: Any) -> dict[str, Any]:
    """Return a copy with fields changed, named by their path: ``machine__nodes=1``."""
    document: dict[str, Any] = json.loads(json.dumps(scenario))
    for dotted, value in path.items():
        node = document
        *parents, last = dotted.split("__")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return document
