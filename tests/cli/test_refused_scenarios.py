"""Scenarios that say what cannot be, or what nobody uses: one clear error each, or a note beside the answer."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.evaluation import Evaluation, ScenarioError, evaluate
from supernode_cli.main import cli
from supernode_cli.sources import machine_sources
from support.deployments import MODES, R1_DECODE, with_fields

DENSE: dict[str, Any] = {
    "machine": {"nodes": 48},
    "model": {"name": "llama-3.1-405b"},
    "training": {
        "sequenceLength": 8192,
        "globalBatchSize": 192,
        "parallelism": {"tensor": 16, "pipeline": 8, "virtualPipeline": 4},
    },
}
EXPERTS: dict[str, Any] = {
    "machine": {"nodes": 32},
    "model": {"name": "deepseek-v3"},
    "training": {
        "sequenceLength": 4096,
        "globalBatchSize": 3840,
        "parallelism": {"tensor": 2, "pipeline": 8, "virtualPipeline": 2, "expert": 16},
    },
}


def decode(**figures: Any) -> dict[str, Any]:
    return {"machine": {"nodes": 20, "figures": figures}, **with_fields(R1_DECODE)}


def said(document: Any, **fields: Any) -> dict[str, Any]:
    """A scenario with fields set by dotted path (``__`` for the dot); ``...`` removes one."""
    found: dict[str, Any] = json.loads(json.dumps(document))
    for path, value in fields.items():
        *way, last = path.split("__")
        node = found
        for key in way:
            node = node.setdefault(key, {})
        if value is ...:
            del node[last]
        else:
            node[last] = value
    return found


def refused(document: Any) -> str:
    with pytest.raises(ScenarioError) as caught:
        evaluate(document)
    return str(caught.value)


def power(document: Any) -> float:
    found: Evaluation = evaluate(document)
    return found.state.power_watts


def run(tmp_path: Path, command: str, document: Any, *flags: str) -> tuple[int, str, str]:
    file = tmp_path / "scenario.yaml"
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
    result = CliRunner().invoke(cli, [command, "-f", str(file), *flags])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


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
    if figure != "hbmGibibytesPerDie":
        assert evaluate(decode(**{figure: bounds[0]})).result.tpot_seconds < 3600


def test_memory_below_what_idle_dies_use_is_refused_by_its_own_name() -> None:
    assert refused(decode(hbmGibibytesPerDie=3)).startswith("machine.figures.hbmGibibytesPerDie: must be more than")


def test_a_sweep_has_the_goodput_that_simulate_gives(tmp_path: Path) -> None:
    base = {**DENSE, "reliability": {"mttrMinutes": 30}}
    hours, table = [20.0, 200.0], tmp_path / "out.csv"
    grid = {"base": base, "grid": {"reliability.mtbfHours": hours}}
    assert run(tmp_path, "sweep", grid, "-o", str(table), "--jobs", "1")[0] == 0
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    for row, mtbf in zip(rows, hours, strict=True):
        out = run(tmp_path, "simulate", said(base, reliability__mtbfHours=mtbf), "-o", "json")[1]
        figures = json.loads(out)["workloads"][0]["figures"]
        names = ("goodputTokensPerSecondPerCard", "availabilityPercent", "wastePercent", "checkpointIntervalSeconds")
        assert {name: float(row[name]) for name in names} == {name: float(figures[name]["value"]) for name in names}
    assert float(rows[0]["goodputTokensPerSecondPerCard"]) < float(rows[1]["goodputTokensPerSecondPerCard"])


def test_a_sweep_of_inference_has_no_goodput(tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    grid = {"base": {"machine": {"nodes": 20}, **MODES["Decode"][0]}, "grid": {"inference.inputTokens": [4096]}}
    assert run(tmp_path, "sweep", grid, "-o", str(table), "--jobs", "1")[0] == 0
    (row,) = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    assert row["tpotSeconds"]
    assert row["goodputTokensPerSecondPerCard"] == row["availabilityPercent"] == ""
