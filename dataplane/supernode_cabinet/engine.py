"""From API objects to a snapshot: what is solved, and what stays as it was.

A change of the inputs' digest solves the machine; anything else (who holds a die, progress, telemetry settings) only
makes a new snapshot around the same state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from supernode_api.detail import Detail
from supernode_cabinet.holders import plan_fault_codes, plan_holders
from supernode_cabinet.settings import Settings
from supernode_cabinet.shard import plan_shard
from supernode_cabinet.snapshot import Snapshot
from supernode_dataplane.inputs import machine_inputs, solve_inputs

__all__ = ["TelemetrySpec", "build_snapshot", "read_telemetry"]


@dataclass(frozen=True, slots=True)
class TelemetrySpec:
    """SuperNode.spec.telemetry, with its defaults for what cannot be read."""

    interval_seconds: int = 5
    detail: Detail = Detail.DEVICE


def read_telemetry(super_node: Mapping[str, Any]) -> TelemetrySpec:
    """Return the telemetry settings of a SuperNode."""
    telemetry = (super_node.get("spec") or {}).get("telemetry") or {}
    interval, detail = telemetry.get("intervalSeconds"), telemetry.get("detail")
    return TelemetrySpec(
        interval if isinstance(interval, int) and 1 <= interval <= 3600 else 5,
        Detail(detail) if detail in tuple(Detail) else Detail.DEVICE,
    )


def build_snapshot(
    settings: Settings,
    super_node: Mapping[str, Any],
    compute_nodes: Iterable[Mapping[str, Any]],
    workloads: Mapping[str, Mapping[str, Any]],
    previous: Snapshot | None,
) -> Snapshot:
    """Return the snapshot of these objects; the state of ``previous`` is kept when the digest is the same.

    Raises ProfileNotFoundError when the SuperNode names no built-in profile.
    """
    nodes = list(compute_nodes)
    inputs = machine_inputs(super_node, nodes, workloads.values())
    profile = inputs.profile
    state = previous.state if previous is not None and previous.state.digest == inputs.digest else solve_inputs(inputs)
    telemetry = read_telemetry(super_node)
    return Snapshot(
        super_node=settings.super_node,
        profile=profile,
        shard=plan_shard(profile, settings.role, settings.ordinal, settings.cabinets_per_pod),
        state=state,
        holders=plan_holders(nodes, profile.dies_per_server, profile.servers),
        fault_codes=plan_fault_codes(nodes, profile.dies_per_server, profile.servers),
        workloads=workloads,
        detail=telemetry.detail,
        interval_seconds=telemetry.interval_seconds,
    )
