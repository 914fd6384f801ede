"""A cluster of supernodes at one operating point: each as :func:`supernode_dataplane.solve` has it, and rings.

A workload across supernodes has whole replicas in each, which run an equal part of its batch; what solve() says of the
slowest part is its step, and a ring over the supernodes sums the gradients of all parameters:

    step = slowest part + exposed share of a ring of 2 (n - 1) / n x parameters x bytes of a gradient

Supernodes with equal inputs are solved once. Values in, values out; nothing is stored for pairs of dies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from supernode_dataplane.machine import PartInput, RankInput, ServerInput, TrainingSpec, WorkloadInput
from supernode_dataplane.solving import solve
from supernode_dataplane.state import MachineState, Problem, WorkloadResult
from supernode_dataplane.superclusters.fabric import ClusterFabric
from supernode_dataplane.superclusters.rings import Ring, RingResult, Traffic, share_rings

__all__ = ["Member", "SpanningResult", "SpanningWorkload", "SuperclusterState", "solve_supercluster"]


@dataclass(frozen=True, slots=True)
class Member:
    """A workload's whole servers in one supernode."""

    supernode: int
    servers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanningWorkload:
    """One training run on servers of one supernode or of several; ``training`` is that of the whole run."""

    key: str
    """Unlike any other's."""
    training: TrainingSpec
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanningResult:
    """What the cluster makes of one workload; all zero with ``problem`` or while it waits."""

    key: str
    problem: Problem | None = None
    waiting: str = ""
    tokens_per_second: float = 0.0
    tokens_per_second_per_card: float = 0.0
    mfu: float = 0.0
    step_seconds: float = 0.0
    slowest_part_seconds: float = 0.0
    """Of a step inside the slowest supernode."""
    exposed_seconds: float = 0.0
    """Of the ring between supernodes."""
    ring_bytes_per_second: float = 0.0
    contended: bool = False
    cards: int = 0


@dataclass(frozen=True, slots=True)
class SuperclusterState:
    """The whole cluster: workloads by key, one state for each supernode, and the network between them."""

    workloads: tuple[SpanningResult, ...]
    machines: tuple[MachineState, ...]
    """By supernode; equal ones are one object. Their rates know nothing of the ring."""
    traffic: Traffic
    tokens_per_second: float


@dataclass(slots=True)
class _Part:
    """A workload while it is being solved."""

    workload: SpanningWorkload
    problem: Problem | None = None
    results: list[WorkloadResult] = field(default_factory=list)

    @property
    def slowest(self) -> WorkloadResult:
        return max(self.results, key=lambda result: result.step_time_seconds)

    @property
    def waiting(self) -> str:
        for member, result in zip(self.workload.members, self.results, strict=False):  # no results with a problem
            if result.waiting:
                return f"supernode {member.supernode}: {result.waiting}"
        return ""


def solve_supercluster(
    fabric: ClusterFabric,
    workloads: Sequence[SpanningWorkload],
    faults: Mapping[int, Sequence[ServerInput]] | None = None,
) -> SuperclusterState:
    """Return the steady state; ``faults`` are those inside supernodes, by supernode."""
    cluster, broken = fabric.cluster, faults or {}
    every = tuple(range(cluster.profile.dies_per_server))
    parts = [_Part(workload, _problem(fabric, workload)) for workload in sorted(workloads, key=lambda w: w.key)]
    inputs: list[list[WorkloadInput]] = [[] for _ in range(cluster.supernodes)]
    for part in parts:
        for member in part.workload.members if part.problem is None else ():
            inputs[member.supernode].append(_input(part.workload, member, every))
    known: dict[tuple[object, ...], MachineState] = {}
    machines = []
    for supernode in range(cluster.supernodes):
        same = (tuple(broken.get(supernode, ())), tuple(inputs[supernode]))
        if same not in known:
            known[same] = solve(cluster.profile, same[0], same[1])
        machines.append(known[same])
    for part in parts:
        for member in part.workload.members if part.problem is None else ():
            found = machines[member.supernode].workload(part.workload.key)
            if found is not None:
                part.results.append(found)
                part.problem = part.problem or found.problem
    moving = [part for part in parts if part.problem is None and not part.waiting]
    rings = [_ring(part) for part in moving if len(part.workload.members) > 1]
    paces, traffic = share_rings(fabric, rings)
    by_key = {pace.key: pace for pace in paces}
    results = tuple(_result(fabric, part, by_key.get(part.workload.key)) for part in parts)
    return SuperclusterState(results, tuple(machines), traffic, sum(result.tokens_per_second for result in results))


