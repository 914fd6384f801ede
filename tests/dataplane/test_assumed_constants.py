"""Constants that no source gives have a range, and the range is in the error bar of what depends on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from supernode_dataplane import expected_error, load_model, load_profile
from supernode_dataplane.constants import BUFFER_BYTES, CONSTANTS, LINK_EFFICIENCY, training_constants
from supernode_dataplane.expected_error import plan_error_percent
from supernode_dataplane.link_costs import at_efficiency
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.memory import fitted_memory
from supernode_dataplane.planning import healthy_costs
from supernode_dataplane.shares import shares_of
from supernode_dataplane.stacks import load_stack, stack_names, training_figures
from supernode_dataplane.training import Plan, plan_training, step_seconds
from supernode_dataplane.training_plan import plan_in_memory, with_stack

CM = load_profile("cloudmatrix-384")
DIES = 512
SPEC = TrainingSpec(load_model("llama-3.1-405b"), "vendor-tuned", 8192, 192, tensor=16, pipeline=8, virtual_pipeline=4)
GRADIENTS = TrainingSpec(
    load_model("llama-3.1-70b"), "vendor-tuned", 4096, 128, tensor=8, optimizer_sharding="zero3", recompute="full"
)
"""Weights are gathered for each micro-batch, which takes a large part of the step."""
ROOM = TrainingSpec(load_model("qwen3-8b"), "vendor-tuned", 4096, 512, tensor=8)
"""Nothing is recomputed, with any buffers."""
SHORT = TrainingSpec(load_model("qwen3-8b"), "open-source", 1024, 128, tensor=4)
"""A step so short that the host's turn shows."""
NAMES = ("gradient_overlap", "buffer_bytes", "link_efficiency", "training_host_seconds")


def plan_of(spec: TrainingSpec) -> Plan:
    plan = plan_training(CM, spec, DIES)
    assert isinstance(plan, Plan), plan
    return plan


def bar(spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch, **errors: float) -> Any:
    """The error bar with these errors of assumed constants, and none of the others."""

    def figures(name: str) -> Any:
        return tuple(replace(figure, error=errors.get(figure.name, 0.0)) for figure in training_figures(name))

    monkeypatch.setattr(expected_error, "training_figures", figures)
    return plan_error_percent(CM, plan_of(spec), DIES)


def error_of(name: str, stack: str = "vendor-tuned") -> float:
    return training_constants(stack)[name].error


def test_every_assumed_constant_has_a_range_and_says_why():
    for constant in CONSTANTS:
        if constant.status == "assumed":
            assert constant.error > 0, constant.name
        assert (len(constant.range) > 10) == (constant.error > 0), constant.name
        assert constant.value - constant.error >= 0, f"{constant.name}: a range of what cannot be"
    ranged = {constant.name for constant in CONSTANTS if constant.error > 0}
    entering = {found.name for stack in stack_names() for found in training_constants(stack).values()}
    assert entering == ranged, "a range that moves no answer"


@pytest.mark.parametrize("stack", stack_names())
def test_a_stack_has_each_of_them_as_it_stands_in_the_list(stack: str):
    found = {figure.name: figure for figure in training_figures(stack)}
    assert set(found) == set(NAMES)
    for name, figure in found.items():
        assert getattr(load_stack(stack), name) == figure.value
        assert "range: " in figure.source


@pytest.mark.parametrize(
    ("name", "shows", "hides"),
    [
        ("gradient_overlap", GRADIENTS, replace(ROOM, optimizer_sharding="none", tensor=8, global_batch_size=51_200)),
        ("buffer_bytes", SPEC, ROOM),
        ("link_efficiency", GRADIENTS, None),
        ("training_host_seconds", SHORT, replace(ROOM, global_batch_size=51_200)),
    ],
)
def test_the_bar_is_wider_by_the_range_of_a_constant_that_matters_and_not_where_it_does_not(
    name: str, shows: TrainingSpec, hides: TrainingSpec | None, monkeypatch: pytest.MonkeyPatch
):
    error = error_of(name, shows.stack)
    without, narrow, wide = (bar(shows, monkeypatch, **{name: error * part}) for part in (0.0, 0.5, 1.0))
    assert without * 1.002 < narrow < wide
    if hides is not None:
        assert bar(hides, monkeypatch, **{name: error}) == pytest.approx(bar(hides, monkeypatch), rel=1e-3)


