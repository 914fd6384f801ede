"""The benchmarks' page: a whole run, or single groups put into what is there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    for name in ("pace", "page", "rows"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import page
    import rows

    return page, rows.Row


def test_single_groups_replace_their_rows_put_new_ones_beside_them_and_leave_the_rest(bench: tuple[Any, Any]) -> None:
    page, row = bench
    before = page.page([row("a thing", 1.0, "ms", 2.0, "x"), row("other", 3.0, "s", 2.0, "y")], "2 cores") + "\nWhy.\n"
    after = page.merged(
        before,
        {"one": [row("a thing", 1.5, "ms", 2.0, "z"), row("new", 0.001, "s", 1.0, "w")]},
        {"one": "3 cores"},
    )
    table = [line for line in after.splitlines() if line.startswith("|")][2:]
    assert table == [
        "| a thing | 1.5 ms | 2 ms | 0.75 | z |",
        "| new | 0.001 s | 1 s | 0.001 | w |",
        "| other | 3 s | 2 s | 1.50 **over** | y |",
    ]
    assert after.endswith("\nWhy.\n")
    assert "Measured on 2 cores." in after
    assert after.count("- since then, one: 3 cores") == 1


def test_a_row_without_a_budget_is_neither_within_nor_over_one(bench: tuple[Any, Any]) -> None:
    page, row = bench
    text = page.page([row("a thing, with its error bar", 7.0, "ms", None, "x"), row("zero", 1.0, "", 0.0, "y")], "m")
    table = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert table == [
        "| a thing, with its error bar | 7 ms | none |  | x |",
        "| zero | 1  | 0  | inf **over** | y |",
    ]


def test_a_group_that_is_measured_again_says_so_once(bench: tuple[Any, Any]) -> None:
    page, row = bench
    first = page.merged(page.page([], "2 cores"), {"one": [row("a", 1.0, "s", 1.0, "")]}, {"one": "first"})
    again = page.merged(first, {"one": [row("a", 2.0, "s", 1.0, "")]}, {"one": "second"})
    assert [line for line in again.splitlines() if line.startswith("- since then")] == ["- since then, one: second"]
    assert sum(line.startswith("| a |") for line in again.splitlines()) == 1


def test_a_whole_run_keeps_what_people_wrote_below_the_table(bench: tuple[Any, Any]) -> None:
    page, row = bench
    before = page.merged(page.page([row("gone", 1.0, "s", 1.0, "")], "m"), {"g": []}, {"g": "n"}) + "\nOver, and why.\n"
    after = page.page([row("a", 1.0, "s", 1.0, "")], "m", before)
    assert "gone" not in after
    assert "since then" not in after
    assert after.endswith("\nOver, and why.\n")


def test_the_page_that_is_there_can_be_read_and_written(bench: tuple[Any, Any]) -> None:
    page, _ = bench
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    assert [line for line in page.merged(text, {}, {}).splitlines() if line.startswith("| ")] == rows


def test_what_others_took_of_the_processors_is_said_of_what_was_wanted(bench: tuple[Any, Any], tmp_path: Path) -> None:
    import pace

    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 1000 20 0 0 10 0 0\ncpu0 1\n")
    measured = pace.Pace(stat)
    stat.write_text("cpu  160 0 60 5000 90 0 0 40 60 0\ncpu0 1\n")  # 60 + 10 worked, 30 taken; guests are in the 60
    assert str(measured).startswith("30% of the processor time taken by others, a million additions in ")
    stat.unlink()
    assert str(measured).startswith("a million additions in ")
