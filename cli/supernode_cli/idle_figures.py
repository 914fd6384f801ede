"""Figures that a scenario gives of its machine and that change nothing of the answer: each is left out in turn."""

from __future__ import annotations

from typing import Any

from supernode_cli.errors import ScenarioError
from supernode_cli.evaluation import Evaluation, evaluate
from supernode_dataplane.figures import machine_performance

__all__ = ["idle_figures"]


def idle_figures(evaluation: Evaluation) -> tuple[str, ...]:
    """Return a note on the figures without which the answer is the same; none where each has an effect."""
    if not evaluation.given.machine.figures:
        return ()
    given = evaluation.given.model_dump(mode="json", by_alias=True, exclude_unset=True)
    idle = [name for name in evaluation.given.machine.figures if _answer(evaluation) == _without(given, name)]
    if not idle:
        return ()
    fields = ", ".join(f"machine.figures.{name}" for name in idle)
    return (f"{fields} {'changes' if len(idle) == 1 else 'each change'} nothing here",)


def _without(given: dict[str, Any], name: str) -> Any:
    figures = {key: value for key, value in given["machine"]["figures"].items() if key != name}
    try:
        return _answer(evaluate({**given, "machine": {**given["machine"], "figures": figures}}))
    except ScenarioError:
        return None  # nothing runs without it: that is an effect


def _answer(evaluation: Evaluation) -> Any:
    """Return what people see of an answer."""
    result = evaluation.result
    shown = machine_performance(evaluation.state, evaluation.profile)
    return (
        evaluation.performance,
        shown,
        result.breakdown_seconds,
        result.prefill_breakdown_seconds,
        result.memory_bytes,
    )
