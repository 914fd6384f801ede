"""One training run: its pace on the links it has, and what every die of it does.

The pace is that of a plan (:mod:`supernode_dataplane.training`) at the link costs of where the dies are. A broken die
stops its data parallel replica: the others do its micro-batches too, so the rate is (data - lost) / data of the full
one. At a fixed plan no straggler is dropped: links of a lost replica still count in the pace. Which dies and links a
run has does not depend on its numbers (:class:`PlacedTraining`); what it sends is a sum over few patterns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.communication import Cost
from supernode_dataplane.fabric import Fabric, servers_short
from supernode_dataplane.incast import excess_of, member_load
from supernode_dataplane.job_links import costs_of_job, job_links
from supernode_dataplane.link_costs import LinkCosts, groups_of
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.numeric import Number
from supernode_dataplane.placing import Placed, names
from supernode_dataplane.profile import Profile
from supernode_dataplane.runs import DieLoads, Run, Stall, place_of, stall_of_links
from supernode_dataplane.training import EXCHANGES_PER_PASS, Plan, Step, training_step

__all__ = [
    "PlacedTraining",
    "TrainingRun",
    "placed_training",
    "run_training",
    "sent_by_stage",
    "sent_in_step",
    "shown_costs",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun(Run):
    """A training run on its dies; what it sends equals what it receives on every port."""

    plan: Plan
    step: Step
    seconds: float
    """Of a step, lost replicas counted in; inf when nothing moves."""
    lost_replicas: int


@dataclass(frozen=True, slots=True, eq=False)
class PlacedTraining:
    """A training run's dies and the links that they have, whatever its numbers are."""

    up: BoolArray
    """Shape (dies of the job, planes): the links that it holds and that work."""
    costs: LinkCosts
    whole: BoolArray
    """Shape (data x context,): which replicas have no broken die."""
    working: BoolArray
    """Shape (dies of the job,): the dies of whole replicas."""
    alive: int
    """Data parallel replicas that work."""

    def seconds(self, step_seconds: Number, data: int) -> Number:
        """Return the time of a step in which ``alive`` of ``data`` replicas do the work of all."""
        return step_seconds * data / self.alive


def placed_training(fabric: Fabric, placed: Placed, spec: TrainingSpec, free: FloatArray | None) -> PlacedTraining:
    """Return a placed run on its dies; ``free`` (servers, planes) is the uplinks' share that others leave."""
    grid = placed.grid
    if grid is None:
        raise ValueError("a workload without a grid cannot run")
    up = fabric.ports[placed.dies] & placed.links
    stages, members, tensor = grid.shape
    whole = _whole_replicas(fabric.healthy[grid], spec)
    return PlacedTraining(
        up=up,
        costs=costs_of_job(job_links(fabric, placed.dies, up, free), (stages, members, tensor), groups_of(spec)),
        whole=whole,
        working=np.broadcast_to(whole[None, :, None], grid.shape).reshape(-1),
        alive=int(np.count_nonzero(whole)) // spec.context,
    )


