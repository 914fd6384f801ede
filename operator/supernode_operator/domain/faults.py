"""Faults in force, as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from supernode_operator.domain.objects import Object, name

__all__ = ["describe_fault", "list_faults"]


def list_faults(compute_nodes: Iterable[Object]) -> list[str]:
    """Describe every fault of these servers, one phrase each."""
    return [
        f"{name(cn)} {describe_fault(fault)}"
        for cn in compute_nodes
        for fault in (cn.get("spec") or {}).get("faults") or []
        if isinstance(fault, dict)
    ]


def describe_fault(fault: Mapping[str, Any]) -> str:
    """Describe one fault: what is broken, how bad, and its code."""
    if "die" in fault:
        what = f"die {fault['die']}"
    elif port := fault.get("diePort"):
        what = f"port of die {port.get('die')} on plane {port.get('plane')}"
    elif uplink := fault.get("uplink"):
        what = f"uplink {uplink.get('port')} of plane {uplink.get('plane')}"
    else:
        what = f"L1 chip of plane {(fault.get('l1') or {}).get('plane')}"
    code = f" {fault['code']}" if fault.get("code") else ""
    return f"{what} ({fault.get('level', 'SeparateNPU')}{code})"
