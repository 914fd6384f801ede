"""Training of mixtures of experts, and of what else a layout can say: what is split, sent, kept and refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from supernode_dataplane import Problem, load_model, load_profile
from supernode_dataplane.communication import Cost, LinkView
from supernode_dataplane.constants import LINK_EFFICIENCY
from supernode_dataplane.layout import check_layout, expert_replicas, stage_kinds
from supernode_dataplane.link_costs import Groups, LinkCosts, link_costs
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.memory import plan_memory, stage_parameters
from supernode_dataplane.shares import layer_shares
from supernode_dataplane.spec import parse_training
from supernode_dataplane.state import WorkloadResult
from supernode_dataplane.training import Plan, plan_training, training_step
from support.machines import SMALL_MOE, only, run, workload

CM = load_profile("cloudmatrix-384")
DEEPSEEK: dict[str, Any] = {
    "model": {"name": "deepseek-v3"},
    "training": {
        "sequenceLength": 4096,
        "globalBatchSize": 4096,
        "parallelism": {"pipeline": 8, "expert": 32},
    },
}


def spec(model: str = "deepseek-v3", **changes: Any) -> TrainingSpec:
    base = TrainingSpec(load_model(model), "vendor-tuned", 4096, 4096)
    return replace(base, **changes)


def plan(dies: int = 512, **changes: Any) -> Plan:
    found = plan_training(CM, spec(**changes), dies)
    assert isinstance(found, Plan), found
    return found


def small(**training: Any) -> WorkloadResult:
    parallelism = training.pop("parallelism", {"expert": 8})
    base = {**SMALL_MOE, "training": {**SMALL_MOE["training"], **training, "parallelism": parallelism}}
    return only(run(workload("moe", range(2), base=base)))


def test_deepseek_v3_runs_on_256_cards_and_says_what_its_experts_cost():
    result = only(run(workload("v3", range(32), base=DEEPSEEK)))
    assert (result.problem, result.waiting, result.cards) == (None, "", 256)
    assert result.breakdown_seconds is not None
    assert sum(result.breakdown_seconds.values()) == pytest.approx(result.step_time_seconds, rel=1e-12)
    assert result.breakdown_seconds["expert_parallel"] > 0
    assert "context_parallel" not in result.breakdown_seconds
    assert 0 < result.recompute_fraction < 1, "its activations do not fit"


def test_mfu_counts_active_parameters():
    result, model = only(run(workload("v3", range(32), base=DEEPSEEK))), load_model("deepseek-v3")
    per_token = 6 * model.active_parameters + 3 * 61 * 128 * (192 + 128) * 4096
    assert result.mfu == pytest.approx(result.tokens_per_second * per_token / (512 * 353.9e12), rel=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"expert": 8},
        {"expert": 32, "pipeline": 4, "tensor": 2},
        {"expert": 4, "pipeline": 2, "tensor": 4, "expert_tensor": 2},
        {"expert": 16, "pipeline": 4, "context": 4},
        {"expert": 16, "pipeline": 8, "virtual_pipeline": 2, "context": 2, "tensor": 4, "expert_tensor": 4},
        {"expert": 8, "pipeline": 4, "stage_layers": (20, 26, 26, 22)},
    ],
)
def test_every_split_does_the_work_of_the_whole_model_once(changes: dict[str, Any]):
    model, dies = load_model("qwen3-235b-a22b"), 512
    training = spec("qwen3-235b-a22b", optimizer_sharding="zero3", **changes)
    found = plan_training(CM, training, dies)
    assert isinstance(found, Plan), found
    per_stage = dies // training.pipeline
    flops = sum(
        count * kind.forward.flops * per_stage * found.micro_batches
        for counts in found.counts
        for count, kind in zip(counts, found.kinds, strict=True)
    )
    tokens = training.global_batch_size * training.sequence_length
    layers = model.matmul_flops_per_token - 2 * model.head_parameters
    assert flops == pytest.approx(tokens * (layers + model.causal_attention_flops(4096.0)), rel=1e-9)
    experts = sum(own.expert for own in stage_parameters(training)) * training.expert * training.expert_tensor
    assert experts == pytest.approx(model.layers * 128 * 3 * 4096 * 1536)
    assert expert_replicas(training, dies) * training.expert * training.expert_tensor == per_stage


def test_a_dispatch_sends_every_copy_of_every_token():
    whole = layer_shares(spec("qwen3-235b-a22b"))[0]
    assert whole.exchange_bytes == 4096 * 8 * 4096 * 2
    split = layer_shares(spec("qwen3-235b-a22b", tensor=4, context=2))[0]
    assert split.exchange_bytes == whole.exchange_bytes / 8


def test_layers_with_experts_and_without_are_where_the_model_has_them():
    assert stage_kinds(spec(pipeline=8)) == ((3, 4), *[(0, 8)] * 5, (0, 7), (0, 7)), "dense layers come first"
    turns = stage_kinds(spec(pipeline=8, virtual_pipeline=4))
    assert [sum(stage) for stage in turns] == [7, 8, 8, 8, 8, 8, 7, 7]
    assert [stage[0] for stage in turns] == [2, 1, 0, 0, 0, 0, 0, 0], "the first turn takes two layers of each stage"
    given = spec(pipeline=4, stage_layers=(2, 20, 20, 19))
    assert stage_kinds(given) == ((2, 0), (1, 19), (0, 20), (0, 19))


def test_stages_of_ones_own_set_the_pace_by_the_largest():
    even, uneven = plan(pipeline=8, expert=64), plan(pipeline=8, expert=64, stage_layers=(5, 10, 8, 8, 8, 8, 7, 7))
    assert uneven.layers == (5, 10, 8, 8, 8, 8, 7, 7)
    faster = only(run(workload("a", range(32), base=DEEPSEEK)))
    slower = {**DEEPSEEK["training"], "stageLayers": [5, 10, 8, 8, 8, 8, 7, 7]}
    assert even.memory.recompute < uneven.memory.recompute
    assert only(run(workload("a", range(32), base={**DEEPSEEK, "training": slower}))).mfu < faster.mfu


def test_expert_groups_are_consecutive_replicas_of_one_place_in_the_tensor_group():
    ports = np.ones((CM.dies, CM.planes))
    ports[20, 3] = 0  # the die in the third server's first row: replica 1, place 4 of 16
    grid = np.arange(128, dtype=np.int64).reshape(1, 8, 16)
    view = LinkView(CM, ports, None)
    costs = link_costs(view, grid, Groups(expert=4, moe=True))
    on_plane = np.asarray(costs.expert.ports).reshape(8, 16, CM.planes)[:, :, 3]
    lacks = {(int(r), int(t)) for r, t in zip(*np.nonzero(on_plane < on_plane.max() * 0.999), strict=True)}
    assert lacks == {(replica, 4) for replica in range(4)}
    same = np.asarray(costs.expert_data.ports).reshape(8, 16, CM.planes)[:, :, 3]
    lacks = {(int(r), int(t)) for r, t in zip(*np.nonzero(same < same.max() * 0.999), strict=True)}
    assert (1, 4) in lacks
    assert {r for r, _ in lacks} <= {1, 5}, "replicas 1 and 5 hold the same experts, in every place"


@pytest.mark.parametrize(
    ("expert", "expert_tensor", "context"), [(4, 1, 1), (8, 4, 1), (2, 16, 2), (1, 2, 4), (1, 1, 8)]
)
def test_ports_carry_exactly_the_copies_of_an_exchange(expert: int, expert_tensor: int, context: int):
    grid = np.arange(256, dtype=np.int64).reshape(2, 8, 16)
    costs = link_costs(LinkView(CM, None, None), grid, Groups(1, context, expert, expert_tensor, moe=True))

    def bytes_of(load: Any) -> Any:
        return (np.asarray(load) * np.ones((256, CM.planes) if np.ndim(load) else CM.planes)).sum(axis=-1)

    assert np.allclose(bytes_of(costs.expert.ports), expert - 1), "to each other member, which is on another server"
    assert np.allclose(bytes_of(costs.expert.uplinks), expert - 1)
    inside = {1: 0, 2: 0, 4: 2, 16: 14}[expert_tensor]
    assert np.allclose(bytes_of(costs.expert_tensor.ports), inside), "the other die of the package is not on the bus"
    assert np.allclose(bytes_of(costs.context.ports), 1 if context > 1 else 0)


def test_a_dispatch_waits_once_for_the_longest_way():
    grid = np.arange(256, dtype=np.int64).reshape(1, 16, 16)
    costs = link_costs(LinkView(CM, None, None), grid, Groups(expert=16, moe=True))
    assert costs.expert.latency_seconds == pytest.approx(CM.pod_latency_seconds)
    assert costs.data.latency_seconds == pytest.approx(15 * CM.pod_latency_seconds), "a ring goes hop by hop"


def test_a_broken_die_stops_all_replicas_that_share_its_experts():
    base = {**SMALL_MOE, "training": {**SMALL_MOE["training"], "parallelism": {"expert": 8}}}
    whole = only(run(workload("moe", range(2), base=base)))
    hurt = only(run(workload("moe", range(2), base=base), faults={0: [{"die": 3}]}))
    assert hurt.tokens_per_second == pytest.approx(whole.tokens_per_second * 24 / 32)
    assert any("8 of 32 data parallel replicas" in note for note in hurt.notes)
    ring = {**SMALL_MOE, "training": {**SMALL_MOE["training"], "parallelism": {"expert": 2, "context": 4}}}
    whole, hurt = (only(run(workload("moe", range(2), base=ring), faults=f)) for f in ({}, {0: [{"die": 3}]}))
    assert hurt.tokens_per_second == pytest.approx(whole.tokens_per_second * 7 / 8)


def test_a_hotter_expert_costs_time_and_sends_no_more_bytes():
    even, hot = small(expertImbalance="1"), small(expertImbalance="1.5")
    assert hot.step_time_seconds > even.step_time_seconds
    assert even.breakdown_seconds is not None
    assert hot.breakdown_seconds is not None
    assert hot.breakdown_seconds["expert_parallel"] > 1.3 * even.breakdown_seconds["expert_parallel"]
    sent = [result.link_utilisation * result.step_time_seconds for result in (even, hot)]
    assert sent[0] == pytest.approx(sent[1])
    assert hot.hbm_bytes_per_die > even.hbm_bytes_per_die


def test_more_sharding_needs_less_memory_and_more_traffic():
    kinds = ("none", "zero1", "zero3")
    plans = [plan_memory(spec(pipeline=16, expert=16, optimizer_sharding=k), 512, 1e15) for k in kinds]
    used = [max(found.used_bytes) for found in plans if not isinstance(found, Problem)]
    assert len(used) == 3
    assert used[0] > used[1] > used[2]
    refused = plan_training(CM, spec(pipeline=16, expert=16, optimizer_sharding="none"), 512)
    assert isinstance(refused, Problem), "every die would hold all optimizer states of its part"
    assert " + optimizer 4" in refused.message
    sent = [plan(64, model="qwen3-8b", tensor=8, optimizer_sharding=k).gradient_bytes for k in kinds]
    assert sent[1] < sent[0] < sent[2]


def test_gradients_in_bf16_take_half_the_memory_of_gradients_and_less_traffic():
    wide, narrow = (plan(pipeline=16, expert=32, recompute="full", gradient_type=t) for t in ("fp32", "bf16"))
    saved = [a - b for a, b in zip(wide.memory.used_bytes, narrow.memory.used_bytes, strict=True)]
    assert saved == pytest.approx([2 * own.total for own in wide.memory.parameters])
    assert narrow.gradient_bytes / wide.gradient_bytes == pytest.approx(4 / 6)
    assert narrow.optimizer_bytes < wide.optimizer_bytes


def test_recompute_is_as_the_run_says():
    assert plan(pipeline=8, expert=64, recompute="full").memory.recompute == 1
    assert 0 < plan(pipeline=8, expert=64).memory.recompute < 1
    problem = plan_training(CM, spec(pipeline=8, expert=64, recompute="none"), 512)
    assert isinstance(problem, Problem)
    assert (problem.reason, problem.field) == ("DoesNotFit", "spec.training.recompute")
    assert "without recompute" in problem.message
    assert "let recompute be auto" in problem.message
    total = float(problem.message.split(" needs ")[1].split(" GiB")[0])
    terms = problem.message.split("GiB: ")[1].split(";")[0].split(" + ")
    assert sum(float(term.rsplit(" ", 1)[1]) for term in terms) == pytest.approx(total, abs=0.4)


def test_recompute_repeats_the_exchanges_of_the_forward_pass():
    none, full = small(recompute="none"), small(recompute="full")
    assert none.breakdown_seconds is not None
    assert full.breakdown_seconds is not None
    assert full.breakdown_seconds["expert_parallel"] == pytest.approx(1.5 * none.breakdown_seconds["expert_parallel"])


def test_ports_read_the_bytes_of_the_exchanges_that_are_repeated():
    sent = []
    for recompute in ("none", "full"):
        training = {**SMALL_MOE["training"], "recompute": recompute, "parallelism": {"expert": 32}}
        state = run(workload("moe", range(2), base={**SMALL_MOE, "training": training}))
        sent.append(state.devices.port_tx_bytes_per_second.sum() * only(state).step_time_seconds)
    # A copy stays with 1 of 32 dies and crosses the package with another; 2 micro-batches, 7 layers, 4 copies.
    copies = 32 * 2 * 7 * 4096 * 4 * 30 / 32
    assert sent[1] - sent[0] == pytest.approx(2 * copies * 2048 * 2)


def test_links_that_are_dead_stop_the_stages_that_need_them_and_no_arithmetic():
    found = plan(pipeline=61, expert=4, dies=61 * 8)
    step = training_step(CM, found, LinkCosts(Cost(), Cost(), Cost(), expert=Cost(seconds_per_byte=math.inf)))
    assert found.counts[0] == (1, 0), "the first stage has no experts"
    assert step.seconds == math.inf
    assert not any(math.isnan(seconds) for seconds in step.breakdown.values())


def test_gradients_hide_behind_no_more_than_there_is_to_compute():
    base = {
        "model": {"name": "llama-3.1-8b"},
        "training": {"sequenceLength": 128, "globalBatchSize": 768, "optimizerSharding": "zero3", "parallelism": {}},
    }
    state = run(workload("short", range(48), base=base))
    result = only(state)
    assert result.breakdown_seconds is not None
    assert result.breakdown_seconds["gradient"] > 5 * result.breakdown_seconds["compute"]
    most = CM.port_bytes_per_second * LINK_EFFICIENCY * (1 + 1e-9)
    assert 0 < state.devices.port_tx_bytes_per_second.max() <= most


def test_splitting_a_sequence_saves_its_activations_and_sends_keys_and_values_round():
    whole = plan_memory(spec("llama-3-70b", tensor=8, recompute="none", optimizer_sharding="zero3"), 512, 1e15)
    ring = plan_memory(
        spec("llama-3-70b", tensor=8, recompute="none", optimizer_sharding="zero3", context=4), 512, 1e15
    )
    assert not isinstance(whole, Problem)
    assert not isinstance(ring, Problem)
    activations = 80 * 34 * 4096 * 8192 / 8 + 6 * 4096 * 128256 / 8
    assert whole.used_bytes[0] - ring.used_bytes[0] == pytest.approx(activations * 3 / 4)
    share = layer_shares(spec("llama-3-70b", tensor=8, context=4))[0]
    assert share.context_bytes == 1024 * 2 * 128 * 2
    base = {
        "model": {"name": "llama-3.1-8b"},
        "training": {"sequenceLength": 65536, "globalBatchSize": 16, "parallelism": {"tensor": 2, "context": 8}},
    }
    result = only(run(workload("long", range(4), base=base)))
    assert result.breakdown_seconds is not None
    assert result.tokens_per_second > 0
    assert "context_parallel" in result.breakdown_seconds


REFUSED = [
    ({"expert": 48}, 512, "parallelism.expert", "expert 48 does not divide data 512, over which"),
    ({"expert": 512}, 512, "parallelism.expert", "expert 512 does not divide the 256 experts of deepseek-v3"),
    ({"expert": 3, "context": 2}, 12, "parallelism.expert", "expert 3 and context 2 do not divide one another"),
    (
        {"expert": 16, "context": 2, "pipeline": 8},
        64,
        "parallelism.expert",
        "expert 16 does not divide data 4 x context 2 = 8, over which",
    ),
    ({"tensor": 4, "expert_tensor": 3}, 512, "parallelism.expertTensor", "expertTensor 3 does not divide tensor 4"),
    ({"model": "llama-3.1-8b", "expert": 2}, 16, "parallelism.expert", "needs a model with routed experts"),
    ({"model": "llama-3.1-8b", "expert_tensor": 2, "tensor": 2}, 16, "parallelism.expertTensor", "routed experts"),
    ({"context": 3}, 512, "parallelism.tensor", "tensor 1 x context 3 x pipeline 1 = 3 does not divide 512 dies"),
    ({"context": 3}, 768, "parallelism.tensor", "tensor 1 x context 3 does not divide sequenceLength 4096"),
    ({"pipeline": 2, "stage_layers": (61,)}, 512, "stageLayers", "stageLayers has 1 entries for pipeline 2"),
    ({"pipeline": 2, "stage_layers": (31, 31)}, 512, "stageLayers", "sum to 62, and deepseek-v3 has 61 layers"),
    ({"pipeline": 2, "stage_layers": (61, 0)}, 512, "stageLayers", "a stage of 0 layers, fewer than virtualPipeline 1"),
    ({"tensor": 256}, 512, "parallelism.tensor", "tensor 256 is more than the 128 attention heads"),
]


@pytest.mark.parametrize(("changes", "dies", "field", "words"), REFUSED)
def test_a_split_that_cannot_be_names_its_field_and_why(changes: dict[str, Any], dies: int, field: str, words: str):
    problem = check_layout(spec(**changes), dies, f"{dies} dies")
    assert problem is not None
    assert problem.reason == "InvalidParallelism"
    assert problem.field == f"spec.training.{field}"
    assert words in problem.message


@pytest.mark.parametrize(
    ("training", "field", "words"),
    [
        ({"parallelism": {"expert": 0}}, "parallelism.expert", "whole number from 1 to 4096, not 0"),
        ({"parallelism": {"context": "2"}}, "parallelism.context", "whole number from 1"),
        ({"parallelism": {"expertTensor": 1.5}}, "parallelism.expertTensor", "whole number from 1"),
        ({"optimizerSharding": "zero2"}, "optimizerSharding", "one of none, zero1, zero3"),
        ({"gradientType": 16}, "gradientType", "one of fp32, bf16"),
        ({"recompute": True}, "recompute", "one of auto, none, full"),
        ({"stageLayers": 8}, "stageLayers", "must be a list of layers"),
        ({"stageLayers": [30, "31"]}, "stageLayers.1", "whole number from 1"),
        ({"expertImbalance": 0.9}, "expertImbalance", "from 1 (even) to 1000, not 0.9"),
        ({"expertImbalance": "nan"}, "expertImbalance", "from 1 (even)"),
        ({"expertImbalance": [1]}, "expertImbalance", "from 1 (even)"),
        ({"expertImbalance": 10**400}, "expertImbalance", "from 1 (even)"),
    ],
)
def test_a_field_of_training_that_is_wrong_is_named(training: dict[str, Any], field: str, words: str):
    problem = parse_training({**DEEPSEEK, "training": {**DEEPSEEK["training"], **training}})
    assert isinstance(problem, Problem)
    assert (problem.reason, problem.field) == ("InvalidObject", f"spec.training.{field}")
    assert words in problem.message


def test_every_field_of_training_reaches_the_mathematics():
    training = {
        **DEEPSEEK["training"],
        "parallelism": {"tensor": 4, "pipeline": 2, "expert": 8, "expertTensor": 2, "context": 2},
        "optimizerSharding": "zero3", "gradientType": "bf16", "recompute": "full", "stageLayers": [31, 30],
        "expertImbalance": "1.25",
    }  # fmt: skip
    found = parse_training({**DEEPSEEK, "training": training})
    assert isinstance(found, TrainingSpec)
    assert (found.expert, found.expert_tensor, found.context, found.stage_layers) == (8, 2, 2, (31, 30))
    assert (found.optimizer_sharding, found.gradient_type, found.recompute) == ("zero3", "bf16", "full")
    assert found.expert_imbalance == 1.25
    assert found.gradient_bytes == 2


@pytest.mark.parametrize(
    "name", ["qwen3.5-27b", "mimo-v2-flash", "deepseek-v4-flash", "deepseek-v3.2", "minimax-m2.7", "mixtral-8x22b"]
)
def test_every_kind_of_attention_can_be_trained(name: str):
    model = load_model(name)
    expert = {"expert": 16} if model.is_moe else {}
    found = plan_training(CM, spec(name, pipeline=16, **expert), 512)
    assert isinstance(found, Plan), found
    assert all(kind.forward.seconds > 0 for kind in found.kinds)
