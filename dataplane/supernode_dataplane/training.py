"""The closed form of a training step.

    step = (m + (stages - 1) / v) x (forward + backward + recompute + collectives + point-to-point)
           + exposed gradient collectives + optimizer + host time

with m micro-batches, v virtual stages and the times of the slowest stage. An operator takes
max(FLOPs / (peak x efficiency), bytes / (HBM x efficiency)). A layer has four all-gathers or reduce-scatters in each
direction (sequence-parallel tensor parallelism), and the four of the forward pass again where it is recomputed; a layer
with experts has a dispatch and a combine in each direction likewise, and the collectives of its block only for shared
experts. The ring of context parallelism hides behind the attention that it feeds. Stages may differ in the number and
the kinds of their layers. Everything here is plain numbers for one layout; where the dies are enters by the costs of
:mod:`supernode_dataplane.link_costs`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from supernode_dataplane.constants import (
    ATTENTION_BACKWARD_RATIO,
    ATTENTION_EFFICIENCY,
    COLLECTIVE_VECTOR_SHARE,
    GEMM_BACKWARD_RATIO,
    GRADIENT_BYTES,
    GRADIENT_OVERLAP,
    HBM_EFFICIENCY,
    HOST_STEP_SECONDS,
    OPTIMIZER_TRAFFIC_BYTES,
    WEIGHT_BYTES,
)
from supernode_dataplane.expert_exchange import exchange_seconds
from supernode_dataplane.layout import data_parallel, expert_replicas, layers_by_stage, replicas, stage_kinds
from supernode_dataplane.link_costs import LinkCosts
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.memory import Memory, plan_memory
from supernode_dataplane.profile import Profile
from supernode_dataplane.shares import LayerShare, layer_shares
from supernode_dataplane.stacks import Stack, load_stack
from supernode_dataplane.state import Bound, Problem

__all__ = ["EXCHANGES_PER_PASS", "LayerCost", "Pass", "Plan", "StageLoad", "Step", "plan_training", "training_step"]

EXCHANGES_PER_PASS: Final = 2
"""Dispatch and combine of a layer with experts, in each direction."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One micro-batch through one piece of the model: seconds on the cores, and FLOPs and HBM bytes of it."""

    seconds: float
    flops: float
    hbm_bytes: float
    hbm_bound: bool

    def __add__(self, other: Pass) -> Pass:
        slower = self if self.seconds >= other.seconds else other
        return Pass(
            self.seconds + other.seconds,
            self.flops + other.flops,
            self.hbm_bytes + other.hbm_bytes,
            slower.hbm_bound,
        )


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What a layer of one kind costs on a die."""

    share: LayerShare
    forward: Pass
    backward: Pass
    attention_seconds: float
    """Of the forward pass's attention core."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What one layout costs on the dies themselves, wherever they are; equal only to itself, as it is made once."""

    spec: TrainingSpec
    data: int
    micro_batches: int
    layers: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...]
    """Of each stage, its layers of each kind."""
    kinds: tuple[LayerCost, ...]
    memory: Memory
    head: Pass
    """Forward and backward of the output head, on the last stage, with those of layers for multi-token prediction."""
    stack: Stack
    fixed_seconds: float
    """Launch and host time of a layer's forward pass."""
    optimizer_seconds: float
    optimizer_bytes: float
    host_seconds: float
    shard_bytes: float
    """One tensor collective's shard."""
    handover_bytes: float
    """One activation handed to the next stage, of one die."""
    gradient_bytes: float
    """Sent by a die in the gradient ring and the gathering of weights, per step; without routed experts."""
    expert_gradient_bytes: float
    """The same for routed experts, over the dies that hold the same ones."""


