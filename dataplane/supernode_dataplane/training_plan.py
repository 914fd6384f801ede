"""What a training layout costs on its dies, before links: passes through layers and head, optimizer, messages.

An operator takes max(FLOPs / (peak x efficiency), bytes / (HBM x efficiency)). A plan is of one point or, where the
numbers of its spec are arrays, of many; what becomes of it on links is :mod:`supernode_dataplane.training`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from supernode_dataplane.constants import (
    ATTENTION_BACKWARD_RATIO,
    ATTENTION_EFFICIENCY,
    BUFFER_BYTES,
    GEMM_BACKWARD_RATIO,
    GRADIENT_BYTES,
    HBM_EFFICIENCY,
    OPTIMIZER_TRAFFIC_BYTES,
    WEIGHT_BYTES,
)
from supernode_dataplane.layout import data_parallel, expert_replicas, layers_by_stage, replicas, stage_kinds
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.memory import Memory, fitted_memory, plan_memory
from supernode_dataplane.numeric import Number, at_least, choose
from supernode_dataplane.profile import Profile
from supernode_dataplane.shares import LayerShare, layer_shares
from supernode_dataplane.stacks import Stack, load_stack
from supernode_dataplane.state import Problem

__all__ = [
    "LayerCost",
    "Pass",
    "Plan",
    "plan_in_memory",
    "plan_training",
    "tokens_of",
    "with_stack",
]


@dataclass(frozen=True, slots=True)
class Pass:
    """One micro-batch through one piece of the model: seconds on the cores, and FLOPs and HBM bytes of it."""

    seconds: Number
    flops: Number
    hbm_bytes: Number
    hbm_bound: Number
    """Whether the slower part of it is."""
    attention_seconds: Number = 0.0
    """Of the attention core: its part of the FLOPs' time, of what bounds the pass."""

    def __add__(self, other: Pass) -> Pass:
        return Pass(
            self.seconds + other.seconds,
            self.flops + other.flops,
            self.hbm_bytes + other.hbm_bytes,
            choose(self.seconds >= other.seconds, self.hbm_bound, other.hbm_bound),
            self.attention_seconds + other.attention_seconds,
        )


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What a layer of one kind costs on a die."""

    share: LayerShare
    forward: Pass
    backward: Pass


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What one layout costs on the dies themselves, wherever they are; equal only to itself, as it is made once."""

    spec: TrainingSpec
    data: int
    micro_batches: Number
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
    shard_bytes: Number
    """One tensor collective's shard."""
    handover_bytes: Number
    """One activation handed to the next stage, of one die."""
    gradient_bytes: Number
    """Sent by a die in the gradient ring and the gathering of weights, per step; without routed experts."""
    expert_gradient_bytes: Number
    """The same for routed experts, over the dies that hold the same ones."""


@lru_cache(maxsize=1024)
def plan_training(profile: Profile, spec: TrainingSpec, dies: int, stack: Stack | None = None) -> Plan | Problem:
    """Return what a legal layout costs on its dies, or why it does not fit; ``stack`` None: the one that spec names.

    Seconds, bytes and FLOPs of one die of each stage; one layout, whose micro-batches and tokens may be arrays of one
    shape where :func:`plan_in_memory` is given their memory. What does not fit comes back as a Problem with the
    arithmetic in GiB. Raises StackNotFoundError. Source: forms and constants as in the module and in constants.py, and
    their errors in class T of docs/fidelity.md.
    """
    memory = plan_memory(spec, dies, profile.hbm_bytes_per_die)
    if isinstance(memory, Problem):
        return memory
    return plan_in_memory(profile, spec, dies, memory, layer_shares(spec), stack)


def plan_in_memory(  # noqa: PLR0917 - what a plan is made of
    profile: Profile,
    spec: TrainingSpec,
    dies: int,
    memory: Memory,
    shares: Sequence[LayerShare],
    stack: Stack | None = None,
) -> Plan:
    """Return what a legal layout that fits costs on its dies; the numbers of ``spec``, so ``shares``, may be arrays."""
    model, tp, used = spec.model, spec.tensor, stack or load_stack(spec.stack)
    data = data_parallel(spec, dies)
    micro_batches = spec.global_batch_size // (data * spec.micro_batch_size)
    optimizer_bytes, dense, expert = _per_step(spec, dies, memory, micro_batches)
    handed = tokens_of(spec) * model.hidden * WEIGHT_BYTES / tp
    return Plan(
        spec=spec,
        data=data,
        micro_batches=micro_batches,
        layers=layers_by_stage(spec),
        counts=stage_kinds(spec),
        memory=memory if used.buffer_bytes == BUFFER_BYTES else _with_buffers(profile, spec, dies, shares, used),
        optimizer_seconds=optimizer_bytes / (profile.hbm_bytes_per_second_per_die * HBM_EFFICIENCY),
        optimizer_bytes=optimizer_bytes,
        shard_bytes=handed,
        handover_bytes=handed,
        gradient_bytes=dense,
        expert_gradient_bytes=expert,
        **_on_stack(profile, spec, shares, used),
    )


