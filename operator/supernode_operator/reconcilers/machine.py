"""The status of a SuperNode from the whole machine: conditions, counts and figures."""

from __future__ import annotations

from typing import Any

from supernode_api import SuperNode
from supernode_api.supernode import SuperNodeStatus
from supernode_dataplane.errors import DataplaneError
from supernode_dataplane.figures import machine_performance
from supernode_dataplane.profile import Profile
from supernode_operator.domain.allocations import join_holdings
from supernode_operator.domain.cabinets import build_stateful_sets
from supernode_operator.domain.nodes import NodeChoice
from supernode_operator.domain.objects import Object, name
from supernode_operator.domain.supernode_status import MachineView, build_super_node_status
from supernode_operator.engine.kinds import STATEFUL_SET, SUPER_NODE
from supernode_operator.reconcilers.context import Context
from supernode_operator.reconcilers.statuses import write_status

__all__ = ["write_machine_status"]


async def write_machine_status(
    ctx: Context, raw: Object, super_node: SuperNode, profile: Profile, choice: NodeChoice
) -> None:
    """Compute and write the status from what the cache has now."""
    compute_nodes = ctx.compute_nodes(name(raw))
    holdings, garbage = join_holdings(compute_nodes, ctx.find_pod)
    sets = build_stateful_sets(raw, super_node, profile, ctx.pod_settings())
    live = [s for s in (ctx.store.get(STATEFUL_SET, name(d), ctx.config.namespace) for d in sets) if s is not None]
    performance, stamp = _figures(ctx, raw)
    view = MachineView(
        raw=ctx.store.get(SUPER_NODE, name(raw)) or raw,
        super_node=super_node,
        profile=profile,
        choice=choice,
        compute_nodes=compute_nodes,
        nodes=ctx.nodes(),
        stateful_sets=live,
        wanted_cabinets=sum(d["spec"]["replicas"] for d in sets),
        holdings=holdings,
        garbage=garbage,
        performance=performance,
        stamp=stamp,
        telemetry=ctx.telemetry(),
    )
    await write_status(ctx, SUPER_NODE, view.raw, build_super_node_status(view, ctx.now()), SuperNodeStatus)


def _figures(ctx: Context, raw: Object) -> tuple[dict[str, Any], dict[str, Any] | None]:
    try:
        state = ctx.solver.solve(raw, ctx.compute_nodes(name(raw)), ctx.workloads(name(raw)))
    except DataplaneError:
        return {}, None
    return dict(machine_performance(state)), {"digest": state.digest, "version": state.version}
