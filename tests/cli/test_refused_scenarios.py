"""Scenarios that say what cannot be: one clear error each, with the field, what was given and what is wanted."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.comparison import compare
from supernode_cli.evaluation import Evaluation, evaluate
from supernode_cli.main import cli
from supernode_cli.sources import machine_sources
from support.deployments import MODES, R1_DECODE
from support.refusals import DENSE, EXPERTS, decode, refused
from support.scenarios import changed, run_on_file


def power(document: Any) -> float:
    found: Evaluation = evaluate(document)
    return found.state.power_watts


def test_a_machine_is_rated_at_no_less_than_its_parts() -> None:
    error = refused(decode(ratedKilowatts=400))
    assert error == (
        "machine.figures.ratedKilowatts: is 400 kW, and the parts of the machine take 498 kW at full load: give at "
        "least 499, or less of packages and other parts"
    )
    assert power(decode(ratedKilowatts=600)) == pytest.approx(power(decode()) * 600 / 559)


@pytest.mark.parametrize(
    ("machine", "figures", "factor"),
    [("cloudmatrix-384", {"servers": 96}, 979296 / 498048), ("h100-cluster", {"servers": 96}, 2)],
)
def test_more_parts_of_a_machine_take_more_power(machine: str, figures: dict[str, Any], factor: float) -> None:
    rated = machine_sources(machine)["ratedKilowatts"]
    changed = machine_sources(machine, figures)["ratedKilowatts"]
    assert changed["status"] == "scenario" != rated["status"]
    assert changed["value"] == pytest.approx(rated["value"] * factor, rel=1e-5)
    assert rated["source"] in changed["source"]


def test_the_power_of_a_larger_machine_is_above_that_of_its_parts() -> None:
    found, small = evaluate(decode(servers=96)), evaluate(decode())
    assert found.state.power_watts > found.state.devices.power_watts.sum()
    assert found.state.power_watts / small.state.power_watts > 1.6


def test_a_comparison_says_that_a_changed_power_is_the_scenarios() -> None:
    grown, other = compare(decode(servers=96), ["cloudmatrix-384", "h100-cluster"])
    assert grown.point is not None
    assert other.point is not None
    assert grown.point.rated_source.startswith("in proportion to machine.figures of the scenario")
    assert grown.to_json()["sources"]["machine"]["servers"]["status"] == "scenario"
    assert other.point.rated_source.startswith("vendor data sheet")
    (stock,) = compare(decode(), ["cloudmatrix-384"])
    assert stock.point is not None
    # Of twice the machine half: as much, and for more switch ports between them nearly no more.
    assert grown.point.rated_watts == pytest.approx(stock.point.rated_watts, rel=0.05)


@pytest.mark.parametrize(
    ("figure", "least"),
    [
        ("portGigabytesPerSecond", "from 0.01 to 1e+09"),
        ("podMeasuredGigabytesPerSecond", "from 0.01 to 1e+09"),
        ("hbmTerabytesPerSecondPerDie", "from 0.01 to 1e+09"),
        ("int8TeraopsPerDie", "from 0.1 to 1e+09"),
        ("vectorTeraflopsPerDie", "from 0.1 to 1e+09"),
        ("hbmGibibytesPerDie", "from 1 to 1e+09"),
    ],
)
def test_what_no_machine_has_so_little_of_is_refused_with_the_least(figure: str, least: str) -> None:
    assert refused(decode(**{figure: 1e-9})) == f"machine.figures.{figure}: must be a number {least}, not 1e-09"
    bounds = [float(word) for word in least.split() if word[0].isdigit()]
    if figure in ("hbmTerabytesPerSecondPerDie", "vectorTeraflopsPerDie"):
        assert evaluate(decode(**{figure: bounds[0]})).result.tpot_seconds < 3600
    elif figure != "hbmGibibytesPerDie":
        assert "in the unit of its name" in refused(decode(**{figure: bounds[0]})), "of no machine like this one"


@pytest.mark.parametrize("command", [["simulate"], ["serve-sim"], ["sweep", "-o", "t.csv"]])
def test_a_file_without_a_name_is_said_by_its_flag(command: list[str]) -> None:
    result = CliRunner().invoke(cli, [*command, "-f", ""])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: --file: names no file; give one, or - for standard input\n"


@pytest.mark.parametrize("key", ["a\nb", "\x1e", "\x1b[31m", "\u2028"])
def test_an_error_is_one_line_whatever_a_key_holds(tmp_path: Path, key: str) -> None:
    for document in (changed(DENSE, machine={key: 1}), changed(DENSE, machine={"figures": {key: 1}})):
        status, out, error = run_on_file(tmp_path, "simulate", document)
        assert (status, out) == (2, "")
        assert len(error.splitlines()) == 1
        assert repr(key)[1:-1] in error


def test_memory_below_what_idle_dies_use_is_refused_by_its_own_name() -> None:
    assert refused(decode(hbmGibibytesPerDie=3)).startswith("machine.figures.hbmGibibytesPerDie: must be more than")


def test_a_sweep_has_the_goodput_that_simulate_gives(tmp_path: Path) -> None:
    base = {**DENSE, "reliability": {"mttrMinutes": 30}}
    hours, table = [20.0, 200.0], tmp_path / "out.csv"
    grid = {"base": base, "grid": {"reliability.mtbfHours": hours}}
    assert run_on_file(tmp_path, "sweep", grid, "-o", str(table), "--jobs", "1")[0] == 0
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    for row, mtbf in zip(rows, hours, strict=True):
        out = run_on_file(tmp_path, "simulate", changed(base, reliability__mtbfHours=mtbf), "-o", "json")[1]
        figures = json.loads(out)["workloads"][0]["figures"]
        names = ("goodputTokensPerSecondPerCard", "availabilityPercent", "wastePercent", "checkpointIntervalSeconds")
        assert {name: float(row[name]) for name in names} == {name: float(figures[name]["value"]) for name in names}
    assert float(rows[0]["goodputTokensPerSecondPerCard"]) < float(rows[1]["goodputTokensPerSecondPerCard"])


def test_a_sweep_of_inference_has_no_goodput(tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    grid = {"base": {"machine": {"nodes": 20}, **MODES["Decode"][0]}, "grid": {"inference.inputTokens": [4096]}}
    assert run_on_file(tmp_path, "sweep", grid, "-o", str(table), "--jobs", "1")[0] == 0
    (row,) = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    assert row["tpotSeconds"]
    assert row["goodputTokensPerSecondPerCard"] == row["availabilityPercent"] == ""


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("machine__nodes", "a whole number from 1 to 1024"),
        ("machine__figures__servers", "a number or a word"),
        ("inference__inputTokens", "a whole number from 1 to 16777216"),
        ("inference__decode__parallelism__tensor", "a whole number from 1 to 4096"),
        ("inference__speculation__tokensPerStep", "a number from 1 to 17"),
        ("inference__load__rate", "a number from 1e-06 to 1e+09"),
        ("inference__load__burst", "a number above 0 and at most 1000"),
    ],
)
@pytest.mark.parametrize("value", [True, False])
def test_true_is_not_one(path: str, wanted: str, value: bool) -> None:
    error = refused(changed(decode(), **{path: value}))
    assert error == f"{path.replace('__', '.')}: must be {wanted}, not {str(value).lower()}"


def test_true_is_not_one_in_lists_either() -> None:
    assert refused(changed(decode(), machine__failed={"planes": [0, True]})).startswith(
        "machine.failed.planes.1: must be"
    )
    assert refused(changed(DENSE, training__stageLayers=[True])).startswith("training.stageLayers.0: must be a whole")


@pytest.mark.parametrize("value", [1, 0, "yes", 1.0])
def test_one_is_not_true(value: Any) -> None:
    error = refused(changed(EXPERTS, training__overlapExchange=value))
    assert error == f"training.overlapExchange: must be true or false, not {value!r}"


@pytest.mark.parametrize(
    ("path", "wanted", "optional"),
    [
        ("inference__batch", "a mapping of sequencesPerCard", True),
        ("inference__decode__parallelism__tensor", "a whole number from 1 to 4096", True),
        ("inference__mode", "one of Prefill, Decode, Colocated, Disaggregated", False),
        ("inference__inputTokens", "a whole number from 1 to 16777216", False),
        ("machine__failed", "a mapping of diePorts, dies, l1, l2, optics, planes, servers, uplinks", True),
        ("stack", "text of 1 to 63 characters", True),
    ],
)
def test_null_is_not_absent(path: str, wanted: str, optional: bool) -> None:
    error = refused(changed(decode(), **{path: None}))
    rest = ", or leave it out" if optional else ""
    assert error == f"{path.replace('__', '.')}: is null: give {wanted}{rest}"


def test_null_in_a_grid_is_a_point_without_the_field(tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    grid = {"base": decode(), "grid": {"machine.nodes": [20, None], "inference.speculation": [None]}}
    assert run_on_file(tmp_path, "sweep", grid, "-o", str(table), "--jobs", "1")[0] == 0
    first, second = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    plain = evaluate(changed(decode(), inference__speculation=...)).result
    assert float(first["tokensPerSecondPerCard"]) == pytest.approx(plain.tokens_per_second_per_card, rel=1e-3)
    assert "320 does not divide" in second["error"], "all 48 servers"


def test_what_a_config_says_in_null_is_its_own_affair() -> None:
    config = {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "rope_scaling": None,
    }  # fmt: skip
    found = changed(MODES["Colocated"][0], machine__nodes=1, model={"config": config})
    assert evaluate(found).result.tokens_per_second > 0


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("infernce", "unknown field infernce: did you mean inference? Known here are inference, kernel"),
        ("inference__input_tokens", "unknown field inference.input_tokens: did you mean inputTokens? Known"),
        ("inference__tensor", "unknown field inference.tensor: there is "),
        ("nodes", "unknown field nodes: there is machine.nodes"),
        ("zebra", "unknown field zebra: known here are inference, kernel"),
        ("inference__precision__routers", "unknown field inference.precision.routers: known here are activations"),
    ],
)
def test_an_unknown_field_is_answered_with_the_one_that_is_meant(path: str, words: str) -> None:
    assert refused(changed(decode(), **{path: 1})).startswith(words)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("inference", []), ("inference__mode", 3), ("inference__batch", "96"), ("inference__load", 4), ("model", "r1"),
        ("inference__precision", {"weights": {}}), ("inference__speculation__acceptancePercent", ["a"]),
        ("machine__failed", {"dies": [{"server": "a", "die": 0}]}), ("machine__figures", {"planes": []}),
        ("model__config", 7), ("machine__profile", ""), ("inference__decode", {"split": {"domains": 0}}),
        ("inference__inputTokens", 1.5), ("inference__engine", {"routing": "random"}), ("stack", "s" * 64),
    ],
)  # fmt: skip
def test_no_error_is_in_the_words_of_a_library(path: str, value: Any) -> None:
    error = refused(changed(decode(), **{path: value}))
    assert error.startswith(path.replace("__", "."))
    assert "must be" in error or "is missing: give" in error
    for jargon in ("Input should", "valid", "dictionary", "instance of", "Scenario", "Extra", "union", "constrained"):
        assert jargon not in error


POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
SUPER_NODE = "apiVersion: supernode.io/v1alpha1\nkind: SuperNode\nmetadata: {name: cm384}\n"


@pytest.mark.parametrize("command", ["simulate", "sweep"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (POD, "is of kind Pod (v1): give a SuperNodeWorkload (supernode.io/v1alpha1), or a scenario"),
        (SUPER_NODE, "is of kind SuperNode (supernode.io/v1alpha1): a SuperNode is a machine: give the"),
        (SUPER_NODE.replace("SuperNode", "SupernodeWorkload"), "did you mean SuperNodeWorkload?"),
        (SUPER_NODE.replace("SuperNode", "SuperNodeWorkload").replace("alpha1", ""), "apiVersion: must be supernode"),
        ("apiVersion: v1\n", "has an apiVersion and no kind: give a SuperNodeWorkload"),
    ],
)
def test_a_manifest_of_another_kind_says_which_and_what_is_wanted(
    tmp_path: Path, command: str, text: str, words: str
) -> None:
    flags = ["-o", str(tmp_path / "out.csv")] if command == "sweep" else []
    status, _, error = run_on_file(tmp_path, command, text, *flags)
    assert (status, error.count("\n")) == (2, 1)
    assert words in error


def test_of_several_documents_the_one_that_can_run_is_taken(tmp_path: Path) -> None:
    scenario = yaml.safe_dump(decode())
    alone = run_on_file(tmp_path, "simulate", scenario)
    assert alone[0] == 0
    assert run_on_file(tmp_path, "simulate", f"{SUPER_NODE}---\n{scenario}") == alone
    status, _, error = run_on_file(tmp_path, "simulate", f"{SUPER_NODE}---\n{POD}---\n{POD}")
    assert status == 2
    assert "needs one scenario or one SuperNodeWorkload, has a SuperNode, 2 Pods: give one" in error
    error = run_on_file(tmp_path, "simulate", f"{scenario}---\n{scenario}")[2]
    assert "has 2 scenarios: give one, or all of them to supernode sweep" in error


def test_a_list_as_kubectl_prints_it_is_what_is_in_it(tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "deepseek-r1-decode.yaml"
    items = list(yaml.safe_load_all(example.read_text(encoding="utf-8")))
    whole = {"apiVersion": "v1", "kind": "List", "items": items}
    status, out, _ = run_on_file(tmp_path, "simulate", whole, "-w", "deepseek-r1-decode")
    assert (status, "time per output token" in out) == (0, True)
    assert "choose with --workload one of deepseek-r1-decode, llama" in run_on_file(tmp_path, "simulate", whole)[2]


def test_a_workload_with_a_field_that_is_none_is_refused(tmp_path: Path) -> None:
    workload = {"apiVersion": "supernode.io/v1alpha1", "kind": "SuperNodeWorkload", "spec": dict(R1_DECODE)}
    assert "did you mean stack?" in run_on_file(tmp_path, "simulate", changed(workload, spec__stak="vendor-tuned"))[2]
    error = run_on_file(tmp_path, "simulate", changed(workload, spec__machine={"nodes": 1}))[2]
    assert "spec.machine: is no field of a SuperNodeWorkload: write a scenario, which has machine" in error
