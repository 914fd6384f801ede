"""What `supernode plan` prints of its best layout is what `supernode simulate` says of its `-o scenario`."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.evaluation import evaluate
from supernode_cli.main import cli
from supernode_cli.plan_scenario import inference_scenario
from supernode_dataplane.catalogue import load_model
from supernode_dataplane.deployment import Precision
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.machine_defaults import default_format, default_stack
from supernode_dataplane.planning_inference import (
    InferenceGoal,
    layout_deployment,
    plan_inference,
)
from supernode_dataplane.profile import load_profile
from supernode_dataplane.stacks import load_stack

CASES = (
    "decode --model deepseek-r1 --tpot-ms 50 --drafts 1 --accepted 0.7",
    "decode --model deepseek-r1 --cards 100 --objective latency",
    "decode --model deepseek-r1 --cards 64 --failed '{planes: [0, 1]}'",
    "decode --model qwen3-32b --cards 8 --memory-fraction 0.57",
    "decode --model qwen3-32b --cards 8 --drafts 3 --accepted 1.55 --weights bf16",
    "decode --model qwen3-32b --cards 13 --batch 0.1",
    "decode --model qwen3-32b --cards 13 --batch 2.25 --weights int4",
    "decode --model qwen3-32b --cards 5 --objective cards --tokens-per-second 3000",
    "decode --model deepseek-v4-flash --cards 16",
    "decode --model mixtral-8x22b-v0.1 --cards 9 --machine h100-cluster --weights bf16",
    "decode --model deepseek-r1 --cards 48 --machine gb200-nvl72",
    "decode --model qwen3-30b-a3b --cards 64 --machine atlas-a2-cluster --drafts 2 --accepted 1",
    "prefill --model deepseek-r1 --cards 64 --failed '{planes: [0, 1]}'",
    "prefill --model qwen3-32b --cards 13 --objective latency",
    "prefill --model qwen3-32b --cards 13 --batch 3",
    "prefill --model qwen3-32b --cards 16 --objective cards --tokens-per-second 30000",
    "prefill --model mixtral-8x22b-v0.1 --cards 9 --machine h100-cluster",
    "prefill --model deepseek-r1 --cards 60 --machine atlas-a2-cluster",
    "prefill --model qwen3.5-397b-a17b --cards 64 --weights bf16",
    "colocated --model qwen3-32b --cards 16 --tpot-ms 50 --ttft-ms 600",
    "colocated --model qwen3-32b --cards 13 --batch 0.1",
    "colocated --model qwen3-32b --cards 13 --memory-fraction 0.57 --output-tokens 2048",
    "colocated --model qwen3-32b --cards 5 --objective cards --tokens-per-second 900",
    "colocated --model deepseek-r1 --cards 64 --drafts 1 --accepted 0.7 --failed '{planes: [0]}'",
    "colocated --model mixtral-8x22b-v0.1 --cards 9 --machine h100-cluster --weights bf16 --objective latency",
    "disaggregated --model qwen3-32b --cards 13",
    "disaggregated --model qwen3-32b --cards 64 --objective cards --tokens-per-second 9000",
    "disaggregated --model deepseek-r1 --cards 128 --drafts 2 --accepted 1.1 --tpot-ms 60",
    "disaggregated --model deepseek-r1 --cards 128 --batch 0.5",
    "disaggregated --model mixtral-8x7b-v0.1 --cards 64 --machine h100-cluster --weights bf16",
    "disaggregated --model qwen3-30b-a3b --cards 100 --machine atlas-a2-cluster --stack open-source",
    "training --model deepseek-v3",
    "training --model qwen3-235b-a22b --cards 96 --machine h100-cluster --global-batch-size 192",
    "training --model mixtral-8x7b-v0.1 --objective cards --global-batch-size 192",
    "training --model qwen3-30b-a3b --cards 64 --machine atlas-a2-cluster --global-batch-size 128",
    "training --model llama-3.1-70b --cards 64 --global-batch-size 256 --failed '{planes: [0, 1]}'",
    "training --model qwen3-0.6b --cards 7 --global-batch-size 196",
)


def said(case: str, output: str) -> Any:
    result = CliRunner().invoke(cli, ["plan", *shlex.split(case), "-o", output])
    assert result.exit_code == 0, result.output
    return json.loads(result.output) if output == "json" else yaml.safe_load(result.output)


@pytest.mark.parametrize("case", CASES)
def test_the_figures_of_the_best_layout_are_those_of_its_scenario(case: str) -> None:
    row = said(case, "json")["layouts"][0]
    found = evaluate(said(case, "scenario")).result
    figures = {
        "cards": found.cards,
        "tokensPerSecond": found.tokens_per_second,
        "tokensPerSecondPerCard": found.tokens_per_second_per_card,
        "tpotMilliseconds": found.tpot_seconds * 1e3,
        "ttftMilliseconds": found.ttft_seconds * 1e3,
        "stepSeconds": found.step_time_seconds,
        "recomputePercent": found.recompute_fraction * 100,
        "expectedErrorPercent": found.expected_error_percent,
        "hbmGibibytesPerDie": found.hbm_bytes_per_die / 2**30,
    }
    printed = {name: value for name, value in row.items() if name in figures}
    assert len(printed) >= 6
    coarse = {"expectedErrorPercent": 0.0501, "recomputePercent": 0.0501}
    for name, value in printed.items():  # what is left is rounding
        assert value == pytest.approx(figures[name], rel=1e-5, abs=coarse.get(name, 0.00501)), name


@pytest.mark.parametrize(
    ("phase", "model", "machine", "cards", "batch"),
    [
        ("prefill", "qwen3-30b-a3b", "cloudmatrix-384", 48, None),
        ("decode", "deepseek-r1", "cloudmatrix-384", 39, None),
        ("decode", "qwen3-30b-a3b", "cloudmatrix-384", 16, 0.25),
        ("prefill", "mixtral-8x22b-v0.1", "h100-cluster", 24, None),
        ("prefill", "deepseek-r1", "atlas-a2-cluster", 60, None),
    ],
)
def test_every_layout_of_the_lattice_is_ranked_by_the_rate_that_it_has(
    phase: Any, model: str, machine: str, cards: int, batch: float | None
) -> None:
    profile = load_profile(machine)
    kind = default_format(profile)
    goal = InferenceGoal(
        phase=phase,
        input_tokens=4096,
        output_tokens=256,
        precision=Precision(weights=kind, activations=kind),
        batch_per_card=batch,
    )
    stack, dies = load_stack(default_stack(profile)), cards * profile.dies_per_package
    layouts, _ = plan_inference(load_model(model), hardware_of(profile), stack, dies, goal)
    assert len(layouts) > 10
    for layout in layouts:
        scenario = inference_scenario(profile, model, layout_deployment(layout, goal))
        assert not isinstance(scenario, str)
        assert evaluate(scenario).result.tokens_per_second == pytest.approx(layout.total, rel=1e-6)


def test_a_share_of_memory_that_a_scenario_cannot_say_is_planned_but_is_no_scenario() -> None:
    case = "decode --model qwen3-32b --cards 8 --memory-fraction 0.855"
    assert said(case, "json")["layouts"]
    result = CliRunner().invoke(cli, ["plan", *case.split(), "-o", "scenario"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--memory-fraction 0.855 is no whole percent" in result.stderr
