"""What runs beside what in a training step, and layers for multi-token prediction."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from supernode_dataplane import load_model, load_profile
from supernode_dataplane.communication import Cost
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.memory import stage_parameters
from supernode_dataplane.planning import healthy_costs
from supernode_dataplane.spec import parse_training
from supernode_dataplane.state import Problem
from supernode_dataplane.training import Plan, Step, plan_training, training_step
from support.machines import SMALL_MOE, only, run, workload

CM = load_profile("cloudmatrix-384")
MODEL = load_model("deepseek-v3")
DIES = 512


def spec(**changes: Any) -> TrainingSpec:
    base = TrainingSpec(MODEL, "vendor-tuned", 4096, 3840, tensor=2, pipeline=8, virtual_pipeline=2, expert=16)
    return replace(base, recompute="full", **changes)


def step(found: TrainingSpec) -> tuple[Plan, Step]:
    plan = plan_training(CM, found, DIES)
    assert isinstance(plan, Plan), plan
    return plan, training_step(CM, plan, healthy_costs(CM, found, DIES))


def test_a_pair_of_passes_hides_its_exchanges_and_what_is_recomputed_shows_its_own():
    plan, alone = step(spec())
    _, paired = step(spec(overlap_exchange=True))
    whole, shown = alone.breakdown["expert_parallel"], paired.breakdown["expert_parallel"]
    # Three passes exchange: forward, recomputed, backward. Two are a pair, which pays a slowdown for what it hides.
    assert shown == pytest.approx(whole * (1 + 2 * plan.stack.overlap_slowdown) / 3)
    others = set(alone.breakdown) - {"expert_parallel", "bubble"}
    assert {name: paired.breakdown[name] for name in others} == {name: alone.breakdown[name] for name in others}


def test_an_exchange_longer_than_the_work_beside_it_hides_behind_that_work_alone():
    found = spec(overlap_exchange=True)
    plan = plan_training(CM, found, DIES)
    assert isinstance(plan, Plan)
    costs = healthy_costs(CM, found, DIES)
    slow = replace(costs, expert=replace(costs.expert, seconds_per_byte=costs.expert.seconds_per_byte * 100))
    beside, alone = (
        training_step(CM, replace(plan, spec=replace(found, overlap_exchange=hidden)), slow) for hidden in (True, False)
    )
    saved = alone.breakdown["expert_parallel"] - beside.breakdown["expert_parallel"]
    layers = sum(plan.counts[1]) * plan.micro_batches
    work = plan.kinds[1].forward.seconds + plan.kinds[1].backward.seconds
    assert saved == pytest.approx(layers * work * (1 - plan.stack.overlap_slowdown))


FASTER = (353.9e12, 707.8e12, 1415e12, 5000e12)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("llama-3.1-70b", {}),
        ("qwen3-8b", {}),
        ("qwen3-32b", {"sequence_length": 32_768}),
        ("deepseek-r1", {"expert": 8, "overlap_exchange": True}),
        ("kimi-k2", {"expert": 8, "overlap_exchange": True}),
        # The head makes the last stage the slowest on slow cores and another one on fast ones.
        ("llama-3.1-8b", {"pipeline": 2, "stage_layers": (18, 14)}),
        ("deepseek-r1", {"context": 1, "expert": 16, "overlap_exchange": True, "pipeline": 1}),
    ],
)
def test_faster_cores_or_hbm_never_make_a_step_longer_though_they_hide_less(model: str, changes: dict[str, Any]):
    base = TrainingSpec(
        load_model(model), "open-source", 4096, 768, tensor=16, pipeline=2, context=4, optimizer_sharding="zero3"
    )
    found = replace(base, **changes)
    for figure, ladder in (
        ("bf16_flops_per_die", [flops * factor for flops in FASTER for factor in (1.0, 1.2, 1.4, 1.6, 1.8)]),
        ("hbm_bytes_per_second_per_die", [1.6e12 * 1.15**power for power in range(20)]),
    ):
        seconds = []
        for value in ladder:
            changed: dict[str, Any] = {figure: value}
            machine = replace(CM, **changed)
            plan = plan_training(machine, found, 768)
            assert isinstance(plan, Plan), plan
            seconds.append(training_step(machine, plan, healthy_costs(machine, found, 768)).seconds)
        for slower, faster in pairwise(seconds):
            assert faster <= slower * (1 + 1e-12)
        assert seconds[-1] <= seconds[0]


def test_compute_hides_a_transfer_once_first_rings_of_a_sequence_then_exchanges_then_gradients():
    found = spec(context=4, tensor=8, pipeline=1, virtual_pipeline=1, expert=16, overlap_exchange=True)
    found = replace(found, optimizer_sharding="zero3", recompute="none", sequence_length=2048)
    plan = plan_training(CM, found, DIES)
    assert isinstance(plan, Plan), plan
    ways = healthy_costs(CM, found, DIES)
    empty = Cost()
    first = replace(ways, expert=empty, expert_tensor=empty, data=empty, expert_data=empty)
    steps = {
        "nothing": training_step(CM, plan, replace(first, context=empty)),
        "rings": training_step(CM, plan, first),
        "exchanges": training_step(CM, plan, replace(first, expert=ways.expert, expert_tensor=ways.expert_tensor)),
        "all": training_step(CM, plan, ways),
    }
    compute = steps["nothing"].breakdown["compute"]
    assert all(one.breakdown["compute"] == compute for one in steps.values())
    spare = [one.spare_seconds for one in steps.values()]
    assert all(more > less for more, less in pairwise(spare)), "each of them hides behind some of it"
    assert spare[-1] == 0, "there is more to hide than compute"
    whole = training_step(CM, replace(plan, spec=replace(found, overlap_exchange=False)), ways).breakdown
    shown = whole["expert_parallel"] - steps["exchanges"].breakdown["expert_parallel"]
    scan = training_step(CM, replace(plan, spec=replace(found, overlap_exchange=False)), first).spare_seconds - spare[1]
    assert shown == pytest.approx((spare[1] + scan - spare[2]) * (1 - plan.stack.overlap_slowdown))
    # What is left over hides as much of the gradients, no more.
    ring = steps["exchanges"].spare_seconds + steps["all"].breakdown["gradient"]
    free = replace(ways, context=empty, expert=empty, expert_tensor=empty)
    alone = training_step(CM, plan, free)
    assert alone.breakdown["gradient"] < steps["all"].breakdown["gradient"]
    hidden = steps["nothing"].spare_seconds - alone.spare_seconds
    assert alone.breakdown["gradient"] + hidden == pytest.approx(ring)


def test_a_layer_for_multi_token_prediction_is_one_more_of_the_last_kind_with_a_projection_and_a_head():
    plain, more = (stage_parameters(spec(mtp_layers=count)) for count in (0, 1))
    assert more[:-1] == plain[:-1]
    layer = MODEL.groups[-1]
    experts = layer.feed_forward.experts * layer.feed_forward.expert_parameters(MODEL.hidden) / 16
    assert more[-1].expert - plain[-1].expert == pytest.approx(experts)
    dense = layer.attention.query_parameters(MODEL.hidden) + layer.feed_forward.shared_parameters(MODEL.hidden)
    whole = layer.attention.key_value_parameters(MODEL.hidden) + layer.feed_forward.router_parameters(MODEL.hidden)
    own = dense / 2 + whole + 2 * MODEL.hidden + (2 * MODEL.hidden**2 + MODEL.embedding_parameters) / 2
    assert more[-1].dense - plain[-1].dense == pytest.approx(own)
    (before, _), (after, _) = step(spec(expert=32)), step(spec(expert=32, mtp_layers=1))
    assert after.counts[-1][-1] == before.counts[-1][-1] + 1
    assert after.layers == before.layers, "stageLayers are the model's own"
    joined = 1 + (MODEL.head_parameters + 2 * MODEL.hidden**2) / MODEL.head_parameters
    assert after.head.flops / before.head.flops == pytest.approx(joined)


def test_multi_token_prediction_costs_time_where_the_last_stage_sets_the_pace_and_none_where_it_has_room():
    assert step(spec(expert=32, mtp_layers=1))[1].seconds > step(spec(expert=32))[1].seconds
    room = spec(stage_layers=(8, 8, 8, 8, 8, 8, 8, 5))
    assert step(replace(room, mtp_layers=1))[1].seconds == pytest.approx(step(room)[1].seconds, rel=1e-3)


def test_ports_carry_the_exchanges_of_a_layer_for_multi_token_prediction():
    sent = []
    for count in (0, 1):
        training = {**SMALL_MOE["training"], "recompute": "none", "mtpLayers": count, "parallelism": {"expert": 32}}
        state = run(workload("moe", range(2), base={**SMALL_MOE, "training": training}))
        assert only(state).problem is None
        sent.append(state.devices.port_tx_bytes_per_second.sum() * only(state).step_time_seconds)
    # Dispatch and combine, forward and backward, of 2 micro-batches of 4,096 tokens to 4 experts of 2,048 values each.
    copies = 32 * 2 * 4096 * 4 * 30 / 32
    assert sent[1] - sent[0] >= 4 * copies * 2048 * 2


def test_layers_for_multi_token_prediction_are_a_whole_number():
    training = {"sequenceLength": 4096, "globalBatchSize": 64, "mtpLayers": -1}
    problem = parse_training({"model": {"name": "deepseek-v3"}, "training": training})
    assert isinstance(problem, Problem)
    assert problem.field == "spec.training.mtpLayers"
    assert "a whole number from 0 to 16, not -1" in problem.message
