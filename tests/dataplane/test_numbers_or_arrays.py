"""Formulas that take numbers or arrays: an array is its numbers one by one, without a warning and without a trace."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from supernode_dataplane import load_model, load_profile
from supernode_dataplane.expected_error import NORMAL_90, half_width, plan_error_percent, training_error_percent
from supernode_dataplane.layout import check_layout, divides_evenly
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.memory import fitted_memory, plan_memory
from supernode_dataplane.numeric import element, index_of_largest, key_of_largest, of_each
from supernode_dataplane.planning import healthy_costs
from supernode_dataplane.shares import shares_of
from supernode_dataplane.stacks import Stack, load_stack, stack_figures
from supernode_dataplane.state import Problem
from supernode_dataplane.training import step_of, step_seconds, training_step
from supernode_dataplane.training_plan import Plan, plan_in_memory, plan_training, with_stack

CM = load_profile("cloudmatrix-384")
DIES = 512
DENSE = TrainingSpec(load_model("llama-3.1-405b"), "vendor-tuned", 8192, 192, tensor=16, pipeline=8, virtual_pipeline=4)
EXPERTS = TrainingSpec(load_model("deepseek-v3"), "open-source", 4096, 3840, tensor=2, pipeline=8, expert=16)
SPECS = {
    "dense": DENSE,
    "nothing recomputed": replace(DENSE, recompute="none"),
    "weights sharded": replace(DENSE, optimizer_sharding="zero3", virtual_pipeline=1),
    "experts": replace(EXPERTS, hot_rank=True),
    "exchanges hidden": replace(EXPERTS, overlap_exchange=True, recompute="full"),
    "rings": replace(DENSE, context=2, virtual_pipeline=1),
}


def points_of(spec: TrainingSpec, count: int) -> list[TrainingSpec]:
    """Legal points that differ in every number."""
    dice, data = random.Random(5), DIES // (spec.tensor * spec.context * spec.pipeline)
    found = []
    for _ in range(count):
        micro = dice.choice((1, 2, 4))
        found.append(
            replace(
                spec,
                sequence_length=dice.choice((256, 2048, 8192, 65_536, 1 << 20)),
                micro_batch_size=micro,
                global_batch_size=data * micro * dice.choice((1, 2, 5, 16, 100)),
                expert_imbalance=dice.choice((1.0, 1.3, 7.5)) if spec.model.is_moe else 1.0,
            )
        )
    return found


def together(points: list[TrainingSpec]) -> TrainingSpec:
    names = ("sequence_length", "global_batch_size", "micro_batch_size", "expert_imbalance")
    arrays: Any = {name: np.array([float(getattr(point, name)) for point in points]) for name in names}
    return replace(points[0], **arrays)


@pytest.mark.parametrize("name", SPECS)
def test_an_array_of_plans_and_their_steps_are_those_of_each_point(name: str) -> None:
    points = points_of(SPECS[name], 60)
    many = together(points)
    shares = shares_of(many)
    fitted = fitted_memory(many, DIES, CM.hbm_bytes_per_die, shares)
    plans = plan_in_memory(CM, many, DIES, fitted.memory, shares)
    costs = healthy_costs(CM, many, DIES)
    step, errors = step_of(CM, plans, costs), plan_error_percent(CM, plans, DIES)
    ran = 0
    for number, point in enumerate(points):
        plan = plan_training(CM, point, DIES)
        assert isinstance(plan, Plan) == bool(element(fitted.fits, number))
        if not isinstance(plan, Plan):
            continue
        ran += 1
        one = training_step(CM, plan, costs)
        for used, wanted in zip(plans.memory.used_bytes, plan.memory.used_bytes, strict=True):
            assert element(used, number) == pytest.approx(wanted, rel=1e-12)
        assert element(plans.memory.recompute, number) == pytest.approx(plan.memory.recompute, rel=1e-9, abs=1e-12)
        assert {cause: element(seconds, number) for cause, seconds in step.breakdown.items()} == pytest.approx(
            one.breakdown, rel=1e-9, abs=1e-15
        )
        assert element(step.bound, number) == one.bound
        for many_loads, loads in zip(step.loads, one.loads, strict=True):
            for field in ("busy", "cube", "vector", "hbm"):
                assert element(getattr(many_loads, field), number) == pytest.approx(getattr(loads, field), rel=1e-9)
        assert element(errors, number) == pytest.approx(training_error_percent(CM, point, DIES), rel=1e-9)
    assert ran >= 10


def test_a_plan_with_other_constants_is_the_plan_that_has_them_from_the_start() -> None:
    stack = replace(load_stack("vendor-tuned"), training_gemm_efficiency=0.5, layer_seconds=1e-3)
    plan, other = plan_training(CM, DENSE, DIES), plan_training(CM, DENSE, DIES, stack)
    assert isinstance(plan, Plan)
    assert isinstance(other, Plan)
    costs = healthy_costs(CM, DENSE, DIES)
    assert step_seconds(with_stack(CM, plan, stack), costs) == step_seconds(other, costs)
    assert step_seconds(plan, costs) < step_seconds(other, costs)
    assert step_seconds(plan, costs) == training_step(CM, plan, costs).seconds


def test_batches_and_sequences_divide_where_no_layout_problem_names_them() -> None:
    spec = replace(DENSE, context=2, virtual_pipeline=1)
    for sequence in (4096, 4112, 16, 33):
        for batch in (8, 6, 1, 4):
            point = replace(spec, sequence_length=sequence, global_batch_size=batch, micro_batch_size=2)
            assert divides_evenly(point, DIES) == (check_layout(point, DIES, "dies") is None)


@pytest.mark.parametrize("name", ["dense", "nothing recomputed", "weights sharded", "exchanges hidden"])
def test_memory_ends_at_the_same_sequence_for_one_point_and_for_many(name: str) -> None:
    spec, step = SPECS[name], 64

    def fits(length: int, **changes: Any) -> bool:
        point = replace(spec, sequence_length=length, **changes)
        return not isinstance(plan_memory(point, DIES, CM.hbm_bytes_per_die), Problem)

    steps = range(1, (1 << 22) // step)
    last = bisect_left(steps, True, key=lambda number: not fits(number * step)) * step
    assert fits(last)
    assert not fits(last + step)
    if spec.recompute == "auto":
        assert [fits(length, recompute="full") for length in (last, last + step)] == [True, False]
    points = [replace(spec, sequence_length=length) for length in (step, last - step, last, last + step, 2 * last)]
    found = fitted_memory(together(points), DIES, CM.hbm_bytes_per_die, shares_of(together(points)))
    assert found.fits.tolist() == [True, True, True, False, False]


def test_half_widths_of_an_array_are_those_of_its_values_and_zero_without_one() -> None:
    stack = load_stack("vendor-tuned")

    def width(factor: Any) -> Any:
        def value(changed: Stack) -> Any:
            return factor * (changed.layer_seconds + 1e-5) / changed.training_gemm_efficiency

        return half_width(value, stack, "T")

    with np.errstate(all="raise"):
        found = width(np.array([1.0, 4.0, 0.0]))
    assert found.tolist() == pytest.approx([width(1.0), width(4.0), 0.0], rel=1e-12)
    errors = {figure.name: figure.error for figure in stack_figures("vendor-tuned")}
    products = math.log1p(errors["training_gemm_efficiency"] / stack.training_gemm_efficiency)
    launches = math.log1p(errors["layer_seconds"] / (stack.layer_seconds + 1e-5))
    missed = half_width(lambda _: 1.0, stack, "T")
    assert found[0] == pytest.approx(math.hypot(NORMAL_90 * math.hypot(products, launches), missed))
    assert min(products, launches, missed) > 0
    assert [width(factor) for factor in (0.0, float("inf"), float("nan"))] == [0.0, 0.0, 0.0]


def test_the_largest_is_chosen_element_by_element_and_is_the_first_of_equal_ones() -> None:
    values = {"a": np.array([1.0, 2.0, 3.0]), "b": 2.0, "c": np.array([0.0, 2.0, 3.5])}
    assert key_of_largest(values).tolist() == ["b", "a", "c"]
    assert index_of_largest(list(values.values())).tolist() == [1, 0, 2]
    assert (key_of_largest({"a": 1.0, "b": 1.0}), index_of_largest([0.0, 3.0, 3.0])) == ("a", 1)


def test_of_each_index_only_what_occurs_is_asked_for() -> None:
    asked: list[int] = []

    def square(number: int) -> Any:
        asked.append(number)
        return np.full(4, number**2)

    assert of_each(np.array([5, 3, 3, 5]), square).tolist() == [25, 9, 9, 25]
    assert sorted(asked) == [3, 5]
    assert of_each(2, lambda number: number + 1) == 3
