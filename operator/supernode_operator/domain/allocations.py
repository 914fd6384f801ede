"""Who holds which devices: what node agents report, joined with the pods that exist.

An allocation counts only if its pod exists, is bound to that node and is not terminal. A report that makes no sense
is left out and named; it never stops anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from supernode_api.compute_node import ComputeNodeStatus
from supernode_api.ranges import parse_ranges
from supernode_operator.domain.compute_nodes import node_name, server_index
from supernode_operator.domain.objects import Object, name

__all__ = ["Garbage", "Holding", "PodLookup", "is_living_on", "join_holdings", "read_status"]

PodLookup = Callable[[str, str], Object | None]
"""(namespace, name) -> pod, or None."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What one container holds on one server. ``links`` None: it asked for none on any server."""

    namespace: str
    pod: str
    container: str
    server: int
    dies: tuple[int, ...]
    links: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Garbage:
    """A ComputeNode status that cannot be true."""

    compute_node: str
    message: str


def read_status(compute_node: Object) -> ComputeNodeStatus | Garbage:
    """Read what an agent reports."""
    try:
        return ComputeNodeStatus.model_validate(compute_node.get("status") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return Garbage(name(compute_node), f"status.{where}: {first['msg']}")


def is_living_on(pod: Object | None, node: str | None) -> bool:
    """Whether a pod exists, is bound to this node and is not terminal."""
    if pod is None or node is None:
        return False
    return pod["spec"].get("nodeName") == node and pod["status"].get("phase") not in ("Succeeded", "Failed")


def join_holdings(compute_nodes: Iterable[Object], find_pod: PodLookup) -> tuple[list[Holding], list[Garbage]]:
    """Return what living containers hold, by server, and which reports were left out."""
    found: list[Holding] = []
    garbage: list[Garbage] = []
    for compute_node in sorted(compute_nodes, key=server_index):
        status = read_status(compute_node)
        if isinstance(status, Garbage):
            garbage.append(status)
            continue
        devices = compute_node["spec"]["devices"]
        holders: dict[int, str] = {}
        for allocation in status.allocations:
            who = f"{allocation.namespace}/{allocation.pod}"
            if not is_living_on(find_pod(allocation.namespace, allocation.pod), node_name(compute_node)):
                continue
            try:
                dies = tuple(parse_ranges(allocation.dies, devices["dies"]))
                links = tuple(parse_ranges(allocation.links, devices["dies"] * devices["planes"]))
            except ValueError as error:
                garbage.append(Garbage(name(compute_node), f"status.allocations of {who}: {error}"))
                continue
            twice = sorted(die for die in dies if die in holders)
            if twice:
                other = holders[twice[0]]
                garbage.append(Garbage(name(compute_node), f"die {twice[0]} is held by {other} and by {who}"))
                continue
            holders.update(dict.fromkeys(dies, who))
            found.append(
                Holding(
                    allocation.namespace, allocation.pod, allocation.container, server_index(compute_node), dies, links
                )
            )
    return _links_asked_for(found), garbage


def _links_asked_for(holdings: list[Holding]) -> list[Holding]:
    """A container that holds links anywhere asked for links: then it has only those; else all of its dies'."""
    asked = {(h.namespace, h.pod, h.container) for h in holdings if h.links}
    return [
        h
        if (h.namespace, h.pod, h.container) in asked
        else Holding(h.namespace, h.pod, h.container, h.server, h.dies, None)
        for h in holdings
    ]
