"""A training run over several supernodes that are joined by RDMA, as one operating point.

Every supernode has the same servers in use; replicas are shared out evenly. The figures are the whole run's: its step
has what the ring of gradients between supernodes does not hide, as ``supernodes``.
"""

from __future__ import annotations

from dataclasses import replace

from supernode_dataplane.inputs import Inputs
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.profile import Profile
from supernode_dataplane.state import MachineState, Problem, WorkloadResult
from supernode_dataplane.superclusters import (
    Member,
    SpanningWorkload,
    Supercluster,
    build_cluster_fabric,
    solve_supercluster,
)

__all__ = ["spanning_result"]


def spanning_result(
    profile: Profile, inputs: Inputs, training: TrainingSpec, *, nodes: int, supernodes: int, oversubscription: int
) -> tuple[MachineState, WorkloadResult]:
    """Return the state of the first supernode, and the result of a run on the first servers of all of them.

    The rates in the state are those inside a supernode. Failures of ``inputs`` are the first one's. Raises ValueError
    for a network that cannot be wired.
    """
    cluster = Supercluster(profile=profile, supernodes=supernodes, oversubscription=oversubscription)
    (workload,) = inputs.workloads
    members = tuple(Member(number, tuple(range(nodes))) for number in range(supernodes))
    run = SpanningWorkload(key=workload.key, training=training, members=members)
    solved = solve_supercluster(build_cluster_fabric(cluster), [run], {0: inputs.compute_nodes})
    (found,) = solved.workloads
    state = replace(solved.machines[0], digest=inputs.digest)
    dies = supernodes * nodes * profile.dies_per_server
    base = WorkloadResult(key=run.key, problem=found.problem, waiting=found.waiting, dies=dies, cards=found.cards)
    parts = [part for machine in solved.machines if (part := machine.workload(run.key)) is not None]
    if found.problem is not None:
        return state, replace(base, problem=_named(found.problem))
    if found.waiting or not parts:
        return state, base
    slowest = max(parts, key=lambda part: part.step_time_seconds)
    breakdown = {**(slowest.breakdown_seconds or {}), "supernodes": found.exposed_seconds}
    return state, replace(
        slowest,
        dies=dies,
        cards=found.cards,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        tokens_per_second=found.tokens_per_second,
        tokens_per_second_per_card=found.tokens_per_second_per_card,
        tokens_per_step=training.global_batch_size * training.sequence_length,
        mfu=found.mfu,
        step_time_seconds=found.step_seconds,
        bound="RDMA" if found.exposed_seconds > 0.5 * found.step_seconds else slowest.bound,
        breakdown_seconds=breakdown,
        power_watts=sum(part.power_watts for part in parts),
    )


def _named(problem: Problem) -> Problem:
    """Return the problem with the scenario's field; what the cluster calls members are supernodes and nodes."""
    if problem.field == "members":
        return replace(problem, field="machine.supernodes")
    remedy = "; give machine.supernodes that divide it" if problem.field.startswith("training.") else ""
    return replace(problem, message=problem.message + remedy)