@pytest.mark.parametrize("spec", [SPEC, GRADIENTS, SHORT], ids=["recompute", "gradients", "host"])
def test_a_range_of_zero_changes_nothing(spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch):
    zero = bar(spec, monkeypatch)
    monkeypatch.setattr(expected_error, "training_figures", lambda name: ())
    assert plan_error_percent(CM, plan_of(spec), DIES) == zero
    monkeypatch.undo()
    assert plan_error_percent(CM, plan_of(spec), DIES) > zero


def test_ranges_of_several_constants_add_as_squares(monkeypatch: pytest.MonkeyPatch):
    errors = {name: error_of(name) for name in ("gradient_overlap", "link_efficiency")}
    base = bar(GRADIENTS, monkeypatch)
    each = [bar(GRADIENTS, monkeypatch, **{name: error}) ** 2 - base**2 for name, error in errors.items()]
    assert bar(GRADIENTS, monkeypatch, **errors) ** 2 == pytest.approx(base**2 + sum(each))


def test_a_swept_point_has_the_ranges_too(monkeypatch: pytest.MonkeyPatch):
    batches = [64, 128, 256, 1024]
    for spec in (SPEC, GRADIENTS):
        many = replace(spec, global_batch_size=np.array(batches, dtype=np.float64))
        shares = shares_of(many)
        memory = fitted_memory(many, DIES, CM.hbm_bytes_per_die, shares).memory
        found = plan_error_percent(CM, plan_in_memory(CM, many, DIES, memory, shares), DIES)
        for batch, swept in zip(batches, found, strict=True):
            point = replace(spec, global_batch_size=batch)
            assert swept == pytest.approx(plan_error_percent(CM, plan_of(point), DIES), rel=1e-9)
            with monkeypatch.context() as patch:
                assert swept > bar(point, patch)


def test_a_plan_with_other_ones_is_the_plan_that_has_them_from_the_start():
    changes = {"gradient_overlap": 0.9, "buffer_bytes": 6e9, "link_efficiency": 0.8, "training_host_seconds": 0.5}
    for spec in (SPEC, GRADIENTS):
        plan, costs = plan_of(spec), healthy_costs(CM, spec, DIES)
        stack = replace(load_stack(spec.stack), **changes)  # type: ignore[arg-type]
        other = plan_training(CM, spec, DIES, stack)
        assert isinstance(other, Plan)
        assert step_seconds(with_stack(CM, plan, stack), costs) == step_seconds(other, costs)
        back = with_stack(CM, other, plan.stack)
        assert step_seconds(back, costs) == pytest.approx(step_seconds(plan, costs), rel=1e-12)


def test_more_buffers_are_as_much_more_to_recompute_and_all_of_it_where_they_leave_no_room():
    plan = plan_of(SPEC)
    assert 0 < plan.memory.recompute < 1
    more = with_stack(CM, plan, replace(plan.stack, buffer_bytes=BUFFER_BYTES + 2e9))
    smaller = replace(CM, hbm_bytes_per_die=CM.hbm_bytes_per_die - 2e9)
    wanted = plan_training(smaller, SPEC, DIES)
    assert isinstance(wanted, Plan)
    assert more.memory.recompute == wanted.memory.recompute > plan.memory.recompute
    assert with_stack(CM, plan, replace(plan.stack, buffer_bytes=60e9)).memory.recompute == 1


def test_collectives_at_another_efficiency_are_those_of_links_that_are_as_much_faster():
    for profile in (CM, load_profile("atlas-a2-cluster")):
        faster = replace(
            profile,
            port_bytes_per_second=profile.port_bytes_per_second * 0.8 / LINK_EFFICIENCY,
            sio_bytes_per_second=profile.sio_bytes_per_second * 0.8 / LINK_EFFICIENCY,
            rdma_bytes_per_second=profile.rdma_bytes_per_second * 0.8 / LINK_EFFICIENCY,
        )
        found, wanted = at_efficiency(healthy_costs(profile, SPEC, DIES), 0.8), healthy_costs(faster, SPEC, DIES)
        for way in ("tensor", "pipeline", "data"):
            one, other = getattr(found, way), getattr(wanted, way)
            assert one.seconds_per_byte == pytest.approx(other.seconds_per_byte)
            assert one.latency_seconds == other.latency_seconds
