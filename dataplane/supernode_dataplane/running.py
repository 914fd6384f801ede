"""One training run: its pace on the links it has, and what every die of it does.

The pace is that of a plan (:mod:`supernode_dataplane.training`) at the link costs of where the dies are. A broken die
stops its data parallel replica: the others do its micro-batches too, so the rate is (data - lost) / data of the full
one. At a fixed plan no straggler is dropped: links of a lost replica still count in the pace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.communication import Cost, LinkView
from supernode_dataplane.fabric import Fabric, plane_share
from supernode_dataplane.incast import excess_of, member_load
from supernode_dataplane.link_costs import LinkCosts, groups_of, link_costs
from supernode_dataplane.placing import Placed, names
from supernode_dataplane.runs import DieLoads, Run, Stall, place_of, stall_of_links
from supernode_dataplane.training import EXCHANGES_PER_PASS, Plan, Step, training_step

__all__ = ["TrainingRun", "run_training"]

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


def run_training(fabric: Fabric, placed: Placed, plan: Plan, free: FloatArray | None) -> TrainingRun:
    """Return the pace of a placed training run; ``free`` (servers, planes) is the uplinks' share that others leave."""
    profile, grid = fabric.profile, placed.grid
    if grid is None:
        raise ValueError("a workload without a grid cannot run")
    servers = grid.reshape(-1) // profile.dies_per_server
    active = np.bincount(servers, minlength=profile.servers).astype(np.float64)
    up = fabric.ports[placed.dies] & placed.links
    ports: FloatArray | None = None
    if not up.all():
        ports = np.zeros((profile.dies, profile.planes))
        ports[placed.dies] = up
    share = plane_share(fabric, active, free) if profile.has_bus_between_servers else None
    view = LinkView(profile, ports, share)
    costs = link_costs(view, grid, groups_of(plan.spec))
    step = training_step(profile, plan, costs)
    whole = _whole_replicas(fabric.healthy[grid], plan)
    alive = int(np.count_nonzero(whole)) // plan.spec.context
    runs = alive > 0 and np.isfinite(step.seconds)
    seconds = step.seconds * plan.data / alive if runs else float("inf")
    tokens = plan.spec.global_batch_size * plan.spec.sequence_length
    load, outside = _traffic(profile.planes, plan, costs, grid.size)
    working = np.broadcast_to(whole[None, :, None], grid.shape).reshape(-1)
    scale = (working / step.seconds)[:, None] if runs else np.zeros((grid.size, 1))
    uplinks = np.zeros((profile.servers, profile.planes))
    np.add.at(uplinks, servers, outside * scale)
    traffic = load * scale
    return TrainingRun(
        plan=plan,
        step=step,
        seconds=seconds,
        pace_seconds=step.seconds,
        tokens_per_second=tokens / seconds if runs else 0.0,
        lost_replicas=plan.data - alive,
        working=working & runs,
        port_tx_bytes_per_second=traffic,
        port_rx_bytes_per_second=traffic,
        uplink_tx_bytes_per_second=uplinks,
        uplink_rx_bytes_per_second=uplinks,
        loads=_loads(plan, step, grid.size) if runs else None,
        stall=_stall(fabric, placed, up, alive, bool(np.isfinite(step.seconds))),
        notes=_notes(fabric, placed, costs, plan, up=up, lost=plan.data - alive),
    )


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


def _whole_replicas(healthy: BoolArray, plan: Plan) -> BoolArray:
    """Return which replicas work: those that share a sequence or the experts with a broken die stop with it."""
    whole: BoolArray = np.logical_and.reduce(healthy, axis=(0, 2))
    together = max(plan.spec.context, plan.spec.expert)
    return np.repeat(whole.reshape(-1, together).all(axis=1), together)


def _traffic(planes: int, plan: Plan, costs: LinkCosts, dies: int) -> tuple[FloatArray, FloatArray]:
    """Return the bytes per step on each port and, of these, those that leave the server.

    Of exchanges with experts, forward and backward, half are dispatches and half combines: what the die with the
    hottest experts gets more than others in one it sends more in the other, so sent equals received.
    """
    spec, recompute = plan.spec, plan.memory.recompute
    shares = [kind.share for kind in plan.kinds]

    def of_stages(values: list[float]) -> FloatArray:
        """Return the sum over a stage's layers, for each die."""
        sums = [sum(n * value for n, value in zip(counts, values, strict=True)) for counts in plan.counts]
        return np.repeat(np.array(sums), dies // len(sums))[:, None] * float(plan.micro_batches)

    passes = 2.0 + recompute
    hottest = spec.expert_imbalance if spec.hot_rank else 1.0
    copies = [share.exchange_bytes * EXCHANGES_PER_PASS * passes for share in shares]
    # Keys and values go round forward, and again backward, there with their gradients.
    turns = [share.context_bytes * (spec.context - 1) * (3.0 + recompute) for share in shares]
    messages: tuple[tuple[Cost, list[float] | float], ...] = (
        (costs.tensor, [plan.shard_bytes * share.collectives * passes for share in shares]),
        (costs.pipeline, plan.micro_batches * plan.handover_bytes),
        (costs.data, plan.gradient_bytes),
        (costs.context, turns),
        (_with_incast(costs, hottest), [sent / spec.expert for sent in copies]),
        (_of_members(costs, hottest), copies),
        (costs.expert_data, plan.expert_gradient_bytes),
    )
    load, outside = np.zeros((dies, planes)), np.zeros((dies, planes))
    for cost, sent in messages:
        if isinstance(cost.ports, np.ndarray):
            each = of_stages(sent) if isinstance(sent, list) else sent
            load += each * cost.ports
            if isinstance(cost.uplinks, np.ndarray):
                outside += each * cost.uplinks
    return load, outside


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
    profile, tensor = fabric.profile, costs.tensor
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
    if fabric.common is not None:
        servers = np.unique(placed.dies // profile.dies_per_server)
        hurt = [int(s) for s in servers if not fabric.uplinks[s][fabric.l1[s]].all()]
        if hurt:
            notes.append(f"uplinks are broken on servers {names(hurt)}: less bandwidth between servers")
    if lost:
        notes.append(
            f"{lost} of {plan.data} data parallel replicas have a broken die and are lost: "
            f"the rate is {plan.data - lost}/{plan.data}"
        )
    return tuple(notes)
