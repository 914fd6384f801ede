"""`supernode plan -f`: machine, model, stack, formats, lengths and drafts of a scenario file, options before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.evaluation import evaluate
from supernode_cli.main import cli
from support.machines import LLAMA
from support.scenarios import changed, r1_scenario

DECODE = changed(
    r1_scenario(4, "Decode", 2048, 512, batch={"sequencesPerCard": 16}),
    machine={"nodes": 4, "figures": {"hbmGibibytesPerDie": 96}, "failed": {"planes": [0]}},
    inference__precision={"weights": "int8", "activations": "int8", "kvCache": "fp8"},
    inference__speculation={"drafts": 1, "acceptancePercent": [70]},
)
TRAINED = changed(
    LLAMA,
    machine={"nodes": 4},
    model={"name": "llama-3.1-8b"},
    training__globalBatchSize=128,
    training__optimizerSharding="zero3",
)


def planned(folder: Path, phase: str, document: Any, *arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the plan, and its best layout as a scenario."""
    status, out, err = said(folder, phase, document, *arguments, "-o", "json")
    assert status == 0, err
    written = said(folder, phase, document, *arguments, "-o", "scenario")
    assert written[0] == 0, written[2]
    return json.loads(out), yaml.safe_load(written[1])


def said(folder: Path, phase: str, document: Any, *arguments: str) -> tuple[int, str, str]:
    file = folder / "scenario.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    result = CliRunner().invoke(cli, ["plan", phase, "-f", str(file), *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("phase", ["decode", "prefill", "disaggregated"])
def test_the_machine_formats_lengths_and_drafts_are_the_files_and_the_rate_is_what_simulate_says(
    tmp_path: Path, phase: str
) -> None:
    plan, scenario = planned(tmp_path, phase, DECODE)
    assert scenario["machine"]["figures"] == DECODE["machine"]["figures"]
    assert scenario["machine"]["failed"] == {"planes": [0]}
    assert scenario["inference"]["precision"]["kvCache"] == "fp8"
    assert scenario["inference"]["inputTokens"] == 2048
    assert plan["layouts"][0]["cards"] <= 32
    found = evaluate(scenario).result
    assert found.tokens_per_second == pytest.approx(plan["layouts"][0]["tokensPerSecond"], rel=1e-4)
    if phase != "prefill":
        assert scenario["inference"]["speculation"] == DECODE["inference"]["speculation"]


def test_a_faster_network_and_more_memory_make_a_better_plan(tmp_path: Path) -> None:
    document = changed(DECODE, machine={"profile": "atlas-a2-cluster", "nodes": 16})
    base = planned(tmp_path, "decode", document)[0]["layouts"][0]["tokensPerSecond"]
    for figures in ({"rdmaGigabytesPerSecond": 50}, {"hbmGibibytesPerDie": 128}):
        more = changed(document, machine__figures=figures)
        assert planned(tmp_path, "decode", more)[0]["layouts"][0]["tokensPerSecond"] > base * 1.001


def test_a_model_of_ones_own_is_planned_as_its_config(tmp_path: Path) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "vocab_size": 32000,
    }
    plan, scenario = planned(tmp_path, "decode", changed(DECODE, model={"config": config}, machine={"nodes": 1}))
    assert scenario["model"] == {"config": config}
    found = evaluate(scenario).result.tokens_per_second
    assert found == pytest.approx(plan["layouts"][0]["tokensPerSecond"], rel=1e-4)


def test_training_keeps_what_is_no_layout(tmp_path: Path) -> None:
    plan, scenario = planned(tmp_path, "training", TRAINED)
    assert scenario["training"]["optimizerSharding"] == "zero3"
    assert scenario["training"]["globalBatchSize"] == 128
    assert evaluate(scenario).result.tokens_per_second == pytest.approx(plan["layouts"][0]["tokensPerSecond"], rel=1e-4)
    less = planned(tmp_path, "training", TRAINED, "--global-batch-size", "64", "--cards", "16")[1]
    assert (less["training"]["globalBatchSize"], less["machine"]["nodes"]) == (64, 2)


def test_options_go_before_the_file(tmp_path: Path) -> None:
    options: tuple[str, ...] = ("--machine", "h100-cluster")
    options += ("--model", "qwen3-32b", "--cards", "16", "--input", "512", "--drafts", "2")
    options += ("--accepted", "1", "--weights", "bf16", "--kv-cache", "bf16", "--output-tokens", "99")
    _, scenario = planned(tmp_path, "decode", DECODE, *options)
    assert scenario["machine"] == {"profile": "h100-cluster", "nodes": 2}
    assert scenario["model"] == {"name": "qwen3-32b"}
    inference = scenario["inference"]
    assert (inference["inputTokens"], inference["outputTokens"]) == (512, 99)
    assert inference["speculation"]["drafts"] == 2
    assert inference["precision"]["weights"] == inference["precision"]["kvCache"] == "bf16"


