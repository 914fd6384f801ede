"""`supernode plan`: objectives, fixed batches, two pools, every divisor; what it says is what simulate says."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.evaluation import evaluate
from supernode_cli.main import cli
from supernode_dataplane.catalogue import load_model
from supernode_dataplane.figures import counted
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.planning import best_training, search_training
from supernode_dataplane.profile import load_profile


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
        ("disaggregated", *R1, "--output-tokens", "1024"),
        ("training", "--model", "llama-3.1-8b", "--cards", "16", "--global-batch-size", "96"),
    ],
)
def test_the_best_layout_as_a_scenario_gets_the_rate_that_was_planned(arguments: tuple[str, ...]) -> None:
    planned = plan(*arguments)["layouts"][0]
    found = evaluate(scenario(*arguments)).result
    used = planned["tokensPerSecondPerCard"]
    assert found.tokens_per_second_per_card == pytest.approx(used, rel=0.01)


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


def test_a_given_batch_is_kept() -> None:
    rows = plan("decode", *SMALL, "--batch", "16")["layouts"]
    assert {row["batchPerCard"] for row in rows} == {16}


def test_less_memory_never_holds_more_sequences() -> None:
    half, most = (plan("decode", *SMALL, "--memory-fraction", share, "--top", "1000") for share in ("0.6", "0.95"))
    by_layout = {row["layout"]: row["batchPerCard"] for row in most["layouts"]}
    assert all(row["batchPerCard"] <= by_layout[row["layout"]] for row in half["layouts"])
    assert any(row["batchPerCard"] < by_layout[row["layout"]] for row in half["layouts"])


def test_a_machine_brings_its_own_stack_and_format() -> None:
    document = plan("decode", "--model", "qwen3-32b", "--machine", "h100-cluster", "--cards", "8")
    assert document["stackAndFormats"] == "gpu-tuned, weights fp8, activations fp8"
    told = plan("decode", *SMALL, "--stack", "open-source", "--weights", "bf16")
    assert told["stackAndFormats"] == "open-source, weights bf16, activations bf16"


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
def test_the_search_over_every_divisor_is_never_worse_than_the_usual_lattice(dies: int) -> None:
    machine, wanted = (
        load_profile("cloudmatrix-384"),
        TrainingSpec(load_model("llama-3.1-8b"), "vendor-tuned", 4096, 96),
    )
    usual, every = best_training(machine, wanted, dies), search_training(machine, wanted, dies, top=3)
    assert every.best[0].tokens_per_second >= usual.tokens_per_second
    rates = [found.tokens_per_second for found in every.best]
    assert rates == sorted(rates, reverse=True)


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