def _problem(fabric: ClusterFabric, workload: SpanningWorkload) -> Problem | None:
    members, cluster = workload.members, fabric.cluster
    names = [member.supernode for member in members]
    if not members or len(set(names)) < len(names):
        return Problem("InvalidParallelism", "members", "a workload needs servers, each supernode named once")
    if not all(0 <= name < cluster.supernodes for name in names):
        return Problem("InvalidParallelism", "members", f"the cluster has supernodes 0 to {cluster.supernodes - 1}")
    for member in members:
        held = set(member.servers)
        if len(held) < len(member.servers) or not held <= set(range(cluster.profile.servers)):
            return Problem(
                "InvalidParallelism", "members", f"supernode {member.supernode}: servers must be its own, once"
            )
    if len({len(member.servers) for member in members}) > 1:
        return Problem("InvalidParallelism", "members", "every supernode must have as many servers of the workload")
    for name, count in (("globalBatchSize", workload.training.global_batch_size), ("data", workload.training.data)):
        if count is not None and count % len(members):
            return Problem(
                "InvalidParallelism",
                f"training.{name}",
                f"{name} {count} is not divisible by {len(members)} supernodes",
            )
    return None


def _input(workload: SpanningWorkload, member: Member, dies: tuple[int, ...]) -> WorkloadInput:
    training, count = workload.training, len(workload.members)
    data = None if training.data is None else training.data // count
    own = replace(training, global_batch_size=training.global_batch_size // count, data=data)
    ranks = tuple(RankInput(rank, True, (PartInput(server, dies),)) for rank, server in enumerate(member.servers))
    return WorkloadInput(key=workload.key, training=own, ranks=ranks)


def _ring(part: _Part) -> Ring:
    workload, slowest = part.workload, part.slowest
    count = len(workload.members)
    gradients = workload.training.model.parameters * workload.training.gradient_bytes
    return Ring(
        key=workload.key,
        supernodes=tuple(member.supernode for member in workload.members),
        servers=tuple(member.servers for member in workload.members),
        bytes_per_step=2.0 * (count - 1) / count * gradients,
        step_seconds=slowest.step_time_seconds,
        hidden_behind_seconds=slowest.spare_compute_seconds,
    )


def _result(fabric: ClusterFabric, part: _Part, pace: RingResult | None) -> SpanningResult:
    workload, profile = part.workload, fabric.cluster.profile
    if part.problem is not None or part.waiting:
        return SpanningResult(key=workload.key, problem=part.problem, waiting=part.waiting)
    seconds = pace.step_seconds if pace is not None else part.slowest.step_time_seconds
    cards = sum(result.cards for result in part.results)
    if pace is not None and pace.bytes_per_second == 0:
        return SpanningResult(key=workload.key, waiting="no way is left between two of its supernodes", cards=cards)
    training = workload.training
    rate = training.global_batch_size * training.sequence_length / seconds
    flops = rate * training.model.training_flops_per_token(training.sequence_length)
    return SpanningResult(
        key=workload.key,
        tokens_per_second=rate,
        tokens_per_second_per_card=rate / cards,
        mfu=flops / (cards * profile.dies_per_package * profile.bf16_flops_per_die),
        step_seconds=seconds,
        slowest_part_seconds=part.slowest.step_time_seconds,
        exposed_seconds=pace.exposed_seconds if pace is not None else 0.0,
        ring_bytes_per_second=pace.bytes_per_second if pace is not None else 0.0,
        contended=pace.contended if pace is not None else False,
        cards=cards,
    )