def test_smaller_caches_hold_more_sequences_without_a_file_too() -> None:
    arguments = ["plan", "decode", "--model", "qwen3-32b", "--cards", "8", "--activations", "int8", "-o", "json"]
    full, half = (
        json.loads(CliRunner().invoke(cli, [*arguments, "--kv-cache", kind]).stdout)["layouts"][0]["batchPerCard"]
        for kind in ("bf16", "int8")
    )
    assert half > 1.5 * full


def test_a_format_that_the_dies_lack_is_noted(tmp_path: Path) -> None:
    note = "the dies of cloudmatrix-384 do not multiply in fp8: products run in bf16"
    assert note in planned(tmp_path, "decode", DECODE, "--weights", "fp8", "--activations", "fp8")[0]["notes"]
    assert note not in planned(tmp_path, "decode", DECODE)[0]["notes"]


def test_what_a_plan_does_not_know_of_the_file_is_noted(tmp_path: Path) -> None:
    document = changed(DECODE, inference__decode={"experts": {"imbalancePercent": 150}})
    assert any("imbalancePercent" in note for note in planned(tmp_path, "decode", document)[0]["notes"])


@pytest.mark.parametrize(
    ("phase", "document", "says"),
    [
        ("training", DECODE, "has no training, which plan training is about"),
        ("decode", TRAINED, "has no inference, which plan decode is about"),
        ("decode", changed(DECODE, machine__failed={"planes": [9]}), "machine.failed"),
        ("decode", changed(DECODE, model={"name": "llama-9"}), "llama-9"),
        ("decode", changed(DECODE, inference__inputTokens=-1), "inference.inputTokens"),
        ("training", changed(TRAINED, machine={"nodes": 4, "supernodes": 2}), "machine.supernodes"),
    ],
)
def test_what_cannot_be_is_one_sentence_with_the_file(tmp_path: Path, phase: str, document: Any, says: str) -> None:
    status, out, err = said(tmp_path, phase, document)
    assert (status, out) == (2, "")
    assert "scenario.yaml: " in err
    assert says in err


def test_a_plan_of_nothing_asks_for_a_model_or_a_file() -> None:
    result = CliRunner().invoke(cli, ["plan", "decode"])
    assert result.exit_code == 2
    assert "give --model" in result.stderr
    assert "-f" in result.stderr


def test_the_table_is_whole_in_a_pipe(tmp_path: Path) -> None:
    _, out, _ = said(tmp_path, "disaggregated", DECODE)
    document = json.loads(said(tmp_path, "disaggregated", DECODE, "-o", "json")[1])
    best = document["layouts"][0]
    assert "…" not in out
    (line,) = [
        line for line in out.splitlines() if best["prefill"] in line and f"{best['ttftMilliseconds']:,.0f}" in line
    ][:1]
    assert best["decode"] in line
    wide = CliRunner().invoke(cli, ["plan", "decode", "--model", "qwen3-0.6b", "--input", "64"])
    assert "e+0" not in wide.output
    assert ",000" in wide.output or any(word.count(",") > 1 for word in wide.output.split()), "millions are grouped"


def test_rows_that_differ_by_less_than_the_error_are_said_to_be_equal(tmp_path: Path) -> None:
    plan = json.loads(said(tmp_path, "decode", DECODE, "-o", "json")[1])
    rows = plan["layouts"]
    near = sum(
        row["tokensPerSecond"] >= rows[0]["tokensPerSecond"] * (1 - rows[0]["expectedErrorPercent"] / 100)
        for row in rows
    )
    assert near > 1
    assert any(note.startswith(f"the first {near} differ by less than the expected error") for note in plan["notes"])


def test_the_arithmetic_of_several_rejected_layouts_is_shown(tmp_path: Path) -> None:
    rejected = json.loads(said(tmp_path, "decode", DECODE, "-o", "json")[1])["rejected"]
    _, out, _ = said(tmp_path, "decode", DECODE)
    words = " ".join(out.split())
    for entry in rejected[-5:]:
        assert f"{entry['layout']}: {entry['why']}" in words
    assert len(rejected) > 5
    assert rejected[0]["why"] not in words
    assert "-o json has all" in words


def test_the_remedy_is_no_more_cards_where_the_machine_has_none() -> None:
    arguments = ["plan", "disaggregated", "--model", "deepseek-r1", "--machine", "gb200-nvl72", "--input", "9000000"]
    whole = CliRunner().invoke(cli, arguments)
    assert whole.exit_code == 2
    assert "more cards" not in whole.stderr
    assert "this is the whole machine: give fewer tokens" in whole.stderr
    assert "give more cards" in CliRunner().invoke(cli, [*arguments, "--cards", "16"]).stderr


def test_a_load_that_makes_queues_is_no_obstacle_to_a_plan(tmp_path: Path) -> None:
    document = changed(DECODE, inference__batch=..., inference__load={"rate": 5})
    rate = planned(tmp_path, "decode", document)[0]["layouts"][0]["tokensPerSecond"]
    assert rate == planned(tmp_path, "decode", DECODE)[0]["layouts"][0]["tokensPerSecond"]
