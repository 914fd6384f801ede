"""A prefill pool of so many dies: the same as whole servers where it is these, and what a rack of one server needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.evaluation import ScenarioError, evaluate
from supernode_cli.main import cli
from support.scenarios import changed, r1_scenario, run_on_file

DISAGGREGATED = r1_scenario(4, "Disaggregated", 2048, 512, load={"concurrency": 256}, prefill={"nodes": 2})
RACK = changed(
    DISAGGREGATED,
    machine={"profile": "gb200-nvl72"},
    inference__prefill={"dies": 24, "parallelism": {"expert": 8}},
    inference__decode={"parallelism": {"expert": 48}, "experts": {"redundant": 32}},
)


def test_dies_that_are_whole_servers_are_the_same_as_so_many_nodes() -> None:
    nodes, dies = evaluate(DISAGGREGATED), evaluate(changed(DISAGGREGATED, inference__prefill={"dies": 32}))
    assert dies.performance == nodes.performance


def test_the_dies_that_do_not_read_prompts_decode() -> None:
    found = evaluate(RACK)
    assert found.dies == 72
    reading = evaluate(changed(RACK, inference__load={"concurrency": 8192}))
    bound = reading.result.prompt_tokens_per_second
    alone = {"mode": "Prefill", "inputTokens": 2048, "prefill": {"parallelism": {"expert": 8}}}
    pool = evaluate({**RACK, "machine": {"profile": "gb200-nvl72", "dies": 24}, "inference": alone}).result
    assert bound <= pool.tokens_per_second * (1 + 1e-9), "24 dies read no faster beside others"
    with pytest.raises(ScenarioError, match="the other 56 dies"):
        evaluate(changed(RACK, inference__prefill__dies=16))


def test_a_rack_serves_requests_with_pools_of_its_dies(tmp_path: Path) -> None:
    status, out, err = run_on_file(tmp_path, "serve-sim", RACK, "--rate", "2", "--prompts", "20", "-o", "json")
    assert status == 0, err
    assert json.loads(out)["deployment"]


def test_a_plan_of_two_pools_in_a_rack_is_a_scenario_with_its_rate() -> None:
    arguments = ["plan", "disaggregated", "--model", "deepseek-r1", "--machine", "gb200-nvl72", "-o"]
    best = json.loads(CliRunner().invoke(cli, [*arguments, "json"]).stdout)["layouts"][0]
    written = CliRunner().invoke(cli, [*arguments, "scenario"])
    assert written.exit_code == 0, written.output
    scenario = yaml.safe_load(written.stdout)
    assert scenario["inference"]["prefill"]["dies"] < 72
    assert evaluate(scenario).result.tokens_per_second == pytest.approx(best["tokensPerSecond"], rel=1e-4)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (
            changed(RACK, inference__prefill={"nodes": 1}),
            r"prefill\.nodes 1 leave no dies .* one server.* prefill\.dies",
        ),
        (changed(RACK, inference__prefill__dies=72), r"prefill\.dies 72 leave no dies of .*; give at most 71"),
        (changed(RACK, inference__prefill__nodes=1), r"prefill\.dies and nodes: give one of both"),
        (changed(DISAGGREGATED, inference__prefill__nodes=4), r"prefill\.nodes 4 .*; give at most 3, or the workload"),
        (changed(DISAGGREGATED, inference__prefill={}), r"prefill\.nodes"),
        (
            changed(RACK, inference={"mode": "Prefill", "inputTokens": 9, "prefill": {"dies": 8}}),
            r"prefill\.dies is for mode Disaggregated: mode Prefill uses every die",
        ),
    ],
)
def test_what_cannot_be_is_said_with_a_remedy_that_there_is(document: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        evaluate(document)