@dataclass(frozen=True, slots=True)
class StageLoad:
    """Utilisation of the dies of a stage, 0 to 1, over the step."""

    busy: float
    cube: float
    vector: float
    hbm: float


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: seconds by cause, what bounds it and how busy each stage is."""

    seconds: float
    breakdown: dict[str, float]
    bound: Bound
    loads: tuple[StageLoad, ...]


@lru_cache(maxsize=1024)
def plan_training(profile: Profile, spec: TrainingSpec, dies: int, stack: Stack | None = None) -> Plan | Problem:
    """Return what a legal layout costs on its dies, or why it does not fit; ``stack`` None: the one that spec names."""
    stack = stack or load_stack(spec.stack)
    memory = plan_memory(spec, dies, profile.hbm_bytes_per_die)
    if isinstance(memory, Problem):
        return memory
    model, tp = spec.model, spec.tensor
    data = data_parallel(spec, dies)
    micro_batches = spec.global_batch_size // (data * spec.micro_batch_size)
    tokens = float(spec.sequence_length * spec.micro_batch_size) / spec.context
    optimizer_bytes, dense, expert = _per_step(spec, dies, memory, micro_batches)
    # Each layer for multi-token prediction joins a state with an embedding (2 h to h) and has the head once more.
    heads = 1 + spec.mtp_layers
    joined = model.head_parameters * heads + 2 * model.hidden**2 * spec.mtp_layers
    head, head_bytes = 2.0 * tokens * joined / tp, WEIGHT_BYTES * joined / tp
    turns = 1.0 + GEMM_BACKWARD_RATIO
    # Softmax and cross entropy read and write the logits as an activation does its columns: three values each.
    entropy = 3.0 * tokens * model.vocab / tp * heads * stack.training_vector_seconds
    return Plan(
        spec=spec,
        data=data,
        micro_batches=micro_batches,
        layers=layers_by_stage(spec),
        counts=stage_kinds(spec),
        kinds=tuple(_layer_cost(profile, spec, share, stack) for share in layer_shares(spec)),
        memory=memory,
        head=_roofline(profile, stack, head * turns, 0.0, head_bytes * turns, vector=entropy * turns),
        stack=stack,
        fixed_seconds=stack.layer_seconds,
        optimizer_seconds=optimizer_bytes / (profile.hbm_bytes_per_second_per_die * HBM_EFFICIENCY),
        optimizer_bytes=optimizer_bytes,
        host_seconds=HOST_STEP_SECONDS.get(spec.stack, HOST_STEP_SECONDS["vendor-tuned"]),
        shard_bytes=tokens * model.hidden * WEIGHT_BYTES / tp,
        handover_bytes=tokens * model.hidden * WEIGHT_BYTES / tp,
        gradient_bytes=dense,
        expert_gradient_bytes=expert,
    )


def _layer_cost(profile: Profile, spec: TrainingSpec, share: LayerShare, stack: Stack) -> LayerCost:
    ratio, gradient = GEMM_BACKWARD_RATIO, spec.gradient_bytes
    moved = WEIGHT_BYTES * share.gemm_parameters + 2.0 * share.activation_bytes
    tokens = spec.sequence_length * spec.micro_batch_size / spec.context
    vector = tokens * share.vector_values * stack.training_vector_seconds
    forward = _roofline(profile, stack, share.gemm_flops, share.attention_flops, moved, vector=vector)
    backward = _roofline(
        profile,
        stack,
        share.gemm_flops * ratio,
        share.attention_flops * ATTENTION_BACKWARD_RATIO,
        ratio * moved + gradient * share.gemm_parameters,
        vector=vector * ratio,
    )
    if not share.plain:
        # Experts are products of their own; the layer waits for the die with the hottest ones.
        weights = WEIGHT_BYTES * share.expert_parameters
        hot = spec.expert_imbalance
        forward += _roofline(profile, stack, share.expert_flops, 0.0, weights, hot)
        backward += _roofline(
            profile, stack, share.expert_flops * ratio, 0.0, ratio * weights + gradient * share.expert_parameters, hot
        )
    attention = share.attention_flops / (ATTENTION_EFFICIENCY * profile.bf16_flops_per_die)
    return LayerCost(share, forward, backward, attention)


def _per_step(spec: TrainingSpec, dies: int, memory: Memory, micro_batches: int) -> tuple[float, float, float]:
    """Return HBM bytes of the optimizer, and bytes sent for dense parameters and experts; of the largest stage."""
    shards, expert_shards = replicas(spec, dies), expert_replicas(spec, dies)
    gradient, sharding = spec.gradient_bytes, spec.optimizer_sharding
    # none: gradients are reduced to all; zero1: to shards, and new weights are gathered; zero3: weights are gathered
    # for both passes of each micro-batch.
    sent = {
        "none": 2.0 * gradient,
        "zero1": gradient + WEIGHT_BYTES,
        "zero3": micro_batches * (gradient + 2.0 * WEIGHT_BYTES),
    }[sharding]
    traffic = OPTIMIZER_TRAFFIC_BYTES - GRADIENT_BYTES + gradient
    parts = 1 if sharding == "none" else shards
    expert_parts = 1 if sharding == "none" else expert_shards
    optimizer = max(own.dense * traffic / parts + own.expert * traffic / expert_parts for own in memory.parameters)
    dense = max(own.dense for own in memory.parameters) * sent * (shards - 1) / shards
    expert = max(own.expert for own in memory.parameters) * sent * (expert_shards - 1) / expert_shards
    return optimizer, dense, expert


def _roofline(  # noqa: PLR0917 - what a pass is made of
    profile: Profile,
    stack: Stack,
    gemm_flops: float,
    attention_flops: float,
    hbm_bytes: float,
    imbalance: float = 1.0,
    vector: float = 0.0,
) -> Pass:
    """Return the time of a die with ``imbalance`` times the mean work; FLOPs and bytes of the mean."""
    compute = imbalance * gemm_flops / stack.training_gemm_efficiency + attention_flops / ATTENTION_EFFICIENCY
    cores = compute / profile.bf16_flops_per_die
    memory = hbm_bytes / (profile.hbm_bytes_per_second_per_die * HBM_EFFICIENCY)
    return Pass(max(cores, memory) + vector, gemm_flops + attention_flops, hbm_bytes, memory > cores)


def _layer_seconds(plan: Plan, kind: LayerCost, costs: LinkCosts) -> dict[str, float]:
    """Return the seconds by cause of a layer's both directions, with what is recomputed, for one micro-batch."""
    spec, share, recompute = plan.spec, kind.share, plan.memory.recompute
    passes = 2.0 + recompute
    collective = costs.tensor.latency_seconds + plan.shard_bytes * costs.tensor.seconds_per_byte
    seconds = {
        "compute": kind.forward.seconds + kind.backward.seconds,
        "recompute": recompute * kind.forward.seconds,
        "launch": plan.fixed_seconds * (1.0 + GEMM_BACKWARD_RATIO + recompute),
        "tensor_parallel": collective * share.collectives * passes,
    }
    if spec.model.is_moe:
        seconds["expert_parallel"] = 0.0
    if share.exchange_bytes:
        tokens = spec.sequence_length * spec.micro_batch_size / spec.context / spec.tensor
        exchange = exchange_seconds(
            costs.expert,
            size=spec.expert,
            bytes_sent=share.exchange_bytes,
            tokens=tokens,
            imbalance=spec.expert_imbalance,
            stack=plan.stack,
        )
        within = costs.expert_tensor
        gather = within.latency_seconds + spec.expert_imbalance * share.exchange_bytes * within.seconds_per_byte
        exposed = (exchange + gather) * EXCHANGES_PER_PASS * passes
        if spec.overlap_exchange:
            # One micro-batch's forward pass is paired with another's backward pass. What is recomputed runs before the
            # pair and alone (MindSpeed's fb_overlap does a checkpointed layer's forward first): its exchanges show.
            beside = min((exchange + gather) * EXCHANGES_PER_PASS * 2.0, seconds["compute"])
            exposed -= beside * (1.0 - plan.stack.overlap_slowdown)
        seconds["expert_parallel"] = exposed
    if spec.context > 1:
        turn = costs.context.latency_seconds + share.context_bytes * (spec.context - 1) * costs.context.seconds_per_byte
        forward = max(0.0, turn - kind.attention_seconds)
        # Backward keys and values go round once more, and their gradients with them.
        backward = max(0.0, 2.0 * turn - kind.attention_seconds * ATTENTION_BACKWARD_RATIO)
        seconds["context_parallel"] = forward * (1.0 + recompute) + backward
    return seconds


