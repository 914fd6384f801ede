"""`supernode serve-sim`: expected errors, notes, chunks, and agreement with `simulate`."""

from __future__ import annotations

from pathlib import Path

import pytest

from supernode_cli.evaluation import evaluate
from support.scenarios import changed
from support.serve_sim import COLOCATED, DISAGGREGATED, figures, run


def test_means_and_the_rate_have_expected_errors_and_sources(tmp_path: Path) -> None:
    found = figures(tmp_path, COLOCATED, "--prompts", "200", "--concurrency", "200")
    errors = found["expectedErrorPercent"]
    assert all(5 < errors[name] < 100 for name in ("ttftSeconds", "tpotSeconds", "tokensPerSecond"))
    assert found["sources"]["stacks"][found["deployment"]["stack"]]["hostSeconds"]["status"]
    _, out, _ = run(tmp_path, COLOCATED, "--prompts", "50")
    assert out.count("+-") >= 4


def test_a_rate_that_the_arrivals_set_has_no_error_of_the_model(tmp_path: Path) -> None:
    found = figures(tmp_path, COLOCATED, "--prompts", "300", "--rate", "1")
    assert found["expectedErrorPercent"]["tokensPerSecond"] is None
    assert found["expectedErrorPercent"]["ttftSeconds"] > 5


def test_fewer_requests_than_clients_are_said(tmp_path: Path) -> None:
    found = figures(tmp_path, COLOCATED, "--concurrency", "1200")
    assert found["load"]["requests"] == 1000
    assert any("fewer than the 1,200 clients" in note and "--prompts 2400" in note for note in found["notes"])
    assert not figures(tmp_path, COLOCATED, "--concurrency", "100", "--prompts", "100")["notes"]


def test_one_prompt_takes_the_chunk_of_its_group_and_no_more(tmp_path: Path) -> None:
    long = changed(COLOCATED, inference__inputTokens=8192)
    one = ("--prompts", "1", "--concurrency", "1")
    whole, small, smaller = (
        figures(tmp_path, long, *one, *flags)["latency"]["ttftSeconds"]["mean"]
        for flags in ((), ("--chunk", "1024"), ("--chunk", "512"))
    )
    # 32 groups have 32 chunks in a step, and a prompt is read by one of them: in 8 steps, or in 16.
    assert smaller > 1.05 * small
    assert small > 1.05 * whole


def test_a_lone_request_has_the_time_to_first_token_of_simulate(tmp_path: Path) -> None:
    for scenario in (COLOCATED, DISAGGREGATED):
        found = figures(tmp_path, scenario, "--prompts", "1", "--concurrency", "1")
        simulated = evaluate(scenario).result
        served = found["latency"]["ttftSeconds"]["mean"]
        # simulate counts the first decode step too where the caches change pools.
        later = simulated.tpot_seconds if scenario is DISAGGREGATED else 0.0
        assert served == pytest.approx(simulated.ttft_seconds - later, rel=0.02)


def test_the_mean_of_lengths_that_are_cut_is_said_to_be_from_before_the_cut(tmp_path: Path) -> None:
    flags = ("--prompts", "50", "--output-tokens", "4")
    cut = figures(tmp_path, COLOCATED, *flags, "--input-tokens", "2048:0.9:2100")["load"]
    assert "2048 input tokens on average before the cut at 2100" in cut["source"]
    assert cut["inputTokensMean"] < 2000
    assert "before the cut" not in figures(tmp_path, COLOCATED, *flags, "--input-tokens", "128:0.9")["load"]["source"]


def test_a_scenarios_clients_that_never_all_ask_are_said(tmp_path: Path) -> None:
    many = changed(COLOCATED, inference__load={"concurrency": 4000}, inference__outputTokens=4)
    assert any(
        "1,000 requests" in note and "fewer than the 4,000 clients" in note for note in figures(tmp_path, many)["notes"]
    )
