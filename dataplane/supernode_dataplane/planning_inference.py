"""The best inference layout for a model, a machine and an objective, over a stated lattice of legal layouts.

Instances of 1 to all of the dies (powers of two, and the sizes at which every die has one expert), tensor 1 to a
server's dies, experts over all dies of an instance or inside the tensor group, with and without ranks of their own for
the shared experts; for each the batch, up to what the caches hold, that makes the most tokens per second within the
limits. All batches of a layout are computed at once, as arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.capacity import MEMORY_FRACTION, capacity_of, explain_memory
from supernode_dataplane.decode import decode_step
from supernode_dataplane.deployment import Experts, Pool, Precision, Speculation
from supernode_dataplane.hardware import Hardware
from supernode_dataplane.prefill import prefill_step
from supernode_dataplane.stacks import Stack

__all__ = ["InferenceGoal", "InferenceLayout", "Rejected", "plan_inference"]

_MOST_SEQUENCES: Final = 512
_MOST_PROMPTS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceGoal:
    """What is wanted: the phase, lengths, and limits; the objective is tokens per second and card."""

    phase: str
    """``decode`` or ``prefill``."""
    input_tokens: int
    output_tokens: int = 1
    tpot_seconds: float = float("inf")
    ttft_seconds: float = float("inf")
    """Of a prompt in an idle pool; for prefill."""
    speculation: Speculation = field(default_factory=Speculation)
    precision: Precision = field(default_factory=Precision)
    memory_fraction: float = MEMORY_FRACTION


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceLayout:
    """One layout at its best batch."""

    pool: Pool
    instances: int
    batch: int
    """Sequences (or prompts) on each tensor group."""
    tokens_per_second_per_card: float
    """Over all cards given, those that no instance uses included."""
    seconds: float
    """TPOT, or TTFT of a prompt in an idle pool."""
    hbm_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A layout that cannot be, and the arithmetic."""

    pool: Pool
    reason: str
    """``memory`` or ``limit``."""
    message: str


def plan_inference(
    architecture: Architecture, hardware: Hardware, stack: Stack, dies: int, goal: InferenceGoal
) -> tuple[list[InferenceLayout], list[Rejected]]:
    """Return the layouts that meet the limits, best first, and those that do not, in the order of the lattice."""
    found: list[InferenceLayout] = []
    rejected: list[Rejected] = []
    for pool in _lattice(architecture, hardware, stack, dies, goal):
        outcome = _decode(pool, dies, goal) if goal.phase == "decode" else _prefill(pool, dies, goal)
        if isinstance(outcome, Rejected):
            rejected.append(outcome)
        else:
            found.append(outcome)
    found.sort(key=lambda layout: -layout.tokens_per_second_per_card)
    return found, rejected


def _lattice(
    architecture: Architecture, hardware: Hardware, stack: Stack, dies: int, goal: InferenceGoal
) -> Iterator[Pool]:
    experts = max((kind.feed_forward.experts for kind in architecture.kinds), default=0)
    shared = any(kind.feed_forward.shared_width for kind in architecture.kinds)
    heads = min(kind.attention.heads for kind in architecture.kinds)
    sizes = {2**n for n in range(int(np.log2(dies)) + 1)} | ({experts + 32, experts + 64} if experts else set())
    for size in sorted(size for size in sizes if size <= dies):
        for tensor in (1, 2, 4, 8, 16, 32):
            if tensor > min(size, hardware.dies_per_server) or size % tensor or heads % tensor:
                continue
            for spread in (True, False) if experts else (False,):
                if (spread and size < 2) or (not spread and size != tensor):
                    continue
                for own in (0, 32) if spread and shared and size > experts else (0,):
                    slots = -(-experts // (size - own)) * (size - own) if spread else experts
                    yield Pool(
                        architecture=architecture,
                        hardware=hardware,
                        stack=stack,
                        dies=size,
                        tensor=tensor,
                        expert=size if spread else 1,
                        precision=goal.precision,
                        experts=Experts(redundant=slots - experts, shared_ranks=own),
                        speculation=goal.speculation if goal.phase == "decode" else Speculation(),
                    )


def _decode(pool: Pool, dies: int, goal: InferenceGoal) -> InferenceLayout | Rejected:
    length = goal.input_tokens + goal.output_tokens
    capacity = capacity_of(pool, float(length), memory_fraction=goal.memory_fraction)
    most = min(_MOST_SEQUENCES, int(capacity.sequences))
    if most < 1:
        return Rejected(pool=pool, reason="memory", message=explain_memory(pool, capacity, 1))
    batches = np.arange(1, most + 1, dtype=np.float64)
    seconds = decode_step(pool, batches, goal.input_tokens + goal.output_tokens / 2.0).seconds
    tpot = seconds / pool.speculation.tokens
    rate = np.where(tpot <= goal.tpot_seconds, batches * float(pool.groups) / tpot, 0.0)
    best = int(np.argmax(rate))
    if rate[best] <= 0:
        message = f"TPOT is {float(tpot[0]) * 1e3:.1f} ms with one sequence a tensor group"
        return Rejected(pool=pool, reason="limit", message=message)
    instances = dies // int(pool.dies)
    used = capacity.weights + capacity.buffers + capacity.bytes_per_sequence * batches[best]
    return InferenceLayout(
        pool=pool,
        instances=instances,
        batch=int(batches[best]),
        tokens_per_second_per_card=float(rate[best]) * instances / (dies / pool.hardware.dies_per_card),
        seconds=float(tpot[best]),
        hbm_bytes=float(used),
    )


def _prefill(pool: Pool, dies: int, goal: InferenceGoal) -> InferenceLayout | Rejected:
    tokens = float(goal.input_tokens)
    alone = float(prefill_step(pool, tokens, tokens / 2, 1.0).seconds)
    fractions = goal.memory_fraction
    prompts = np.arange(1, _MOST_PROMPTS + 1, dtype=np.float64)
    capacity = capacity_of(pool, tokens, tokens_in_flight=tokens * prompts, memory_fraction=fractions)
    fits = capacity.sequences >= prompts
    if not fits[0]:
        single = capacity_of(pool, tokens, tokens_in_flight=tokens, memory_fraction=fractions)
        return Rejected(pool=pool, reason="memory", message=explain_memory(pool, single, 1))
    if alone > goal.ttft_seconds:
        message = f"TTFT of a prompt in an idle pool is {alone * 1e3:.0f} ms"
        return Rejected(pool=pool, reason="limit", message=message)
    seconds = prefill_step(pool, tokens * prompts, tokens / 2, prompts).seconds
    rate = np.where(fits, tokens * prompts * float(pool.groups) / seconds, 0.0)
    best = int(np.argmax(rate))
    instances = dies // int(pool.dies)
    held = capacity.weights + capacity.buffers + (capacity.activations + capacity.bytes_per_sequence * prompts)[best]
    return InferenceLayout(
        pool=pool,
        instances=instances,
        batch=int(prompts[best]),
        tokens_per_second_per_card=float(rate[best]) * instances / (dies / pool.hardware.dies_per_card),
        seconds=alone,
        hbm_bytes=float(held),
    )
