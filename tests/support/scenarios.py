"""Scenarios for the command line's tests and benchmarks: small deployments, changed fields, one run of a command."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.evaluation import ScenarioError, parse_scenario
from supernode_cli.main import cli
from supernode_cli.sweep_groups import NUMBERS
from supernode_cli.sweep_points import put

__all__ = ["SERVED", "SMALL_DECODE", "bounds_are_a_scenarios", "changed", "r1_scenario", "run_on_file", "served"]


def r1_scenario(
    nodes: int, mode: str = "Decode", input_tokens: int = 1024, output_tokens: int = 64, **inference: Any
) -> dict[str, Any]:
    """A deployment of DeepSeek-R1 on so many servers, with more fields of its inference."""
    return {
        "machine": {"nodes": nodes},
        "model": {"name": "deepseek-r1"},
        "inference": {"mode": mode, "inputTokens": input_tokens, "outputTokens": output_tokens, **inference},
    }


SMALL_DECODE = r1_scenario(2, batch={"sequencesPerCard": 8}, decode={"parallelism": {"expert": 32}})
"""Decoding on two servers, one instance."""
SERVED: dict[str, Any] = {
    "machine": {"nodes": 1},
    "model": {"name": "qwen3-8b"},
    "inference": {
        "mode": "Colocated", "inputTokens": 900, "outputTokens": 60, "decode": {"parallelism": {"tensor": 1}},
        "load": {"rate": 40.0, "prompts": 120},
    },
}  # fmt: skip
"""A small load on one server, for serve-sim."""


def changed(scenario: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a copy with fields set that are named by their path: ``machine__nodes=1``; ``...`` removes one."""
    document = deepcopy(scenario)
    for path, value in fields.items():
        *parents, last = path.split("__")
        node = document
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is ...:
            node.pop(last, None)
        else:
            node[last] = value
    return document


def run_on_file(folder: Path, command: str, scenario: Any, *flags: str) -> tuple[int, str, str]:
    """Run a command on a scenario (a document, or its text); return exit status, standard output, standard error."""
    file = folder / "scenario.yaml"
    file.write_text(scenario if isinstance(scenario, str) else yaml.safe_dump(scenario), encoding="utf-8")
    result = CliRunner().invoke(cli, [command, "-f", str(file), *flags])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def bounds_are_a_scenarios(path: str, base: dict[str, Any]) -> None:
    """Check that a number of a sweep's groups may be what a scenario's field may be, and no more."""
    known = NUMBERS[path]
    for value, legal in ((known.least, True), (known.most, True), (known.most + 1, False)):
        document = deepcopy(base)
        put(document, path, value)
        if legal:
            parse_scenario(document)
            continue
        with pytest.raises(ScenarioError, match=path.rpartition(".")[2]):
            parse_scenario(document)


def served(tmp_path: Path, scenario: Any, *flags: str) -> dict[str, Any]:
    """Return the document that serve-sim answers a scenario with."""
    status, out, error = run_on_file(tmp_path, "serve-sim", scenario, "-o", "json", *flags)
    assert (status, error) == (0, "")
    document: dict[str, Any] = json.loads(out)
    return document
