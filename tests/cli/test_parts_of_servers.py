"""Scenarios on some dies of a server (machine.dies): published rows, whole servers, clashes, other commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.evaluation import Evaluation, ScenarioError, evaluate
from supernode_cli.main import cli
from supernode_dataplane.stacks import load_stack, stack_names
from supernode_dataplane.suite import load_rows
from supernode_dataplane.suite.evaluate import evaluate_row
from support.scenarios import run_on_file

ROWS = {row.id: row for row in load_rows()}
STACKS = {name: load_stack(name) for name in stack_names()}
QWEN_8B: dict[str, Any] = {
    "machine": {"dies": 1},
    "model": {"name": "qwen3-8b"},
    "stack": "open-source",
    "inference": {
        "mode": "Decode",
        "inputTokens": 128,
        "outputTokens": 128,
        "batch": {"sequencesPerCard": 2},
        "precision": {"weights": "bf16", "activations": "bf16"},
    },
}
QWEN_32B: dict[str, Any] = {
    "machine": {"dies": 4},
    "model": {"name": "qwen3-32b"},
    "stack": "open-source",
    "inference": {
        "mode": "Colocated",
        "inputTokens": 3500,
        "outputTokens": 1500,
        "decode": {"parallelism": {"tensor": 4}},
        "load": {"concurrency": 78},
    },
}
LLAMA: dict[str, Any] = {
    "machine": {"profile": "atlas-a2-cluster", "dies": 8},
    "model": {"name": "llama-2-7b"},
    "training": {"sequenceLength": 4096, "globalBatchSize": 256, "parallelism": {"tensor": 1, "pipeline": 2}},
}


def command(tmp_path: Path, name: str, scenario: Any, *flags: str) -> tuple[int, str, str]:
    return run_on_file(tmp_path, name, scenario, *flags)


def on(scenario: dict[str, Any], **machine: Any) -> dict[str, Any]:
    kept = {key: value for key, value in scenario["machine"].items() if key == "profile"}
    return {**scenario, "machine": {**kept, **machine}}


@pytest.mark.parametrize(("kind", "component"), [("bf16", "BF16 TPOT ms"), ("int8", "W8A8 TPOT ms")])
def test_a_model_on_one_die_is_the_suites_row(tmp_path: Path, kind: str, component: str) -> None:
    computed = evaluate_row(ROWS["C-D4"], STACKS)[component]
    scenario = {**QWEN_8B, "inference": {**QWEN_8B["inference"], "precision": {"weights": kind, "activations": kind}}}
    status, out, error = command(tmp_path, "simulate", scenario, "-o", "json")
    assert (status, error) == (0, "")
    document = json.loads(out)
    assert float(document["workloads"][0]["figures"]["tpotSeconds"]["value"]) * 1e3 == pytest.approx(computed, rel=1e-3)
    assert evaluate(scenario).result.tpot_seconds * 1e3 == pytest.approx(computed)
    assert document["machine"]["counts"]["dies in use"] == "1 of 768"
    assert document["machine"]["counts"]["servers in use"] == "1 of 48"


def test_training_on_eight_cards_is_the_suites_row() -> None:
    computed = evaluate_row(ROWS["C-T2"], STACKS)["tokens/s/card"]
    for machine in ({"dies": 8}, {"nodes": 1}):
        found = evaluate(on(LLAMA, **machine)).result
        assert found.tokens_per_second_per_card == pytest.approx(computed)
        assert found.cards == 8


def test_one_instance_on_two_cards_is_what_each_instance_of_a_server_is() -> None:
    part = evaluate(QWEN_32B).result
    load = {**QWEN_32B["inference"], "load": {"concurrency": 4 * 78}}
    whole = evaluate({**on(QWEN_32B, nodes=1), "inference": load}).result
    assert (part.dies, part.cards, whole.cards) == (4, 2, 8)
    assert part.tpot_seconds == pytest.approx(whole.tpot_seconds)
    assert part.tokens_per_second == pytest.approx(whole.tokens_per_second / 4)


def test_half_a_card_is_counted_as_a_card_and_draws_half_its_power() -> None:
    one, two = (evaluate(on(QWEN_8B, dies=dies)).result for dies in (1, 2))
    assert (one.cards, two.cards) == (1, 1)
    assert two.tokens_per_second == pytest.approx(2 * one.tokens_per_second)
    assert one.power_watts < 0.75 * two.power_watts


@pytest.mark.parametrize(
    ("scenario", "dies", "nodes"),
    [(QWEN_8B, 16, 1), (QWEN_32B, 32, 2), (LLAMA, 8, 1), (QWEN_8B, 768, None), (QWEN_8B, 768, 48)],
)
def test_dies_that_are_whole_servers_are_these_servers(scenario: dict[str, Any], dies: int, nodes: int | None) -> None:
    by_dies, by_nodes = evaluate(on(scenario, dies=dies)), evaluate(on(scenario, **({"nodes": nodes} if nodes else {})))
    assert by_dies.performance == by_nodes.performance
    assert by_dies.inputs.digest == by_nodes.inputs.digest
    assert (by_dies.dies, by_dies.nodes) == (by_nodes.dies, by_nodes.nodes)


def test_dies_may_go_over_servers_and_end_inside_one() -> None:
    found = evaluate(on(QWEN_32B, dies=36))
    assert (found.nodes, found.dies, found.result.dies, found.result.cards) == (3, 36, 36, 18)
    used = found.state.devices.owner >= 0
    assert used[:36].all()
    assert not used[36:].any()


def test_prompts_are_read_by_whole_servers_and_the_rest_decodes() -> None:
    apart = {
        **QWEN_32B["inference"], "mode": "Disaggregated", "prefill": {"nodes": 1, "parallelism": {"tensor": 4}},
    }  # fmt: skip
    found = evaluate({**on(QWEN_32B, dies=20), "inference": apart})
    deployment = found.inputs.workloads[0].inference
    assert deployment is not None
    assert found.result.dies == 20
    with pytest.raises(ScenarioError, match=r"inference.prefill.nodes.*leave no dies of 12 dies to decode"):
        evaluate({**on(QWEN_32B, dies=12), "inference": apart})


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        (on(QWEN_8B, dies=1, nodes=1), "machine.dies and machine.nodes: give one of both"),
        (on(QWEN_8B, dies=769), "machine.dies: 769 is more than the 768 dies of cloudmatrix-384: give at most 768"),
        (on(QWEN_8B, dies=0), "machine.dies"),
        (on(LLAMA, dies=8, supernodes=2), "machine.dies: is about one machine: with supernodes give nodes"),
        (on(QWEN_32B, dies=2), "inference.decode.parallelism.tensor: tensor 4 does not divide 2 dies"),
        (on(QWEN_32B, dies=6), "inference.decode.parallelism.tensor: tensor 4 does not divide 6 dies"),
        (on(LLAMA, dies=1), "training.parallelism.tensor: tensor 1 x pipeline 2 = 2 does not divide 1 die"),
        (on(LLAMA, dies=3), "training.parallelism.tensor: tensor 1 x pipeline 2 = 2 does not divide 3 dies"),
        ({**QWEN_32B, "model": {"name": "deepseek-r1"}}, "inference.decode: "),
        (on({**LLAMA, "model": {"name": "llama-2-70b"}}, dies=2), "GiB"),
        (on(QWEN_8B, dies=1, failed={"dies": [{"server": 0, "die": 0}]}), "machine.failed"),
    ],
)
def test_dies_that_clash_are_one_sentence_with_the_field(tmp_path: Path, scenario: dict[str, Any], said: str) -> None:
    status, out, error = command(tmp_path, "simulate", scenario)
    assert (status, out) == (2, "")
    assert said in error
    assert error.count("\n") == 1


def test_failures_of_dies_that_it_has_not_are_told_and_change_nothing() -> None:
    failed = {"dies": [{"server": 0, "die": 5}, {"server": 1, "die": 0}]}
    found = evaluate(on(QWEN_8B, dies=1, failed=failed))
    assert found.performance == evaluate(QWEN_8B).performance
    assert found.notes == (
        "failures on server 1 do not touch it: it is on servers 0 to 0",
        "failures of die 5 of server 0 do not touch it: it is on die 0 there",
    )


def test_other_machines_are_compared_on_as_many_dies(tmp_path: Path) -> None:
    status, out, error = command(tmp_path, "compare", QWEN_32B, "cloudmatrix-384", "h100-cluster", "-o", "json")
    assert (status, error) == (0, "")
    ours, theirs = json.loads(out)["machines"]
    assert (ours["dies"], ours["cards"]) == (4, 2)
    assert (theirs["dies"], theirs["cards"]) == (4, 4)
    status, out, _ = command(tmp_path, "compare", QWEN_32B, "cloudmatrix-384", "--cards", "8", "-o", "json")
    assert (status, json.loads(out)["machines"][0]["dies"]) == (0, 16)


def test_a_part_of_a_server_serves_requests(tmp_path: Path) -> None:
    scenario = {**QWEN_8B, "inference": {**QWEN_8B["inference"], "mode": "Colocated"}}
    status, out, error = command(tmp_path, "serve-sim", scenario, "--prompts", "20", "-o", "json")
    assert (status, error) == (0, "")
    document = json.loads(out)
    assert document["pools"][0]["diesPerInstance"] == 1
    assert document["throughput"]["tokensPerSecond"] > 0


def test_sweeps_over_dies_are_rows_of_scenarios(tmp_path: Path) -> None:
    file, table = tmp_path / "sweep.yaml", tmp_path / "table.jsonl"
    axes = {"machine.dies": [1, 4, 7, 16, 5000], "inference.inputTokens": [64, 128, 256, 512, 1024]}
    file.write_text(yaml.safe_dump({"base": QWEN_8B, "grid": axes}), encoding="utf-8")
    result = CliRunner().invoke(cli, ["sweep", "-f", str(file), "-o", str(table)])
    assert result.exit_code == 0, result.stderr
    for line in table.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["machine.dies"] == 5000:
            assert row["error"].startswith("machine.dies: 5000 is more than the 768 dies")
            continue
        one = on(QWEN_8B, dies=row["machine.dies"])
        one["inference"] = {**one["inference"], "inputTokens": row["inference.inputTokens"]}
        found: Evaluation = evaluate(one)
        assert row["tpotSeconds"] == float(found.performance["tpotSeconds"])
        assert row["powerKilowatts"] == float(found.performance["powerKilowatts"])


@pytest.mark.parametrize(
    ("flags", "dies"),
    [
        (("decode", "--model", "qwen3-32b", "--cards", "2", "--batch", "16"), 4),
        (("training", "--model", "qwen3-8b", "--cards", "20", "--global-batch-size", "160"), 40),
    ],
)
def test_a_plan_for_a_part_of_a_server_is_a_scenario(tmp_path: Path, flags: tuple[str, ...], dies: int) -> None:
    planned = json.loads(CliRunner().invoke(cli, ["plan", *flags, "-o", "json"]).stdout)
    written = CliRunner().invoke(cli, ["plan", *flags, "-o", "scenario"])
    assert written.exit_code == 0, written.stderr
    scenario = yaml.safe_load(written.stdout)
    assert scenario["machine"] == {"profile": "cloudmatrix-384", "dies": dies}
    found = evaluate(scenario).result
    assert found.dies == dies
    best = planned["layouts"][0]["tokensPerSecondPerCard"]
    assert found.tokens_per_second_per_card == pytest.approx(best, rel=0.02)


@pytest.mark.parametrize(("dies", "per_card", "runs"), [(1, 1, False), (1, 2, True), (2, 1, True), (4, 1, True)])
def test_a_deployment_has_at_least_one_whole_sequence(tmp_path: Path, dies: int, per_card: int, runs: bool) -> None:
    inference = {"mode": "Decode", "inputTokens": 128, "outputTokens": 128, "batch": {"sequencesPerCard": per_card}}
    scenario = {"machine": {"dies": dies}, "model": {"name": "qwen3-8b"}, "inference": inference}
    status, out, error = run_on_file(tmp_path, "simulate", scenario)
    if runs:
        assert (status, error) == (0, "")
        return
    assert (status, out) == (2, "")
    assert "inference.batch.sequencesPerCard: 1 on each card is 0.5 of a sequence on 1 of the 2 dies of a card" in error
    assert "give at least 2, or more dies (machine.dies" in error


def test_groups_may_share_fewer_sequences_than_they_are(tmp_path: Path) -> None:
    inference = {"mode": "Decode", "inputTokens": 128, "outputTokens": 128, "load": {"concurrency": 1}}
    scenario = {"machine": {"dies": 4}, "model": {"name": "qwen3-8b"}, "inference": inference}
    assert run_on_file(tmp_path, "simulate", scenario)[0] == 0
