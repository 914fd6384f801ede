"""Progress and completion: when they are written, and with which values.

Between two writes progress is a straight line that everyone extends for himself; only a change of its slope is
written. Whoever reads the line after its end reads the target, so the end counts from the predicted instant on, also
when nobody was there to write it down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supernode_dataplane.figures import decimal
from supernode_dataplane.progress import completion_epoch, format_time, tokens_at

__all__ = ["ProgressPlan", "plan_progress"]


@dataclass(frozen=True, slots=True)
class ProgressPlan:
    """What ``status.progress`` and ``status.completionTime`` become, and when to look again (epoch seconds)."""

    progress: Mapping[str, Any] | None
    completion_time: str | None = None
    wake_epoch: float | None = None

    @property
    def complete(self) -> bool:
        """Whether the workload is done."""
        return self.completion_time is not None


def plan_progress(
    status: Mapping[str, Any], rate: float, target: int | None, tokens_per_step: int, now_epoch: float
) -> ProgressPlan:
    """Plan from the old status and the rate (tokens/s) that holds from now on."""
    old: Mapping[str, Any] | None = status.get("progress")
    if status.get("completionTime"):
        return ProgressPlan(old, str(status["completionTime"]))
    if old is not None and target is not None:
        end = completion_epoch(dict(old), target)
        if end is not None and end <= now_epoch:
            return _completed(target, tokens_per_step, end)
    text = decimal(rate)
    if text == (old["tokensPerSecond"] if old is not None else decimal(0.0)):
        wake = completion_epoch(dict(old), target) if old is not None and target is not None else None
        return ProgressPlan(old, None, wake)
    tokens = tokens_at(dict(old), target, now_epoch) if old is not None else 0
    new = _line(tokens, tokens_per_step, now_epoch, text)
    return ProgressPlan(new, None, completion_epoch(new, target) if target is not None else None)


def _completed(target: int, tokens_per_step: int, epoch: float) -> ProgressPlan:
    moment = format_time(epoch)
    return ProgressPlan(_line(target, tokens_per_step, epoch, decimal(0.0)), moment)


def _line(tokens: int, tokens_per_step: int, epoch: float, rate: str) -> dict[str, Any]:
    return {
        "tokens": tokens,
        "steps": tokens // max(1, tokens_per_step),
        "at": format_time(epoch),
        "tokensPerSecond": rate,
    }