def _weighted(counts: Sequence[int], values: Sequence[float]) -> float:
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
    spec, m, chunks = plan.spec, plan.micro_batches, plan.spec.virtual_pipeline
    per_kind = [_layer_seconds(plan, kind, costs) for kind in plan.kinds]
    totals = [sum(causes.values()) for causes in per_kind]
    stages = [_weighted(counts, totals) for counts in plan.counts]
    stages[-1] += plan.head.seconds
    slowest = max(range(len(stages)), key=stages.__getitem__)
    handover = 0.0
    if spec.pipeline > 1:
        way = costs.pipeline
        handover = 2.0 * chunks * (way.latency_seconds + plan.handover_bytes * way.seconds_per_byte)
    breakdown = {
        cause: m * _weighted(plan.counts[slowest], [causes[cause] for causes in per_kind]) for cause in per_kind[0]
    }
    if slowest == len(stages) - 1:
        breakdown["compute"] += m * plan.head.seconds
    breakdown["pipeline_p2p"] = m * handover
    breakdown["bubble"] = (spec.pipeline - 1) / chunks * (stages[slowest] + handover) if spec.pipeline > 1 else 0.0
    breakdown["gradient"] = _exposed_gradient(plan, costs, breakdown["compute"])
    breakdown["optimizer"] = plan.optimizer_seconds
    breakdown["host"] = plan.host_seconds
    seconds = sum(breakdown.values())
    return Step(
        seconds=seconds,
        breakdown=breakdown,
        bound=_bound(plan, slowest, breakdown, costs),
        loads=tuple(_load(profile, plan, stage, per_kind, seconds) for stage in range(len(stages))),
    )