def with_stack(profile: Profile, plan: Plan, stack: Stack) -> Plan:
    """Return a plan with other constants: its layout and messages are the same, and memory but for recompute."""
    spec, shares = plan.spec, [kind.share for kind in plan.kinds]
    changed = _on_stack(profile, spec, shares, stack)
    if stack.buffer_bytes != plan.stack.buffer_bytes:
        dies = plan.data * spec.tensor * spec.context * spec.pipeline
        changed["memory"] = _with_buffers(profile, spec, dies, shares, stack)
    return replace(plan, **changed)


def _with_buffers(
    profile: Profile, spec: TrainingSpec, dies: int, shares: Sequence[LayerShare], stack: Stack
) -> Memory:
    """Return memory with as much recompute as the stack's buffers ask for; where it does not fit, with all of it."""
    # More buffers are as much less of HBM.
    more = stack.buffer_bytes - BUFFER_BYTES
    memory = fitted_memory(spec, dies, profile.hbm_bytes_per_die - more, shares).memory
    return replace(memory, used_bytes=tuple(used + more for used in memory.used_bytes))


def _on_stack(profile: Profile, spec: TrainingSpec, shares: Sequence[LayerShare], stack: Stack) -> dict[str, Any]:
    """Return the fields of a plan in which constants of the stack are."""
    model, tp = spec.model, spec.tensor
    tokens = tokens_of(spec)
    # Each layer for multi-token prediction joins a state with an embedding (2 h to h) and has the head once more.
    heads = 1 + spec.mtp_layers
    joined = model.head_parameters * heads + 2 * model.hidden**2 * spec.mtp_layers
    head, head_bytes = 2.0 * tokens * joined / tp, WEIGHT_BYTES * joined / tp
    turns = 1.0 + GEMM_BACKWARD_RATIO
    # Softmax and cross entropy read and write the logits as an activation does its columns: three values each.
    entropy = 3.0 * tokens * model.vocab / tp * heads * stack.training_vector_seconds
    return {
        "stack": stack,
        "host_seconds": stack.training_host_seconds,
        "kinds": tuple(_layer_cost(profile, spec, share, stack) for share in shares),
        "head": _roofline(profile, stack, head * turns, 0.0, head_bytes * turns, vector=entropy * turns),
        "fixed_seconds": stack.layer_seconds,
    }


def tokens_of(spec: TrainingSpec) -> Number:
    """Return the tokens of a micro-batch that a tensor group works on."""
    return spec.sequence_length * spec.micro_batch_size / spec.context


def _layer_cost(profile: Profile, spec: TrainingSpec, share: LayerShare, stack: Stack) -> LayerCost:
    ratio, gradient = GEMM_BACKWARD_RATIO, spec.gradient_bytes
    moved = WEIGHT_BYTES * share.gemm_parameters + 2.0 * share.activation_bytes
    vector = tokens_of(spec) * share.vector_values * stack.training_vector_seconds
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
    return LayerCost(share, forward, backward)


def _per_step(spec: TrainingSpec, dies: int, memory: Memory, micro_batches: Number) -> tuple[float, Number, Number]:
    """Return HBM bytes of the optimizer, and bytes sent for dense parameters and experts; of the largest stage."""
    shards, expert_shards = replicas(spec, dies), expert_replicas(spec, dies)
    gradient, sharding = spec.gradient_bytes, spec.optimizer_sharding
    # none: gradients are reduced to all; zero1: to shards, and new weights are gathered; zero3: weights are gathered
    # for both passes of each micro-batch.
    sent: Number = {
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
    gemm_flops: Number,
    attention_flops: Number,
    hbm_bytes: Number,
    imbalance: Number = 1.0,
    vector: Number = 0.0,
) -> Pass:
    """Return the time of a die with ``imbalance`` times the mean work; FLOPs and bytes of the mean."""
    attention = attention_flops / ATTENTION_EFFICIENCY
    compute = imbalance * gemm_flops / stack.training_gemm_efficiency + attention
    cores = compute / profile.bf16_flops_per_die
    memory = hbm_bytes / (profile.hbm_bytes_per_second_per_die * HBM_EFFICIENCY)
    longer = at_least(cores, memory)
    return Pass(
        seconds=longer + vector,
        flops=gemm_flops + attention_flops,
        hbm_bytes=hbm_bytes,
        hbm_bound=memory > cores,
        # A part, not a time of its own: so a chip with more FLOPS never loses more cover than it wins time.
        attention_seconds=longer * (attention / compute),
    )
