"""What a mean die of a pool does at one operating point: cores, HBM, bytes on its links, bytes in its memory.

Per second of work of the pool; a pool that waits for another one, or for prompts, does so much less. Waiting is neither
work nor traffic. All-reduce: the algorithm that is fastest says what travels (2 m / n to each of n, or m to each).
Sequences, tokens and context may be arrays, as the step's numbers then are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from supernode_dataplane.constants import COLLECTIVE_VECTOR_SHARE
from supernode_dataplane.decode import DecodeStep
from supernode_dataplane.deployment import Pool
from supernode_dataplane.exchange import halving_doubling_seconds, one_shot_seconds, over_network_card, ring_seconds
from supernode_dataplane.numeric import Number, at_least, at_most, choose
from supernode_dataplane.pool_phases import hop_bytes, ring_bytes
from supernode_dataplane.prefill import PrefillStep
from supernode_dataplane.split import split_decode_step, split_pool_step
from supernode_dataplane.state import Bound

__all__ = ["PoolWork", "decode_work", "prefill_work", "split_work"]

_CORES = ("projections", "core", "feed_forward", "head")
_COLLECTIVES = ("dispatch", "combine", "exchange", "all_reduce", "ring")
_WAITING = ("fixed", "host", "waiting", "experts")
_RATES = ("busy", "cube", "vector", "hbm", "exchanged", "reduced", "ringed", "piped", "dispatched", "combined")


@dataclass(frozen=True, slots=True)
class PoolWork:
    """Shares are of the time that the pool works; bytes are per second of it, of one die."""

    seconds: Number
    busy: Number
    cube: Number
    vector: Number
    hbm: Number
    exchanged: Number
    """Bytes that a die sends evenly to its expert ranks, itself counted in."""
    reduced: Number
    """The same to its tensor group."""
    causes: Mapping[Bound, Number]
    """Shares of the time by what bounds them."""
    ringed: Number = 0.0
    """Bytes that a die sends to the next one of those that share its prompts."""
    piped: Number = 0.0
    """Bytes that a die of any stage but the last sends to the next stage."""
    dispatched: Number = 0.0
    """Bytes that an attention die sends to dies with experts only; what it gets back is ``combined``."""
    combined: Number = 0.0

    def scaled(self, share: Number) -> PoolWork:
        """Return the work of a pool that works a share of the time."""
        rates = {name: getattr(self, name) * share for name in _RATES}
        return replace(self, causes={bound: part * share for bound, part in self.causes.items()}, **rates)


def decode_work(pool: Pool, step: DecodeStep, sequences: Number, context: Number) -> PoolWork:
    """Return what a die does in decode steps of ``sequences`` on each tensor group."""
    queries = pool.speculation.queries
    core = sum(
        group.count * group.attention.decode_core_flops(context) * sequences * queries / pool.tensor
        for group in pool.architecture.kinds
    )
    work = _work(pool, step, core / pool.pipeline, sequences * queries)
    if pool.pipeline > 1:
        work = replace(work, piped=hop_bytes(pool, sequences * queries) / step.seconds)
    return work


def split_work(pool: Pool, sequences: Number, context: Number) -> tuple[PoolWork, PoolWork]:
    """Return what a die with attention and a die with experts do, where they are apart; the exchange has its fields."""
    step, hardware = split_pool_step(pool, sequences, context), pool.hardware
    queries, seconds = pool.speculation.queries, step.seconds
    core = sum(
        group.count * group.attention.decode_core_flops(context) * sequences * queries / pool.tensor
        for group in pool.architecture.kinds
    )
    whole = split_decode_step(pool, sequences, context)
    attention = replace(
        _work(pool, whole, core, sequences * queries),
        exchanged=0.0,
        dispatched=step.dispatched_bytes / seconds,
        combined=step.combined_bytes / seconds,
    )
    busy = at_most(step.expert_seconds / seconds, 1.0)
    moved = step.expert_hbm_bytes / hardware.hbm_bytes_per_second
    experts = PoolWork(
        seconds=seconds,
        busy=busy,
        cube=at_most(step.expert_flops / hardware.peak(pool.precision.activations) / seconds, 1.0),
        vector=0.0 * busy,
        hbm=at_most(moved / seconds, 1.0),
        exchanged=0.0,
        reduced=0.0,
        causes={},
    )
    return attention, experts


def prefill_work(pool: Pool, step: PrefillStep, tokens: Number, context: Number, *, cached: Number = 0.0) -> PoolWork:
    """Return what a die does in batches of ``tokens`` new prompt tokens of a group, at a mean context."""
    core = sum(
        group.count * group.attention.prefill_core_flops(context) * tokens / pool.tensor
        for group in pool.architecture.kinds
    )
    own = tokens / pool.context
    work = _work(pool, step, core / (pool.context * pool.pipeline), own)
    if pool.context > 1:
        work = replace(work, ringed=ring_bytes(pool, tokens, cached) / pool.pipeline / step.seconds)
    if pool.pipeline > 1:
        work = replace(work, piped=hop_bytes(pool, own) / step.seconds)
    return work


def _work(pool: Pool, step: DecodeStep | PrefillStep, core_flops: Number, tokens: Number) -> PoolWork:
    hardware, stack, causes, seconds = pool.hardware, pool.stack, step.breakdown, step.seconds
    products = at_least(step.flops - core_flops, 0.0)
    peak, core_peak = hardware.peak(pool.precision.activations), hardware.peak("bf16")
    cores = sum(causes.get(cause, 0.0) for cause in _CORES) + causes.get("draft", 0.0)
    collectives = sum(causes.get(cause, 0.0) for cause in _COLLECTIVES)
    vector = causes["vector"]
    moved = step.hbm_bytes / hardware.hbm_bytes_per_second
    computed = products / peak + core_flops / core_peak
    by_hbm = moved / stack.hbm_efficiency > products / (peak * stack.gemm_efficiency) + core_flops / (
        core_peak * stack.attention_efficiency
    )
    spread = float(pool.expert) > 1
    far = spread and (over_network_card(hardware, stack) or float(pool.expert) > hardware.dies_per_server)
    over_rdma = not hardware.pod_bytes_per_second and (far or float(pool.tensor) > hardware.dies_per_server)
    rest = vector + sum(causes.get(cause, 0.0) for cause in _WAITING)
    bounds: dict[Bound, Number] = {
        "Compute": choose(by_hbm, 0.0, cores) + rest,
        "HBM": choose(by_hbm, cores, 0.0),
        "Bus": 0.0 if over_rdma else collectives,
        "RDMA": collectives if over_rdma else 0.0,
        "Pipeline": causes.get("bubble", 0.0),
    }
    return PoolWork(
        seconds=seconds,
        busy=at_most((cores + vector + collectives) / seconds, 1.0),
        cube=at_most(computed / seconds, 1.0),
        vector=at_most((vector + collectives * COLLECTIVE_VECTOR_SHARE) / seconds, 1.0),
        hbm=at_most(moved / seconds, 1.0),
        exchanged=_exchanged(pool, step.sent_bytes) / seconds,
        reduced=_reduced(pool, tokens) / seconds,
        causes={bound: part / seconds for bound, part in bounds.items()},
    )


def _exchanged(pool: Pool, sent: Number) -> Number:
    """Return what ranks send to all, from what leaves their package by any wire."""
    if float(pool.expert) <= 1:
        return 0.0
    if over_network_card(pool.hardware, pool.stack):
        return 0.0  # nothing of it takes a port of the bus
    wire = pool.hardware.wire(1.0, float(pool.expert))
    outside = float(wire.node + wire.pod + wire.rdma)
    return sent / outside if outside else 0.0


def _reduced(pool: Pool, tokens: Number) -> Number:
    ranks, hardware = float(pool.tensor), pool.hardware
    if ranks <= 1:
        return 0.0
    size = 2.0 * tokens * pool.architecture.hidden
    halves = at_most(ring_seconds(hardware, size, ranks), halving_doubling_seconds(hardware, size, ranks))
    volume = choose(one_shot_seconds(hardware, size, ranks, pool.stack) < halves, ranks, 2.0)
    spread = float(pool.expert) > 1
    times = sum(group.count * (1 if group.feed_forward.is_moe and spread else 2) for group in pool.architecture.kinds)
    return times * size * volume / pool.pipeline
