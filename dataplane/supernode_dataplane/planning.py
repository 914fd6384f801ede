"""The best layout for a model, a machine and an objective, over a stated lattice of legal layouts.

Training: tensor 1 to a server's dies, pipeline up to 64 stages, 1 to 4 virtual stages, micro-batch 1 or 2, experts over
1 to 64 replicas; all powers of two that divide what they must. Dies are taken in order from whole, healthy servers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from supernode_dataplane.communication import LinkView
from supernode_dataplane.layout import check_layout, replicas
from supernode_dataplane.link_costs import Groups, LinkCosts, groups_of, link_costs
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.profile import Profile
from supernode_dataplane.stacks import Stack
from supernode_dataplane.state import Problem
from supernode_dataplane.training import Step, plan_training, training_step

__all__ = ["TrainingPlan", "best_training", "healthy_costs", "legal_training", "training_plans"]

_PIPELINES: Final = (1, 2, 4, 8, 16, 32, 64)
_CHUNKS: Final = (1, 2, 4)
_MICRO_BATCHES: Final = (1, 2)
_EXPERTS: Final = (1, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """One layout with what it achieves, or why it does not."""

    spec: TrainingSpec
    tokens_per_second: float
    recompute: float
    hbm_bytes: float
    """Of the fullest die."""
    step: Step | None = None
    problem: Problem | None = None


def legal_training(profile: Profile, wanted: TrainingSpec, dies: int) -> Iterator[TrainingSpec]:
    """Yield the layouts of the lattice that are legal on so many dies."""
    tensors = [t for t in (1, 2, 4, 8, 16, 32) if t <= min(profile.dies_per_server, dies)]
    experts = _EXPERTS if wanted.model.is_moe else (1,)
    for tensor in tensors:
        for pipeline in _PIPELINES:
            for chunks in _CHUNKS if pipeline > 1 else (1,):
                for micro in _MICRO_BATCHES:
                    for expert in experts:
                        spec = replace(
                            wanted,
                            tensor=tensor,
                            pipeline=pipeline,
                            virtual_pipeline=chunks,
                            micro_batch_size=micro,
                            expert=expert,
                            data=None,
                        )
                        if check_layout(spec, dies, "the dies") is None:
                            yield spec


def training_plans(
    profile: Profile, wanted: TrainingSpec, dies: int, stack: Stack | None = None
) -> Iterator[TrainingPlan]:
    """Yield every legal layout with its rate (0 with the problem where it does not fit)."""
    for spec in legal_training(profile, wanted, dies):
        plan = plan_training(profile, spec, dies, stack)
        if isinstance(plan, Problem):
            yield TrainingPlan(spec, 0.0, 0.0, 0.0, problem=plan)
            continue
        step = training_step(profile, plan, healthy_costs(profile, spec, dies))
        tokens = spec.global_batch_size * spec.sequence_length
        yield TrainingPlan(spec, tokens / step.seconds, plan.memory.recompute, max(plan.memory.used_bytes), step=step)


def best_training(profile: Profile, wanted: TrainingSpec, dies: int, stack: Stack | None = None) -> TrainingPlan:
    """Return the fastest layout; one with rate 0 and a problem when none fits."""
    problem = Problem("DoesNotFit", "spec.training", "no legal layout of the lattice fits")
    nothing = TrainingPlan(wanted, 0.0, 0.0, 0.0, problem=problem)
    return max(training_plans(profile, wanted, dies, stack), key=lambda plan: plan.tokens_per_second, default=nothing)


def healthy_costs(profile: Profile, spec: TrainingSpec, dies: int) -> LinkCosts:
    """Return the link costs of a job on whole, healthy servers, in rank order."""
    return _costs_of(profile, groups_of(spec), (spec.pipeline, replicas(spec, dies), spec.tensor))


@lru_cache(maxsize=4096)
def _costs_of(profile: Profile, groups: Groups, shape: tuple[int, int, int]) -> LinkCosts:
    size = shape[0] * shape[1] * shape[2]
    servers = -(-size // profile.dies_per_server)
    whole = replace(profile, servers=max(profile.servers, servers))
    grid = np.arange(size, dtype=np.int64).reshape(shape)
    return link_costs(LinkView(whole, None, None), grid, groups)
