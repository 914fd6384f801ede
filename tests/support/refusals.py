"""Scenarios that run, to be changed into ones that are refused, or into ones whose fields have no effect."""

from __future__ import annotations

from typing import Any

import pytest

from supernode_cli.evaluation import ScenarioError, evaluate
from support.deployments import MODES, R1_DECODE, with_fields
from support.scenarios import changed

__all__ = ["COLOCATED", "DENSE", "EXPERTS", "GROUPED", "PREFILL", "decode", "refused"]

DENSE: dict[str, Any] = {
    "machine": {"nodes": 48},
    "model": {"name": "llama-3.1-405b"},
    "training": {
        "sequenceLength": 8192,
        "globalBatchSize": 192,
        "parallelism": {"tensor": 16, "pipeline": 8, "virtualPipeline": 4},
    },
}
EXPERTS: dict[str, Any] = {
    "machine": {"nodes": 32},
    "model": {"name": "deepseek-v3"},
    "training": {
        "sequenceLength": 4096,
        "globalBatchSize": 3840,
        "parallelism": {"tensor": 2, "pipeline": 8, "virtualPipeline": 2, "expert": 16},
    },
}
COLOCATED: dict[str, Any] = {"machine": {"nodes": 3}, **MODES["Colocated"][0]}
"""Of a model without experts."""
GROUPED = changed(
    COLOCATED,
    model__name="mixtral-8x7b-v0.1",
    inference__decode={"parallelism": {"tensor": 8, "expert": 1}},
    inference__load={"concurrency": 60},
)
"""Every tensor group has all experts."""
PREFILL: dict[str, Any] = {"machine": {"nodes": 4}, **MODES["Prefill"][0]}


def decode(**figures: Any) -> dict[str, Any]:
    """DeepSeek-R1 decoding as published, on a machine with other figures."""
    return {"machine": {"nodes": 20, "figures": figures}, **with_fields(R1_DECODE)}


def refused(document: Any) -> str:
    """The error of a scenario that cannot be."""
    with pytest.raises(ScenarioError) as caught:
        evaluate(document)
    return str(caught.value)
