"""Fields that change nothing of an answer: refused, or a note where a number beside them leaves them nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from supernode_cli.evaluation import ScenarioError, evaluate
from supernode_cli.main import cli
from supernode_cli.refusals import field_paths
from supernode_cli.report import report_evaluation
from supernode_cli.scenario import Scenario
from support.refusals import COLOCATED, DENSE, EXPERTS, GROUPED, PREFILL, decode, refused
from support.scenarios import changed


@pytest.mark.parametrize(
    ("base", "fields", "error"),
    [
        (DENSE, {"training__expertImbalance": 1.5}, "training.expertImbalance: llama-3.1-405b has no experts: leave"),
        (DENSE, {"training__overlapExchange": True}, "training.overlapExchange: llama-3.1-405b has no experts: leave"),
        (DENSE, {"machine__oversubscription": 4}, "machine.oversubscription: is about the network between supernodes"),
        (
            PREFILL,
            {"inference__speculation": {"drafts": 1, "acceptancePercent": [70]}},
            "inference.speculation: is not",
        ),
        (decode(), {"inference__speculation": {"acceptancePercent": [70]}}, "inference.speculation.drafts: is missing"),
        (PREFILL, {"inference__cache__gigabytesPerSecond": 9}, "inference.cache.gigabytesPerSecond: is about prompts"),
        (
            PREFILL,
            {"inference__cache__domainDies": 32},
            "inference.cache.domainDies: is about prompts whose beginnings",
        ),
        (COLOCATED, {"inference__decode__parallelism__expertTensor": 2}, "inference.decode.parallelism.expertTensor: "),
        (COLOCATED, {"inference__decode__microBatches": "two"}, "inference.decode.microBatches: qwen3-32b has no exp"),
        (COLOCATED, {"inference__decode__attentionCorePercent": 50}, "inference.decode.attentionCorePercent: qwen3"),
        (COLOCATED, {"inference__load__burst": 2}, "inference.load.burst: is about a rate: give load.rate too, or"),
        (COLOCATED, {"inference__load__speed": 2}, "inference.load.speed: is about a trace: give load.trace too, or"),
        (decode(), {"inference__prefill": {}}, "inference.prefill is not for mode Decode"),
        (decode(), {"inference__cache": {"reusePercent": 50}}, "inference.cache.reusePercent is not"),
        (decode(), {"reliability": {"mtbfHours": 3}}, "reliability: is about a training run, and this is inference"),
    ],
)
def test_what_can_have_no_effect_is_refused(base: Any, fields: dict[str, Any], error: str) -> None:
    assert refused(changed(base, **fields)).startswith(error)


@pytest.mark.parametrize(
    ("base", "fields", "field"),
    [
        (DENSE, {"machine__oversubscription": 4, "machine__supernodes": 1}, "machine.oversubscription changes nothing"),
        (PREFILL, {"inference__cache": {"gigabytesPerSecond": 9, "reusePercent": 0}}, "inference.cache.gigabytesPer"),
        (GROUPED, {"inference__decode__microBatches": "two"}, "inference.decode.microBatches changes nothing here"),
        (GROUPED, {"inference__decode__attentionCorePercent": 50}, "inference.decode.attentionCorePercent changes"),
        (GROUPED, {"inference__decode__experts": {"imbalancePercent": 150}}, "inference.decode.experts.imbalancePerc"),
        (decode(), {"stack": "open-source", "inference__decode__attentionCorePercent": 50}, "inference.decode.attent"),
        (
            COLOCATED,
            {"inference__engine__groupQueues": True},
            "inference.engine.groupQueues is for supernode serve-sim",
        ),
        (COLOCATED, {"inference__load__prompts": 9}, "inference.load.prompts is for supernode serve-sim"),
        (DENSE, {"training__tokens": 1_000_000_000}, "training.tokens: 1,000,000,000 take "),
        (COLOCATED, {"inference__requests": 1000}, "inference.requests: 1,000 take "),
    ],
)
def test_what_has_no_effect_for_a_number_beside_it_is_noted(base: Any, fields: dict[str, Any], field: str) -> None:
    plain = changed(base, **{key: value for key, value in fields.items() if key == "stack"})
    found = evaluate(changed(base, **fields))
    assert [note for note in found.notes if note.startswith(field)], found.notes
    assert found.performance == evaluate(plain).performance


def test_the_time_to_the_end_of_a_run_is_that_of_its_rate() -> None:
    found = evaluate(changed(DENSE, training__steps=1000))
    (note,) = found.notes
    hours = float(note.split(" take ")[1].split(" h ")[0])
    assert hours == pytest.approx(1000 * found.result.step_time_seconds / 3600, rel=1e-3)


@pytest.mark.parametrize(
    ("base", "fields"),
    [
        (DENSE, {"training__expertImbalance": 1, "training__overlapExchange": False, "machine__oversubscription": 1}),
        (COLOCATED, {"inference__decode__microBatches": "auto", "inference__decode__parallelism__expertTensor": 1}),
        (COLOCATED, {"inference__engine": {"prefixCache": True, "reserve": "prompt"}}),
    ],
)
def test_what_is_so_anyhow_may_be_changed(base: Any, fields: dict[str, Any]) -> None:
    assert evaluate(changed(base, **fields)).notes == ()


VALUES: tuple[Any, ...] = (
    2, 1.5, 20, 64, 150, 3, True, "bf16", "int8", "int4", "full", "none", "two", "one", "output", "least-loaded",
    "azure", "x.csv", "azure-code", [1, 1], [50], "open-source", 5000,
)  # fmt: skip
HARMLESS = frozenset({"inference.engine.prefixCache", "inference.cache.memoryFractionPercent", "stack"})
"""Which have an effect that none of these values has: true is the default, it is a limit, there are no experts."""


def answer(document: Any) -> tuple[str, tuple[str, ...]]:
    found = evaluate(document)
    report = report_evaluation(found).to_json()
    (workload,) = report["workloads"]
    return json.dumps([workload["figures"], workload["steps"], workload["memory"], report["machine"]]), found.notes


def leaf_fields() -> list[str]:
    paths = [".".join(path) for path in field_paths(Scenario)]
    return [path for path in paths if not any(other.startswith(f"{path}.") for other in paths)]


@pytest.mark.parametrize("name", ["dense", "experts", "decode", "prefill", "colocated", "grouped"])
def test_every_field_has_an_effect_or_is_refused_or_is_told(name: str) -> None:
    bases = {"dense": DENSE, "experts": EXPERTS, "decode": decode(), "prefill": PREFILL, "colocated": COLOCATED}
    base = {**bases, "grouped": GROUPED}[name]
    part = "training" if "training" in base else "inference"
    silent = set()
    plain, _ = answer(base)
    for path in leaf_fields():
        if path.partition(".")[0] not in ("machine", "stack", "reliability", part) or "machine.f" in path:
            continue
        node: Any = base
        for key in path.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        for value in VALUES:
            if value == node:
                continue
            try:
                other, notes = answer(changed(base, **{path.replace(".", "__"): value}))
            except ScenarioError:
                continue
            if other == plain and not any(path.rpartition(".")[2] in note for note in notes):
                silent.add(path)
            else:
                silent.discard(path)
                break
    one_anyhow = {"inference.decode.microBatches"} if name == "colocated" else set()
    assert silent <= HARMLESS | one_anyhow, silent


def notes_on_figures(**figures: Any) -> list[str]:
    (workload,) = report_evaluation(evaluate(decode(**figures))).workloads
    return [note for note in workload.notes if "machine.figures" in note]


def test_a_figure_that_changes_nothing_is_noted() -> None:
    assert notes_on_figures(rdmaGigabytesPerSecond=50, portGigabytesPerSecond=14) == [
        "machine.figures.rdmaGigabytesPerSecond changes nothing here"
    ]
    assert notes_on_figures(rdmaGigabytesPerSecond=50, cpuWatts=250) == [
        "machine.figures.rdmaGigabytesPerSecond, machine.figures.cpuWatts each change nothing here"
    ]
    assert notes_on_figures(cpuWatts=300) == []


def test_a_figure_without_which_nothing_runs_has_an_effect() -> None:
    larger = changed(decode(hbmGibibytesPerDie=128), inference__batch__sequencesPerCard=400)
    assert refused(changed(larger, machine__figures={})).startswith("inference.decode: ")
    (workload,) = report_evaluation(evaluate(larger)).workloads
    assert not [note for note in workload.notes if "machine.figures" in note]


@pytest.mark.parametrize(
    ("phase", "flags", "error"),
    [
        (
            "prefill",
            ["--drafts", "1"],
            "--drafts is an option of decode, colocated and disaggregated, not of prefill: leave it out",
        ),
        (
            "prefill",
            ["--output-tokens", "256"],
            "--output-tokens is an option of decode, colocated and disaggregated, not of pre",
        ),
        (
            "training",
            ["--input", "4096"],
            "--input is an option of decode, prefill, colocated and disaggregated, not of train",
        ),
        (
            "decode",
            ["--sequence-length", "4096"],
            "--sequence-length is an option of training, not of decode: leave it",
        ),
        ("decode", ["--drafts", "1", "--accepted", "nan"], "--accepted must be a number, not nan"),
        ("decode", ["--memory-fraction", "nan"], "--memory-fraction must be a number, not nan"),
    ],
)
def test_an_option_that_a_plan_does_not_use_is_refused(phase: str, flags: list[str], error: str) -> None:
    result = CliRunner().invoke(cli, ["plan", phase, "--model", "deepseek-r1", "--cards", "32", *flags])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: plan: {error}")
