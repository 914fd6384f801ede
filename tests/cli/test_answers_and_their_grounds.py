"""An answer says which stack and formats it is of, where its figures are from, and what failures leave of it."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from supernode_cli.comparison import operating_point
from supernode_cli.evaluation import ScenarioError, evaluate
from supernode_cli.report import report_evaluation
from supernode_dataplane.reliability import checkpoint_interval, checkpoint_waste, job_mtbf
from support.machines import LLAMA
from support.scenarios import r1_scenario, run_on_file

DECODE = r1_scenario(4, "Decode", 2048, 512, batch={"sequencesPerCard": 16})


def on(document: dict[str, Any], **machine: Any) -> dict[str, Any]:
    return {**deepcopy(document), "machine": {**document.get("machine", {}), **machine}}


def simulate(tmp_path: Path, document: Any, *arguments: str) -> str:
    status, out, error = run_on_file(tmp_path, "simulate", document, *arguments)
    assert status == 0, error
    return " ".join(out.split())


@pytest.mark.parametrize(
    ("machine", "stack", "kind"), [("cloudmatrix-384", "vendor-tuned", "int8"), ("h100-cluster", "gpu-tuned", "fp8")]
)
def test_what_a_scenario_leaves_open_is_the_machines(machine: str, stack: str, kind: str) -> None:
    found = evaluate(on(DECODE, profile=machine, nodes=8))
    (workload,) = found.inputs.workloads
    assert workload.inference is not None
    assert workload.inference.stack == stack
    assert (workload.inference.precision.weights, workload.inference.precision.activations) == (kind, kind)


def test_simulate_and_compare_give_one_answer_for_one_machine() -> None:
    document = on(DECODE, profile="h100-cluster", nodes=8)
    document["inference"]["batch"]["sequencesPerCard"] /= 2  # the same sequences on twice the cards, one die each
    there = evaluate(document)
    assert operating_point(DECODE, "h100-cluster").tokens_per_second == there.result.tokens_per_second


def test_what_a_scenario_names_stays() -> None:
    document = on(DECODE, profile="h100-cluster", nodes=8)
    document["stack"] = "open-source"
    document["inference"]["precision"] = {"weights": "bf16"}
    found = evaluate(document)
    assert found.workload["spec"]["stack"] == "open-source"
    assert found.workload["spec"]["inference"]["precision"]["weights"] == "bf16"
    assert found.workload["spec"]["inference"]["precision"]["activations"] == "fp8"


def test_the_table_says_which_stack_and_formats_were_taken(tmp_path: Path) -> None:
    open_ = simulate(tmp_path, on(DECODE, profile="h100-cluster", nodes=8))
    assert "stack gpu-tuned (the machine's)" in open_
    assert "weights fp8 (the machine's)" in open_
    assert "stack open-source │" in simulate(tmp_path, {**DECODE, "stack": "open-source"})


def test_every_figure_behind_an_answer_has_a_status_and_a_source(tmp_path: Path) -> None:
    document = json.loads(simulate(tmp_path, on(DECODE, figures={"rdmaGigabytesPerSecond": 50}), "-o", "json"))
    machine, stack = document["sources"]["machine"], document["sources"]["stacks"]["vendor-tuned"]
    assert all(entry["source"] and entry["status"] for entry in (*machine.values(), *stack.values()))
    assert machine["rdmaGigabytesPerSecond"]["status"] == "scenario"
    assert machine["rdmaGigabytesPerSecond"]["value"] == 50
    assert {"calibrated", "derived"} <= {entry["status"] for entry in stack.values()}
    assert stack["dispatchLaunchSeconds"]["rows"] == ["C-K2"]
    text = simulate(tmp_path, DECODE)
    assert "sources: figures" in text
    assert "assumed" in text


def test_goodput_is_the_rate_with_availability_and_checkpoints() -> None:
    document = {**LLAMA, "reliability": {"mtbfHours": 24, "mttrMinutes": 60, "checkpointSeconds": 60}}
    report = report_evaluation(evaluate(document))
    figures = {figure.key: float(figure.value) for figure in report.workloads[0].figures if figure.value[0].isdigit()}
    hour = 3600.0
    assert figures["availabilityPercent"] == pytest.approx(96.0, rel=1e-3)
    assert figures["wastePercent"] == pytest.approx(100 * float(checkpoint_waste(24 * hour)), rel=1e-3)
    assert figures["checkpointIntervalSeconds"] == pytest.approx(float(checkpoint_interval(24 * hour)), rel=1e-3)
    kept = 0.96 * (1 - figures["wastePercent"] / 100)
    assert figures["goodputTokensPerSecondPerCard"] == pytest.approx(kept * figures["tokensPerSecondPerCard"], rel=1e-3)
    assert {entry.status for entry in report.workloads[0].reliability} == {"scenario", "published"}


def test_what_is_not_known_of_failures_is_said_to_be_assumed(tmp_path: Path) -> None:
    entries = json.loads(simulate(tmp_path, LLAMA, "-o", "json"))["workloads"][0]["reliability"]
    assert entries["mtbf"]["seconds"] == pytest.approx(job_mtbf(384))
    assert {key: entry["status"] for key, entry in entries.items()} == {
        "mtbf": "assumed",
        "mttr": "published",
        "checkpoint": "assumed",
        "restart": "published",
    }
    assert "checkpoint 60 s (assumed)" in simulate(tmp_path, LLAMA)


def test_training_spans_supernodes_at_nearly_the_rate_of_one() -> None:
    one = evaluate(LLAMA).result
    many = deepcopy(LLAMA)
    many["training"]["globalBatchSize"] = 192 * 64
    found = evaluate(on(many, supernodes=64))
    rate = found.result
    assert (rate.cards, rate.dies) == (64 * 384, 64 * 768)
    assert 0.97 < rate.tokens_per_second_per_card / one.tokens_per_second_per_card < 1
    assert rate.breakdown_seconds is not None
    assert rate.breakdown_seconds["supernodes"] > 0
    assert sum(rate.breakdown_seconds.values()) == pytest.approx(rate.step_time_seconds)
    thin = evaluate(on(many, supernodes=64, oversubscription=8))
    assert thin.result.tokens_per_second < rate.tokens_per_second
    assert len({found.state.digest, thin.state.digest, evaluate(many).state.digest}) == 3


def test_failures_are_those_of_the_first_supernode() -> None:
    many = deepcopy(LLAMA)
    many["training"]["globalBatchSize"] = 192 * 2
    healthy = evaluate(on(many, supernodes=2)).result
    broken = evaluate(on(many, supernodes=2, failed={"planes": [0, 1]})).result
    assert broken.tokens_per_second < healthy.tokens_per_second


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (on(LLAMA, supernodes=5), "training.globalBatchSize.*not divisible by 5 supernodes"),
        (on(LLAMA, supernodes=2, oversubscription=7), "oversubscription must be a whole number that divides"),
        (on(DECODE, supernodes=2), "machine.supernodes: is about a training run"),
        ({**DECODE, "reliability": {"mtbfHours": 24}}, "reliability: is about a training run"),
        ({**LLAMA, "reliability": {"mtbfHours": 0}}, "reliability.mtbfHours"),
        ({**LLAMA, "reliability": {"mtbfDays": 1}}, "unknown field reliability.mtbfDays"),
    ],
)
def test_what_cannot_be_names_its_field(document: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        evaluate(document)
