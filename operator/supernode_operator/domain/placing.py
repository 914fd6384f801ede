"""Dealing compute servers over Kubernetes nodes.

Sticky: what is placed stays while its node is usable. New nodes get only servers that have no place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

__all__ = ["plan_dedicated", "plan_packed"]


def plan_packed(servers: int, placed: Mapping[int, str], nodes: Sequence[str]) -> dict[int, str]:
    """Place servers 0..n-1 on however few nodes, as evenly as stickiness allows; neighbours stay together.

    ``placed`` is where servers are now; those on nodes not in ``nodes`` are placed anew. Without nodes none is.
    """
    plan = {server: node for server, node in placed.items() if node in nodes and 0 <= server < servers}
    waiting = [server for server in range(servers) if server not in plan]
    if not nodes:
        return plan
    loads = Counter(dict.fromkeys(nodes, 0))
    loads.update(plan.values())
    shares: Counter[str] = Counter()
    for _ in waiting:  # pour into the emptiest
        node = min(nodes, key=lambda n: (loads[n] + shares[n], nodes.index(n)))
        shares[node] += 1
    queue = iter(waiting)
    for node in nodes:
        for _ in range(shares[node]):
            plan[next(queue)] = node
    return plan


def plan_dedicated(
    servers: int, placed: Mapping[int, str], nodes: Sequence[str], occupied: Collection[str] = ()
) -> dict[int, str]:
    """Place servers 0..n-1 on a node each, as far as nodes go; ``occupied`` nodes still have a server that leaves."""
    plan: dict[int, str] = {}
    taken: set[str] = set()
    for server in sorted(placed):
        node = placed[server]
        if node in nodes and node not in taken and 0 <= server < servers:
            plan[server] = node
            taken.add(node)
    free = [node for node in nodes if node not in taken and node not in occupied]
    waiting = [server for server in range(servers) if server not in plan]
    plan.update(zip(waiting, free, strict=False))
    return plan
