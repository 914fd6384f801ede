"""Cabinets: apply the Service and the StatefulSets; delete those of another ``cabinetsPerPod`` or without a place."""

from __future__ import annotations

import structlog

from supernode_api import SuperNode
from supernode_api.names import SUPERNODE_LABEL
from supernode_dataplane.profile import Profile
from supernode_operator.domain.cabinets import build_service, build_stateful_sets
from supernode_operator.domain.nodes import Refusal
from supernode_operator.domain.objects import Object, is_deleting, labels, name, subsumes
from supernode_operator.engine.errors import NotFoundError
from supernode_operator.engine.kinds import SERVICE, STATEFUL_SET
from supernode_operator.reconcilers.context import Context

__all__ = ["apply_cabinets"]

log = structlog.get_logger(__name__)


async def apply_cabinets(
    ctx: Context, raw: Object, super_node: SuperNode, profile: Profile, lockout: Refusal | None = None
) -> None:
    """Make the cabinets what they should be; a machine that is locked out of every node has none."""
    if lockout is not None:
        await _delete_sets(ctx, super_node, set(), lockout.reason)
        return
    settings = ctx.pod_settings()
    service = build_service(raw, super_node, settings)
    sets = build_stateful_sets(raw, super_node, profile, settings)
    for kind, desired in ((SERVICE, service), *((STATEFUL_SET, s) for s in sets)):
        live = ctx.store.get(kind, name(desired), settings.namespace)
        if live is not None and is_deleting(live):
            continue
        if live is None or not subsumes(live, desired):
            log.info("apply", object=f"{kind.name}/{name(desired)}", owner=f"SuperNode/{super_node.metadata.name}")
            await ctx.client.apply(kind, desired)
    await _delete_sets(ctx, super_node, {name(desired) for desired in sets}, "cabinetsPerPod changed")


async def _delete_sets(ctx: Context, super_node: SuperNode, wanted: set[str], reason: str) -> None:
    """Delete the StatefulSets of a machine but the wanted ones; a Service without pods costs nothing and stays."""
    for live in ctx.store.list(STATEFUL_SET, ctx.config.namespace):
        mine = labels(live).get(SUPERNODE_LABEL) == super_node.metadata.name
        if mine and name(live) not in wanted and not is_deleting(live):
            log.info("delete", object=f"StatefulSet/{name(live)}", reason=reason)
            try:
                await ctx.client.delete(STATEFUL_SET, live)
            except NotFoundError:
                ctx.store.remove(STATEFUL_SET, live)
