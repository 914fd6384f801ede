"""A planned layout as a scenario, for `supernode simulate`, `compare` and `serve-sim`.

A scenario has the share of HBM in whole percent; a layout that has not comes back as a sentence that says so.
"""

from __future__ import annotations

import math
from itertools import accumulate
from operator import mul
from typing import Any

from supernode_dataplane.capacity import MEMORY_FRACTION
from supernode_dataplane.deployment import Pool, Precision, Speculation
from supernode_dataplane.deployment_plan import Deployment
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.profile import Profile

__all__ = ["Document", "inference_scenario", "pool_section", "reading_dies", "training_scenario", "training_section"]

Document = dict[str, Any]


def inference_scenario(profile: Profile, model: str, deployment: Deployment) -> Document | str:
    """Return a deployment as a scenario, or why it is none."""
    plan, dies = deployment.plan, sum(found.dies for found in deployment.pools)
    section: Document = {"mode": plan.mode, "inputTokens": plan.input_tokens}
    if plan.mode != "Prefill":
        section["outputTokens"] = plan.output_tokens
        section["load"] = {"concurrency": plan.concurrency}
    section["precision"] = _formats(plan.precision)
    if deployment.decode is not None:
        section["decode"] = pool_section(deployment.decode.pool)
    if deployment.prefill is not None:
        section["prefill"] = pool_section(deployment.prefill.pool)
        section |= {"promptsPerBatch": plan.prompts} if plan.prompts > 1 else {}
    if plan.mode == "Disaggregated":
        assert deployment.prefill is not None
        section["prefill"] |= reading_dies(profile, deployment.prefill.dies)
    if plan.speculation.drafts and plan.mode != "Prefill":
        section["speculation"] = _speculation(plan.speculation)
    if plan.memory_fraction != MEMORY_FRACTION:
        percent = round(plan.memory_fraction * 100)
        if percent / 100 != plan.memory_fraction:
            return f"--memory-fraction {plan.memory_fraction:g} is no whole percent, which a scenario has: round it"
        section["cache"] = {"memoryFractionPercent": percent}
    machine = _machine(profile, dies)
    return {"machine": machine, "model": {"name": model}, "stack": plan.stack, "inference": section}


def pool_section(pool: Pool) -> Document:
    """Return a pool's parallelism and experts as a scenario has them."""
    parallelism = {"tensor": int(pool.tensor)}
    if pool.architecture.is_moe:
        parallelism["expert"] = int(pool.expert)
    section: Document = {"parallelism": parallelism}
    redundant, shared = int(pool.experts.redundant), int(pool.experts.shared_ranks)
    if redundant or shared:
        section["experts"] = {"redundant": redundant, "sharedRanks": shared}
    return section


def training_scenario(profile: Profile, model: str, spec: TrainingSpec, dies: int) -> Document:
    """Return a training run as a scenario."""
    training = {"sequenceLength": spec.sequence_length, "globalBatchSize": spec.global_batch_size}
    return {
        "machine": _machine(profile, dies),
        "model": {"name": model},
        "stack": spec.stack,
        "training": {**training, **training_section(spec)},
    }


def training_section(spec: TrainingSpec) -> Document:
    """Return the layout of a training run as a scenario has it."""
    parallelism = {"tensor": spec.tensor, "pipeline": spec.pipeline, "virtualPipeline": spec.virtual_pipeline}
    parallelism |= {"context": spec.context} if spec.context > 1 else {}
    parallelism |= {"expert": spec.expert} if spec.expert > 1 else {}
    return {"microBatchSize": spec.micro_batch_size, "parallelism": parallelism}


def _machine(profile: Profile, dies: int) -> Document:
    """Return the first dies of a machine, as servers where they are whole ones."""
    nodes, rest = divmod(dies, profile.dies_per_server)
    return {"profile": profile.name, **({"dies": dies} if rest else {"nodes": nodes})}


def _formats(precision: Precision) -> Document:
    """Return all formats; a class of weights only where it has its own."""
    own = {"attention": precision.attention, "experts": precision.experts}
    return {
        "weights": precision.weights,
        "activations": precision.activations,
        "kvCache": precision.kv_cache,
        "head": precision.head,
        **{name: kind for name, kind in own.items() if kind is not None},
    }


def reading_dies(profile: Profile, dies: int) -> Document:
    """Return the size of a prefill pool, in servers where they are whole ones."""
    nodes, rest = divmod(dies, profile.dies_per_server)
    return {"dies": dies} if rest else {"nodes": nodes}


def _speculation(given: Speculation) -> Document:
    """Return drafts with one chance for all positions, in whole percent; where none is exact, with their mean."""
    drafts, accepted = int(given.drafts), float(given.accepted)
    for percent in range(101):
        if math.isclose(sum(accumulate([percent / 100] * drafts, mul)), accepted, abs_tol=1e-9):
            return {"drafts": drafts, "acceptancePercent": [percent] * drafts}
    return {"drafts": drafts, "tokensPerStep": 1.0 + accepted}
