"""What users write that is nearly right: text for numbers, keys twice, deep nesting, links of another rate."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from supernode_cli.evaluation import ScenarioError, evaluate
from supernode_cli.main import cli


def decode(sequences: int = 96, **figures: Any) -> dict[str, Any]:
    return {
        "machine": {"nodes": 16, "figures": figures},
        "model": {"name": "deepseek-r1"},
        "inference": {
            "mode": "Decode",
            "inputTokens": 4096,
            "outputTokens": 256,
            "batch": {"sequencesPerCard": sequences},
        },
    }


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stderr


def test_a_sweep_of_listed_scenarios_keeps_what_each_says(tmp_path: Path) -> None:
    file, table = tmp_path / "list.jsonl", tmp_path / "out.csv"
    wanted = list(range(128, 0, -4))
    file.write_text("".join(json.dumps(decode(count)) + "\n" for count in wanted), encoding="utf-8")
    assert run("sweep", "-f", str(file), "-o", str(table), "--jobs", "1")[0] == 0
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [int(row["inference.batch.sequencesPerCard"]) for row in rows] == wanted
    first = evaluate(decode(wanted[0])).result
    assert float(rows[0]["tokensPerSecondPerCard"]) == pytest.approx(first.tokens_per_second_per_card, rel=1e-3)


def test_ports_of_another_rate_change_what_was_measured_on_them() -> None:
    stock, thin = evaluate(decode()).result, evaluate(decode(portGigabytesPerSecond=1)).result
    assert thin.tpot_seconds > 1.5 * stock.tpot_seconds
    assert stock.link_utilisation < thin.link_utilisation <= 1
    fast = evaluate(decode(portGigabytesPerSecond=56)).result
    assert fast.tpot_seconds <= stock.tpot_seconds


def test_idle_memory_leaves_some() -> None:
    with pytest.raises(ScenarioError, match=r"hbmIdleMebibytes.*give less than 65536"):
        evaluate(decode(hbmIdleMebibytes=65536))


def test_a_number_that_yaml_takes_for_text_is_a_number(tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    text = json.dumps(decode(portGigabytesPerSecond=14)).replace(": 14}", ": 1.4e1}")
    assert "1.4e1" in text
    file.write_text(text, encoding="utf-8")
    assert run("simulate", "-f", str(file)) == (0, "")


@pytest.mark.parametrize("command", [("simulate",), ("compare", "cloudmatrix-384"), ("serve-sim",)])
def test_nesting_without_end_is_one_error(tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "deep.yaml"
    file.write_text("model: " + "[" * 400 + "]" * 400, encoding="utf-8")
    status, error = run(*command, "-f", str(file))
    assert (status, error.count("\n")) == (2, 1)
    assert "nested deeper than 100 levels" in error


def test_a_key_that_stands_twice_in_a_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "list.jsonl"
    file.write_text(json.dumps(decode()).replace('{"machine"', '{"machine": {"nodes": 8}, "machine"', 1))
    status, error = run("sweep", "-f", str(file), "-o", str(tmp_path / "out.csv"))
    assert status == 2
    assert "line 1: key 'machine' stands twice" in error


def test_routers_are_even_in_training_unless_they_are_said_not_to_be() -> None:
    layout = {"tensor": 2, "pipeline": 8, "virtualPipeline": 2, "expert": 16}
    run_of = {"sequenceLength": 4096, "globalBatchSize": 3840, "parallelism": layout}
    base = {"machine": {"nodes": 32}, "model": {"name": "deepseek-v3"}}
    plain, even, hot, beside = (
        evaluate({**base, "training": {**run_of, **more}}).result.tokens_per_second
        for more in ({}, {"expertImbalance": 1}, {"expertImbalance": 1.5}, {"overlapExchange": True})
    )
    assert plain == even > hot
    assert beside > plain


def test_more_servers_than_a_machine_has_are_refused_with_the_way_to_have_them() -> None:
    with pytest.raises(ScenarioError, match=r"give at most 48, or another machine with figures\.servers"):
        evaluate({**decode(), "machine": {"nodes": 49}})


def test_a_batch_that_is_no_number_is_refused() -> None:
    status, error = run("plan", "decode", "--model", "deepseek-r1", "--batch", "nan")
    assert (status, error) == (2, "Error: plan: --batch must be a number, not nan\n")
