"""The closed form of a training step.

    step = (m + (stages - 1) / v) x (forward + backward + recompute + collectives + point-to-point)
           + exposed gradient collectives + optimizer + host time

with m micro-batches, v virtual stages and the times of the slowest stage. An operator takes
max(FLOPs / (peak x efficiency), bytes / (HBM x efficiency)). A layer has four all-gathers or reduce-scatters in each
direction (sequence-parallel tensor parallelism), and the four of the forward pass again where it is recomputed; a layer
with experts has a dispatch and a combine in each direction likewise, and the collectives of its block only for shared
experts. Stages may differ in the number and the kinds of their layers. Everything here is of one layout, at one point
or at many where numbers of its spec are arrays; where the dies are enters by the costs of
:mod:`supernode_dataplane.link_costs`.

What transfers hide behind is compute, and each second of it hides one of them, in this order: the ring of context
parallelism behind the attention that it feeds; of what a layer has left, exchanges of experts where they overlap; of
what a step has left, the ring of gradients. So faster cores, which hide less, never make a step longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, Final

from supernode_dataplane.constants import (
    COLLECTIVE_VECTOR_SHARE,
    GEMM_BACKWARD_RATIO,
)
from supernode_dataplane.expert_exchange import exchange_seconds
from supernode_dataplane.link_costs import LinkCosts, at_efficiency
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.numeric import (
    Number,
    any_true,
    at_least,
    at_most,
    choose,
    index_of_largest,
    is_finite,
    key_of_largest,
    of_each,
)
from supernode_dataplane.profile import Profile
from supernode_dataplane.state import Bound
from supernode_dataplane.training_plan import LayerCost, Pass, Plan, plan_training, tokens_of

__all__ = [
    "EXCHANGES_PER_PASS",
    "LayerCost",
    "Pass",
    "Plan",
    "StageLoad",
    "Step",
    "model_flops_share",
    "plan_training",
    "step_of",
    "step_seconds",
    "training_step",
]

EXCHANGES_PER_PASS: Final = 2
"""Dispatch and combine of a layer with experts, in each direction."""


@dataclass(frozen=True, slots=True)
class StageLoad:
    """Utilisation of the dies of a stage, 0 to 1, over the step."""

    busy: Number
    cube: Number
    vector: Number
    hbm: Number


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: seconds by cause, what bounds it and how busy each stage is."""

    seconds: Number
    breakdown: dict[str, Number]
    bound: Any
    """A :data:`~supernode_dataplane.state.Bound`, or an array of them."""
    loads: tuple[StageLoad, ...]
    spare_seconds: Number = 0.0
    """Compute behind which no transfer of the step hides."""


@dataclass(frozen=True, slots=True)
class _LayerTime:
    """Both directions of a layer, with what is recomputed, for one micro-batch."""

    causes: dict[str, Number]
    spare: Number
    """Of its compute, what no transfer of the layer hides behind."""


def _layer_time(plan: Plan, kind: LayerCost, costs: LinkCosts) -> _LayerTime:
    spec, share, recompute = plan.spec, kind.share, plan.memory.recompute
    passes = 2.0 + recompute
    collective = costs.tensor.latency_seconds + plan.shard_bytes * costs.tensor.seconds_per_byte
    seconds: dict[str, Number] = {
        "compute": kind.forward.seconds + kind.backward.seconds,
        "recompute": recompute * kind.forward.seconds,
        "launch": plan.fixed_seconds * (1.0 + GEMM_BACKWARD_RATIO + recompute),
        "tensor_parallel": collective * share.collectives * passes,
    }
    spare = seconds["compute"]
    if spec.context > 1:
        seconds["context_parallel"], hidden = _context_ring(plan, kind, costs)
        spare = spare - hidden
    if spec.model.is_moe:
        seconds["expert_parallel"] = 0.0
    if any_true(share.exchange_bytes):
        exchange = exchange_seconds(
            costs.expert,
            size=spec.expert,
            bytes_sent=share.exchange_bytes,
            tokens=tokens_of(spec) / spec.tensor,
            imbalance=spec.expert_imbalance,
            stack=plan.stack,
        )
        within = costs.expert_tensor
        gather = within.latency_seconds + spec.expert_imbalance * share.exchange_bytes * within.seconds_per_byte
        exposed = (exchange + gather) * EXCHANGES_PER_PASS * passes
        if spec.overlap_exchange:
            # One micro-batch's forward pass is paired with another's backward pass. What is recomputed runs before the
            # pair and alone (MindSpeed's fb_overlap does a checkpointed layer's forward first): its exchanges show.
            beside = at_most((exchange + gather) * EXCHANGES_PER_PASS * 2.0, spare)
            exposed = exposed - beside * (1.0 - plan.stack.overlap_slowdown)
            spare = spare - beside
        seconds["expert_parallel"] = exposed
    return _LayerTime(seconds, spare)


