"""Figures as text: four significant digits, no exponent, and what the API's schema takes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernode_api.supernode import MachinePerformance
from supernode_api.workload import WorkloadPerformance
from supernode_dataplane.figures import decimal, machine_performance, round_rate, workload_performance
from support.deployments import R1_DECODE, deployment
from support.machines import only, run, workload


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (132.449, "132.4"), (50238.1, "50240"), (133.0, "133"), (0.46885823, "0.4689"), (1e-5, "0.00001"),
        (48.0, "48"), (1e-30, "0"), (-2.34567, "-2.346"), (99995.0, "100000"), (31.308188, "31.31"), (10.0, "10"),
        (123456789.0, "123500000"),
    ],
)  # fmt: skip
def test_values_are_rounded_to_four_significant_digits(value: float, text: str):
    assert decimal(value) == text
    assert round_rate(value) == float(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_finite_value_is_a_decimal_string_of_the_api(value: float):
    text = decimal(value)
    assert re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text)
    assert len(text) <= 24
    assert decimal(float(text)) == text, "rounding twice changes nothing"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_figure_is_refused(value: float):
    with pytest.raises(ValueError, match="not a figure"):
        decimal(value)


def test_performance_is_what_the_api_takes_field_by_field():
    state = run(workload("a", range(48)))
    figures = workload_performance(only(state))
    fields = {field.alias for field in WorkloadPerformance.model_fields.values()}
    of_inference = {"ttftSeconds", "tpotSeconds", "promptTokensPerSecond"}
    assert set(figures) == fields - of_inference
    served = workload_performance(only(run(deployment("b", range(20), R1_DECODE))))
    assert set(served) == fields
    WorkloadPerformance.model_validate(figures)
    machine = machine_performance(state)
    assert set(machine) == {field.alias for field in MachinePerformance.model_fields.values()}
    MachinePerformance.model_validate(machine)
    assert figures["bound"] == "Compute"
    assert machine["tokensPerSecond"] == figures["tokensPerSecond"]


def test_while_it_waits_all_figures_are_zero_and_nothing_bounds_it():
    figures = workload_performance(only(run(workload("a", range(3)))))
    assert set(figures.values()) == {"0"}
    assert "bound" not in figures
    WorkloadPerformance.model_validate(figures)
