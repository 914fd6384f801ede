"""The best training layout for a model and a machine, over a stated lattice of legal layouts.

Every divisor: tensor up to a server's dies, stages up to the layers, experts over any replicas, 1 to 4 virtual stages,
micro-batches of 1 or 2, and context rings of powers of two for long sequences, or where nothing fits without. Dies are
taken in order from whole, healthy servers.

A search plans every layout, bounds its rate by a machine whose links cost nothing, and computes links from the best
bound on until no bound is better than what was found: exact, without pricing thousands of layouts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from supernode_dataplane.communication import Cost, LinkView
from supernode_dataplane.constants import OPTIMIZER_BYTES, WEIGHT_BYTES
from supernode_dataplane.layout import check_layout, replicas
from supernode_dataplane.link_costs import Groups, LinkCosts, groups_of, link_costs
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.profile import Profile
from supernode_dataplane.stacks import Stack
from supernode_dataplane.state import Problem
from supernode_dataplane.training import Plan, Step, plan_training, training_step

__all__ = [
    "TrainingPlan",
    "TrainingSearch",
    "fewest_servers",
    "healthy_costs",
    "search_training",
]

_CHUNKS: Final = (1, 2, 4)
_MICRO_BATCHES: Final = (1, 2)
_CONTEXTS: Final = (2, 4, 8, 16, 32)
_LONG_SEQUENCE: Final = 16384
"""From here on a sequence may be worth splitting: below it the attention that hides the ring is short."""
_FREE: Final = LinkCosts(Cost(), Cost(), Cost())


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


@dataclass(frozen=True, slots=True)
class TrainingSearch:
    """What a search over every divisor found."""

    best: tuple[TrainingPlan, ...]
    """The fastest layouts, best first, at most as many as asked for."""
    fitting: int
    """Legal layouts that fit into HBM."""
    rejected: tuple[TrainingPlan, ...]
    """Legal layouts that do not, with the arithmetic; of those that differ in the micro-batch the smallest."""


def search_training(
    profile: Profile, wanted: TrainingSpec, dies: int, *, top: int = 1, stack: Stack | None = None
) -> TrainingSearch:
    """Return the ``top`` fastest layouts of every divisor of the dies; ``wanted`` says all but the layout.

    Tuples of plans, fastest first, with seconds of a step, tokens per second of all ``dies``, and the layouts that do
    not fit with their bytes. Where nothing fits the tuple is empty, which is no error; StackNotFoundError for a stack
    that is none. Source: what :func:`~supernode_dataplane.training.training_step` rests on, docs/fidelity.md.
    """
    fitting, rejected = _planned(profile, wanted, dies, (1,), stack)
    rings = tuple(c for c in _CONTEXTS if dies % c == 0)
    if wanted.sequence_length >= _LONG_SEQUENCE or not fitting:
        more, worse = _planned(profile, wanted, dies, rings, stack)
        fitting, rejected = fitting + more, rejected + worse
    bounds = sorted(((training_step(profile, plan, _FREE).seconds, plan) for plan in fitting), key=lambda each: each[0])
    found: list[tuple[float, TrainingPlan]] = []
    for bound, plan in bounds:
        if len(found) >= top and found[top - 1][0] <= bound:
            break
        step = training_step(profile, plan, healthy_costs(profile, plan.spec, dies))
        found.append((step.seconds, _priced(plan, step)))
        found.sort(key=lambda each: each[0])
    return TrainingSearch(tuple(plan for _, plan in found[:top]), len(fitting), tuple(rejected))


def fewest_servers(
    profile: Profile, wanted: TrainingSpec, most: int, *, demand: float = 0.0, top: int = 1, stack: Stack | None = None
) -> tuple[int, TrainingSearch]:
    """Return the fewest whole servers, at most ``most``, that make ``demand`` tokens per second, and their search.

    Without any the search is that of ``most`` servers, empty or too slow.
    """
    held = WEIGHT_BYTES + wanted.gradient_bytes + OPTIMIZER_BYTES
    # Every parameter is somewhere, so fewer dies than this cannot do: those searches are spared.
    least = wanted.model.parameters * held / (profile.hbm_bytes_per_die * profile.dies_per_server)
    found = TrainingSearch((), 0, ())
    for servers in range(max(1, min(most, math.ceil(least))), most + 1):
        found = search_training(profile, wanted, servers * profile.dies_per_server, top=top, stack=stack)
        if found.best and found.best[0].tokens_per_second >= demand:
            return servers, found
    return most, found


def _planned(
    profile: Profile, wanted: TrainingSpec, dies: int, contexts: tuple[int, ...], stack: Stack | None
) -> tuple[list[Plan], list[TrainingPlan]]:
    """Return the legal layouts that fit, and those that do not."""
    fitting: list[Plan] = []
    rejected: list[TrainingPlan] = []
    for smallest in _every_layout(profile, wanted, dies, contexts):
        for micro in _MICRO_BATCHES:
            spec = replace(smallest, micro_batch_size=micro)
            if check_layout(spec, dies, "the dies") is not None:
                continue
            plan = plan_training(profile, spec, dies, stack)
            if isinstance(plan, Problem):
                rejected.append(TrainingPlan(spec, 0.0, 0.0, 0.0, problem=plan))
                break  # a larger micro-batch holds more
            fitting.append(plan)
    return fitting, rejected


def _every_layout(
    profile: Profile, wanted: TrainingSpec, dies: int, contexts: tuple[int, ...]
) -> Iterator[TrainingSpec]:
    """Yield splits by every divisor, with a micro-batch of one; whether they are legal is not checked."""
    most = max((kind.feed_forward.experts for kind in wanted.model.kinds), default=0)
    for tensor in _divisors(dies, profile.dies_per_server):
        for context in (c for c in contexts if dies // tensor % c == 0):
            for pipeline in _divisors(dies // tensor // context, wanted.model.layers):
                members = dies // tensor // pipeline
                for expert in _divisors(members, most) if wanted.model.is_moe else (1,):
                    for chunks in _CHUNKS if pipeline > 1 else (1,):
                        yield replace(
                            wanted,
                            tensor=tensor,
                            pipeline=pipeline,
                            virtual_pipeline=chunks,
                            context=context,
                            expert=expert,
                            micro_batch_size=1,
                            data=None,
                        )


@lru_cache(maxsize=1024)
def _divisors(number: int, most: int) -> tuple[int, ...]:
    """Return the divisors up to ``most``, ascending."""
    return tuple(d for d in range(1, min(number, most) + 1) if number % d == 0)


def _priced(plan: Plan, step: Step) -> TrainingPlan:
    tokens = plan.spec.global_batch_size * plan.spec.sequence_length
    used = max(plan.memory.used_bytes)
    return TrainingPlan(plan.spec, tokens / step.seconds, plan.memory.recompute, used, step=step)


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