def _exposed_gradient(plan: Plan, costs: LinkCosts, compute: float) -> float:
    """Return what is not hidden of reducing gradients and gathering weights; nothing hides behind less than itself."""
    turns = 2.0 * plan.micro_batches if plan.spec.optimizer_sharding == "zero3" else 2.0
    ring = 0.0
    for cost, sent in ((costs.data, plan.gradient_bytes), (costs.expert_data, plan.expert_gradient_bytes)):
        if sent:
            ring += turns * cost.latency_seconds + sent * cost.seconds_per_byte
    return max((1.0 - GRADIENT_OVERLAP) * ring, ring - compute)


def _bound(plan: Plan, slowest: int, breakdown: Mapping[str, float], costs: LinkCosts) -> Bound:
    totals: dict[Bound, float] = {"Compute": 0.0, "HBM": breakdown["optimizer"], "Bus": 0.0, "RDMA": 0.0}
    totals["Pipeline"] = breakdown["bubble"]
    both = zip(plan.counts[slowest], plan.kinds, strict=True)
    _, _, longest = max((count * kind.forward.seconds, index, kind) for index, (count, kind) in enumerate(both))
    cores: Bound = "HBM" if longest.forward.hbm_bound else "Compute"
    totals[cores] += breakdown["compute"] + breakdown["recompute"]
    totals["Compute"] += breakdown["launch"] + breakdown["host"]
    ways = (
        ("tensor_parallel", costs.tensor),
        ("expert_parallel", costs.expert),
        ("context_parallel", costs.context),
        ("pipeline_p2p", costs.pipeline),
        ("gradient", costs.data),
    )
    for cause, cost in ways:
        totals["RDMA" if cost.rdma else "Bus"] += breakdown.get(cause, 0.0)
    return max(totals, key=totals.__getitem__)


def _load(profile: Profile, plan: Plan, stage: int, per_kind: list[dict[str, float]], seconds: float) -> StageLoad:
    if math.isinf(seconds):
        return StageLoad(0.0, 0.0, 0.0, 0.0)
    m, recompute = plan.micro_batches, plan.memory.recompute
    flops = moved = cores = collectives = 0.0
    for count, kind, causes in zip(plan.counts[stage], plan.kinds, per_kind, strict=True):
        flops += count * (kind.forward.flops * (1.0 + recompute) + kind.backward.flops)
        moved += count * (kind.forward.hbm_bytes * (1.0 + recompute) + kind.backward.hbm_bytes)
        cores += count * (causes["compute"] + causes["recompute"])
        waits = causes["tensor_parallel"] + causes.get("expert_parallel", 0.0) + causes.get("context_parallel", 0.0)
        collectives += count * waits
    if stage == len(plan.counts) - 1:
        flops, moved, cores = flops + plan.head.flops, moved + plan.head.hbm_bytes, cores + plan.head.seconds
    return StageLoad(
        busy=min(1.0, (m * (cores + collectives) + plan.optimizer_seconds) / seconds),
        cube=min(1.0, m * flops / (profile.bf16_flops_per_die * seconds)),
        vector=min(1.0, (m * collectives * COLLECTIVE_VECTOR_SHARE + plan.optimizer_seconds) / seconds),
        hbm=min(1.0, (m * moved + plan.optimizer_bytes) / (profile.hbm_bytes_per_second_per_die * seconds)),
    )
