"""Scenarios of inference: `simulate` says what the cluster's status says, and one clear error for what cannot be."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings

from supernode_cli.evaluation import evaluate
from supernode_cli.main import cli
from supernode_cli.report import report_machine
from supernode_cli.scenario_schema import scenario_schema, schema_text
from supernode_dataplane.figures import workload_performance
from support.deployments import MODES, R1_DECODE, deployment
from support.machines import compute_nodes, only, run, super_node, workload
from support.scenarios import changed, run_on_file
from support.schema_leaves import changes_of, fields_of, obeys, with_changes

SCENARIO: dict[str, Any] = {"machine": {"nodes": 20}, **R1_DECODE}
altered = partial(changed, SCENARIO)


def simulate(tmp_path: Path, scenario: Any, *flags: str) -> tuple[int, str, str]:
    return run_on_file(tmp_path, "simulate", scenario, *flags)


@pytest.mark.parametrize("mode", MODES)
def test_the_cli_gives_the_very_figures_of_the_status_of_the_same_workload(tmp_path: Path, mode: str) -> None:
    base, nodes = MODES[mode]
    status, out, err = simulate(tmp_path, {"machine": {"nodes": nodes}, **base}, "-o", "json")
    assert status == 0, err
    shown = {key: figure["value"] for key, figure in json.loads(out)["workloads"][0]["figures"].items()}
    on_the_cluster = workload_performance(only(run(deployment("a", range(nodes), base, managed=True))))
    assert len(shown) >= 8
    assert shown == {key: on_the_cluster[key] for key in shown}
    assert {"tokensPerSecondPerCard", "tokensPerSecond", "stepTimeSeconds", "expectedErrorPercent"} <= set(shown)


def test_a_manifest_is_a_scenario_too() -> None:
    manifest = deployment("a", range(20), managed=True)
    assert evaluate({"machine": {"nodes": 20}, **R1_DECODE}).performance == workload_performance(only(run(manifest)))


def test_the_table_says_what_the_step_and_the_memory_are_made_of(tmp_path: Path) -> None:
    status, out, _ = simulate(tmp_path, SCENARIO)
    assert status == 0
    for words in (
        "time per output token",
        "ms",
        "bound by",
        "attention core",
        "dispatch",
        "weights in HBM",
        "expected",
    ):
        assert words in out
    assert "1943" in out, "the published rate stands beside ours"
    _, other, _ = simulate(tmp_path, {**SCENARIO, "stack": "open-source"})
    assert "1943" not in other, "it is about another stack"


def test_parts_sum_to_the_step_and_to_the_memory(tmp_path: Path) -> None:
    _, out, _ = simulate(tmp_path, SCENARIO, "-o", "json")
    workload = json.loads(out)["workloads"][0]
    step = sum(float(part["value"]) for part in workload["steps"].values())
    assert step == pytest.approx(float(workload["figures"]["stepTimeSeconds"]["value"]), rel=2e-3)
    memory = sum(float(part["value"]) for part in workload["memory"].values())
    assert memory == pytest.approx(float(workload["figures"]["hbmGibibytesPerDie"]["value"]), rel=2e-3)


def test_a_config_can_be_written_as_a_mapping() -> None:
    config = {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
    }  # fmt: skip
    scenario = {
        "machine": {"nodes": 1},
        "inference": {"mode": "Prefill", "inputTokens": 1024, "prefill": {"parallelism": {"tensor": 2}}},
    }
    inline = evaluate({**scenario, "model": {"config": config}})
    assert inline.performance == evaluate({**scenario, "model": {"config": json.dumps(config)}}).performance
    assert (
        inline.performance["tokensPerSecond"]
        == evaluate({**scenario, "model": {"name": "llama-3.1-8b"}}).performance["tokensPerSecond"]
    )


def test_changed_figures_and_failures_change_the_answer() -> None:
    rate = evaluate(SCENARIO).result.tokens_per_second
    assert evaluate(altered(machine__figures={"podMeasuredGigabytesPerSecond": 75})).result.tokens_per_second < rate
    assert evaluate(altered(machine__figures={"hbmTerabytesPerSecondPerDie": 3.2})).result.tokens_per_second > rate
    gone = evaluate(altered(machine__failed={"planes": [3]}))
    assert gone.result.tokens_per_second < rate
    assert int(gone.state.devices.port_up.sum()) == 768 * 6
    assert evaluate(altered(machine__failed={"l1": [{"server": 19, "plane": 0}]})).result.tokens_per_second < rate
    elsewhere = altered(machine__failed={"l1": [{"server": 20, "plane": 0}], "dies": [{"server": 47, "die": 15}]})
    assert evaluate(elsewhere).result.tokens_per_second == rate


def test_a_figure_of_its_own_is_in_the_digest_and_on_the_table(tmp_path: Path) -> None:
    more = altered(machine__figures={"hbmGibibytesPerDie": 128})
    assert evaluate(more).state.digest != evaluate(SCENARIO).state.digest
    assert "96 TiB" in simulate(tmp_path, more)[1]


def test_of_several_workloads_one_is_chosen_by_its_name() -> None:
    file = Path(__file__).resolve().parents[2] / "examples" / "deepseek-r1-decode.yaml"

    def said(*flags: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(cli, ["simulate", "-f", str(file), *flags])
        return result.exit_code, result.stdout, result.stderr

    assert "time per output token" in said("-w", "deepseek-r1-decode")[1]
    assert "step time" in said("--workload", "llama-3-1-70b")[1]
    status, out, err = said()
    assert (status, out) == (2, "")
    assert "--workload one of deepseek-r1-decode, llama-3-1-70b" in err
    assert "there are deepseek-r1-decode, llama-3-1-70b" in said("-w", "mine")[2]


BAD: list[tuple[dict[str, Any], str, str]] = [
    (altered(machine__profile="cm-9"), "machine.profile", "cloudmatrix-384"),
    (altered(machine__nodes=49), "machine.nodes", "48 servers"),
    (altered(machine__figures={"hbmGigs": 1}), "machine.figures.hbmGigs", "hbmGigabytesPerDie"),
    (altered(machine__figures={"planes": 0.5}), "machine.figures.planes", "whole number"),
    (altered(machine__figures={"rdmaGigabytesPerSecond": "fast"}), "machine.figures.rdmaGigabytesPerSecond", "number"),
    (altered(machine__figures={"diesPerPackage": 3}), "machine.figures.diesPerPackage", "divide"),
    (altered(machine__figures={"uplinksPerL1": 4}), "machine.figures.uplinksPerL1", "l2ChipsPerPlane"),
    (altered(machine__failed={"planes": [7]}), "machine.failed.planes.0", "7 planes"),
    (altered(machine__failed={"dies": [{"server": 0, "die": 16}]}), "machine.failed.dies.0.die", "16 dies"),
    (altered(machine__failed={"dies": [{"server": 3, "die": 2}]}), "machine.failed", "server 3 die 2"),
    (altered(machine__failed={"fans": 1}), "machine.failed.fans", "planes"),
    (altered(machine={"profile": "atlas-a2-cluster", "failed": {"planes": [0]}}), "machine.failed", "meshed"),
    (altered(stack="homegrown"), "stack", "vendor-tuned"),
    (altered(model__name="deepseek-r9"), "deepseek-r9", "deepseek-r1"),
    (altered(inference=...), "training and inference", "exactly one"),
    (altered(training={"sequenceLength": 1, "globalBatchSize": 1}), "training and inference", "exactly one"),
    (altered(inference__mode="Serve"), "inference.mode", "Prefill"),
    (altered(inference__inputTokens=0), "inference.inputTokens", "a whole number from 1 to"),
    (altered(inference__inputTokens="4K"), "inference.inputTokens", "a whole number from 1"),
    (altered(inference__outputTokens=...), "inference.outputTokens", "missing"),
    (altered(inference__load={"concurrency": 1}), "inference.load", "exactly one"),
    (altered(inference__batch=...), "inference.load", "exactly one"),
    (altered(inference__prefill={}), "inference.prefill", "describe it as decode"),
    (altered(inference__promptsPerBatch=2), "inference.promptsPerBatch", "leave it out"),
    (altered(inference__cache={"reusePercent": 50}), "inference.cache.reusePercent", "leave it out"),
    (altered(inference__tokens=1, inference__requests=1), "inference.requests", "one of both"),
    (altered(inference__speculation__acceptancePercent=[70, 60]), "inference.speculation.acceptancePercent", "1"),
    (altered(inference__precision={"weights": "fp4"}), "inference.precision.weights", "int4"),
    (altered(inference__decode__parallelism__tensor=3), "inference.decode.parallelism.tensor", "divide"),
    (altered(inference__decode__parallelism__tensor=256), "inference.decode.parallelism.tensor", "divide"),
    (altered(inference__decode__parallelism__expert=48), "inference.decode.parallelism.expert", "320 dies"),
    (altered(inference__decode__experts={"redundant": 5}), "inference.decode.experts.redundant", "make it 64"),
    (altered(inference__decode__experts={"sharedRanks": 320}), "inference.decode.experts.sharedRanks", "fewer"),
    (altered(inference__batch__sequencesPerCard=4000), "inference.decode", "GiB"),
    (altered(machine__figures={"hbmGibibytesPerDie": 16}), "inference.decode", "weights"),
    (altered(machine__nodes=1, inference__decode={}), "inference.decode", "GiB"),
    (altered(inference__decode__paralelism={}), "inference.decode.paralelism", "parallelism"),
]  # fmt: skip


@pytest.mark.parametrize(("scenario", "field", "remedy"), BAD, ids=[f"{n} {row[1]}" for n, row in enumerate(BAD)])
def test_what_cannot_be_is_one_error_with_field_and_remedy(
    tmp_path: Path, scenario: dict[str, Any], field: str, remedy: str
) -> None:
    status, out, err = simulate(tmp_path, scenario)
    assert (status, out) == (2, ""), err
    assert field in err
    assert remedy in err
    assert "Traceback" not in err


FIELDS = fields_of("machine", "model", "stack", "inference")


def test_every_field_of_a_deployment_is_drawn_from() -> None:
    paths = {".".join(field.path) for field in FIELDS}
    assert len(paths) > 90
    assert {"stack", "machine.failed.diePorts", "inference.load.speed", "inference.engine.gatherSteps"} <= paths


@settings(max_examples=80, deadline=None, suppress_health_check=[*HealthCheck])
@given(changes_of(FIELDS))
def test_no_value_anywhere_ends_in_anything_but_an_answer_or_one_error(tmp_path: Path, changes: list[Any]) -> None:
    obeys(tmp_path, with_changes(SCENARIO, changes))


def test_the_schema_in_the_docs_is_that_of_the_models() -> None:
    file = Path(__file__).resolve().parents[2] / "docs" / "scenario.schema.json"
    assert file.read_text(encoding="utf-8") == schema_text(), "run make gen"


def test_the_schema_takes_what_runs_and_refuses_what_is_unknown() -> None:
    from jsonschema import Draft202012Validator, ValidationError

    schema = scenario_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for base, nodes in MODES.values():
        validator.validate({"machine": {"nodes": nodes}, **base})
    for wrong in (
        altered(machine__figures={"hbmGigs": 1}),
        altered(inference__decode__paralelism={}),
        altered(inference=...),
        altered(inference__inputTokens=0),
        altered(inference__batch=None),
        altered(stack=None),
    ):
        with pytest.raises(ValidationError):
            validator.validate(wrong)


def test_get_shows_latencies_of_a_deployment_beside_training() -> None:
    jobs = [deployment("serve", range(20), managed=True), workload("train", range(20, 44), pipeline=4, managed=True)]
    machine = {**super_node(), "status": {}}
    serving, training = report_machine(machine, compute_nodes(48), jobs).workloads
    shown = {figure.key: figure for figure in serving.figures}
    assert {"tpotSeconds", "tokensPerSecondPerCard", "mfu"} <= set(shown)
    assert "ttftSeconds" not in shown, "a decode pool reads no prompts"
    assert serving.memory
    assert "tpotSeconds" not in {figure.key for figure in training.figures}
    assert "ratioToTraditional" in {figure.key for figure in training.figures}
