"""What a rank of an inference deployment prints: rates and latencies, as a serving engine's log has them."""

from __future__ import annotations

from typing import Any

import pytest

from supernode_workload.lines import completed_line, progress_line

VIEW: dict[str, Any] = {
    "mode": "Disaggregated",
    "tokens": 3000,
    "steps": 2,
    "targetTokens": 150000,
    "tokensPerSecond": "86440",
    "tokensPerSecondPerCard": "771.8",
    "promptTokensPerSecond": "201700",
    "ttftSeconds": "1.167",
    "tpotSeconds": "0.05062",
}


def test_a_line_has_requests_rates_and_latencies() -> None:
    assert progress_line(VIEW, 0, "10:00:00") == (
        " [10:00:00] disaggregated: requests 2 | tokens: 3000/150000 | prompt throughput: 201700 tokens/s | "
        "generation throughput: 86440 tokens/s | tokens/s/card: 771.8 | TTFT (ms): 1167.0 | TPOT (ms): 50.6 | rank 0"
    )


@pytest.mark.parametrize(
    ("view", "has", "lacks"),
    [
        ({**VIEW, "mode": "Decode", "promptTokensPerSecond": "0", "ttftSeconds": "0"}, "TPOT", "TTFT"),
        ({**VIEW, "mode": "Decode", "promptTokensPerSecond": "0"}, "generation", "prompt throughput"),
        ({**VIEW, "mode": "Prefill", "tpotSeconds": "0"}, "TTFT", "TPOT"),
        ({**VIEW, "mode": "Prefill", "tpotSeconds": "0"}, "prompt throughput", "generation"),
        ({**VIEW, "targetTokens": None}, "tokens: 3000 |", "3000/"),
        ({"mode": "Decode", "tokens": None, "tpotSeconds": "fast"}, "requests 0", "TPOT"),
    ],
)
def test_a_line_has_what_the_mode_has(view: dict[str, Any], has: str, lacks: str) -> None:
    line = progress_line(view, 3, "now")
    assert has in line
    assert lacks not in line


def test_the_last_line_says_what_was_done() -> None:
    assert completed_line(VIEW, 1, "now") == " [now] serving completed | tokens: 3000 | rank 1"
    assert completed_line({"tokens": 5}, 1, "now") == " [now] training completed | tokens: 5 | rank 1"
