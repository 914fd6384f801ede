"""What runs beside what in a training step, and layers for multi-token prediction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from supernode_dataplane import load_model, load_profile
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
