"""The published training figures, and measured runs that the constants were not fitted to."""

from __future__ import annotations

from itertools import product

import pytest

from supernode_dataplane import load_model, load_profile, solve
from supernode_dataplane.baseline import baseline_ratio, baseline_scenario, baseline_training, ratio_to_baseline
from supernode_dataplane.layout import check_layout, stage_layers
from supernode_dataplane.machine import PartInput, RankInput, TrainingSpec, WorkloadInput
from supernode_dataplane.memory import die_parameters, in_flight
from supernode_dataplane.spec import parse_training
from supernode_dataplane.state import WorkloadResult
from support.machines import LLAMA, only, run, workload

CM = load_profile("cloudmatrix-384")


def on_machine(profile: str, training: TrainingSpec, dies: int) -> WorkloadResult:
    machine = load_profile(profile)
    each = machine.dies_per_server
    ranks = tuple(
        RankInput(n, True, (PartInput(n, tuple(range(min(each, dies - n * each)))),)) for n in range(-(-dies // each))
    )
    return solve(machine, (), (WorkloadInput("a/b", training, ranks),)).workloads[0]


def test_llama_405b_on_the_supernode_is_within_15_percent_of_132_tokens_per_second_and_card():
    result = only(run(workload("llama", range(48))))
    assert result.tokens_per_second_per_card == pytest.approx(132, rel=0.15)
    assert result.cards == 384
    assert result.bound == "Compute"


@pytest.mark.parametrize("chunks", [1, 4])
def test_the_ratio_to_the_traditional_cluster_is_between_2_and_3_for_both_of_its_schedules(chunks: int):
    ours = only(run(workload("llama", range(48))))
    scenario = baseline_scenario()
    scenario["training"]["parallelism"]["virtualPipeline"] = chunks
    training = parse_training(scenario)
    assert isinstance(training, TrainingSpec)
    theirs = on_machine(scenario["machine"]["profile"], training, 768)
    assert theirs.recompute_fraction > 0.4, "its activations do not fit"
    assert 2.0 < ours.tokens_per_second_per_card / theirs.tokens_per_second_per_card < 3.0


def test_the_general_baseline_of_llama_405b_is_the_frozen_scenario():
    ours = parse_training({**LLAMA, "stack": "vendor-tuned"})
    frozen = parse_training(baseline_scenario())
    assert isinstance(ours, TrainingSpec)
    assert baseline_training(ours) == frozen
    result = only(run(workload("llama", range(48))))
    found = ratio_to_baseline(CM, LLAMA, result)
    assert found is not None
    ratio, words = found
    assert 2.0 < ratio < 3.0
    assert words.startswith("768 x Ascend 910B in servers of 8 with RoCE, TP8 PP16 DP6 VPP4, ")


def test_there_is_no_ratio_where_the_traditional_cluster_cannot_run_it_or_is_itself_the_machine():
    training = TrainingSpec(load_model("llama-3.1-405b"), "vendor-tuned", 131072, 1, 1, 16, 8)
    assert baseline_ratio(training, 128, 100.0) is None
    assert baseline_ratio(training, 1536, 100.0) is None, "more cards than it has"
    result = only(run(workload("llama", range(48))))
    assert ratio_to_baseline(load_profile("atlas-a2-cluster"), LLAMA, result) is None
    assert ratio_to_baseline(CM, {"model": {}}, result) is None


ROWS = [
    ("atlas-a2-cluster", "llama-2-70b", 32, 4096, 439.0, 15.0),
    ("atlas-a2-cluster", "llama-3-70b", 64, 8192, 353.0, 15.0),
    ("atlas-a2-cluster", "llama-2-7b", 8, 4096, 4672.0, 15.0),
    ("cloudmatrix-384", "qwen3-8b", 16, 4096, 7617.0, 15.0),
]


@pytest.mark.parametrize(("profile", "model", "dies", "sequence", "published", "error"), ROWS)
def test_measured_runs_are_met_within_the_stated_error(
    profile: str, model: str, dies: int, sequence: int, published: float, error: float
):
    rates = []
    for tensor, pipeline, chunks, micro in product((1, 2, 8), (1, 2, 4), (1, 4), (1, 2)):
        training = TrainingSpec(load_model(model), "vendor-tuned", sequence, 256, micro, tensor, pipeline, chunks)
        if check_layout(training, dies, "the dies") is None:
            result = on_machine(profile, training, dies)
            rates.append(result.tokens_per_second_per_card)
    assert max(rates) == pytest.approx(published, rel=error / 100)


def test_efficiency_falls_with_scale_at_a_fixed_batch_as_measured_for_gpt_3():
    model = load_model("gpt-3-175b")
    mfu = [
        on_machine("atlas-a2-cluster", TrainingSpec(model, "vendor-tuned", 2048, 1536, 1, 8, 8), dies).mfu
        for dies in (128, 256, 512)
    ]
    assert mfu == sorted(mfu, reverse=True)
    assert mfu[0] == pytest.approx(0.538, rel=0.05)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llama-3.1-8b", 8.03), ("llama-3.1-70b", 70.55), ("llama-3.1-405b", 405.85), ("qwen2.5-72b", 72.7),
        ("qwen3-8b", 8.19), ("qwen3-32b", 32.76), ("llama-2-70b", 68.98), ("gpt-3-175b", 174.6),
    ],
)  # fmt: skip
def test_models_have_their_published_number_of_parameters(name: str, billions: float):
    assert load_model(name).parameters / 1e9 == pytest.approx(billions, rel=2e-3)


