"""Scenarios for `supernode serve-sim`, and what it answers to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.scenarios import r1_scenario, run_on_file

__all__ = ["COLOCATED", "DISAGGREGATED", "figures", "run"]

COLOCATED = r1_scenario(2, "Colocated", load={"concurrency": 40}, decode={"parallelism": {"expert": 32}})
DISAGGREGATED = r1_scenario(
    6,
    "Disaggregated",
    batch={"sequencesPerCard": 4},
    prefill={"nodes": 4, "parallelism": {"expert": 32}},
    decode={"parallelism": {"expert": 32}},
)


def run(tmp_path: Path, scenario: Any, *flags: str) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error of one run."""
    return run_on_file(tmp_path, "serve-sim", scenario, *flags)


def figures(tmp_path: Path, scenario: Any, *flags: str) -> dict[str, Any]:
    """Return the answer as JSON; the run must be without a word on standard error."""
    status, out, error = run(tmp_path, scenario, "-o", "json", *flags)
    assert (status, error) == (0, "")
    document: dict[str, Any] = json.loads(out)
    return document
