"""From ranks to dies: which dies a workload really has, in rank order, and what it waits for.

A die or link that two workloads (or two ranks) name is the first one's; nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.deployment_plan import DeploymentPlan
from supernode_dataplane.figures import counted
from supernode_dataplane.layout import check_layout, replicas
from supernode_dataplane.machine import PartInput, RankInput, WorkloadInput
from supernode_dataplane.profile import Profile
from supernode_dataplane.state import Problem

__all__ = ["Placed", "describe_dies", "names", "place"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Placed:
    """One workload on the machine: its dies in rank order, the links it holds, and whether it can run."""

    dies: IntArray
    links: BoolArray
    """Shape (dies of the job, planes)."""
    grid: IntArray | None
    """Die numbers, (pipeline, replica, tensor), a replica being (data, context); inference (1, 1, dies).

    None while it cannot run.
    """
    prefill_dies: int = 0
    """The first so many dies read prompts; disaggregated inference only."""
    problem: Problem | None = None
    waiting: str = ""
    notes: tuple[str, ...] = ()
    spans_servers: tuple[int, ...] = ()
    links_mismatch: tuple[int, ...] = ()


def names(numbers: list[int], most: int = 6) -> str:
    """Return numbers as text for people, cut after ``most``."""
    shown = ", ".join(str(n) for n in numbers[:most])
    return shown if len(numbers) <= most else f"{shown} and {len(numbers) - most} more"


def describe_dies(profile: Profile, dies: int) -> str:
    """Return how a number of dies came about, for messages: whole servers where it is so."""
    servers, rest = divmod(dies, profile.dies_per_server)
    text = counted(dies, "die")
    return f"{servers} x {profile.dies_per_server} = {text}" if servers and not rest else text


def place(profile: Profile, workload: WorkloadInput, taken: BoolArray) -> Placed:
    """Return where the workload is; ``taken`` (dies,) is marked with its dies."""
    ranks, notes = _expected(workload), list(workload.notes)
    parts: list[PartInput] = []
    owners: list[int] = []
    for number, rank in enumerate(ranks):
        for part in rank.parts:
            if 0 <= part.server < profile.servers:
                parts.append(part)
                owners.append(number)
            else:
                notes.append(f"rank {rank.rank} names server {part.server}, which is not in the machine")
    job, of_part = _free_dies(profile, parts, taken)
    links, foreign = _held_links(profile, parts, job, of_part)
    contested = sum(len(part.dies) for part in parts) - job.size
    held = np.bincount(np.array(owners, dtype=np.int64)[of_part], minlength=len(ranks)).tolist()
    spans, idle, empty = [], [], []
    for number, rank in enumerate(ranks):
        if len(rank.parts) > 1 and len({part.server for part in rank.parts if part.dies}) > 1:
            spans.append(rank.rank)
        if not rank.running:
            idle.append(rank.rank)
        elif not held[number]:
            empty.append(rank.rank)
    # While a pod starts the kubelet shows its links and its dies one after the other: no mismatch yet.
    mismatched = dict.fromkeys(ranks[owners[part]].rank for part in foreign if ranks[owners[part]].running)
    prefill_dies = 0 if workload.inference is None else sum(held[: workload.inference.prefill_nodes])
    if contested:
        notes.append(f"{contested} of its dies are also in another placement, which comes first and has them")
    if workload.inference is not None and workload.inference.prefill_dies is not None:
        prefill_dies = min(workload.inference.prefill_dies, job.size)
    waiting = _waiting_for_ranks(workload, idle, empty)
    problem, grid = workload.problem, None
    if problem is None and not waiting:
        problem, waiting, grid = _grid(profile, workload, job, prefill_dies)
    return Placed(
        dies=job,
        links=links,
        grid=grid,
        prefill_dies=prefill_dies,
        problem=problem,
        waiting="" if problem else waiting,
        notes=tuple(notes),
        spans_servers=tuple(spans),
        links_mismatch=tuple(mismatched),
    )


def _expected(workload: WorkloadInput) -> list[RankInput]:
    """Return the ranks that count: pods beyond a managed workload's size are on their way out and do no work."""
    most = workload.expected_ranks
    return [rank for rank in workload.ranks if most is None or rank.rank < most]


