"""Who holds which die, and what is wrong with it: ComputeNodes as one entry for each die. Garbage is skipped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from supernode_api.ranges import parse_ranges

__all__ = ["FaultCodes", "Holder", "plan_fault_codes", "plan_holders"]

FaultCodes = Mapping[int, tuple[int, ...]]
"""Die of the machine -> codes of its faults in force, as numbers."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A container that holds a die."""

    namespace: str = ""
    pod: str = ""
    container: str = ""


def plan_holders(compute_nodes: Iterable[Mapping[str, Any]], dies_per_server: int, servers: int) -> dict[int, Holder]:
    """Return the holder of each die of the machine that has one, by die number (server x dies per server + phyID)."""
    holders: dict[int, Holder] = {}
    for node in compute_nodes:
        server = _server(node, servers)
        if server is None:
            continue
        for allocation in _list(_dict(node.get("status")).get("allocations")):
            holder = Holder(*(str(_dict(allocation).get(key, ""))[:253] for key in ("namespace", "pod", "container")))
            for phy_id in _ranges(_dict(allocation).get("dies"), dies_per_server):
                holders.setdefault(server * dies_per_server + phy_id, holder)
    return holders


def plan_fault_codes(compute_nodes: Iterable[Mapping[str, Any]], dies_per_server: int, servers: int) -> FaultCodes:
    """Return the codes of the faults that name a die, at most ten for each as npu-exporter shows them.

    A code is a hexadecimal number; what is not (UB switch codes, names) is left out, because a gauge cannot show it.
    """
    codes: dict[int, tuple[int, ...]] = {}
    for node in compute_nodes:
        server = _server(node, servers)
        if server is None:
            continue
        for fault in _list(_dict(node.get("spec")).get("faults")):
            phy_id, code = _dict(fault).get("die"), _hex(_dict(fault).get("code"))
            if code is None or not isinstance(phy_id, int) or not 0 <= phy_id < dies_per_server:
                continue
            die = server * dies_per_server + phy_id
            codes[die] = (*codes.get(die, ()), code)[:10]
    return codes


def _server(node: Mapping[str, Any], servers: int) -> int | None:
    index = _dict(node.get("spec")).get("serverIndex")
    return index if isinstance(index, int) and 0 <= index < servers else None


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _ranges(text: Any, limit: int) -> list[int]:
    try:
        return parse_ranges(text, limit) if isinstance(text, str) else []
    except ValueError:
        return []


def _hex(text: Any) -> int | None:
    if not isinstance(text, str) or not 1 <= len(text) <= 16:
        return None
    try:
        return int(text, 16)
    except ValueError:
        return None
