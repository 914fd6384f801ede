"""What a model was made for: a note where sequences are longer than its config says. Never an error: it computes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from supernode_cli.scenario import Scenario, ScenarioModel
from supernode_dataplane.catalogue import model_context
from supernode_dataplane.model_config import longest_context

__all__ = ["context_note", "context_of", "long_context"]


def context_of(model: ScenarioModel) -> int | None:
    """Return the tokens of a sequence that a model which can be read was made for; None where nothing says so."""
    if model.name is not None:
        return model_context(model.name)
    config = json.loads(model.config) if isinstance(model.config, str) else model.config
    return longest_context(config) if isinstance(config, Mapping) else None


def long_context(what: str, tokens: int, model: ScenarioModel) -> tuple[str, ...]:
    """Return a note on sequences (``what`` they are) of more tokens than the model was made for; none of fewer."""
    limit = context_of(model)
    if limit is None or tokens <= limit:
        return ()
    name = "the model" if model.name is None else model.name
    return (f"{what} of {tokens:,} tokens are longer than the {limit:,} that {name} was made for",)


def context_note(scenario: Scenario) -> tuple[str, ...]:
    """Return a note on a scenario's sequences where they are longer than its model was made for."""
    training, inference = scenario.training, scenario.inference
    if training is not None:
        return long_context("training.sequenceLength: sequences", training.sequence_length, scenario.model)
    if inference is None:
        return ()
    if inference.output_tokens is None:
        return long_context("inference.inputTokens: prompts", inference.input_tokens, scenario.model)
    tokens = inference.input_tokens + inference.output_tokens
    return long_context("inference.inputTokens and outputTokens: sequences", tokens, scenario.model)
