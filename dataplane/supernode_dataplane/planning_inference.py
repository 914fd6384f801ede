"""The best inference layout for a model, a machine and an objective, over a stated lattice of legal layouts.

Instances of every divisor of the dies, of powers of two, and of the sizes at which every die has one expert; tensor any
divisor up to a server's dies that divides the heads; experts over all dies of an instance or inside the tensor group,
with and without ranks of their own for the shared experts. All batches of a layout, up to what the caches hold, are
computed at once, as arrays; within the limits the objective chooses:

    throughput   the batch and the layout with the most tokens per second and card
    latency      the batch and the layout with the least TPOT (prefill: TTFT of a prompt in an idle pool)
    cards        the batch with the most tokens per second, and the layout that needs the fewest cards for the demand
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.capacity import MEMORY_FRACTION, capacity_of, explain_memory
from supernode_dataplane.decode import decode_step
from supernode_dataplane.deployment import Experts, Pool, Precision, Speculation
from supernode_dataplane.deployment_plan import Deployment, DeploymentPlan, RolePool
from supernode_dataplane.figures import counted
from supernode_dataplane.hardware import Hardware
from supernode_dataplane.prefill import prefill_step
from supernode_dataplane.stacks import Stack

__all__ = ["InferenceGoal", "InferenceLayout", "Objective", "Rejected", "layout_deployment", "plan_inference"]

Objective = Literal["throughput", "latency", "cards"]
FloatArray = NDArray[np.float64]
_MOST_SEQUENCES: Final = 512
_MOST_PROMPTS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceGoal:
    """What is wanted: the phase, lengths, limits and the objective."""

    phase: Literal["decode", "prefill"]
    input_tokens: int
    output_tokens: int = 1
    tpot_seconds: float = math.inf
    ttft_seconds: float = math.inf
    """Of a prompt in an idle pool; for prefill."""
    speculation: Speculation = field(default_factory=Speculation)
    precision: Precision = field(default_factory=Precision)
    memory_fraction: float = MEMORY_FRACTION
    objective: Objective = "throughput"
    batch_per_card: float | None = None
    """Sequences on a card (prefill: prompts that it reads at once); None: the best."""
    demand: float | None = None
    """Tokens per second that the cards must make together, for the objective ``cards``; None: one instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceLayout:
    """One layout at its best batch."""

    pool: Pool
    instances: int
    batch: float
    """Sequences (or prompts) on each tensor group."""
    cards: float
    """All that are given; for the objective ``cards`` those that its instances use."""
    tokens_per_second: float
    """Of an instance."""
    seconds: float
    """TPOT, or TTFT of a prompt in an idle pool."""
    hbm_bytes: float

    @property
    def tokens_per_second_per_card(self) -> float:
        """Rate of all instances over the cards."""
        return self.tokens_per_second * self.instances / self.cards


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A layout that cannot be, and the arithmetic."""

    pool: Pool
    reason: Literal["memory", "limit"]
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
    found.sort(key=lambda layout: _rank(layout, goal.objective))
    return found, rejected


def layout_deployment(layout: InferenceLayout, goal: InferenceGoal) -> Deployment:
    """Return a layout as a deployment of its phase alone, at its batch."""
    pool = layout.pool
    decodes = goal.phase == "decode"
    running = round(layout.batch * float(pool.groups) * layout.instances)
    plan = DeploymentPlan(
        model=pool.architecture,
        stack=pool.stack.name,
        mode="Decode" if decodes else "Prefill",
        input_tokens=goal.input_tokens,
        output_tokens=goal.output_tokens if decodes else 1,
        precision=goal.precision,
        concurrency=running if decodes else None,
        prompts=1 if decodes else max(1, round(layout.batch)),
        speculation=goal.speculation if decodes else Speculation(),
        memory_fraction=goal.memory_fraction,
    )
    found = RolePool(goal.phase, pool, layout.instances, pool.hardware.dies_per_card)
    return Deployment(plan, None if decodes else found, found if decodes else None)


def _rank(layout: InferenceLayout, objective: Objective) -> tuple[float, ...]:
    rate = -layout.tokens_per_second_per_card
    if objective == "latency":
        return layout.seconds, rate
    return (layout.cards, rate) if objective == "cards" else (rate, layout.seconds)


def _lattice(
    architecture: Architecture, hardware: Hardware, stack: Stack, dies: int, goal: InferenceGoal
) -> Iterator[Pool]:
    experts = max((kind.feed_forward.experts for kind in architecture.kinds), default=0)
    shared = any(kind.feed_forward.shared_width for kind in architecture.kinds)
    for size in _sizes(dies, experts):
        for tensor in range(1, min(size, hardware.dies_per_server) + 1):
            if size % tensor or not _splits_heads(architecture, tensor):
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


def _sizes(dies: int, experts: int) -> list[int]:
    """Return how many dies an instance may have."""
    sizes = {2**n for n in range(int(math.log2(dies)) + 1)} | {n for n in range(1, dies + 1) if dies % n == 0}
    sizes |= {experts + 32, experts + 64} if experts else set()
    return sorted(size for size in sizes if size <= dies)


def _splits_heads(architecture: Architecture, tensor: int) -> bool:
    kinds = [kind.attention for kind in architecture.kinds]
    return all(k.heads % tensor == 0 and (k.kv_heads % tensor == 0 or tensor % k.kv_heads == 0) for k in kinds)


def _decode(pool: Pool, dies: int, goal: InferenceGoal) -> InferenceLayout | Rejected:
    length = goal.input_tokens + goal.output_tokens
    capacity = capacity_of(pool, float(length), memory_fraction=goal.memory_fraction)
    batches = _batches(pool, goal, min(_MOST_SEQUENCES, int(capacity.sequences)))
    if not batches.size or batches[0] > capacity.sequences:
        return Rejected(pool=pool, reason="memory", message=explain_memory(pool, capacity, _one(batches)))
    seconds = decode_step(pool, batches, goal.input_tokens + goal.output_tokens / 2.0).seconds
    tpot = seconds / pool.speculation.tokens
    within = tpot <= goal.tpot_seconds
    if not within.any():
        text = counted(float(batches[0]), "sequence")
        message = f"TPOT is {float(tpot[0]) * 1e3:.1f} ms with {text} a tensor group"
        return Rejected(pool=pool, reason="limit", message=message)
    rate = np.where(within, batches * float(pool.groups) / tpot, 0.0)
    best = int(np.argmin(np.where(within, tpot, np.inf)) if goal.objective == "latency" else np.argmax(rate))
    used = capacity.weights + capacity.buffers + capacity.bytes_per_sequence * batches[best]
    return _placed(
        pool,
        dies,
        goal,
        batch=float(batches[best]),
        rate=float(rate[best]),
        seconds=float(tpot[best]),
        used=float(used),
    )


def _prefill(pool: Pool, dies: int, goal: InferenceGoal) -> InferenceLayout | Rejected:
    tokens = float(goal.input_tokens)
    alone = float(prefill_step(pool, tokens, tokens / 2, 1.0, filled=1.0 / pool.groups).seconds)
    fractions = goal.memory_fraction
    prompts = _batches(pool, goal, _MOST_PROMPTS)
    capacity = capacity_of(pool, tokens, tokens_in_flight=tokens * prompts, memory_fraction=fractions)
    fits = capacity.sequences >= prompts
    if not fits[0]:
        first = capacity_of(pool, tokens, tokens_in_flight=tokens * float(prompts[0]), memory_fraction=fractions)
        return Rejected(pool=pool, reason="memory", message=explain_memory(pool, first, float(prompts[0])))
    if alone > goal.ttft_seconds:
        message = f"TTFT of a prompt in an idle pool is {alone * 1e3:.0f} ms"
        return Rejected(pool=pool, reason="limit", message=message)
    seconds = prefill_step(pool, tokens * prompts, tokens / 2, prompts).seconds
    rate = np.where(fits, tokens * prompts * float(pool.groups) / seconds, 0.0)
    best = 0 if goal.objective == "latency" else int(np.argmax(rate))
    held = capacity.weights + capacity.buffers + (capacity.activations + capacity.bytes_per_sequence * prompts)[best]
    return _placed(
        pool, dies, goal, batch=float(prompts[best]), rate=float(rate[best]), seconds=alone, used=float(held)
    )


def _batches(pool: Pool, goal: InferenceGoal, most: int) -> FloatArray:
    """Return the batches of a tensor group to try: all up to ``most``, or the one that is asked for."""
    if goal.batch_per_card is not None:
        return np.array([goal.batch_per_card * float(pool.tensor) / pool.hardware.dies_per_card])
    return np.arange(1, most + 1, dtype=np.float64)


def _one(batches: FloatArray) -> float:
    return float(batches[0]) if batches.size else 1.0


def _placed(
    pool: Pool, dies: int, goal: InferenceGoal, *, batch: float, rate: float, seconds: float, used: float
) -> InferenceLayout | Rejected:
    """Return the layout with as many instances as the objective wants."""
    size, most = int(pool.dies), dies // int(pool.dies)
    instances, cards = most, dies / pool.hardware.dies_per_card
    if goal.objective == "cards":
        instances = 1 if goal.demand is None else max(1, math.ceil(goal.demand / rate))
        cards = instances * size / pool.hardware.dies_per_card
    if instances > most:
        message = f"{goal.demand:,.0f} tokens/s need {counted(cards, 'card')} of it, at {rate:,.0f} an instance"
        return Rejected(pool=pool, reason="limit", message=message)
    return InferenceLayout(
        pool=pool,
        instances=instances,
        batch=batch,
        cards=cards,
        tokens_per_second=rate,
        seconds=seconds,
        hbm_bytes=used,
    )