def _free_dies(profile: Profile, parts: Sequence[PartInput], taken: BoolArray) -> tuple[IntArray, IntArray]:
    """Return the dies of parts that nobody before them has, in their order, and which part each is of."""
    sizes = [len(part.dies) for part in parts]
    of_part = np.repeat(np.arange(len(parts), dtype=np.int64), sizes)
    servers = np.array([part.server for part in parts], dtype=np.int64)
    dies = np.array([die for part in parts for die in part.dies], dtype=np.int64)
    dies += servers[of_part] * profile.dies_per_server
    free = ~taken[dies]
    taken[dies] = True
    if np.bincount(dies, minlength=1).max() > 1:  # a die that two ranks name is the first one's
        first = np.zeros(dies.size, dtype=np.bool_)
        first[np.unique(dies, return_index=True)[1]] = True
        free &= first
    return (dies, of_part) if free.all() else (dies[free], of_part[free])


def _held_links(
    profile: Profile, parts: Sequence[PartInput], job: IntArray, of_part: IntArray
) -> tuple[BoolArray, list[int]]:
    """Return the links of the job's dies, (dies, planes), and the parts that have links of other dies too."""
    links = np.ones((job.size, profile.planes), dtype=np.bool_)
    others = []
    for number, part in enumerate(parts):
        if part.links is None:
            continue
        held = np.zeros((profile.dies_per_server, profile.planes), dtype=np.bool_)
        held.reshape(-1)[list(part.links)] = True
        mine = of_part == number
        links[mine] = held[job[mine] % profile.dies_per_server]
        held[list(part.dies)] = False
        if held.any():
            others.append(number)
    return links, others


def _waiting_for_ranks(workload: WorkloadInput, idle: list[int], empty: list[int]) -> str:
    present = {rank.rank for rank in _expected(workload)}
    if workload.expected_ranks is not None:
        missing = [n for n in range(workload.expected_ranks) if n not in present]
        if missing:
            return f"{len(missing)} of {workload.expected_ranks} ranks have no pod yet: {names(missing)}"
    if not present:
        return "no pod yet"
    if idle:
        return f"{len(idle)} of {len(present)} ranks are not running: {names(idle)}"
    if empty:
        return f"{len(empty)} of {len(present)} ranks hold no dies: {names(empty)}"
    return ""


def _grid(
    profile: Profile, workload: WorkloadInput, job: IntArray, prefill_dies: int
) -> tuple[Problem | None, str, IntArray | None]:
    spec = workload.training
    if workload.inference is not None:
        waiting = _too_few(profile, workload.inference, job.size, prefill_dies)
        return None, waiting, None if waiting else job.reshape(1, 1, -1)
    if spec is None:
        return Problem("InvalidObject", "spec", "the workload has neither training nor inference"), "", None
    product = spec.tensor * spec.context * spec.pipeline * (spec.data or 1)
    if job.size < product:
        split = f"tensor{' x context' if spec.context > 1 else ''} x pipeline"
        held = f"its pods hold {describe_dies(profile, job.size)}"
        return None, f"{held}, and {split}{' x data' if spec.data else ''} = {product} needs more", None
    problem = check_layout(spec, job.size, describe_dies(profile, job.size))
    if problem is not None:
        return problem, "", None
    return None, "", job.reshape(spec.pipeline, replicas(spec, job.size), spec.tensor)


def _too_few(profile: Profile, plan: DeploymentPlan, dies: int, prefill_dies: int) -> str:
    """Return what a deployment waits for when its pods do not hold enough dies yet."""
    pools = (("prefill", plan.prefill, prefill_dies), ("decode", plan.decode, dies - prefill_dies))
    for role, split, held in pools:
        least = 0 if split is None else max(split.tensor, split.expert or 1)
        have = dies if plan.mode != "Disaggregated" else held
        if have < least:
            where = "its pods hold" if plan.mode != "Disaggregated" else f"the pods of its {role} pool hold"
            return f"{where} {describe_dies(profile, have)}, and a {role} pool needs at least {least}"
    return ""
