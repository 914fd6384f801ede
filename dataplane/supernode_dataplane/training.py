"""The closed form of a training step.

    step = (m + (stages - 1) / v) x (forward + backward + recompute + tensor collectives + point-to-point)
           + exposed gradient collectives + optimizer + host time

with m micro-batches, v virtual stages and the times of the slowest stage. An operator takes
max(FLOPs / (peak x efficiency), bytes / (HBM x efficiency)). A layer has four all-gathers or reduce-scatters in each
direction (sequence-parallel tensor parallelism), and the four of the forward pass again where it is recomputed.
Everything here is plain numbers for one layout; where the dies are enters by the costs of
:mod:`supernode_dataplane.communication`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from supernode_dataplane.communication import Cost
from supernode_dataplane.constants import (
    ACTIVATION_BYTES,
    ATTENTION_BACKWARD_RATIO,
    ATTENTION_EFFICIENCY,
    COLLECTIVE_VECTOR_SHARE,
    FIXED_LAYER_SECONDS,
    GEMM_BACKWARD_RATIO,
    GEMM_EFFICIENCY,
    GRADIENT_BYTES,
    GRADIENT_OVERLAP,
    HBM_EFFICIENCY,
    HOST_STEP_SECONDS,
    OPTIMIZER_TRAFFIC_BYTES,
    WEIGHT_BYTES,
)
from supernode_dataplane.layout import data_parallel, stage_layers
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.memory import Memory, plan_memory
from supernode_dataplane.profile import Profile
from supernode_dataplane.state import Bound, Problem

__all__ = ["Plan", "StageLoad", "Step", "plan_training", "training_step"]

_COLLECTIVES_PER_PASS = 4


@dataclass(frozen=True, slots=True)
class _Pass:
    """One micro-batch through one piece of the model: seconds on the cores, and FLOPs and HBM bytes of it."""

    seconds: float
    flops: float
    hbm_bytes: float
    hbm_bound: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What one layout costs on the dies themselves, wherever they are."""

    spec: TrainingSpec
    data: int
    micro_batches: int
    layers: tuple[int, ...]
    memory: Memory
    forward: _Pass
    backward: _Pass
    head: _Pass
    """Forward and backward of the output head, on the last stage."""
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
    """Sent by a die in the gradient ring and the gathering of weights, per step."""


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
def plan_training(profile: Profile, spec: TrainingSpec, dies: int) -> Plan | Problem:
    """Return what a legal layout costs on its dies, or why it does not fit."""
    memory = plan_memory(spec, dies, profile.hbm_bytes_per_die)
    if isinstance(memory, Problem):
        return memory
    model, tp = spec.model, spec.tensor
    data = data_parallel(spec, dies)
    tokens = float(spec.sequence_length * spec.micro_batch_size)
    core, block = model.groups[0].attention, model.groups[0].feed_forward
    split = core.query_parameters(model.hidden) + block.parameters(model.hidden)
    parameters = split / tp + core.key_value_parameters(model.hidden) / min(tp, core.kv_heads)
    attention = tokens * core.causal_core_flops(spec.sequence_length) / tp
    activations = 2.0 * ACTIVATION_BYTES * tokens * model.hidden / tp
    largest = max(memory.parameters)
    optimizer_bytes = largest * OPTIMIZER_TRAFFIC_BYTES / data
    head = 2.0 * tokens * model.vocab * model.hidden / tp
    head_bytes = WEIGHT_BYTES * model.vocab * model.hidden / tp
    ratio = GEMM_BACKWARD_RATIO
    return Plan(
        spec=spec,
        data=data,
        micro_batches=spec.global_batch_size // (data * spec.micro_batch_size),
        layers=stage_layers(model.layers, spec.pipeline),
        memory=memory,
        forward=_roofline(profile, 2.0 * tokens * parameters, attention, WEIGHT_BYTES * parameters + activations),
        backward=_roofline(
            profile,
            2.0 * tokens * parameters * ratio,
            attention * ATTENTION_BACKWARD_RATIO,
            ratio * (WEIGHT_BYTES * parameters + activations) + GRADIENT_BYTES * parameters,
        ),
        head=_roofline(profile, head * (1.0 + ratio), 0.0, head_bytes * (1.0 + ratio)),
        fixed_seconds=FIXED_LAYER_SECONDS[spec.stack],
        optimizer_seconds=optimizer_bytes / (profile.hbm_bytes_per_second_per_die * HBM_EFFICIENCY),
        optimizer_bytes=optimizer_bytes,
        host_seconds=HOST_STEP_SECONDS[spec.stack],
        shard_bytes=tokens * model.hidden * WEIGHT_BYTES / tp,
        handover_bytes=tokens * model.hidden * WEIGHT_BYTES / tp,
        gradient_bytes=largest * (GRADIENT_BYTES + WEIGHT_BYTES) * (data - 1) / data,
    )


