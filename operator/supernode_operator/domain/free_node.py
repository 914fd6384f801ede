"""Which one Kubernetes node a SuperNode that is made for a moment may have: for ``helm test``.

What the operator would refuse is refused here by the same function; beyond that a node must be Ready, schedulable and
have a label that selects it alone, so that no other node is touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from supernode_operator.domain.nodes import choose_nodes, wanted_nodes
from supernode_operator.domain.objects import Object, labels, name, node_is_ready, some

__all__ = ["HOSTNAME_LABEL", "NodeSearch", "find_free_node"]

HOSTNAME_LABEL: Final = "kubernetes.io/hostname"
"""Kubelets set it; the value need not be the node's name."""
_CONTROL_PLANE_LABEL: Final = "node-role.kubernetes.io/control-plane"
_KEEPS_PODS_AWAY: Final = ("NoSchedule", "NoExecute")
_LAST: Final = "9999-12-31T23:59:59Z"


@dataclass(frozen=True, slots=True)
class NodeSearch:
    """The node that was found, or why there is none."""

    node: str = ""
    """Its name; empty if none is free."""
    hostname: str = ""
    """The value of its label ``kubernetes.io/hostname``, which no other node has."""
    why_not: str = ""
    """What is wrong with each node that the selector matches; empty if it matches none."""


def find_free_node(super_node: Object, everyone: Iterable[Object], nodes: Iterable[Object]) -> NodeSearch:
    """Find a node for a SuperNode that is yet to be created, among those that its selector matches.

    ``everyone`` are the SuperNodes that there are, ``nodes`` all Kubernetes nodes. Workers come before the control
    plane, then names decide.
    """
    nodes = list(nodes)
    # It has no age yet, and what has none reads as the oldest.
    newcomer = {**super_node, "metadata": {**super_node["metadata"], "creationTimestamp": _LAST}}
    choice = choose_nodes(newcomer, everyone, nodes, ())
    hostnames = Counter(labels(node).get(HOSTNAME_LABEL) for node in nodes)
    # After the colon the operator has a remedy for whoever chose that node by hand.
    obstacles = {refusal.node: refusal.message.partition(": ")[0] for refusal in choice.refused}
    free: list[Object] = []
    for node in wanted_nodes(newcomer, nodes):
        if name(node) in obstacles:
            continue
        if obstacle := _find_obstacle(node, hostnames):
            obstacles[name(node)] = f"node {name(node)} {obstacle}"
        else:
            free.append(node)
    if not free:
        return NodeSearch(why_not=some([obstacles[node] for node in sorted(obstacles)]))
    best = min(free, key=lambda node: (_CONTROL_PLANE_LABEL in labels(node), name(node)))
    return NodeSearch(name(best), labels(best)[HOSTNAME_LABEL])


def _find_obstacle(node: Object, hostnames: Counter[str | None]) -> str:
    if not node_is_ready(node):
        return "is not Ready"
    spec = node.get("spec") or {}
    if spec.get("unschedulable"):
        return "is cordoned"
    for taint in spec.get("taints") or []:
        if taint.get("effect") in _KEEPS_PODS_AWAY:
            return f"has the taint {taint.get('key')}:{taint['effect']}"
    hostname = labels(node).get(HOSTNAME_LABEL)
    if not hostname or hostnames[hostname] > 1:
        return f"has no label {HOSTNAME_LABEL} of its own"
    return ""
