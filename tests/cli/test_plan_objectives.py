"""`supernode plan`: objectives, fixed batches, two pools, every divisor; what it says is what simulate says."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.evaluation import evaluate
from supernode_cli.main import cli
from supernode_dataplane.catalogue import load_model
from supernode_dataplane.figures import counted
from supernode_dataplane.layout import check_layout
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.planning import healthy_costs, search_training
from supernode_dataplane.profile import load_profile
from supernode_dataplane.training import Plan, plan_training, training_step


def plan(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["plan", *arguments, "-o", "json"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.output)
    return document


def scenario(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["plan", *arguments, "-o", "scenario"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = yaml.safe_load(result.output)
    return document


SMALL = ("--model", "qwen3-32b", "--cards", "8")
R1 = ("--model", "deepseek-r1", "--cards", "64", "--tpot-ms", "50")


@pytest.mark.parametrize(
    "arguments",
    [
        ("decode", *SMALL),
        ("decode", *R1, "--drafts", "1", "--accepted", "0.7", "--memory-fraction", "0.8"),
        ("prefill", *R1[:-2]),
        ("colocated", *SMALL, "--output-tokens", "1024"),
        ("disaggregated", *R1, "--output-tokens", "1024"),
        ("training", "--model", "llama-3.1-8b", "--cards", "16", "--global-batch-size", "96"),
        ("training", "--model", "deepseek-v3"),
        ("training", "--model", "qwen3-235b-a22b", "--cards", "192", "--global-batch-size", "384"),
        ("training", "--model", "mixtral-8x7b-v0.1", "--cards", "32", "--global-batch-size", "128"),
    ],
)
def test_the_best_layout_as_a_scenario_gets_the_rate_that_was_planned(arguments: tuple[str, ...]) -> None:
    planned = plan(*arguments)["layouts"][0]
    found = evaluate(scenario(*arguments)).result
    used = planned["tokensPerSecondPerCard"]
    assert found.tokens_per_second_per_card == pytest.approx(used, rel=1e-4)


def test_every_row_has_its_expected_error_and_the_plan_its_sources() -> None:
    for arguments in (("decode", *SMALL), ("training", "--model", "llama-3.1-8b", "--cards", "8")):
        document = plan(*arguments)
        assert all(1 < row["expectedErrorPercent"] < 60 for row in document["layouts"])
        assert document["sources"]["stacks"]["vendor-tuned"]["gemmEfficiency"]["status"] == "calibrated"
        assert document["sources"]["machine"]["hbmGibibytesPerDie"]["source"]


def test_the_fewest_cards_meet_the_demand_and_one_instance_less_does_not() -> None:
    row = plan("decode", *SMALL, "--objective", "cards", "--tokens-per-second", "9000")["layouts"][0]
    total = row["tokensPerSecondPerCard"] * row["cards"]
    assert total >= 9000
    assert total * (row["instances"] - 1) / row["instances"] < 9000
    less = plan("decode", *SMALL, "--objective", "cards", "--tokens-per-second", "4000")["layouts"][0]
    assert less["cards"] < row["cards"]


def test_the_fewest_cards_of_a_training_run_are_whole_servers_that_hold_it() -> None:
    document = plan("training", "--model", "llama-3.1-70b", "--objective", "cards", "--global-batch-size", "240")
    cards = int(document["layouts"][0]["cards"])
    assert 8 <= cards < 384
    fewer = CliRunner().invoke(
        cli, ["plan", "training", "--model", "llama-3.1-70b", "--global-batch-size", "240", "--cards", str(cards - 8)]
    )
    assert fewer.exit_code == 2


def test_the_least_latency_is_below_that_of_the_most_throughput() -> None:
    fast = plan("decode", *SMALL, "--objective", "latency")["layouts"]
    wide = plan("decode", *SMALL)["layouts"][0]
    assert fast[0]["tpotMilliseconds"] < wide["tpotMilliseconds"]
    assert fast[0]["tokensPerSecondPerCard"] < wide["tokensPerSecondPerCard"]
    times = [row["tpotMilliseconds"] for row in fast]
    assert times == sorted(times)


def test_one_pool_for_both_phases_keeps_both_limits() -> None:
    free = plan("colocated", *SMALL)["layouts"]
    tpot, ttft = free[0]["tpotMilliseconds"] / 2, max(row["ttftMilliseconds"] for row in free) * 0.9
    both = plan("colocated", *SMALL, "--tpot-ms", str(tpot), "--ttft-ms", str(ttft))
    assert all(row["tpotMilliseconds"] <= tpot and row["ttftMilliseconds"] <= ttft for row in both["layouts"])
    assert both["layouts"][0]["tokensPerSecond"] < free[0]["tokensPerSecond"]
    assert any("TTFT" in entry["why"] for entry in both["rejected"] if entry["reason"] == "limit")
    alone = {row["layout"]: row for row in plan("decode", *SMALL)["layouts"]}
    assert all(row["tokensPerSecond"] < alone[row["layout"]]["tokensPerSecond"] for row in free), "prompts cost time"


def test_a_colocated_batch_leaves_room_for_the_prompt_that_is_read() -> None:
    model = ("--model", "qwen3-32b", "--cards", "1", "--input", "32768", "--output-tokens", "64")
    (both,) = [row for row in plan("colocated", *model)["layouts"] if row["layout"].startswith("2 dies")]
    (alone,) = [row for row in plan("decode", *model)["layouts"] if row["layout"].startswith("2 dies")]
    assert both["batchPerCard"] < alone["batchPerCard"]
    asked = scenario("colocated", *model)["inference"]["load"]["concurrency"]
    assert asked == plan("colocated", *model)["layouts"][0]["batchPerCard"], "no more than its caches hold"
    over = CliRunner().invoke(cli, ["plan", "colocated", *model, "--batch", str(alone["batchPerCard"] + 1)])
    assert over.exit_code == 2


def test_a_given_batch_is_kept() -> None:
    rows = plan("decode", *SMALL, "--batch", "16")["layouts"]
    assert {row["batchPerCard"] for row in rows} == {16}


def test_batches_go_up_to_what_the_caches_hold() -> None:
    model = ("decode", "--model", "deepseek-v4-flash", "--cards", "16")
    best = plan(*model)["layouts"][0]
    assert best["batchPerCard"] > 2048
    assert best["hbmGibibytesPerDie"] > 55
    fixed = [plan(*model, "--batch", str(batch))["layouts"][0] for batch in (512, 1024, 2048)]
    assert all(best["tokensPerSecond"] >= row["tokensPerSecond"] for row in fixed)
    over = CliRunner().invoke(cli, ["plan", *model, "--batch", str(best["batchPerCard"] + 2)])
    assert over.exit_code == 2, "one sequence more on each die does not fit"
    assert "GiB" in over.output
    short = plan("prefill", "--model", "qwen3-0.6b", "--cards", "1", "--input", "64")["layouts"][0]
    assert short["batchPerCard"] > 16, "eight prompts of 64 tokens do not fill the cores of a die"


def test_the_batch_under_a_limit_is_exact_where_not_all_are_computed() -> None:
    model = ("decode", "--model", "qwen3-0.6b", "--cards", "1", "--input", "64", "--output-tokens", "64")
    rows = plan(*model, "--tpot-ms", "59.99")["layouts"]
    row = next(row for row in rows if row["layout"].startswith("1 die"))
    assert row["batchPerCard"] > 1200, "above what is computed one by one"
    assert row["tpotMilliseconds"] <= 59.99
    more = str(row["batchPerCard"] + 2)  # one more on each of two dies
    beyond = plan(*model, "--batch", more)["layouts"]
    assert next(row for row in beyond if row["layout"].startswith("1 die"))["tpotMilliseconds"] > 59.99


def test_a_cap_that_is_neither_memory_nor_a_limit_is_said() -> None:
    arguments = ("prefill", "--model", "qwen3-0.6b", "--cards", "1", "--input", "1")
    assert plan(*arguments)["notes"] == [
        "a tensor group reads no more than 4,096 prompts at once, promptsPerBatch of a workload"
    ]
    assert "4,096 prompts" in CliRunner().invoke(cli, ["plan", *arguments]).output
    assert not any("no more than" in note for note in plan("prefill", *SMALL)["notes"])
    assert "4,096" in CliRunner().invoke(cli, ["plan", "--help"]).output


def test_prompts_are_read_whole() -> None:
    found = plan("prefill", *SMALL, "--batch", "3", "--top", "1000")
    assert [entry["reason"] for entry in found["rejected"] if entry["layout"].startswith("1 die")] == ["limit"]
    assert "1.5 prompts" in next(entry["why"] for entry in found["rejected"] if entry["layout"].startswith("1 die"))
    assert found["layouts"]


def test_cards_that_no_instance_is_on_do_not_count() -> None:
    rows = plan("decode", "--model", "qwen3-32b", "--cards", "13", "--top", "1000")["layouts"]
    assert {row["cards"] for row in rows} == {8, 12, 13}
    for row in rows:
        assert row["tokensPerSecond"] == pytest.approx(row["tokensPerSecondPerCard"] * row["cards"], rel=1e-3)
    totals = [row["tokensPerSecond"] for row in rows]
    assert totals == sorted(totals, reverse=True)


def test_less_memory_never_holds_more_sequences() -> None:
    half, most = (plan("decode", *SMALL, "--memory-fraction", share, "--top", "1000") for share in ("0.6", "0.95"))
    by_layout = {row["layout"]: row["batchPerCard"] for row in most["layouts"]}
    assert all(row["batchPerCard"] <= by_layout[row["layout"]] for row in half["layouts"])
    assert any(row["batchPerCard"] < by_layout[row["layout"]] for row in half["layouts"])


def test_a_machine_brings_its_own_stack_and_format() -> None:
    document = plan("decode", "--model", "qwen3-32b", "--machine", "h100-cluster", "--cards", "8")
    assert document["stackAndFormats"] == "gpu-tuned, weights fp8, activations fp8, KV cache bf16"
    told = plan("decode", *SMALL, "--stack", "open-source", "--weights", "bf16")
    assert told["stackAndFormats"] == "open-source, weights bf16, activations bf16, KV cache bf16"


def test_the_split_of_two_pools_is_better_than_its_neighbours() -> None:
    arguments = ("disaggregated", "--model", "qwen3-32b", "--cards", "64", "--output-tokens", "512", "--tpot-ms", "50")
    best = scenario(*arguments)
    nodes, prefill = best["machine"]["nodes"], best["inference"]["prefill"]["nodes"]
    running = best["inference"]["load"]["concurrency"]
    rate = evaluate(best).result.tokens_per_second
    for other in (prefill - 1, prefill + 1):
        assert 0 < other < nodes
        best["inference"]["prefill"]["nodes"] = other
        best["inference"]["load"]["concurrency"] = running * (nodes - other) // (nodes - prefill)
        assert evaluate(best).result.tokens_per_second < rate


def test_longer_answers_want_fewer_cards_that_read_prompts() -> None:
    common = ("disaggregated", "--model", "qwen3-32b", "--cards", "64", "--tpot-ms", "50")
    short, long = (scenario(*common, "--output-tokens", tokens) for tokens in ("128", "2048"))
    assert short["inference"]["prefill"]["nodes"] > long["inference"]["prefill"]["nodes"]


def test_a_rack_of_72_has_training_layouts() -> None:
    row = plan("training", "--model", "llama-3.1-405b", "--machine", "gb200-nvl72")["layouts"][0]
    assert "PP9" in row["layout"] or "PP18" in row["layout"]
    assert row["tokensPerSecondPerCard"] > 100


def test_long_sequences_are_split_over_context_rings() -> None:
    rows = plan("training", "--model", "llama-3.1-8b", "--sequence-length", "262144", "--global-batch-size", "96")
    assert any("CP" in row["layout"] for row in rows["layouts"])


@pytest.mark.parametrize("dies", [32, 64])
def test_no_layout_that_is_priced_alone_is_faster_than_the_best_of_the_search(dies: int) -> None:
    machine, wanted = (
        load_profile("cloudmatrix-384"),
        TrainingSpec(load_model("llama-3.1-8b"), "vendor-tuned", 4096, 96),
    )
    every = search_training(machine, wanted, dies, top=3)
    rates = [found.tokens_per_second for found in every.best]
    assert rates == sorted(rates, reverse=True)
    seconds = []
    for tensor, pipeline, chunks, micro in product((1, 2, 4, 8, 16), (1, 2, 4), (1, 2, 4), (1, 2)):
        spec = replace(wanted, tensor=tensor, pipeline=pipeline, virtual_pipeline=chunks, micro_batch_size=micro)
        if (pipeline > 1 or chunks == 1) and check_layout(spec, dies, "the dies") is None:
            plan = plan_training(machine, spec, dies)
            if isinstance(plan, Plan):
                seconds.append(training_step(machine, plan, healthy_costs(machine, spec, dies)).seconds)
    assert len(seconds) > 10
    assert rates[0] == pytest.approx(96 * 4096 / min(seconds))


def test_one_of_a_thing_is_in_the_singular() -> None:
    found = plan("decode", "--model", "qwen3-32b", "--cards", "1", "--top", "100")
    names = [row["layout"] for row in (*found["layouts"], *found["rejected"])]
    assert any(name.startswith("1 die ") for name in names)
    assert not any(name.startswith("1 dies") for name in names)
    assert (counted(1, "die"), counted(2, "die"), counted(0, "card")) == ("1 die", "2 dies", "0 cards")


def test_the_search_stops_no_sooner_than_pricing_every_layout_allows() -> None:
    machine = load_profile("atlas-a2-cluster")  # over RDMA the bound is loose
    wanted = TrainingSpec(load_model("llama-3.1-8b"), "vendor-tuned", 8192, 96)
    every = search_training(machine, wanted, 32, top=100_000)
    assert len(every.best) == every.fitting
    few = search_training(machine, wanted, 32, top=3)
    assert [found.spec for found in few.best] == [found.spec for found in every.best[:3]]
