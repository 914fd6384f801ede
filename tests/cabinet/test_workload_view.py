"""What a workload's own pods are told."""

from __future__ import annotations

from typing import Any

import pytest

from cabinet.machines import AT_EPOCH, snapshot, workload
from supernode_cabinet.catalogue import ROWS
from supernode_cabinet.workload_view import machine_view, workload_view
from supernode_dataplane.figures import machine_performance, workload_performance
from supernode_dataplane.progress import completion_epoch
from support.deployments import R1_DECODE, deployment, with_fields


def view(job: dict[str, Any], after_seconds: float = 0.0) -> dict[str, Any]:
    found = workload_view(snapshot(workloads=[job]), "default", "llama", AT_EPOCH + after_seconds)
    assert found is not None
    return found


def test_tokens_grow_with_the_written_rate_and_stop_at_the_target() -> None:
    job = workload(rate="50000")
    assert view(job)["tokens"] == 1_000_000
    assert view(job, 10)["tokens"] == 1_500_000
    assert view(job, 10)["steps"] == 0
    assert view(job, 100)["steps"] == 6_000_000 // (192 * 8192)
    end = view(job, 1e6)
    assert end["tokens"] == end["targetTokens"] == 200_000_000
    assert end["state"] == "Running", "the operator alone says when it is complete"


def test_it_is_complete_when_the_operator_has_said_so() -> None:
    job = workload(tokens=200_000_000, completionTime="2026-11-21T05:00:00Z")
    job["status"]["progress"] |= {"tokens": 200_000_000, "tokensPerSecond": "0"}
    found = view(job, 50)
    assert (found["state"], found["reason"], found["tokens"]) == ("Complete", "Completed", 200_000_000)


def test_the_last_token_is_there_at_the_predicted_instant() -> None:
    job = workload(rate="33333.33")
    at = completion_epoch(job["status"]["progress"], 200_000_000)
    assert at is not None
    assert view(job, at - AT_EPOCH)["tokens"] == 200_000_000
    assert view(job, at - AT_EPOCH - 1)["tokens"] < 200_000_000


def test_a_rank_that_is_missing_is_waited_for_and_named() -> None:
    job = workload(running=False)
    condition = {"type": "Ready", "status": "False", "reason": "Incomplete", "message": "rank 3 is not running"}
    job["status"]["conditions"] = [condition]
    found = view(job, 60)
    assert (found["state"], found["reason"], found["tokensPerSecond"]) == ("Waiting", "Incomplete", "0")
    assert found["message"]
    assert found["tokens"] == 1_000_000


def test_figures_and_stamp_are_those_of_the_state() -> None:
    seen = snapshot()
    found = workload_view(seen, "default", "llama", AT_EPOCH)
    assert found is not None
    shown = workload_performance(seen.state.workloads[0])
    for key in ("tokensPerSecond", "tokensPerSecondPerCard", "stepTimeSeconds", "mfu"):
        assert found[key] == shown[key]
    assert (found["digest"], found["version"]) == (seen.state.digest, seen.state.version)
    machine = machine_view(seen)
    assert machine["performance"] == machine_performance(seen.state)
    assert machine["digest"] == found["digest"]


@pytest.mark.parametrize(
    "progress", [None, "junk", {}, {"tokens": "x", "at": "y"}, {"tokens": 1, "at": "2026", "tokensPerSecond": "1e9"}]
)
def test_garbled_progress_reads_as_none(progress: Any) -> None:
    job = workload()
    job["status"]["progress"] = progress
    assert view(job)["tokens"] == 0


@pytest.mark.parametrize("status", [{"placement": "x"}, {"conditions": "x"}, {"placement": {"ranks": ["x", 3]}}])
def test_garbled_status_is_survived(status: dict[str, Any]) -> None:
    job = workload()
    job["status"] = status
    assert view(job)["state"] == "Waiting"


def test_an_invalid_workload_says_what_is_wrong() -> None:
    job = workload()
    job["spec"]["model"] = {"name": "no-such-model"}
    found = view(job)
    assert (found["state"], found["reason"]) == ("Waiting", "ModelNotFound")
    assert "no-such-model" in found["message"]


def test_an_endless_run_has_no_target() -> None:
    assert view(workload(tokens=None), 1e9)["targetTokens"] is None


def test_a_workload_that_is_not_there_is_none() -> None:
    assert workload_view(snapshot(), "default", "other", AT_EPOCH) is None


def test_a_deployment_tells_its_pods_latencies_and_requests() -> None:
    job = deployment("llama", range(20), with_fields(R1_DECODE, tokens=1 << 40), managed=True)
    job["metadata"]["namespace"] = "default"
    job["spec"]["superNode"] = workload()["spec"]["superNode"]
    job["status"]["progress"] = workload(rate="300000")["status"]["progress"]
    seen = snapshot(workloads=[job])
    found = workload_view(seen, "default", "llama", AT_EPOCH + 10)
    assert found is not None
    assert (found["state"], found["mode"], found["targetTokens"]) == ("Running", "Decode", 1 << 40)
    assert found["tokens"] == 4_000_000
    assert found["steps"] == 4_000_000 // 256, "requests"
    (result,) = seen.state.workloads
    performance = workload_performance(result)
    assert {key: found[key] for key in ("tpotSeconds", "ttftSeconds", "tokensPerSecondPerCard")} == {
        key: performance[key] for key in ("tpotSeconds", "ttftSeconds", "tokensPerSecondPerCard")
    }
    rows = {row.prometheus: row for row in ROWS}
    per_token = rows["supernode_workload_time_per_output_token_seconds"].read(seen)
    assert per_token.tolist() == [float(performance["tpotSeconds"])]
    assert rows["supernode_workload_time_to_first_token_seconds"].read(snapshot()).tolist() == [0.0]