def run_training(fabric: Fabric, placed: Placed, plan: Plan, free: FloatArray | None) -> TrainingRun:
    """Return the pace of a placed training run; ``free`` (servers, planes) is the uplinks' share that others leave."""
    profile, dies = fabric.profile, placed.dies.size
    found = placed_training(fabric, placed, plan.spec, free)
    motion = _motion(profile, plan, found.costs, dies)
    step = motion.step
    moves = bool(np.isfinite(step.seconds))
    runs = found.alive > 0 and moves
    seconds = found.seconds(step.seconds, plan.data) if runs else float("inf")
    tokens = plan.spec.global_batch_size * plan.spec.sequence_length
    scale = (found.working / step.seconds)[:, None] if runs else np.zeros((dies, 1))
    uplinks = np.zeros((profile.servers, profile.planes))
    np.add.at(uplinks, placed.dies // profile.dies_per_server, motion.outside * scale)
    traffic = motion.ports * scale
    lost = plan.data - found.alive
    return TrainingRun(
        plan=plan,
        step=step,
        seconds=seconds,
        pace_seconds=step.seconds,
        tokens_per_second=tokens / seconds if runs else 0.0,
        lost_replicas=lost,
        working=found.working & runs,
        port_tx_bytes_per_second=traffic,
        port_rx_bytes_per_second=traffic,
        uplink_tx_bytes_per_second=uplinks,
        uplink_rx_bytes_per_second=uplinks,
        loads=motion.loads if runs else None,
        stall=_stall(fabric, placed, found.up, found.alive, moves),
        notes=_notes(fabric, placed, found.costs, plan, up=found.up, lost=lost),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Motion:
    """What every die of a run does in a step, whether or not its replica is whole."""

    step: Step
    ports: FloatArray
    """Bytes per step, (dies of the job, planes)."""
    outside: FloatArray
    """Of these, what leaves the server."""
    loads: DieLoads


@lru_cache(maxsize=32)
def _motion(profile: Profile, plan: Plan, costs: LinkCosts, dies: int) -> _Motion:
    """Return it for a plan on its links. Both are kept where they are made, so workloads that are alike share it."""
    step = training_step(profile, plan, costs)
    ports, outside = _traffic(profile.planes, plan, costs, dies)
    return _Motion(step, ports, outside, _loads(plan, step, dies))


def _loads(plan: Plan, step: Step, dies: int) -> DieLoads:
    """Return what each die does: dies of a stage are alike."""
    rows = [
        [load.busy for load in step.loads],
        [load.cube for load in step.loads],
        [load.vector for load in step.loads],
        [load.hbm for load in step.loads],
        list(plan.memory.used_bytes),
    ]
    return DieLoads(*np.repeat(np.array(rows), dies // len(plan.layers), axis=1))


def _whole_replicas(healthy: BoolArray, spec: TrainingSpec) -> BoolArray:
    """Return which replicas work: those that share a sequence or the experts with a broken die stop with it."""
    whole: BoolArray = np.logical_and.reduce(healthy, axis=(0, 2))
    together = max(spec.context, spec.expert)
    return np.repeat(whole.reshape(-1, together).all(axis=1), together)


def _traffic(planes: int, plan: Plan, costs: LinkCosts, dies: int) -> tuple[FloatArray, FloatArray]:
    """Return the bytes per step on each port and, of these, those that leave the server."""
    shown = shown_costs(costs, plan.spec.expert_imbalance if plan.spec.hot_rank else 1.0)
    load, outside = np.zeros((dies, planes)), np.zeros((dies, planes))
    for name, sent in sent_in_step(plan).items():
        cost = shown[name]
        if isinstance(cost.ports, np.ndarray):
            each = sent
            if isinstance(sent, list):
                each = np.repeat(np.array(sent_by_stage(plan, sent)), dies // len(plan.counts))[:, None]
            load += each * cost.ports
            if isinstance(cost.uplinks, np.ndarray):
                outside += each * cost.uplinks
    return load, outside


def sent_in_step(plan: Plan) -> Mapping[str, Sequence[Number] | Number]:
    """Return the bytes that a die sends by the pattern of :class:`~supernode_dataplane.link_costs.LinkCosts`.

    A sequence has those of a layer of each kind for one micro-batch; a number is of a step, and alike in all stages.
    """
    spec, recompute = plan.spec, plan.memory.recompute
    shares = [kind.share for kind in plan.kinds]
    passes = 2.0 + recompute
    copies = [share.exchange_bytes * EXCHANGES_PER_PASS * passes for share in shares]
    return {
        "tensor": [plan.shard_bytes * share.collectives * passes for share in shares],
        "pipeline": plan.micro_batches * plan.handover_bytes,
        "data": plan.gradient_bytes,
        # Keys and values go round forward, and again backward, there with their gradients.
        "context": [share.context_bytes * (spec.context - 1) * (3.0 + recompute) for share in shares],
        "expert": [sent / spec.expert for sent in copies],
        "expert_tensor": copies,
        "expert_data": plan.expert_gradient_bytes,
    }


def sent_by_stage(plan: Plan, sent: Sequence[Number] | Number) -> list[Number]:
    """Return what a die of each stage sends in a step, from an entry of :func:`sent_in_step`."""
    if not isinstance(sent, list):
        return [sent] * len(plan.counts)
    sums = (sum(n * value for n, value in zip(counts, sent, strict=True)) for counts in plan.counts)
    return [each * plan.micro_batches for each in sums]


def shown_costs(costs: LinkCosts, hottest: float) -> Mapping[str, Cost]:
    """Return the costs by pattern, ports as they show a hottest die of ``hottest`` times the mean load.

    Of exchanges with experts, forward and backward, half are dispatches and half combines: what the die with the
    hottest experts gets more than others in one it sends more in the other, so sent equals received. What a port
    carries is linear in ``hottest``, up to the size of a group and no further.
    """
    return {
        "tensor": costs.tensor,
        "pipeline": costs.pipeline,
        "data": costs.data,
        "context": costs.context,
        "expert": _with_incast(costs, hottest),
        "expert_tensor": _of_members(costs, hottest),
        "expert_data": costs.expert_data,
    }


def _with_incast(costs: LinkCosts, imbalance: float) -> Cost:
    """Return the exchange of experts with what the hottest die of each group carries more than the others."""
    cost, incast = costs.expert, costs.incast
    if incast is None or incast.size == 1 or imbalance <= 1:
        return cost
    wanted = min(imbalance, float(incast.size)) - 1.0

    def carried(load: FloatArray | float, to_hottest: FloatArray) -> FloatArray | float:
        if not isinstance(load, np.ndarray):
            return load
        return np.maximum(load + wanted * excess_of(incast, load, to_hottest).mixed(0.5, 0.5).sent, 0.0)

    return replace(cost, ports=carried(cost.ports, incast.ports), uplinks=carried(cost.uplinks, incast.uplinks))


def _of_members(costs: LinkCosts, imbalance: float) -> Cost:
    """Return the gather of dies that split an expert: those of the hottest rank gather more."""
    cost = costs.expert_tensor
    if costs.incast is None or imbalance <= 1:
        return cost
    loads = member_load(costs.incast, imbalance)
    ports, uplinks = (load * loads if isinstance(load, np.ndarray) else load for load in (cost.ports, cost.uplinks))
    return replace(cost, ports=ports, uplinks=uplinks)


def _stall(fabric: Fabric, placed: Placed, up: BoolArray, alive: int, moves: bool) -> Stall | None:
    if not alive:
        broken = placed.dies[~fabric.healthy[placed.dies]]
        lost = f"{broken.size} of its dies are broken, so that no data parallel replica is whole"
        return Stall("DiesFaulty", f"{lost}; the first is {place_of(fabric.profile, int(broken[0]))}")
    return None if moves else stall_of_links(fabric, placed, up)


def _notes(
    fabric: Fabric, placed: Placed, costs: LinkCosts, plan: Plan, *, up: BoolArray, lost: int
) -> tuple[str, ...]:
    tensor = costs.tensor
    notes = []
    if tensor.remote_groups:
        way = "RDMA" if tensor.rdma else "the L2 switches"
        notes.append(
            f"{tensor.remote_groups} of {tensor.groups} tensor groups span servers: their collectives cross {way} at "
            "lower bandwidth and higher latency than inside a server; place each group on one server"
        )
    held = int(np.count_nonzero(placed.links))
    if held < placed.links.size and placed.dies.size > 1:
        notes.append(f"its containers hold {held} of the {placed.links.size} bus links of its dies")
    broken = held - int(np.count_nonzero(up))
    if broken and placed.dies.size > 1:
        notes.append(f"{broken} of its bus links are broken; the slowest pair of dies sets the pace")
    if hurt := servers_short(fabric, placed.dies):
        notes.append(f"uplinks are broken on servers {names(hurt)}: less bandwidth between servers")
    if lost:
        notes.append(
            f"{lost} of {plan.data} data parallel replicas have a broken die and are lost: "
            f"the rate is {plan.data - lost}/{plan.data}"
        )
    return tuple(notes)
