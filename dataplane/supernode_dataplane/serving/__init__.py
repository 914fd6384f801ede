"""Serving: requests through continuous batching, with KV blocks, prefix cache and preemption.

    requests = read_azure(lines)                                    # or read_mooncake, generate, preset_load
    group = Group(model=step_model, engine=Engine(blocks=4096))
    result = simulate(requests, group)                              # or simulate_disaggregated
    result.distributions()["ttft"].p99

What steps cost comes from outside (``StepModel``). It knows no file and no clock: traces come as lines. Time is
advanced in closed form between changes of a batch, so it does not matter how long outputs are; see instance.py for what
the scheduler does, and when.
"""

from __future__ import annotations

from supernode_dataplane.serving.acceptance import NO_DRAFTS, Acceptance
from supernode_dataplane.serving.disaggregated import simulate_disaggregated
from supernode_dataplane.serving.errors import InvalidServingError, RequestTooLongError, ServingError, TraceError
from supernode_dataplane.serving.generate import (
    PRESETS,
    AtOnce,
    ClosedLoop,
    Fixed,
    LogNormal,
    OpenLoop,
    Preset,
    generate,
    preset_load,
)
from supernode_dataplane.serving.loop import simulate
from supernode_dataplane.serving.requests import Requests
from supernode_dataplane.serving.result import Distribution, Goodput, GroupUse, ServingResult
from supernode_dataplane.serving.settings import Engine, Group, StepModel, attention_pairs
from supernode_dataplane.serving.traces import read_azure, read_mooncake

__all__ = [
    "NO_DRAFTS",
    "PRESETS",
    "Acceptance",
    "AtOnce",
    "ClosedLoop",
    "Distribution",
    "Engine",
    "Fixed",
    "Goodput",
    "Group",
    "GroupUse",
    "InvalidServingError",
    "LogNormal",
    "OpenLoop",
    "Preset",
    "RequestTooLongError",
    "Requests",
    "ServingError",
    "ServingResult",
    "StepModel",
    "TraceError",
    "attention_pairs",
    "generate",
    "preset_load",
    "read_azure",
    "read_mooncake",
    "simulate",
    "simulate_disaggregated",
]
