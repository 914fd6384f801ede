"""The best split of a machine into instances that read prompts and instances that decode.

For every size of an instance the best layout of either phase; for every pair of them the number of prefill instances at
which the slower side is fastest, arrays over all numbers::

    requests/s = min(n prefill rate / input tokens, m decode rate / output tokens)      n p + m d <= dies

The best pairs are then computed as one deployment, with the caches on their way between both pools. Where the machine
has several servers the prefill pool has whole ones, as a workload's ``prefill.nodes`` wants it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.deployment_plan import Deployment, DeploymentPlan, RolePool
from supernode_dataplane.hardware import Hardware
from supernode_dataplane.planning_inference import (
    InferenceGoal,
    InferenceLayout,
    Rejected,
    plan_inference,
    running_sequences,
)
from supernode_dataplane.pool_rates import Rates, deployment_rates
from supernode_dataplane.stacks import Stack

__all__ = ["DisaggregatedLayout", "plan_disaggregated"]

_MOST_PAIRS: Final = 60
"""Pairs that are computed as a deployment; more than any list shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DisaggregatedLayout:
    """Both pools at their best batches, as one deployment."""

    deployment: Deployment
    rates: Rates
    cards: int
    """That both pools are on; the others are idle."""


def plan_disaggregated(
    architecture: Architecture, hardware: Hardware, stack: Stack, dies: int, goal: InferenceGoal
) -> tuple[list[DisaggregatedLayout], list[Rejected]]:
    """Return pairs of pools that meet both limits, best first, and the layouts of either phase that cannot be.

    ``goal`` is that of the decode phase; its TTFT is of a request: prompt, caches on their way, and the first step.
    """
    pairs: list[tuple[float, Deployment]] = []
    # How many instances there are is decided here, for both phases together.
    each = replace(goal, objective="latency" if goal.objective == "latency" else "throughput", demand=None)
    reading = replace(each, phase="prefill", batch_per_card=None)
    prompts, no_prompts = plan_inference(architecture, hardware, stack, dies, reading)
    decodes, no_decodes = plan_inference(architecture, hardware, stack, dies, replace(each, phase="decode"))
    for prefill in _by_size(prompts):
        for decode in _by_size(decodes):
            found = _counts(prefill, decode, dies, goal, hardware)
            if found is not None:
                requests, *counts = found
                pairs.append((requests, _deployment(prefill, decode, counts[0], counts[1], goal)))
    pairs.sort(key=lambda pair: _first_rank(pair, goal))
    layouts = []
    for _, deployment in pairs[:_MOST_PAIRS]:
        assert deployment.prefill is not None
        assert deployment.decode is not None
        rates = deployment_rates(deployment, deployment.prefill.instances, deployment.decode.instances)
        cards = math.ceil((deployment.prefill.dies + deployment.decode.dies) / hardware.dies_per_card)
        if rates.ttft_seconds <= goal.ttft_seconds and rates.tokens_per_second > 0:
            layouts.append(DisaggregatedLayout(deployment=deployment, rates=rates, cards=cards))
    layouts.sort(key=lambda layout: _rank(layout, goal))
    return layouts, [*no_prompts, *no_decodes]


def _by_size(layouts: list[InferenceLayout]) -> list[InferenceLayout]:
    """Return the best layout of each size of an instance; ``layouts`` come best first."""
    best: dict[int, InferenceLayout] = {}
    for layout in layouts:
        best.setdefault(int(layout.pool.dies), layout)
    return list(best.values())


def _counts(
    prefill: InferenceLayout, decode: InferenceLayout, dies: int, goal: InferenceGoal, hardware: Hardware
) -> tuple[float, int, int] | None:
    """Return requests per second and the instances of either pool; None when the dies do not hold both."""
    sizes = int(prefill.pool.dies), int(decode.pool.dies)
    rates = prefill.tokens_per_second / goal.input_tokens, decode.tokens_per_second / goal.output_tokens
    counts = np.arange(1, (dies - sizes[1]) // sizes[0] + 1)
    if dies > hardware.dies_per_server:
        counts = counts[counts * sizes[0] % hardware.dies_per_server == 0]
    if not counts.size:
        return None
    rest = (dies - counts * sizes[0]) // sizes[1]
    if goal.objective == "cards":
        wanted = (goal.demand or 0.0) / goal.output_tokens
        decoding = max(1, math.ceil(wanted / rates[1]))
        enough = counts[(counts * rates[0] >= wanted) & (rest >= decoding)]
        return (min(enough[0] * rates[0], decoding * rates[1]), int(enough[0]), decoding) if enough.size else None
    requests = np.minimum(counts * rates[0], rest * rates[1])
    best = int(np.argmax(requests))
    return float(requests[best]), int(counts[best]), int(rest[best])


def _deployment(
    prefill: InferenceLayout, decode: InferenceLayout, reading: int, decoding: int, goal: InferenceGoal
) -> Deployment:
    plan = DeploymentPlan(
        model=decode.pool.architecture,
        stack=decode.pool.stack.name,
        mode="Disaggregated",
        input_tokens=goal.input_tokens,
        output_tokens=goal.output_tokens,
        precision=goal.precision,
        prefill_nodes=max(1, reading * int(prefill.pool.dies) // decode.pool.hardware.dies_per_server),
        concurrency=running_sequences(decode, decoding),
        prompts=round(prefill.batch),
        speculation=goal.speculation,
        memory_fraction=goal.memory_fraction,
    )
    per_card = decode.pool.hardware.dies_per_card
    return Deployment(
        plan, RolePool("prefill", prefill.pool, reading, per_card), RolePool("decode", decode.pool, decoding, per_card)
    )


def _first_rank(pair: tuple[float, Deployment], goal: InferenceGoal) -> tuple[float, ...]:
    requests, deployment = pair
    used = sum(found.dies for found in deployment.pools)
    return (used, -requests) if goal.objective == "cards" else (-requests, used)


def _rank(layout: DisaggregatedLayout, goal: InferenceGoal) -> tuple[float, ...]:
    rate = -float(layout.rates.tokens_per_second)
    if goal.objective == "latency":
        return layout.rates.tpot_seconds, layout.rates.ttft_seconds, rate
    return (layout.cards, rate) if goal.objective == "cards" else (rate, layout.rates.tpot_seconds)
