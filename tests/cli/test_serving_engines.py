"""Engines of serve-sim: what a scenario says of them does what the flags do, and groups with queues of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.scenarios import SERVED, served


def test_engines_of_the_scenario_schedule_as_the_flags_do(tmp_path: Path) -> None:
    def tuned(**engine: Any) -> dict[str, Any]:
        return {**SERVED, "inference": {**SERVED["inference"], "engine": engine}}

    assert served(tmp_path, tuned(chunkTokens=256)) == served(tmp_path, SERVED, "--chunk", "256")
    assert served(tmp_path, tuned(kvBlockTokens=32)) == served(tmp_path, SERVED, "--kv-block", "32")
    few = served(tmp_path, tuned(decodeMaxRunning=2))
    assert few == served(tmp_path, SERVED, "--max-running", "2")
    assert few["pools"][0]["runningMean"] <= 2 + 1e-9
    assert served(tmp_path, tuned(routing="least-loaded")) == served(tmp_path, SERVED, "--routing", "least-loaded")
    small, usual = (served(tmp_path, scenario, "--at-once") for scenario in (tuned(promptTokens=900), SERVED))
    assert small["latency"]["ttftSeconds"]["mean"] != usual["latency"]["ttftSeconds"]["mean"]
    assert served(tmp_path, tuned(reserve="output"))["preemptions"] == 0


def test_groups_with_queues_of_their_own_wait_for_the_fullest(tmp_path: Path) -> None:
    inference = {
        "mode": "Colocated", "inputTokens": 1024, "outputTokens": 64, "decode": {"parallelism": {"expert": 32}},
        "load": {"rate": 60.0, "prompts": 150},
    }  # fmt: skip
    scenario = {"machine": {"nodes": 2}, "model": {"name": "deepseek-r1"}, "inference": inference}
    one = served(tmp_path, scenario)
    own = served(tmp_path, {**scenario, "inference": {**inference, "engine": {"groupQueues": True}}})
    gathered = {"groupQueues": True, "gatherSteps": 30}
    waits = served(tmp_path, {**scenario, "inference": {**inference, "engine": gathered}})
    assert own["latency"] != one["latency"] != waits["latency"]
    assert waits["latency"]["ttftSeconds"]["mean"] > own["latency"]["ttftSeconds"]["mean"] * 0.5
    assert own["latency"]["tpotSeconds"]["mean"] != waits["latency"]["tpotSeconds"]["mean"]


def test_groups_read_prompts_in_parts_each_from_its_queue_and_within_its_budget(tmp_path: Path) -> None:
    inference = {
        "mode": "Colocated", "inputTokens": 2048, "outputTokens": 64, "decode": {"parallelism": {"expert": 32}},
        "load": {"rate": 60.0, "prompts": 150},
    }  # fmt: skip
    scenario = {"machine": {"nodes": 2}, "model": {"name": "deepseek-r1"}, "inference": inference}

    def latency(**engine: Any) -> dict[str, Any]:
        return dict(served(tmp_path, {**scenario, "inference": {**inference, "engine": engine}})["latency"])

    common, own = latency(chunkTokens=512), latency(chunkTokens=512, groupQueues=True)
    small, whole = latency(chunkTokens=64, groupQueues=True), latency(groupQueues=True)
    # A group reads 512 tokens in a step, whatever the others do: prompts of 2,048 take four steps, or 32 of 64 tokens.
    assert small["ttftSeconds"]["p50"] > 2 * own["ttftSeconds"]["p50"]
    # Where prompts are read whole, those who decode stand still meanwhile.
    assert own["itlSeconds"]["p99"] < whole["itlSeconds"]["p99"]
    assert own != common
