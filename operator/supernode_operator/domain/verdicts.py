"""A verdict: what one condition says. Verdicts become conditions in one place, with their times and generations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from supernode_api.conditions import ConditionType, Reason, find_condition, set_condition

__all__ = ["Verdict", "conditions_of", "fine"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Status of one condition (None: unknown), its reason and its message."""

    type: ConditionType
    status: bool | None
    reason: Reason
    message: str = ""
    only_when_true: bool = False
    """The condition appears with the first True and then stays."""


def fine(type_: ConditionType, message: str = "", *, status: bool = True) -> Verdict:
    """Build the verdict that all is as it should be."""
    return Verdict(type_, status, Reason.AS_EXPECTED, message)


def conditions_of(
    old: list[dict[str, Any]], verdicts: Iterable[Verdict], *, generation: int, now: str
) -> list[dict[str, Any]]:
    """Return the condition list: transition times are kept where the status is; foreign conditions are dropped."""
    conditions: list[dict[str, Any]] = []
    for verdict in verdicts:
        before = find_condition(old, verdict.type)
        if verdict.only_when_true and not verdict.status and before is None:
            continue
        one = set_condition(
            [before] if before else [],
            verdict.type,
            verdict.status,
            verdict.reason,
            verdict.message,
            generation=generation,
            now=now,
        )
        conditions += one
    return conditions
