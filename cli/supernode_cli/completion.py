"""When a scenario's run is complete: how long its tokens, steps or requests take at the rate of the answer."""

from __future__ import annotations

from supernode_cli.scenario import Scenario
from supernode_dataplane.figures import decimal
from supernode_dataplane.state import WorkloadResult

__all__ = ["completion_note", "time_words"]


def completion_note(scenario: Scenario, result: WorkloadResult) -> tuple[str, ...]:
    """Return a sentence on how long a run with an end takes; none without an end."""
    path = "inference" if scenario.training is None else "training"
    run, rest = getattr(scenario, path), "" if scenario.training is None else ", without failures"
    # A step of training, or a request.
    ends = (("steps", result.tokens_per_step), ("requests", result.tokens_per_step), ("tokens", 1))
    return tuple(
        f"{path}.{name}: {count:,} take {time_words(count * tokens / result.tokens_per_second)} at this rate{rest}"
        for name, tokens in ends
        if (count := getattr(run, name, None)) is not None
    )


def time_words(seconds: float) -> str:
    """Return a time in the unit that a person would choose."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{decimal(seconds / size)} {unit}"
    return f"{decimal(seconds)} s"
