"""The best inference layout for a model, a machine and an objective, over a stated lattice of legal layouts.

Instances of every divisor of the dies, of powers of two, and of the sizes at which every die has one expert; tensor any
divisor up to a server's dies that divides the heads; experts over all dies of an instance or inside the tensor group,
with and without ranks of their own for the shared experts. Dies are taken in order; what would then lie across more
servers than it needs, an instance or a tensor group, is left out. Batches go up to what the caches hold, and to what a
workload can ask for: 16,777,216 sequences in all, 4,096 prompts at once. Up to 512 of a tensor group all are computed,
beyond that quarters between powers of two, then those around the best, down to the single sequence; each time as one
array. Within the limits the objective chooses:

    throughput   the batch and the layout with the most tokens per second
    latency      the batch and the layout with the least TPOT (prefill: TTFT of a prompt in an idle pool)
    cards        the batch with the most tokens per second, and the layout that needs the fewest cards for the demand
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.capacity import MEMORY_FRACTION, capacity_of, explain_memory
from supernode_dataplane.deployment import Experts, Pool, Precision, Speculation
from supernode_dataplane.deployment_plan import Deployment, DeploymentPlan, RolePool
from supernode_dataplane.figures import counted
from supernode_dataplane.hardware import Hardware
from supernode_dataplane.inference import InferencePoint, InferenceSpec, Mode, inference_point
from supernode_dataplane.prefill import prefill_step
from supernode_dataplane.stacks import Stack

__all__ = [
    "MOST_PROMPTS",
    "MOST_SEQUENCES",
    "InferenceGoal",
    "InferenceLayout",
    "Objective",
    "Rejected",
    "layout_deployment",
    "plan_inference",
    "running_sequences",
]

Objective = Literal["throughput", "latency", "cards"]
FloatArray = NDArray[np.float64]
MOST_SEQUENCES: Final = 1 << 24
"""Over all groups and instances: what a workload's load.concurrency may be."""
MOST_PROMPTS: Final = 4096
"""That a tensor group reads at once: what a workload's promptsPerBatch may be."""
_EVERY: Final = 512
"""Up to here every batch is computed."""
_QUARTERS: Final = (1.0, 1.25, 1.5, 1.75)
_BETWEEN: Final = 128
"""Batches that are computed between two neighbours of the best."""
_MODES: Final[Mapping[str, Mode]] = {"decode": "Decode", "prefill": "Prefill", "colocated": "Colocated"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceGoal:
    """What is wanted: the phase, lengths, limits and the objective."""

    phase: Literal["decode", "prefill", "colocated"]
    input_tokens: int
    output_tokens: int = 1
    tpot_seconds: float = math.inf
    ttft_seconds: float = math.inf
    """Of a prompt in an idle pool; for whoever reads prompts."""
    speculation: Speculation = field(default_factory=Speculation)
    """Whoever reads prompts for a pool that drafts has the weights of the draft layers too."""
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
    cards: int
    """That its instances are on; the others are idle."""
    tokens_per_second: float
    """Of an instance."""
    seconds: float
    """TPOT; of prefill, TTFT of a prompt in an idle pool."""

    @property
    def total(self) -> float:
        """Tokens per second of all instances."""
        return self.tokens_per_second * self.instances


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A layout that cannot be, and the arithmetic."""

    pool: Pool
    reason: Literal["memory", "limit"]
    message: str


def plan_inference(
    architecture: Architecture, hardware: Hardware, stack: Stack, dies: int, goal: InferenceGoal
) -> tuple[list[InferenceLayout], list[Rejected]]:
    """Return the layouts that meet the limits, best first, and those that do not, in the order of the lattice.

    Two lists, of layouts with their batch (sequences of a tensor group), tokens per second and seconds, and of what was
    rejected with why. Batches of a layout are computed as arrays. A limit that nothing meets leaves the first list
    empty, which is no error. Source: what :func:`~supernode_dataplane.inference.inference_point` rests on.
    """
    found: list[InferenceLayout] = []
    rejected: list[Rejected] = []
    for pool in _lattice(architecture, hardware, stack, dies, goal):
        outcome = _prefill(pool, dies, goal) if goal.phase == "prefill" else _decode(pool, dies, goal)
        if isinstance(outcome, Rejected):
            rejected.append(outcome)
        else:
            found.append(outcome)
    found.sort(key=lambda layout: _rank(layout, goal.objective))
    return found, rejected


def running_sequences(layout: InferenceLayout, instances: int) -> int:
    """Return the sequences that decode at once on so many instances: whole ones, no more than their batch."""
    return max(1, math.floor(layout.batch * float(layout.pool.groups) * instances + 1e-9))


def layout_deployment(layout: InferenceLayout, goal: InferenceGoal) -> Deployment:
    """Return a layout as a deployment of its phase alone, at its batch."""
    pool = layout.pool
    decodes = goal.phase != "prefill"
    running = running_sequences(layout, layout.instances)
    plan = DeploymentPlan(
        model=pool.architecture,
        stack=pool.stack.name,
        mode=_MODES[goal.phase],
        input_tokens=goal.input_tokens,
        output_tokens=goal.output_tokens if decodes else 1,
        precision=goal.precision,
        concurrency=running if decodes else None,
        prompts=1 if decodes else round(layout.batch),
        speculation=goal.speculation,
        memory_fraction=goal.memory_fraction,
    )
    found = RolePool("decode" if decodes else "prefill", pool, layout.instances, pool.hardware.dies_per_card)
    return Deployment(plan, None if decodes else found, found if decodes else None)


def _rank(layout: InferenceLayout, objective: Objective) -> tuple[float, ...]:
    rate = -layout.total
    if objective == "latency":
        return layout.seconds, rate
    return (layout.cards, rate) if objective == "cards" else (rate, layout.seconds)


def _lattice(
    architecture: Architecture, hardware: Hardware, stack: Stack, dies: int, goal: InferenceGoal
) -> Iterator[Pool]:
    experts = max((kind.feed_forward.experts for kind in architecture.kinds), default=0)
    shared = any(kind.feed_forward.shared_width for kind in architecture.kinds)
    server = hardware.dies_per_server
    for size in _sizes(dies, experts):
        if not _lies_well(size, dies, server):
            continue
        for tensor in range(1, min(size, server) + 1):
            if size % tensor or not _lies_well(tensor, dies, server) or not _splits_heads(architecture, tensor):
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
                        speculation=goal.speculation,
                    )


def _sizes(dies: int, experts: int) -> list[int]:
    """Return how many dies an instance may have."""
    sizes = {2**n for n in range(int(math.log2(dies)) + 1)} | {n for n in range(1, dies + 1) if dies % n == 0}
    sizes |= {experts + 32, experts + 64} if experts else set()
    return sorted(size for size in sizes if size <= dies)


def _lies_well(size: int, dies: int, server: int) -> bool:
    """Return whether groups of so many dies, one after the other, are each on as few servers as can be."""
    least = -(-size // server) * server
    period = math.lcm(size, server) // size
    return all(n * size % server + size <= least for n in range(min(period, dies // size)))


def _splits_heads(architecture: Architecture, tensor: int) -> bool:
    kinds = [kind.attention for kind in architecture.kinds]
    return all(k.heads % tensor == 0 and (k.kv_heads % tensor == 0 or tensor % k.kv_heads == 0) for k in kinds)


def _decode(pool: Pool, dies: int, goal: InferenceGoal) -> InferenceLayout | Rejected:
    length = goal.input_tokens + goal.output_tokens
    prompt = float(goal.input_tokens) if goal.phase == "colocated" else 0.0
    capacity = capacity_of(pool, float(length), tokens_in_flight=prompt, memory_fraction=goal.memory_fraction)
    most = min(float(capacity.sequences), MOST_SEQUENCES / (float(pool.groups) * (dies // int(pool.dies))))
    batches = _batches(pool, goal, most)
    # Some tensor group has a whole sequence, however few there are.
    if not batches.size or max(1.0, batches[0]) > capacity.sequences:
        return Rejected(pool=pool, reason="memory", message=explain_memory(pool, capacity, _one(batches)))

    point = _point(pool, np.ones(1), goal)
    if point.ttft_seconds > goal.ttft_seconds:
        return Rejected(pool=pool, reason="limit", message=_late(float(point.ttft_seconds)))

    def tried(given: FloatArray) -> _Tried:
        whole = np.maximum(given, 1.0)  # some groups have none where there is less than one for each
        point = _point(pool, whole, goal)
        rate = np.where(point.tpot_seconds <= goal.tpot_seconds, point.tokens_per_second * given / whole, 0.0)
        return _Tried(given, np.asarray(point.tpot_seconds), rate)

    first = tried(batches)
    if not first.rate.any():
        text = counted(float(batches[0]), "sequence")
        message = f"TPOT is {float(first.seconds[0]) * 1e3:.1f} ms with {text} a tensor group"
        return Rejected(pool=pool, reason="limit", message=message)
    batch, seconds, rate = _best_batch(first, tried, goal.objective)
    return _placed(pool, dies, goal, batch=batch, rate=rate, seconds=seconds)


def _point(pool: Pool, sequences: FloatArray, goal: InferenceGoal) -> InferencePoint:
    """Return what an instance makes of so many sequences on each tensor group, which its caches hold."""
    return inference_point(
        InferenceSpec(
            mode=_MODES[goal.phase],
            input_tokens=1.0 * goal.input_tokens,
            output_tokens=1.0 * goal.output_tokens,
            decode=pool,
            sequences=sequences,
            memory_fraction=goal.memory_fraction,
        )
    )


def _late(ttft_seconds: float) -> str:
    return f"TTFT of a prompt in an idle pool is {ttft_seconds * 1e3:.0f} ms"


def _prefill(pool: Pool, dies: int, goal: InferenceGoal) -> InferenceLayout | Rejected:
    tokens = float(goal.input_tokens)
    one = capacity_of(pool, tokens, tokens_in_flight=tokens, memory_fraction=goal.memory_fraction)
    most = float((one.cache + one.activations) / (one.bytes_per_sequence + one.activations))
    prompts = _batches(pool, goal, min(most, MOST_PROMPTS))
    first = _one(prompts)
    if not first.is_integer():
        message = f"it would read {first:g} prompts at once, and a tensor group reads whole ones: give another --batch"
        return Rejected(pool=pool, reason="limit", message=message)
    if first > most:
        held = capacity_of(pool, tokens, tokens_in_flight=tokens * first, memory_fraction=goal.memory_fraction)
        return Rejected(pool=pool, reason="memory", message=explain_memory(pool, held, first))
    alone = float(prefill_step(pool, tokens, tokens / 2, 1.0, filled=1.0 / pool.groups).seconds)
    if alone > goal.ttft_seconds:
        return Rejected(pool=pool, reason="limit", message=_late(alone))

    def tried(given: FloatArray) -> _Tried:
        seconds = np.asarray(prefill_step(pool, tokens * given, tokens / 2, given).seconds)
        return _Tried(given, seconds, tokens * given * float(pool.groups) / seconds)

    batch, _, rate = _best_batch(tried(prompts), tried, goal.objective)
    return _placed(pool, dies, goal, batch=batch, rate=rate, seconds=alone)


@dataclass(frozen=True, slots=True, eq=False)
class _Tried:
    """Batches of a tensor group, ascending, with the seconds and the rate of each; no rate where a limit is missed."""

    batches: FloatArray
    seconds: FloatArray
    rate: FloatArray


def _best_batch(
    first: _Tried, tried: Callable[[FloatArray], _Tried], objective: Objective
) -> tuple[float, float, float]:
    """Return the best batch with its seconds and its rate, looking closer and closer around the best of ``first``."""
    found = first
    while True:
        fastest = objective == "latency"
        best = int(np.argmin(np.where(found.rate > 0, found.seconds, np.inf)) if fastest else np.argmax(found.rate))
        low, high = found.batches[max(best - 1, 0)], found.batches[min(best + 1, found.batches.size - 1)]
        if high - low <= 2:
            return float(found.batches[best]), float(found.seconds[best]), float(found.rate[best])
        between = np.round(np.linspace(low, high, _BETWEEN))
        found = tried(np.union1d(between, found.batches[best]))


def _batches(pool: Pool, goal: InferenceGoal, most: float) -> FloatArray:
    """Return the batches of a tensor group to begin with, up to ``most``; or the one that is asked for."""
    if goal.batch_per_card is not None:
        return np.array([goal.batch_per_card * float(pool.tensor) / pool.hardware.dies_per_card])
    every = np.arange(1, min(int(most), _EVERY) + 1, dtype=np.float64)
    if most <= _EVERY:
        return every
    powers = 2.0 ** np.arange(math.log2(_EVERY), math.log2(most) + 1)
    more = np.outer(powers, _QUARTERS).ravel()
    return np.union1d(every, [*more[more <= most], math.floor(most)])


def _one(batches: FloatArray) -> float:
    return float(batches[0]) if batches.size else 1.0


def _placed(
    pool: Pool, dies: int, goal: InferenceGoal, *, batch: float, rate: float, seconds: float
) -> InferenceLayout | Rejected:
    """Return the layout with as many instances as the objective wants."""
    size, instances = int(pool.dies), dies // int(pool.dies)
    if goal.objective == "cards":
        most, instances = instances, 1 if goal.demand is None else max(1, math.ceil(goal.demand / rate))
        if instances > most:
            cards = math.ceil(instances * size / pool.hardware.dies_per_card)
            message = f"{goal.demand:,.0f} tokens/s need {counted(cards, 'card')} of it, at {rate:,.0f} an instance"
            return Rejected(pool=pool, reason="limit", message=message)
    return InferenceLayout(
        pool=pool,
        instances=instances,
        batch=batch,
        cards=math.ceil(instances * size / pool.hardware.dies_per_card),
        tokens_per_second=rate,
        seconds=seconds,
    )