def _context_ring(plan: Plan, kind: LayerCost, costs: LinkCosts) -> tuple[Number, Number]:
    """Return what the ring of keys and values of a layer shows, and what of it hides behind the layer's compute."""
    steps = plan.spec.context - 1
    turn = costs.context.latency_seconds + kind.share.context_bytes * steps * costs.context.seconds_per_byte
    forward = at_most(turn, kind.forward.attention_seconds)
    # Backward keys and values go round once more, and their gradients with them.
    backward = at_most(2.0 * turn, kind.backward.attention_seconds)
    # A forward pass that is recomputed hides its ring behind its own attention, which no other transfer does.
    shown = (turn - forward) * (1.0 + plan.memory.recompute) + (2.0 * turn - backward)
    return shown, forward + backward


def _weighted(counts: Sequence[int], values: Sequence[Number]) -> Number:
    """Return the sum over layers; a kind that a stage has none of costs it nothing, even on links that are dead."""
    return sum(count * value for count, value in zip(counts, values, strict=True) if count)


@lru_cache(maxsize=32)
def training_step(profile: Profile, plan: Plan, costs: LinkCosts) -> Step:
    """Return the step time of a plan at these link costs, seconds with their causes; the slowest stage sets the pace.

    A layout that is impossible has no plan (:func:`plan_training` returns the problem), so nothing is raised here.
    Errors on published rows: class T of docs/fidelity.md; that of a rate:
    :func:`~supernode_dataplane.expected_error.training_error_percent`. Sources: the schedules of Megatron-LM (arXiv
    2104.04473) and Ascend/MindSpeed-LLM; constants in data/stacks.yaml with theirs.
    Plans and costs are kept where they are made, so a machine in which nothing has changed computes no step anew.
    """
    return step_of(profile, plan, costs)


def step_of(profile: Profile, plan: Plan, costs: LinkCosts) -> Step:
    """Return the step of a plan whose numbers may be arrays; it is not kept."""
    pace = _pace(plan, costs)
    last = len(plan.counts) - 1
    alike = [(counts, stage == last) for stage, counts in enumerate(plan.counts)]
    loads = {stage: _load(profile, plan, *stage, pace) for stage in dict.fromkeys(alike)}
    bound = _bound(plan, pace, costs)
    return Step(pace.seconds, pace.breakdown, bound, tuple(loads[stage] for stage in alike), pace.spare)


def step_seconds(plan: Plan, costs: LinkCosts) -> Number:
    """Return the time of a step alone."""
    return _pace(plan, costs).seconds


@dataclass(frozen=True, slots=True)
class _Pace:
    """The time of a step, and what it follows from."""

    per_kind: list[dict[str, Number]]
    """Of each kind of layer, for one micro-batch."""
    slowest: Number
    """The stage that sets the pace."""
    breakdown: dict[str, Number]
    seconds: Number
    spare: Number
    """Of its compute in a step, what nothing hides behind."""


def model_flops_share(profile: Profile, spec: TrainingSpec, tokens_per_second: Number, dies: int) -> Number:
    """Return the MFU of a rate on so many dies: FLOPs that the model needs over the peak of BF16, 0 to 1."""
    flops = tokens_per_second * spec.model.training_flops_per_token(spec.sequence_length)
    return flops / (dies * profile.bf16_flops_per_die)


def _pace(plan: Plan, costs: LinkCosts) -> _Pace:
    spec, m, chunks = plan.spec, plan.micro_batches, plan.spec.virtual_pipeline
    costs = at_efficiency(costs, plan.stack.link_efficiency)
    layers = [_layer_time(plan, kind, costs) for kind in plan.kinds]
    per_kind = [layer.causes for layer in layers]
    totals = [sum(causes.values()) for causes in per_kind]
    stages, spares = (_by_stage(plan, values) for values in (totals, [layer.spare for layer in layers]))
    # Nothing hides behind less than itself.
    ring = _gradient_seconds(plan, costs)
    hidden = [at_most(plan.stack.gradient_overlap * ring, m * spare) for spare in spares]
    # A stage is done when its gradients are: of two that work as long, the one that hides less of them is later.
    slowest = index_of_largest([m * stage + ring - beside for stage, beside in zip(stages, hidden, strict=True)])
    handover: Number = 0.0
    if spec.pipeline > 1:
        way = costs.pipeline
        handover = 2.0 * chunks * (way.latency_seconds + plan.handover_bytes * way.seconds_per_byte)

    def of_slowest(values: Sequence[Number]) -> Number:
        return of_each(slowest, lambda stage: _weighted(plan.counts[stage], values))

    breakdown = {cause: m * of_slowest([causes[cause] for causes in per_kind]) for cause in per_kind[0]}
    head = choose(slowest == len(stages) - 1, m * plan.head.seconds, 0.0)
    breakdown["compute"] = breakdown["compute"] + head
    breakdown["pipeline_p2p"] = m * handover
    longest = reduce(at_least, stages)
    breakdown["bubble"] = (spec.pipeline - 1) / chunks * (longest + handover) if spec.pipeline > 1 else 0.0
    breakdown["gradient"] = ring - of_each(slowest, hidden.__getitem__)
    breakdown["optimizer"] = plan.optimizer_seconds
    breakdown["host"] = plan.host_seconds
    spare = of_each(slowest, lambda stage: m * spares[stage] - hidden[stage])
    return _Pace(per_kind, slowest, breakdown, sum(breakdown.values()), spare)


