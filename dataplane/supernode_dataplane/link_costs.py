"""The parallel groups of a job on its dies, and what each of their patterns costs on the links that it holds.

``grid`` (pipeline, replica, tensor) holds die numbers; a replica is a pair (data, context), context first. Context
rings are consecutive replicas; an expert group is ``expert`` consecutive replicas of one place in the tensor group;
the dies that hold the same part of the same experts are the rest. Costs have their loads in the order of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.communication import Cost, Incast, LinkView, data_cost, incast_of, pipeline_cost, tensor_cost
from supernode_dataplane.constants import LINK_EFFICIENCY
from supernode_dataplane.machine import TrainingSpec

__all__ = ["Groups", "LinkCosts", "at_efficiency", "groups_of", "link_costs"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Groups:
    """The degrees that the shape of the grid does not say."""

    chunks: int = 1
    context: int = 1
    expert: int = 1
    expert_tensor: int = 1
    moe: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class LinkCosts:
    """Costs of the patterns of one job; equal only to itself."""

    tensor: Cost
    pipeline: Cost
    data: Cost
    """Ring over the replicas."""
    context: Cost = field(default_factory=Cost)
    """Ring over the dies that share a sequence."""
    expert: Cost = field(default_factory=Cost)
    """All-to-all of an expert group, per byte sent to each member."""
    incast: Incast | None = None
    """What of it goes to the hottest member; None without experts."""
    expert_tensor: Cost = field(default_factory=Cost)
    """All-gather of the dies that split an expert, per byte of a shard."""
    expert_data: Cost = field(default_factory=Cost)
    """Ring over the dies that hold the same part of the same experts."""


def groups_of(spec: TrainingSpec) -> Groups:
    """Return the groups of a training run."""
    return Groups(spec.virtual_pipeline, spec.context, spec.expert, spec.expert_tensor, spec.model.is_moe)


def at_efficiency(costs: LinkCosts, efficiency: float) -> LinkCosts:
    """Return costs, which are at ``LINK_EFFICIENCY``, at another share of the nominal bandwidth.

    Latencies are as before. The efficiency between servers is derived from it, so all ways are slower or faster alike.
    """
    if efficiency == LINK_EFFICIENCY:
        return costs
    slower = LINK_EFFICIENCY / efficiency
    found = {each.name: getattr(costs, each.name) for each in fields(costs)}
    ways = {name: cost for name, cost in found.items() if isinstance(cost, Cost)}
    changed = {name: replace(cost, seconds_per_byte=cost.seconds_per_byte * slower) for name, cost in ways.items()}
    return LinkCosts(**{**found, **changed})


def link_costs(view: LinkView, grid: IntArray, groups: Groups) -> LinkCosts:
    """Return the costs of a job's patterns."""
    costs = LinkCosts(tensor_cost(view, grid), pipeline_cost(view, grid, groups.chunks), data_cost(view, grid))
    if groups.context > 1:
        stages, members, tensor = grid.shape
        rings = grid.reshape(stages * members // groups.context, groups.context, tensor)
        costs = replace(costs, context=data_cost(view, rings))
    return _with_experts(view, grid, groups, costs) if groups.moe else costs


def _with_experts(view: LinkView, grid: IntArray, groups: Groups, costs: LinkCosts) -> LinkCosts:
    stages, members, tensor = grid.shape
    ep, etp = groups.expert, groups.expert_tensor
    shape = (stages, members // ep, ep, tensor // etp, etp)
    parts = grid.reshape(shape)
    # Members of a group go last for an exchange and second for a ring; loads go back the same way.
    exchange, same = (0, 1, 3, 4, 2), (0, 1, 3, 2, 4)
    members_last = parts.transpose(exchange).reshape(stages, -1, ep)
    across = _at_once(tensor_cost(view, members_last), ep)
    incast = incast_of(view, members_last.reshape(-1, ep))
    within = tensor_cost(view, grid.reshape(stages, -1, etp))
    rings = parts.transpose(same).reshape(stages, members // ep * (tensor // etp), ep * etp)
    return replace(
        costs,
        expert=_reordered(across, shape, exchange),
        incast=replace(
            incast,
            hot=_back(incast.hot, shape, exchange),
            ports=_back(incast.ports, shape, exchange),
            uplinks=_back(incast.uplinks, shape, exchange),
        ),
        expert_tensor=within,
        expert_data=_reordered(data_cost(view, rings), shape, same),
    )


def _at_once(cost: Cost, size: int) -> Cost:
    """Return an exchange whose messages are all under way at once: it waits for the longest way only once."""
    return replace(cost, latency_seconds=cost.latency_seconds / (size - 1)) if size > 1 else cost


def _reordered(cost: Cost, shape: tuple[int, ...], axes: tuple[int, ...]) -> Cost:
    ports, uplinks = (
        _back(load, shape, axes) if isinstance(load, np.ndarray) else load for load in (cost.ports, cost.uplinks)
    )
    return replace(cost, ports=ports, uplinks=uplinks)


def _back(load: NDArray[T], shape: tuple[int, ...], axes: tuple[int, ...]) -> NDArray[T]:
    """Return loads by position of a transposed grid as loads by position of the grid."""
    moved = load.reshape(*(shape[axis] for axis in axes), -1)
    inverse = [axes.index(axis) for axis in range(len(axes))]
    back: NDArray[T] = moved.transpose(*inverse, len(axes)).reshape(-1, load.shape[-1])
    return back
