"""A deployment's rates from the operating point of one instance of each pool, and how busy each pool is.

    Prefill, Decode, Colocated   rate of an instance x instances that work
    Disaggregated                requests/s = the least of what prefill, decode and the links between them take

Sequences that a fixed concurrency asks for beyond what the caches hold wait outside and do not count. Where numbers of
the plan are arrays, so is what follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supernode_dataplane.capacity import cache_bytes, expert_weight_bytes, weight_bytes
from supernode_dataplane.decode import DecodeStep
from supernode_dataplane.deployment import Pool
from supernode_dataplane.deployment_plan import (
    Deployment,
    DeploymentPlan,
    Role,
    RolePool,
    inference_spec,
    pool_capacity,
    sequences_per_group,
)
from supernode_dataplane.inference import InferencePoint, inference_point
from supernode_dataplane.numeric import Number, at_least, at_most, choose, key_of_largest
from supernode_dataplane.pool_work import PoolWork, decode_work, prefill_work, split_work
from supernode_dataplane.prefill import PrefillStep
from supernode_dataplane.state import Bound

__all__ = ["PoolRates", "Rates", "deployment_rates"]


@dataclass(frozen=True, slots=True)
class PoolRates:
    """What a die of one pool does in the steady state, and what it holds."""

    work: tuple[PoolWork, ...]
    """Of each phase, already times the share of the time that the pool is in it."""
    memory: dict[str, Number]
    """HBM of a die by use, bytes: weights, buffers, activations, caches."""
    sent_bytes_per_second: Number = 0.0
    """Caches that a die hands to the other pool."""
    received_bytes_per_second: Number = 0.0
    experts: PoolRates | None = None
    """Of a die with experts, where they are apart from attention; the other fields are of a die with attention."""

    @property
    def used_bytes(self) -> Number:
        """HBM in use on a die."""
        return sum(self.memory.values())


@dataclass(frozen=True, slots=True)
class Rates:
    """A deployment's steady state."""

    tokens_per_second: Number
    prompt_tokens_per_second: Number
    ttft_seconds: Number
    tpot_seconds: Number
    sequences: Number
    """That run on each tensor group of the decode pool."""
    refused: Number
    """Share of the concurrency that the caches do not hold."""
    decode: DecodeStep | None
    prefill: PrefillStep | None
    pools: dict[Role, PoolRates]
    """By role, in the order of their dies."""
    flops_per_second: Number
    """Of the model, all instances together: products and uncompressed attention, cached prompt tokens left out."""
    peak: float
    """Of a die in the format that products are computed in, operations per second."""
    bound: Any
    """A :data:`Bound`, or an array of them: what the busiest pool's time is mostly made of."""

    @property
    def fullest(self) -> PoolRates:
        """Of the dies with the most HBM in use; where nothing is an array."""
        sides = [side for pool in self.pools.values() for side in (pool, pool.experts) if side is not None]
        return max(sides, key=lambda side: float(side.used_bytes))

    @property
    def step_seconds(self) -> Number:
        """Seconds of a decode step; of a batch in mode Prefill."""
        step = self.decode if self.decode is not None else self.prefill
        return 0.0 if step is None else step.seconds


def deployment_rates(deployment: Deployment, prefill_instances: int, decode_instances: int) -> Rates:
    """Return what the instances that work make of a deployment whose weights fit."""
    plan, decode = deployment.plan, deployment.decode
    sequences = step_sequences = refused = 0.0
    filled: Number = 1.0
    if decode is not None:
        wanted = sequences_per_group(plan, decode, decode_instances)
        capacity, _ = pool_capacity(deployment, decode)
        sequences = at_most(wanted, capacity.sequences)
        refused = 1.0 - sequences / wanted
        # A step serves whole sequences: with less than one for each group, some groups have none.
        step_sequences = at_least(sequences, 1.0)
        filled = sequences / step_sequences
    point = inference_point(inference_spec(deployment, step_sequences))
    requests, shares = _requests(deployment, point, prefill_instances, decode_instances, filled)
    pools: dict[Role, PoolRates] = {}
    for found, instances in ((deployment.prefill, prefill_instances), (deployment.decode, decode_instances)):
        if found is not None:
            pools[found.role] = _pool_rates(
                deployment, found, point, shares=shares, requests=requests / instances, sequences=sequences
            )
    any_pool = deployment.pools[0].pool
    return Rates(
        tokens_per_second=requests * plan.tokens_per_request,
        prompt_tokens_per_second=0.0 if plan.mode == "Decode" else requests * plan.input_tokens,
        ttft_seconds=point.ttft_seconds,
        tpot_seconds=point.tpot_seconds,
        sequences=sequences,
        refused=refused,
        decode=point.decode,
        prefill=point.prefill,
        pools=pools,
        flops_per_second=requests * _flops_per_request(plan),
        peak=any_pool.hardware.peak(any_pool.precision.activations),
        bound=_bound(pools),
    )