def _by_stage(plan: Plan, values: Sequence[Number]) -> list[Number]:
    """Return the sum over the layers of each stage for one micro-batch, with the head in the last one."""
    sums = {counts: _weighted(counts, values) for counts in set(plan.counts)}
    stages = [sums[counts] for counts in plan.counts]
    stages[-1] = stages[-1] + plan.head.seconds
    return stages


def _gradient_seconds(plan: Plan, costs: LinkCosts) -> Number:
    """Return the time of reducing gradients and gathering weights in a step."""
    turns = 2.0 * plan.micro_batches if plan.spec.optimizer_sharding == "zero3" else 2.0
    ring: Number = 0.0
    for cost, sent in ((costs.data, plan.gradient_bytes), (costs.expert_data, plan.expert_gradient_bytes)):
        if any_true(sent):
            ring = ring + (turns * cost.latency_seconds + sent * cost.seconds_per_byte)
    return ring


def _bound(plan: Plan, pace: _Pace, costs: LinkCosts) -> Any:
    breakdown = pace.breakdown
    memory = of_each(pace.slowest, lambda stage: _waits_for_hbm(plan, stage))
    cores = breakdown["compute"] + breakdown["recompute"]
    totals: dict[Bound, Number] = {
        "Compute": choose(memory, 0.0, cores) + (breakdown["launch"] + breakdown["host"]),
        "HBM": breakdown["optimizer"] + choose(memory, cores, 0.0),
        "Bus": 0.0,
        "RDMA": 0.0,
        "Pipeline": breakdown["bubble"],
    }
    ways = (
        ("tensor_parallel", costs.tensor),
        ("expert_parallel", costs.expert),
        ("context_parallel", costs.context),
        ("pipeline_p2p", costs.pipeline),
        ("gradient", costs.data),
    )
    for cause, cost in ways:
        way: Bound = "RDMA" if cost.rdma else "Bus"
        totals[way] = totals[way] + breakdown.get(cause, 0.0)
    return key_of_largest(totals)


def _waits_for_hbm(plan: Plan, stage: int) -> Number:
    """Return whether HBM sets the pace of the layers that take a stage longest; the last kind of equal ones."""
    longest: Number = -1.0
    memory: Number = False
    for count, kind in zip(plan.counts[stage], plan.kinds, strict=True):
        seconds = count * kind.forward.seconds
        memory = choose(seconds >= longest, kind.forward.hbm_bound, memory)
        longest = at_least(seconds, longest)
    return memory


def _load(profile: Profile, plan: Plan, counts: Sequence[int], last: bool, pace: _Pace) -> StageLoad:
    """Return what a die of a stage with so many layers of each kind does; the last stage has the head."""
    seconds = pace.seconds
    if not any_true(is_finite(seconds)):
        return StageLoad(0.0, 0.0, 0.0, 0.0)
    m, recompute = plan.micro_batches, plan.memory.recompute
    flops: Number = 0.0
    moved, cores, collectives = flops, flops, flops
    for count, kind, causes in zip(counts, plan.kinds, pace.per_kind, strict=True):
        flops = flops + count * (kind.forward.flops * (1.0 + recompute) + kind.backward.flops)
        moved = moved + count * (kind.forward.hbm_bytes * (1.0 + recompute) + kind.backward.hbm_bytes)
        cores = cores + count * (causes["compute"] + causes["recompute"])
        waits = causes["tensor_parallel"] + causes.get("expert_parallel", 0.0) + causes.get("context_parallel", 0.0)
        collectives = collectives + count * waits
    if last:
        flops, moved, cores = flops + plan.head.flops, moved + plan.head.hbm_bytes, cores + plan.head.seconds
    return StageLoad(
        busy=at_most(1.0, (m * (cores + collectives) + plan.optimizer_seconds) / seconds),
        cube=at_most(1.0, m * flops / (profile.bf16_flops_per_die * seconds)),
        vector=at_most(1.0, (m * collectives * COLLECTIVE_VECTOR_SHARE + plan.optimizer_seconds) / seconds),
        hbm=at_most(1.0, (m * moved + plan.optimizer_bytes) / (profile.hbm_bytes_per_second_per_die * seconds)),
    )
