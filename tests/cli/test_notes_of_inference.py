"""What an answer about inference does not have in it is said beside it."""

from __future__ import annotations

from supernode_cli.evaluation import evaluate
from support.refusals import COLOCATED, PREFILL
from support.scenarios import changed


def test_a_context_cache_of_unknown_rate_is_an_upper_bound() -> None:
    cached = changed(PREFILL, inference__cache={"reusePercent": 50})
    (note,) = [note for note in evaluate(cached).notes if "upper bound" in note]
    assert "inference.cache.gigabytesPerSecond" in note
    known = evaluate(changed(PREFILL, inference__cache={"reusePercent": 50, "gigabytesPerSecond": 1}))
    assert not any("upper bound" in note for note in (*known.notes, *evaluate(PREFILL).notes))
    assert known.result.tokens_per_second < evaluate(cached).result.tokens_per_second


def test_a_load_that_queues_is_of_serve_sim() -> None:
    queued = changed(COLOCATED, inference__load={"concurrency": 16, "rate": 2.0})
    assert any("supernode serve-sim" in note for note in evaluate(queued).notes)
    assert not any(
        "serve-sim" in note for note in evaluate(changed(COLOCATED, inference__load={"concurrency": 16})).notes
    )