def _roofline(profile: Profile, gemm_flops: float, attention_flops: float, hbm_bytes: float) -> _Pass:
    compute = gemm_flops / GEMM_EFFICIENCY + attention_flops / ATTENTION_EFFICIENCY
    cores = compute / profile.bf16_flops_per_die
    memory = hbm_bytes / (profile.hbm_bytes_per_second_per_die * HBM_EFFICIENCY)
    return _Pass(max(cores, memory), gemm_flops + attention_flops, hbm_bytes, memory > cores)


def training_step(profile: Profile, plan: Plan, tensor: Cost, pipeline: Cost, data: Cost) -> Step:
    """Return the step time of a plan at these link costs; the slowest stage sets the pace."""
    spec, m, chunks = plan.spec, plan.micro_batches, plan.spec.virtual_pipeline
    recompute = plan.memory.recompute
    collective = tensor.latency_seconds + plan.shard_bytes * tensor.seconds_per_byte
    per_layer = {
        "compute": plan.forward.seconds + plan.backward.seconds,
        "recompute": recompute * plan.forward.seconds,
        "launch": plan.fixed_seconds * (1.0 + GEMM_BACKWARD_RATIO + recompute),
        "tensor_parallel": collective * _COLLECTIVES_PER_PASS * (2.0 + recompute),
    }
    layer = sum(per_layer.values())
    stages = [count * layer for count in plan.layers]
    stages[-1] += plan.head.seconds
    slowest = max(range(len(stages)), key=stages.__getitem__)
    handover = 0.0
    if spec.pipeline > 1:
        handover = 2.0 * chunks * (pipeline.latency_seconds + plan.handover_bytes * pipeline.seconds_per_byte)
    breakdown = {cause: m * plan.layers[slowest] * seconds for cause, seconds in per_layer.items()}
    if slowest == len(stages) - 1:
        breakdown["compute"] += m * plan.head.seconds
    breakdown["pipeline_p2p"] = m * handover
    breakdown["bubble"] = (spec.pipeline - 1) / chunks * (stages[slowest] + handover) if spec.pipeline > 1 else 0.0
    ring = 2.0 * data.latency_seconds + plan.gradient_bytes * data.seconds_per_byte if plan.data > 1 else 0.0
    breakdown["gradient"] = (1.0 - GRADIENT_OVERLAP) * ring
    breakdown["optimizer"] = plan.optimizer_seconds
    breakdown["host"] = plan.host_seconds
    seconds = sum(breakdown.values())
    return Step(
        seconds=seconds,
        breakdown=breakdown,
        bound=_bound(plan, breakdown, tensor, pipeline, data),
        loads=tuple(_load(profile, plan, stage, per_layer, seconds) for stage in range(len(stages))),
    )


def _bound(plan: Plan, breakdown: dict[str, float], tensor: Cost, pipeline: Cost, data: Cost) -> Bound:
    totals: dict[Bound, float] = {"Compute": 0.0, "HBM": breakdown["optimizer"], "Bus": 0.0, "RDMA": 0.0}
    totals["Pipeline"] = breakdown["bubble"]
    cores: Bound = "HBM" if plan.forward.hbm_bound else "Compute"
    totals[cores] += breakdown["compute"] + breakdown["recompute"]
    totals["Compute"] += breakdown["launch"] + breakdown["host"]
    for cause, cost in (("tensor_parallel", tensor), ("pipeline_p2p", pipeline), ("gradient", data)):
        totals["RDMA" if cost.rdma else "Bus"] += breakdown[cause]
    return max(totals, key=totals.__getitem__)


def _load(profile: Profile, plan: Plan, stage: int, per_layer: dict[str, float], seconds: float) -> StageLoad:
    m, layers, recompute = plan.micro_batches, plan.layers[stage], plan.memory.recompute
    flops = layers * (plan.forward.flops * (1.0 + recompute) + plan.backward.flops)
    moved = layers * (plan.forward.hbm_bytes * (1.0 + recompute) + plan.backward.hbm_bytes)
    cores = layers * (per_layer["compute"] + per_layer["recompute"])
    if stage == len(plan.layers) - 1:
        flops, moved, cores = flops + plan.head.flops, moved + plan.head.hbm_bytes, cores + plan.head.seconds
    collectives = layers * per_layer["tensor_parallel"]
    if math.isinf(seconds):
        return StageLoad(0.0, 0.0, 0.0, 0.0)
    return StageLoad(
        busy=min(1.0, (m * (cores + collectives) + plan.optimizer_seconds) / seconds),
        cube=min(1.0, m * flops / (profile.bf16_flops_per_die * seconds)),
        vector=min(1.0, (m * collectives * COLLECTIVE_VECTOR_SHARE + plan.optimizer_seconds) / seconds),
        hbm=min(1.0, (m * moved + plan.optimizer_bytes) / (profile.hbm_bytes_per_second_per_die * seconds)),
    )
