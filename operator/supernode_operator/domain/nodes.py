"""Which Kubernetes nodes a SuperNode may use.

The oldest SuperNode whose selector matches a node has it. A label of somebody else on it, or a foreign device plugin,
keeps it out. Whether the kubelet is Ready decides nothing here: servers stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from supernode_api import SuperNode
from supernode_api.conditions import Reason
from supernode_api.names import NODE_LABEL
from supernode_operator.domain.accept import Rejection, parse_super_node, reject_super_node
from supernode_operator.domain.objects import (
    Object,
    age_key,
    extended_quantity,
    is_deleting,
    labels,
    name,
    node_is_ready,
    selects,
)

__all__ = ["NodeChoice", "Refusal", "choose_nodes", "find_lockout", "resources_gone", "wanted_nodes"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node that matches and yet is not used."""

    node: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class NodeChoice:
    """The nodes of a SuperNode: usable ones, Ready ones first, and refused ones."""

    usable: tuple[str, ...]
    refused: tuple[Refusal, ...] = ()


def wanted_nodes(super_node: Object, nodes: Iterable[Object]) -> list[Object]:
    """Return the nodes that a SuperNode's selector matches, without those that are being deleted."""
    parsed = parse_super_node(super_node)
    if isinstance(parsed, Rejection):
        return []
    return [node for node in nodes if not is_deleting(node) and selects(parsed.spec.nodes.selector, labels(node))]


def choose_nodes(
    super_node: Object, everyone: Iterable[Object], nodes: Iterable[Object], compute_nodes: Iterable[Object]
) -> NodeChoice:
    """Choose among nodes; ``compute_nodes`` are those on them, of all SuperNodes (a node is taken while one is there).

    ``everyone`` are all SuperNodes.
    """
    parsed = parse_super_node(super_node)
    if isinstance(parsed, Rejection):
        return NodeChoice(())
    everyone, wanted = list(everyone), wanted_nodes(super_node, nodes)
    elders = _elders(super_node, everyone, wanted)
    tenants: dict[str, str] = {}
    for compute_node in compute_nodes:
        spec = compute_node.get("spec") or {}
        if spec.get("superNode") != name(super_node):
            tenants.setdefault(str(spec.get("nodeName", "")), str(spec.get("superNode", "")))
    known = {name(sn) for sn in everyone}
    usable: list[Object] = []
    refused: list[Refusal] = []
    resources = (parsed.spec.resources.npu, parsed.spec.resources.bus_link)
    for node in wanted:
        elder = next((n for n, other in elders if selects(other.spec.nodes.selector, labels(node))), None)
        label = labels(node).get(NODE_LABEL)
        holder = tenants.get(name(node)) or (label if label != name(super_node) and label in known else None)
        refusal = _refuse(node, elder, holder, resources)
        if refusal is None:
            usable.append(node)
        else:
            refused.append(refusal)
    usable.sort(key=lambda node: (not node_is_ready(node), name(node)))
    return NodeChoice(tuple(name(node) for node in usable), tuple(sorted(refused, key=lambda r: r.node)))


def _elders(super_node: Object, everyone: list[Object], nodes: list[Object]) -> list[tuple[str, SuperNode]]:
    """Return the older SuperNodes, oldest first, that some of these nodes belong to."""
    found = []
    for other in sorted(everyone, key=age_key):
        if age_key(other) >= age_key(super_node):
            break
        parsed = parse_super_node(other)
        if is_deleting(other) or isinstance(parsed, Rejection):
            continue
        # What is cheap first: whether it may be at all is a look at all the others.
        wants_any = any(selects(parsed.spec.nodes.selector, labels(node)) for node in nodes)
        if wants_any and reject_super_node(other, everyone) is None:
            found.append((name(other), parsed))
    return found


def find_lockout(choice: NodeChoice, compute_nodes: Iterable[Object]) -> Refusal | None:
    """Return why a machine has no place at all: every node that matches is refused, and no server of it is on one.

    Such a machine gets no cabinet pods. One that waits for its first node has no refusal and keeps them.
    """
    if choice.usable or any((cn.get("spec") or {}).get("nodeName") for cn in compute_nodes):
        return None
    return next(iter(choice.refused), None)


def resources_gone(node: Object | None, resources: Iterable[str]) -> bool:
    """Whether a node shows none of these resources any more; one that is gone or silent cannot say otherwise."""
    if node is None or not node_is_ready(node):
        return True
    return all(extended_quantity(node, resource) == 0 for resource in resources)


def _refuse(node: Object, elder: str | None, holder: str | None, resources: tuple[str, str]) -> Refusal | None:
    where = name(node)
    if elder is not None:
        return Refusal(
            where,
            Reason.NODE_TAKEN,
            f"node {where} belongs to the older SuperNode {elder}: change one of the selectors",
        )
    if holder:
        return Refusal(where, Reason.NODE_TAKEN, f"node {where} is not yet released by SuperNode {holder}")
    if NODE_LABEL not in labels(node):
        for resource in resources:
            if extended_quantity(node, resource):
                return Refusal(
                    where,
                    Reason.FOREIGN_DEVICE_PLUGIN,
                    f"node {where} already has {resource} from another device plugin: "
                    "remove that, or choose other spec.resources",
                )
    return None
