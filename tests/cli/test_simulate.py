"""`supernode simulate`: a table, JSON, one clear error and exit status 2, all without a cluster."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings

from supernode_cli.main import cli
from support.machines import LLAMA
from support.scenarios import changed, run_on_file
from support.schema_leaves import changes_of, fields_of, obeys, with_changes

ROOT = Path(__file__).resolve().parents[2]
SCENARIO: dict[str, Any] = {"machine": {"profile": "cloudmatrix-384"}, **LLAMA}
altered = partial(changed, SCENARIO)


def run(tmp_path: Path, scenario: Any, *flags: str) -> tuple[int, str, str]:
    return run_on_file(tmp_path, "simulate", scenario, *flags)


def test_the_table_shows_ours_beside_the_published_figure(tmp_path: Path) -> None:
    status, out, _ = run(tmp_path, SCENARIO)
    assert status == 0
    row = next(line for line in out.splitlines() if "tokens/s per card" in line)
    assert "132" in row
    ratio = next(line for line in out.splitlines() if "ratio to the traditional" in line)
    assert "2.5" in ratio


def test_a_mixture_of_experts_is_trained_with_its_experts_spread_over_data(tmp_path: Path) -> None:
    training = {**SCENARIO["training"], "globalBatchSize": 4096, "parallelism": {"pipeline": 8, "expert": 32}}
    scenario = {"machine": {"nodes": 32}, "model": {"name": "deepseek-v3"}, "training": training}
    status, out, _ = run(tmp_path, scenario, "-o", "json")
    assert status == 0
    assert float(json.loads(out)["workloads"][0]["figures"]["tokensPerSecondPerCard"]["value"]) > 0
    training["parallelism"] = {"pipeline": 8, "expert": 48}
    status, out, error = run(tmp_path, scenario)
    assert (status, out) == (2, "")
    assert "training.parallelism.expert: expert 48 does not divide data 64" in error


def test_json_has_every_figure_with_unit_and_digest(tmp_path: Path) -> None:
    status, out, _ = run(tmp_path, SCENARIO, "-o", "json")
    assert status == 0
    document = json.loads(out)
    figures = document["workloads"][0]["figures"]
    assert 112 <= float(figures["tokensPerSecondPerCard"]["value"]) <= 152
    assert figures["stepTimeSeconds"]["unit"] == "s"
    assert len(document["model"]["digest"]) >= 12


def test_a_workload_manifest_is_a_scenario(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "llama-3.1-405b-training.yaml").read_text(encoding="utf-8")
    _, ours, _ = run(tmp_path, SCENARIO, "-o", "json")
    status, out, _ = run(tmp_path, text, "-o", "json")
    assert status == 0
    first, second = json.loads(out)["workloads"][0]["figures"], json.loads(ours)["workloads"][0]["figures"]
    assert first == second


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ({"name": "llama", "namespace": "research"}, "research/llama"),
        ({"name": "llama"}, "default/llama"),
        ({"name": "llama", "namespace": None}, "default/llama"),
        ({"name": None, "namespace": "research"}, "default/scenario"),
        ({"name": "\x1b[31m"}, "default/scenario"),
        ({"name": ["llama"]}, "default/scenario"),
        (None, "default/scenario"),
    ],
)
def test_a_manifest_is_called_by_its_namespace_and_name(tmp_path: Path, metadata: Any, key: str) -> None:
    manifest = yaml.safe_load((ROOT / "examples" / "llama-3.1-405b-training.yaml").read_text(encoding="utf-8"))
    _, ours, _ = run(tmp_path, SCENARIO, "-o", "json")
    _, out, _ = run(tmp_path, {**manifest, "metadata": metadata}, "-o", "json")
    scenario, named = json.loads(ours), json.loads(out)
    assert scenario["workloads"][0]["key"] == "default/scenario"
    assert named["workloads"][0]["key"] == key
    _, table, _ = run(tmp_path, {**manifest, "metadata": metadata})
    assert key in table
    assert key == "default/scenario" or "default/scenario" not in table


@pytest.mark.parametrize(
    ("scenario", "says"),
    [
        (altered(machine__profile="cloudmatrix-999"), "machine.profile"),
        (altered(model__name="llama-9"), "llama-9"),
        (altered(model__config="{}"), "exactly one of name and config"),
        (altered(training__parallelism__tensor=7), "7"),
        (altered(training__parallelism__tensr=16), "unknown field training.parallelism.tensr"),
        (altered(training__parallelism__tensor=-1), "training.parallelism.tensor"),
        (altered(training__globalBatchSize="many"), "training.globalBatchSize"),
        (altered(training__globalBatchSize=768, training__parallelism={"tensor": 1, "pipeline": 1}), "GiB"),
        (altered(machine__nodes=49), "49"),
        (altered(training__tokens=1, training__steps=1), "tokens or steps"),
        (altered(stack="homegrown"), "stack"),
        ({"model": {"name": "llama-3.1-405b"}}, "training"),
        ("just text", "mapping"),
        ("a: [1", "not YAML"),
        ("", "has nothing: give one"),
        ("a: 1\n---\nb: 2\n", "has 2 scenarios: give one, or all of them to supernode sweep"),
        ("{1: 2}", "unknown field"),
    ],
)
def test_bad_input_is_one_sentence_with_the_field_and_exit_status_2(tmp_path: Path, scenario: Any, says: str) -> None:
    status, out, err = run(tmp_path, scenario)
    assert status == 2, (out, err)
    assert out == ""
    assert says in err
    assert "Traceback" not in err


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["simulate", "-f", str(tmp_path / "absent.yaml")])
    assert result.exit_code == 2
    assert "absent.yaml: cannot be read" in result.stderr


@settings(max_examples=60, deadline=None, suppress_health_check=[*HealthCheck])
@given(changes_of(fields_of("machine", "model", "stack", "training", "reliability")))
def test_no_value_anywhere_ends_in_anything_but_an_answer_or_one_error(tmp_path: Path, changes: list[Any]) -> None:
    obeys(tmp_path, with_changes(SCENARIO, changes))
