"""Condition types and reasons: the page lists exactly those in the code, and lists change as metav1 wants it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from supernode_api import KINDS
from supernode_api.conditions import ConditionType, Reason, find_condition, set_condition

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conditions.md"
NOW, LATER = "2026-11-21T04:00:00Z", "2026-11-21T05:00:00Z"


def rows(table: str) -> list[list[str]]:
    """Cells of every row in the tables that start with a column of that name."""
    found, inside = [], False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            inside = False
        elif line.startswith(f"| {table} |"):
            inside = True
        elif inside and not line.startswith("|---"):
            found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def test_the_page_lists_exactly_the_types_in_the_code() -> None:
    listed = {row[0].strip("`") for row in rows("type")}
    assert listed == {str(value) for value in ConditionType}, "docs/conditions.md and conditions.py differ"


def test_the_page_lists_exactly_the_reasons_in_the_code() -> None:
    listed = [row[0].strip("`") for row in rows("reason")]
    assert sorted(listed) == sorted(str(value) for value in Reason), "docs/conditions.md and conditions.py differ"


def test_every_row_says_what_it_means_and_what_to_do() -> None:
    for row in [*rows("type"), *rows("reason")]:
        assert len(row) == 3, row
        assert all(row), row


def test_every_kind_has_a_section() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"\n## {kind.kind_name}\n" in text for kind in KINDS)


def test_names_are_camel_case_and_fit_the_api() -> None:
    for value in [*ConditionType, *Reason]:
        assert re.fullmatch(r"[A-Z][A-Za-z]{1,63}", value), value


def test_the_transition_time_moves_with_the_status_only() -> None:
    first = set_condition([], ConditionType.READY, False, Reason.RECONCILING, "a", generation=1, now=NOW)
    second = set_condition(first, ConditionType.READY, False, Reason.NODE_TAKEN, "b", generation=2, now=LATER)
    assert second[0] == {
        "type": "Ready",
        "status": "False",
        "reason": "NodeTaken",
        "message": "b",
        "lastTransitionTime": NOW,
        "observedGeneration": 2,
    }
    third = set_condition(second, ConditionType.READY, None, Reason.NODE_TAKEN, "b", generation=2, now=LATER)
    assert (third[0]["status"], third[0]["lastTransitionTime"]) == ("Unknown", LATER)
    assert first[0]["reason"] == "Reconciling", "the list that was given is left alone"


def test_other_conditions_and_their_order_stay() -> None:
    conditions: list[dict[str, Any]] = []
    for type_ in (ConditionType.READY, ConditionType.DEGRADED, ConditionType.READY):
        conditions = set_condition(conditions, type_, True, Reason.AS_EXPECTED, "", generation=1, now=NOW)
    assert [condition["type"] for condition in conditions] == ["Ready", "Degraded"]
    assert find_condition(conditions, "Progressing") is None


@settings(deadline=None)
@given(st.text(max_size=3000))
def test_a_message_never_exceeds_the_bound_of_the_api(message: str) -> None:
    conditions = set_condition([], ConditionType.READY, True, Reason.AS_EXPECTED, message, generation=1, now=NOW)
    assert len(conditions[0]["message"]) <= 1024
    assert conditions[0]["message"][:1000] == message[:1000]
