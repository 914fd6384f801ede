"""Serving: requests through continuous batching, with KV blocks, prefix cache and preemption.

    requests = read_azure(lines)                                    # or read_mooncake, generate, Requests(...)
    group = Group(model=step_model, engine=Engine(blocks=4096))
    result = simulate(requests, group)                              # or simulate_disaggregated
    result.distributions()["ttft"].p99

What steps cost comes from outside (``StepModel``). It knows no file and no clock: traces come as lines.
"""

from __future__ import annotations

from supernode_dataplane.serving.acceptance import NO_DRAFTS, Acceptance
from supernode_dataplane.serving.disaggregated import simulate_disaggregated
from supernode_dataplane.serving.errors import InvalidServingError, RequestTooLongError, ServingError, TraceError
from supernode_dataplane.serving.loop import simulate
from supernode_dataplane.serving.requests import Requests
from supernode_dataplane.serving.result import Distribution, Goodput, GroupUse, ServingResult
from supernode_dataplane.serving.settings import Engine, Group, StepModel, attention_pairs

__all__ = [
    "NO_DRAFTS",
    "Acceptance",
    "Distribution",
    "Engine",
    "Goodput",
    "Group",
    "GroupUse",
    "InvalidServingError",
    "RequestTooLongError",
    "Requests",
    "ServingError",
    "ServingResult",
    "StepModel",
    "TraceError",
    "attention_pairs",
    "simulate",
    "simulate_disaggregated",
]
