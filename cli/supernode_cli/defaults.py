"""What a scenario leaves open, as its machine has it: the software stack and the formats of weights and activations.

A model's config that is quantized says its formats itself.

`simulate`, `plan`, `serve-sim`, `sweep` and `compare` all go through here, so one machine has one default.
"""

from __future__ import annotations

import json
from typing import Any

from supernode_api.inference import ActivationFormat, WeightFormat
from supernode_cli.scenario import Scenario
from supernode_dataplane.machine_defaults import default_format, default_stack
from supernode_dataplane.profile import Profile

__all__ = ["on_machine", "stack_words"]


def on_machine(scenario: Scenario, profile: Profile) -> Scenario:
    """Return the scenario with what it does not say: the machine's stack, and its 8-bit format."""
    changes: dict[str, Any] = {}
    if scenario.stack is None:
        changes["stack"] = default_stack(profile)
    inference = scenario.inference
    if inference is not None and not _is_quantized(scenario):
        kind, given = default_format(profile), inference.precision.model_fields_set
        formats: dict[str, Any] = {"weights": WeightFormat(kind), "activations": ActivationFormat(kind)}
        missing = {name: value for name, value in formats.items() if name not in given}
        precision = inference.precision.model_copy(update=missing)
        changes["inference"] = inference.model_copy(update={"precision": precision})
    return scenario.model_copy(update=changes)


def stack_words(scenario: Scenario, given: Scenario) -> str:
    """Return the stack and the formats for people; ``given`` is the scenario as written, which may leave them open."""
    words = f"stack {scenario.stack}"
    if given.stack is None:
        words += " (the machine's)"
    if scenario.inference is None or given.inference is None:
        return words
    precision, named = scenario.inference.precision, given.inference.precision.model_fields_set
    for name, kind in (("weights", precision.weights), ("activations", precision.activations)):
        if kind is None:
            words += f", {name} as the model's config says"
        else:
            words += f", {name} {kind}" + ("" if name in named else " (the machine's)")
    for name, kind in (("attention", precision.attention), ("experts", precision.experts)):
        words += "" if kind is None else f", {name} {kind}"
    return words


def _is_quantized(scenario: Scenario) -> bool:
    """Whether the model's config states formats; whether they are understood is said where it is read."""
    config: Any = scenario.model.config
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except (ValueError, RecursionError):
            return False
    return isinstance(config, dict) and config.get("quantization_config") is not None