def test_mfu_counts_six_n_and_causal_attention_over_the_bf16_peak_of_every_die():
    result = only(run(workload("llama", range(48))))
    per_token = 6 * 405.853e9 + 6 * 126 * 16384 * 8192
    assert result.mfu == pytest.approx(result.tokens_per_second * per_token / (768 * 353.9e12), rel=1e-4)
    assert 132 * 384 * per_token / (768 * 353.9e12) == pytest.approx(0.473, abs=0.001)


def test_the_breakdown_adds_up_to_the_step_and_the_step_to_the_rate():
    result = only(run(workload("llama", range(48))))
    assert result.breakdown_seconds is not None
    assert sum(result.breakdown_seconds.values()) == pytest.approx(result.step_time_seconds, rel=1e-12)
    assert result.tokens_per_second * result.step_time_seconds == pytest.approx(192 * 8192)
    assert result.tokens_per_step == 192 * 8192


def test_layers_that_do_not_divide_are_missing_on_the_last_and_the_first_stage():
    assert stage_layers(126, 8) == (15, 16, 16, 16, 16, 16, 16, 15)
    assert stage_layers(126, 16) == (7, *([8] * 14), 7)
    assert stage_layers(80, 8) == (10,) * 8
    assert stage_layers(7, 1) == (7,)
    assert stage_layers(15, 4) == (4, 4, 4, 3)
    assert stage_layers(13, 4) == (3, 4, 3, 3)
    for layers, stages in product(range(1, 60), range(1, 30)):
        if layers >= stages:
            split = stage_layers(layers, stages)
            assert sum(split) == layers
            assert max(split) - min(split) <= 1


def test_key_value_heads_are_replicated_where_tensor_exceeds_them():
    model = load_model("llama-3.1-405b")
    at8, at16 = (die_parameters(TrainingSpec(model, "vendor-tuned", 8192, 1, 1, tensor, 1))[0] for tensor in (8, 16))
    replicated = 2 * 16384 * 8 * 128 * 126 / 16 + 2 * 16384 * 126 / 2
    assert at16 - at8 / 2 == pytest.approx(replicated, rel=1e-6)


def test_interleaving_holds_more_activations_than_one_forward_one_backward():
    model = load_model("llama-3.1-405b")
    plain = in_flight(TrainingSpec(model, "vendor-tuned", 8192, 192, 1, 16, 8, 1), 32)
    mixed = in_flight(TrainingSpec(model, "vendor-tuned", 8192, 192, 1, 16, 8, 4), 32)
    assert plain == (8, 7, 6, 5, 4, 3, 2, 1)
    assert mixed[0] / plain[0] == pytest.approx(1 + 7 / (8 * 4))
    assert in_flight(TrainingSpec(model, "vendor-tuned", 8192, 192, 1, 16, 8, 4), 2)[0] == 2


def test_the_open_source_stack_costs_fixed_time_and_no_bandwidth():
    tuned, open_source = workload("a", range(48)), workload("a", range(48))
    open_source["spec"]["stack"] = "open-source"
    fast, slow = only(run(tuned)), only(run(open_source))
    assert slow.tokens_per_second < fast.tokens_per_second
    assert fast.breakdown_seconds is not None
    assert slow.breakdown_seconds is not None
    same = ("compute", "tensor_parallel", "pipeline_p2p", "gradient", "optimizer", "recompute")
    assert all(fast.breakdown_seconds[k] == slow.breakdown_seconds[k] for k in same)
