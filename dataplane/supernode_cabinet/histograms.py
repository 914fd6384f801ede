"""Histograms of requests that inference workloads serve: which there are, their buckets, and the time of a request.

Names, units and bucket boundaries are those of the OpenTelemetry semantic conventions for generative AI (v1.41,
docs/gen-ai/gen-ai-metrics.md); Prometheus names are what OpenTelemetry's own rules make of them. The model knows a
steady state in which every request takes as long as every other, so a request has one time of each kind:

    first token    TTFT of the workload's status; none in mode Decode, whose prompts were read elsewhere
    output token   TPOT of the status; none where nothing follows the first token (mode Prefill, one output token)
    request        TTFT + (outputs - 1) x TPOT; mode Prefill: TTFT; mode Decode: outputs x TPOT
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from supernode_cabinet.snapshot import Snapshot
from supernode_dataplane.state import WorkloadResult

__all__ = ["HISTOGRAMS", "HistogramRow", "ServedWorkload", "served_workloads"]


@dataclass(frozen=True, slots=True)
class ServedWorkload:
    """An inference workload: who it is, and what it does now."""

    namespace: str
    name: str
    uid: str
    """Of the object: one that is made anew under the same name is another one."""
    model: str
    mode: str
    result: WorkloadResult

    @property
    def requests_per_second(self) -> float:
        """Return the requests that are done per second; 0 while it does not run."""
        result = self.result
        return result.tokens_per_second / result.tokens_per_step if result.tokens_per_step > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class HistogramRow:
    """One histogram on both surfaces; its unit is the second."""

    prometheus: str
    otel: str
    help: str
    bounds: tuple[float, ...]
    """Upper bounds of its buckets, inclusive; one more is without bound."""
    seconds: Callable[[ServedWorkload], float]
    """The time of one request; 0 where it has none."""
    left_out: str = ""
    """The mode in which no request has such a time."""


def _first(workload: ServedWorkload) -> float:
    return workload.result.ttft_seconds


def _each(workload: ServedWorkload) -> float:
    return workload.result.tpot_seconds if _outputs_after_first(workload) > 0 else 0.0


def _whole(workload: ServedWorkload) -> float:
    return workload.result.ttft_seconds + _outputs_after_first(workload) * workload.result.tpot_seconds


def _outputs_after_first(workload: ServedWorkload) -> int:
    """Return the tokens that cost a TPOT each; in mode Decode the first one is among them."""
    outputs = workload.result.tokens_per_step
    return 0 if workload.mode == "Prefill" else outputs if workload.mode == "Decode" else outputs - 1


HISTOGRAMS: Final = (
    HistogramRow(
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai.server.time_to_first_token",
        "Requests by the time to their first token, without a queue.",
        (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
        _first,
        left_out="Decode",
    ),
    HistogramRow(
        "gen_ai_server_time_per_output_token_seconds",
        "gen_ai.server.time_per_output_token",
        "Requests by their time for each token after the first.",
        (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
        _each,
        left_out="Prefill",
    ),
    HistogramRow(
        "gen_ai_server_request_duration_seconds",
        "gen_ai.server.request.duration",
        "Requests by the time to their last token, without a queue.",
        (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
        _whole,
    ),
)


def served_workloads(snapshot: Snapshot) -> Iterator[ServedWorkload]:
    """Yield the inference workloads of a snapshot that can run, in the order of its state."""
    for result in snapshot.state.workloads:
        found = snapshot.workloads.get(result.key)
        if found is None or result.kind != "inference":
            continue
        spec = _mapping(found.get("spec"))
        namespace, _, name = result.key.partition("/")
        uid = str(_mapping(found.get("metadata")).get("uid", ""))
        model = str(_mapping(spec.get("model")).get("name") or "custom")
        yield ServedWorkload(namespace, name, uid, model, str(_mapping(spec.get("inference")).get("mode")), result)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