def _requests(
    deployment: Deployment, point: InferencePoint, prefill_instances: int, decode_instances: int, filled: Number
) -> tuple[Number, dict[str, Number]]:
    """Return requests per second of the deployment, and the share of its time that each phase takes of its pool."""
    plan = deployment.plan
    alone = point.tokens_per_second / plan.tokens_per_request
    if plan.mode != "Disaggregated":
        instances = prefill_instances if plan.mode == "Prefill" else decode_instances
        shares = {"decode": point.decode_share, "prefill": point.prefill_share}
        return alone * instances * filled, shares
    assert deployment.prefill is not None
    assert deployment.decode is not None
    seconds = {
        "prefill": point.prefill_share / alone / prefill_instances,
        "decode": point.decode_share / alone / decode_instances / filled,
    }
    slowest: Number = 0.0
    for found, instances, step in (
        (deployment.prefill, prefill_instances, point.prefill),
        (deployment.decode, decode_instances, point.decode),
    ):
        assert step is not None
        wire = step.sent_bytes / _way_out(found.pool) / step.seconds
        handed = _handed_bytes(deployment.prefill.pool, plan) / (instances * float(found.pool.attention_dies))
        links = seconds[found.role] * wire + handed / _way_out(found.pool)
        slowest = at_least(slowest, at_least(seconds[found.role], links))
    requests = 1.0 / slowest
    return requests, {role: requests * each for role, each in seconds.items()}


def _way_out(pool: Pool) -> float:
    return pool.hardware.pod_bytes_per_second or pool.hardware.rdma_bytes_per_second


def _handed_bytes(pool: Pool, plan: DeploymentPlan) -> Number:
    """Return the caches of one prompt, of all dies of its group and all stages together."""
    return cache_bytes(pool, 1.0 * plan.input_tokens) * float(pool.tensor * pool.context * pool.pipeline)


def _pool_rates(
    deployment: Deployment,
    found: RolePool,
    point: InferencePoint,
    *,
    shares: dict[str, Number],
    requests: Number,
    sequences: Number,
) -> PoolRates:
    """Return the readings of a die; ``requests`` are those of one instance per second."""
    plan, pool = deployment.plan, found.pool
    capacity, _ = pool_capacity(deployment, found)
    held, context = sequences, plan.input_tokens + plan.output_tokens / 2.0
    work: list[PoolWork] = []
    experts: PoolRates | None = None
    if found.role == "decode":
        assert point.decode is not None
        if pool.split is None:
            step = decode_work(pool, point.decode, at_least(sequences, 1.0), context)
        else:
            step, beside = split_work(pool, at_least(sequences, 1.0), context)
            held_there = {"weights": expert_weight_bytes(pool), "buffers": capacity.buffers}
            experts = PoolRates((beside.scaled(shares["decode"]),), held_there)
        work.append(step.scaled(shares["decode"]))
    else:
        held, context = 1.0 * plan.prompts, 1.0 * plan.input_tokens
    reads_prompts = found.role == "prefill" or plan.mode == "Colocated"
    if reads_prompts:
        assert point.prefill is not None
        cached = plan.input_tokens * plan.cached_share
        new = plan.input_tokens - cached
        mean, before = cached + new / 2.0, cached * plan.prompts
        step = prefill_work(pool, point.prefill, new * plan.prompts, mean, cached=before)
        work.append(step.scaled(shares["prefill"]))
    memory = {
        "weights": capacity.weights if pool.split is None else weight_bytes(pool),
        "buffers": capacity.buffers,
        "activations": capacity.activations,
        "caches": held * cache_bytes(pool, context),
    }
    handed: Number = 0.0
    if plan.mode == "Disaggregated":
        assert deployment.prefill is not None
        handed = requests * _handed_bytes(deployment.prefill.pool, plan) / float(pool.attention_dies)
    sends = found.role == "prefill"
    return PoolRates(tuple(work), memory, handed if sends else 0.0, 0.0 if sends else handed, experts)


def _flops_per_request(plan: DeploymentPlan) -> Number:
    model, new = plan.model, 1.0 - plan.cached_share
    flops: Number = 0.0
    if plan.mode != "Decode":
        context = plan.input_tokens * (plan.cached_share + new / 2.0)
        flops += plan.input_tokens * new * (model.matmul_flops_per_token + model.attention_flops(context))
    if plan.mode != "Prefill":
        context = plan.input_tokens + plan.output_tokens / 2.0
        flops += plan.output_tokens * (model.matmul_flops_per_token + model.attention_flops(context))
    return flops


def _bound(pools: dict[Role, PoolRates]) -> Any:
    """Return the cause that has most of the busiest pool's time; the first where several have as much."""
    most: dict[Bound, Number] = {}
    busiest: Number = -1.0
    for pool in pools.values():
        causes = {bound: sum(work.causes[bound] for work in pool.work) for bound in pool.work[0].causes}
        busy = sum(sum(work.causes.values()) for work in pool.work)
        most = {bound: choose(busy > busiest, share, most.get(bound, 0.0)) for bound, share in causes.items()}
        busiest = at_least(busy, busiest)
    return key_of_largest(most)
