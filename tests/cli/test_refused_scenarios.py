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
from supernode_cli.refusals import field_paths
from supernode_cli.report import report_evaluation
from supernode_cli.scenario import Scenario
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


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("machine__nodes", "a whole number from 1 to 1024"),
        ("machine__figures__servers", "a number or a word"),
        ("inference__inputTokens", "a whole number from 1 to 16777216"),
        ("inference__decode__parallelism__tensor", "a whole number from 1 to 4096"),
        ("inference__speculation__tokensPerStep", "a number from 1 to 17"),
        ("inference__load__rate", "a number above 0 and at most 1e+09"),
    ],
)
@pytest.mark.parametrize("value", [True, False])
def test_true_is_not_one(path: str, wanted: str, value: bool) -> None:
    error = refused(said(decode(), **{path: value}))
    assert error == f"{path.replace('__', '.')}: must be {wanted}, not {str(value).lower()}"


def test_true_is_not_one_in_lists_either() -> None:
    assert refused(said(decode(), machine__failed={"planes": [0, True]})).startswith("machine.failed.planes.1: must be")
    assert refused(said(DENSE, training__stageLayers=[True])).startswith("training.stageLayers.0: must be a whole")


@pytest.mark.parametrize("value", [1, 0, "yes", 1.0])
def test_one_is_not_true(value: Any) -> None:
    error = refused(said(EXPERTS, training__overlapExchange=value))
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
    error = refused(said(decode(), **{path: None}))
    rest = ", or leave it out" if optional else ""
    assert error == f"{path.replace('__', '.')}: is null: give {wanted}{rest}"


def test_null_in_a_grid_is_a_point_without_the_field(tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    grid = {"base": decode(), "grid": {"machine.nodes": [20, None], "inference.speculation": [None]}}
    assert run(tmp_path, "sweep", grid, "-o", str(table), "--jobs", "1")[0] == 0
    first, second = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    plain = evaluate(said(decode(), inference__speculation=...)).result
    assert float(first["tokensPerSecondPerCard"]) == pytest.approx(plain.tokens_per_second_per_card, rel=1e-3)
    assert "320 does not divide" in second["error"], "all 48 servers"


def test_what_a_config_says_in_null_is_its_own_affair() -> None:
    config = {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "rope_scaling": None,
    }  # fmt: skip
    found = said(MODES["Colocated"][0], machine__nodes=1, model={"config": config})
    assert evaluate(found).result.tokens_per_second > 0


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("infernce", "unknown field infernce: did you mean inference? Known here are inference, kernel"),
        ("inference__input_tokens", "unknown field inference.input_tokens: did you mean inputTokens? Known"),
        ("inference__tensor", "unknown field inference.tensor: there is "),
        ("nodes", "unknown field nodes: there is machine.nodes"),
        ("zebra", "unknown field zebra: known here are inference, kernel"),
    ],
)
def test_an_unknown_field_is_answered_with_the_one_that_is_meant(path: str, words: str) -> None:
    assert refused(said(decode(), **{path: 1})).startswith(words)


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
    error = refused(said(decode(), **{path: value}))
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
    status, _, error = run(tmp_path, command, text, *flags)
    assert (status, error.count("\n")) == (2, 1)
    assert words in error


def test_of_several_documents_the_one_that_can_run_is_taken(tmp_path: Path) -> None:
    scenario = yaml.safe_dump(decode())
    alone = run(tmp_path, "simulate", scenario)
    assert alone[0] == 0
    assert run(tmp_path, "simulate", f"{SUPER_NODE}---\n{scenario}") == alone
    status, _, error = run(tmp_path, "simulate", f"{SUPER_NODE}---\n{POD}---\n{POD}")
    assert status == 2
    assert "needs one scenario or one SuperNodeWorkload, has a SuperNode, 2 Pods: give one" in error
    error = run(tmp_path, "simulate", f"{scenario}---\n{scenario}")[2]
    assert "has 2 scenarios: give one, or all of them to supernode sweep" in error


def test_a_list_as_kubectl_prints_it_is_what_is_in_it(tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "deepseek-r1-decode.yaml"
    items = list(yaml.safe_load_all(example.read_text(encoding="utf-8")))
    whole = {"apiVersion": "v1", "kind": "List", "items": items}
    status, out, _ = run(tmp_path, "simulate", whole, "-w", "deepseek-r1-decode")
    assert (status, "time per output token" in out) == (0, True)
    assert "choose with --workload one of deepseek-r1-decode, llama" in run(tmp_path, "simulate", whole)[2]


def test_a_workload_with_a_field_that_is_none_is_refused(tmp_path: Path) -> None:
    workload = {"apiVersion": "supernode.io/v1alpha1", "kind": "SuperNodeWorkload", "spec": dict(R1_DECODE)}
    assert "did you mean stack?" in run(tmp_path, "simulate", said(workload, spec__stak="vendor-tuned"))[2]
    error = run(tmp_path, "simulate", said(workload, spec__machine={"nodes": 1}))[2]
    assert "spec.machine: is no field of a SuperNodeWorkload: write a scenario, which has machine" in error


COLOCATED: dict[str, Any] = {"machine": {"nodes": 3}, **MODES["Colocated"][0]}
PREFILL: dict[str, Any] = {"machine": {"nodes": 4}, **MODES["Prefill"][0]}
IN_GROUPS = {
    "model": {"name": "mixtral-8x7b-v0.1"},
    "inference": {"decode": {"parallelism": {"tensor": 8, "expert": 1}}},
}
GROUPED: dict[str, Any] = {**COLOCATED, "model": IN_GROUPS["model"]}
GROUPED["inference"] = {**COLOCATED["inference"], **IN_GROUPS["inference"], "load": {"concurrency": 60}}


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
    assert refused(said(base, **fields)).startswith(error)


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
    plain = said(base, **{key: value for key, value in fields.items() if key == "stack"})
    found = evaluate(said(base, **fields))
    assert [note for note in found.notes if note.startswith(field)], found.notes
    assert found.performance == evaluate(plain).performance


def test_the_time_to_the_end_of_a_run_is_that_of_its_rate() -> None:
    found = evaluate(said(DENSE, training__steps=1000))
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
def test_what_is_so_anyhow_may_be_said(base: Any, fields: dict[str, Any]) -> None:
    assert evaluate(said(base, **fields)).notes == ()


VALUES: tuple[Any, ...] = (
    2, 1.5, 20, 64, 150, 3, True, "bf16", "int8", "int4", "full", "none", "two", "one", "output", "least-loaded", "azure", "x.csv",
    "azure-code", [1, 1], [50], "open-source", 5000,
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
                changed, notes = answer(said(base, **{path.replace(".", "__"): value}))
            except ScenarioError:
                continue
            if changed == plain and not any(path.rpartition(".")[2] in note for note in notes):
                silent.add(path)
            else:
                silent.discard(path)
                break
    one_anyhow = {"inference.decode.microBatches"} if name == "colocated" else set()
    assert silent <= HARMLESS | one_anyhow, silent
