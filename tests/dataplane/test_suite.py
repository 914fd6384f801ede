"""The validation suite: what it says of itself holds, and the page shows what it computes."""

from __future__ import annotations

import math

import pytest

from supernode_dataplane.stacks import load_stack, stack_figures, stack_names
from supernode_dataplane.suite import SuiteReport, load_rows, validate
from supernode_dataplane.suite.fitting import GROUPS, fit_group, with_constants
from support import fidelity


@pytest.fixture(scope="module")
def report() -> SuiteReport:
    return validate()


@pytest.mark.timeout(300)
def test_every_row_of_the_suite_is_evaluated_for_every_component(report: SuiteReport) -> None:
    assert [row.id for row in report.rows] == [row.id for row in load_rows()]
    for row in report.rows:
        assert set(row.computed) == set(row.published), row.id
        assert all(math.isfinite(value) and value > 0 for value in row.computed.values()), row.id


def test_the_error_of_a_row_is_that_of_its_worst_component(report: SuiteReport) -> None:
    for row in report.rows:
        if row.gate == "sign" or row.gate.endswith("pp"):
            continue
        errors = [abs(row.computed[name] / value - 1) * 100 for name, value in row.published.items()]
        assert abs(row.error_percent) == pytest.approx(max(errors)), row.id
        assert row.passed == (max(errors) <= float(row.gate)), row.id


def test_informative_rows_are_those_that_the_rules_name(report: SuiteReport) -> None:
    named = {"H-K1", "H-D1", "H-D4", "H-D5", "H-P3", "H-S3", "H-S8", "H-T4", "H-T5", "H-X2", "H-X3"}
    assert {row.id for row in report.rows if row.informative} == named
    assert report.informative.rows == len(named)


def test_definitions_and_the_gates_of_the_first_path_are_rows_that_no_statistic_counts(report: SuiteReport) -> None:
    aside = [row for row in report.rows if not row.counted]
    assert {row.id for row in aside} == {"C-K1", "H-T1", "H-T2"}
    assert not any(row.informative for row in aside)
    assert all(row.passed for row in aside)
    rows = {row.id: row for row in aside}
    assert abs(rows["C-K1"].error_percent) < 1e-6
    assert rows["H-T1"].computed["tokens/s/card"] == pytest.approx(132, rel=0.15)
    assert all(2.0 <= ratio <= 3.0 for ratio in rows["H-T2"].computed.values())
    training = [row for row in report.rows if (row.set, row.letter) == ("test", "T")]
    assert report.groups["test/T"].rows == sum(row.counted for row in training) == len(training) - 2


def test_shape_and_sign_rows_hold(report: SuiteReport) -> None:
    rows = {row.id: row for row in report.rows}
    for name in ("C-K4", "H-D13", "H-D14", "H-K3"):
        assert rows[name].passed, name


def test_no_decode_row_misses_its_gate(report: SuiteReport) -> None:
    assert not [row.id for row in report.rows if row.letter == "D" and not row.passed]


def test_intervals_cover_between_65_and_95_percent_at_a_median_half_width_of_at_most_20(report: SuiteReport) -> None:
    assert 65 <= report.informative.coverage <= 95
    assert report.informative.median_half_width <= 20


def test_informative_rows_have_a_median_error_of_at_most_10_and_a_p90_of_at_most_20_percent(
    report: SuiteReport,
) -> None:
    assert report.informative.median <= 10
    assert report.informative.p90 <= 20


def test_the_fidelity_page_shows_what_the_suite_computes(report: SuiteReport) -> None:
    text = fidelity.PAGE.read_text(encoding="utf-8")
    assert fidelity.page(text, report) == text, "run python tests/support/fidelity.py"


@pytest.mark.parametrize("group", [g for g in GROUPS if "C-S1" not in g.rows], ids=lambda g: g.rows[0])
def test_the_constants_are_those_that_the_calibration_rows_fit(group: object) -> None:
    stacks = {name: load_stack(name) for name in stack_names()}
    # Started away from the stored values, so that the fit has to find them.
    moved = {(stack, name): getattr(stacks[stack], name) * 1.1 for stack, name in group.constants}  # type: ignore[attr-defined]
    fit = fit_group(group, with_constants(stacks, moved))  # type: ignore[arg-type]
    stored = [getattr(stacks[stack], name) for stack, name in group.constants]  # type: ignore[attr-defined]
    assert fit.values.tolist() == pytest.approx(stored, rel=0.03)


def test_test_rows_never_enter_a_fit() -> None:
    tests = {row.id for row in load_rows() if row.set == "test"}
    assert tests
    assert not tests & {name for group in GROUPS for name in group.rows}


def test_every_constant_says_its_unit_its_source_and_how_sure_it_is() -> None:
    for stack in stack_names():
        for figure in stack_figures(stack):
            assert figure.unit, figure.name
            assert figure.source, figure.name
            if figure.status == "calibrated":
                assert figure.rows, figure.name
            if figure.status == "assumed":
                assert figure.error > 0, figure.name
