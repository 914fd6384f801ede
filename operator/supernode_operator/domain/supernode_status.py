"""SuperNode.status: counts and the verdicts behind its conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supernode_api import SuperNode
from supernode_api.conditions import ConditionType, Reason
from supernode_dataplane.profile import Profile
from supernode_operator.domain.accept import Rejection
from supernode_operator.domain.allocations import Garbage, Holding, read_status
from supernode_operator.domain.compute_nodes import node_name
from supernode_operator.domain.device_status import judge_devices
from supernode_operator.domain.faults import list_faults
from supernode_operator.domain.nodes import NodeChoice, find_lockout
from supernode_operator.domain.objects import Object, is_deleting, name, node_is_ready, some
from supernode_operator.domain.telemetry import SignalHealth, judge_telemetry
from supernode_operator.domain.verdicts import Verdict, conditions_of, fine

__all__ = ["MachineView", "build_rejected_status", "build_super_node_status"]

_ALL = (
    ConditionType.NODES_READY,
    ConditionType.DEVICES_READY,
    ConditionType.CABINETS_READY,
    ConditionType.PROGRESSING,
    ConditionType.DEGRADED,
)


@dataclass(frozen=True, slots=True)
class MachineView:
    """Everything that the status of one SuperNode is made of."""

    raw: Object
    super_node: SuperNode
    profile: Profile
    choice: NodeChoice
    compute_nodes: Sequence[Object]
    nodes: Mapping[str, Object]
    stateful_sets: Sequence[Object]
    """Live ones; those that do not exist yet are missing."""
    wanted_cabinets: int
    """Cabinet pods that there should be."""
    holdings: Sequence[Holding]
    garbage: Sequence[Garbage]
    performance: Mapping[str, Any]
    stamp: Mapping[str, Any] | None
    telemetry: Sequence[SignalHealth] = ()
    """What is known of the OTLP endpoint; empty: OTLP is off."""


def build_rejected_status(raw: Object, rejection: Rejection, now: str) -> dict[str, Any]:
    """Build the status of a SuperNode that cannot be: nothing is made of it."""
    old = (raw.get("status") or {}).get("conditions") or []
    generation = raw["metadata"].get("generation", 0)
    verdicts = [
        Verdict(ConditionType.READY, False, rejection.reason, rejection.message),
        *(Verdict(type_, None, rejection.reason, "Not looked at: see Ready.") for type_ in _ALL),
    ]
    return {
        "conditions": conditions_of(old, verdicts, generation=generation, now=now),
        "observedGeneration": generation,
    }


def build_super_node_status(view: MachineView, now: str) -> dict[str, Any]:
    """Build the whole status."""
    old = (view.raw.get("status") or {}).get("conditions") or []
    generation = view.raw["metadata"].get("generation", 0)
    placed = [cn for cn in view.compute_nodes if node_name(cn) is not None and not is_deleting(cn)]
    verdicts = _verdicts(view, placed)
    status: dict[str, Any] = {
        "conditions": conditions_of(old, verdicts, generation=generation, now=now),
        "observedGeneration": generation,
        "capacity": _capacity(view.profile),
        "kubernetesNodes": len({node_name(cn) for cn in placed}),
        "placedNodes": len(placed),
        "readyCabinets": sum(int((s.get("status") or {}).get("readyReplicas") or 0) for s in view.stateful_sets),
        "allocatable": _allocatable(view, placed),
        "allocated": {
            "dies": sum(len(h.dies) for h in view.holdings),
            "busLinks": sum(len(h.links or ()) for h in view.holdings),
        },
    }
    if view.performance:
        status["performance"] = dict(view.performance)
    if view.stamp is not None:
        status["model"] = dict(view.stamp)
    return status


def _verdicts(view: MachineView, placed: Sequence[Object]) -> list[Verdict]:
    nodes = _judge_nodes(view, placed)
    devices = judge_devices(placed, view.nodes, view.garbage, view.profile.servers)
    cabinets = _judge_cabinets(view)
    missing = [v for v in (nodes, devices, cabinets) if not v.status]
    ready = fine(ConditionType.READY, f"{view.profile.servers} servers, {view.profile.dies} dies")
    if missing:
        ready = Verdict(ConditionType.READY, False, missing[0].reason, missing[0].message)
    if is_deleting(view.raw):
        ready = Verdict(ConditionType.READY, False, Reason.DELETING, "Being deleted.")
    telemetry = judge_telemetry(view.raw, view.telemetry)
    return [
        ready,
        nodes,
        devices,
        cabinets,
        _judge_progress(view, missing),
        _judge_degraded(view, placed),
        _judge_deletion(view),
        *([telemetry] if telemetry is not None else []),
    ]


def _judge_nodes(view: MachineView, placed: Sequence[Object]) -> Verdict:
    type_, choice = ConditionType.NODES_READY, view.choice
    leaving = [cn for cn in view.compute_nodes if is_deleting(cn)]
    if leaving:
        return Verdict(type_, False, Reason.WAITING_FOR_RELEASE, _describe_leaving(view, leaving))
    refused = "; ".join(r.message for r in choice.refused[:3])
    unplaced = view.profile.servers - len(placed)
    if unplaced and not choice.usable:
        if choice.refused:
            return Verdict(type_, False, choice.refused[0].reason, refused)
        return Verdict(
            type_,
            False,
            Reason.NO_NODES_MATCH,
            "spec.nodes.selector matches no Kubernetes node: label one, or change the selector",
        )
    if unplaced:
        dedicated = view.super_node.spec.nodes.placement == "Dedicated"
        reason = Reason.NOT_ENOUGH_NODES if dedicated else Reason.RECONCILING
        message = f"{unplaced} of {view.profile.servers} servers have no Kubernetes node"
        hint = ": label more nodes for spec.nodes.selector, or use placement Packed" if dedicated else ""
        return Verdict(type_, False, reason, message + hint + (f"; left out: {refused}" if refused else ""))
    silent = sorted({str(node_name(cn)) for cn in placed if not node_is_ready(view.nodes.get(str(node_name(cn))))})
    if silent:
        return Verdict(type_, False, Reason.NODE_NOT_READY, f"not Ready: {some(silent)}; see kubectl describe node")
    hosts = len({node_name(cn) for cn in placed})
    message = f"{len(placed)} servers on {hosts} Kubernetes node{'s' if hosts != 1 else ''}"
    if choice.refused:
        return Verdict(type_, True, choice.refused[0].reason, f"{message}; left out: {refused}")
    return fine(type_, message)


def _describe_leaving(view: MachineView, leaving: Sequence[Object]) -> str:
    indices = {cn["spec"]["serverIndex"] for cn in leaving}
    pods = sorted({f"{h.namespace}/{h.pod}" for h in view.holdings if h.server in indices})
    hosts = sorted({str(node_name(cn)) for cn in leaving if node_name(cn)})
    what = f"{some([name(cn) for cn in leaving], 3)} must leave {some(hosts, 3)}"
    if pods:
        return f"{what}: waiting for the devices that these pods hold: {some(pods)}"
    return f"{what}: waiting for the node agent there to hand the devices back"


def _judge_cabinets(view: MachineView) -> Verdict:
    lockout = find_lockout(view.choice, view.compute_nodes)
    if lockout is not None:
        return Verdict(ConditionType.CABINETS_READY, False, lockout.reason, f"No cabinet pods: {lockout.message}")
    current = [
        s
        for s in view.stateful_sets
        if (s.get("status") or {}).get("observedGeneration", 0) >= s["metadata"].get("generation", 0)
    ]
    ready = sum(int((s.get("status") or {}).get("readyReplicas") or 0) for s in current)
    if ready >= view.wanted_cabinets:
        return fine(ConditionType.CABINETS_READY, f"{ready} cabinet pods")
    return Verdict(
        ConditionType.CABINETS_READY,
        False,
        Reason.WAITING_FOR_CABINETS,
        f"{ready} of {view.wanted_cabinets} cabinet pods are ready",
    )


def _judge_progress(view: MachineView, missing: Sequence[Verdict]) -> Verdict:
    moving = next((v for v in missing if v.reason in (Reason.WAITING_FOR_RELEASE, Reason.RECONCILING)), None)
    starting = next(
        (
            v
            for v in missing
            if v.reason in (Reason.WAITING_FOR_AGENT, Reason.WAITING_FOR_CABINETS, Reason.DEVICES_MISSING)
        ),
        None,
    )
    what = moving or starting
    if is_deleting(view.raw):
        return Verdict(ConditionType.PROGRESSING, True, Reason.DELETING, "Handing nodes and devices back.")
    if what is None:
        return fine(ConditionType.PROGRESSING, status=False)
    return Verdict(ConditionType.PROGRESSING, True, what.reason, what.message)


def _judge_degraded(view: MachineView, placed: Sequence[Object]) -> Verdict:
    faults = list_faults(view.compute_nodes)
    if faults:
        return Verdict(ConditionType.DEGRADED, True, Reason.FAULTS_IN_FORCE, some(faults, 4))
    silent = sorted({str(node_name(cn)) for cn in placed if not node_is_ready(view.nodes.get(str(node_name(cn))))})
    if silent:
        return Verdict(ConditionType.DEGRADED, True, Reason.NODE_NOT_READY, f"not Ready: {some(silent)}")
    return fine(ConditionType.DEGRADED, status=False)


def _judge_deletion(view: MachineView) -> Verdict:
    type_ = ConditionType.DELETION_BLOCKED
    if is_deleting(view.raw) and view.holdings:
        pods = sorted({f"{h.namespace}/{h.pod}" for h in view.holdings})
        message = f"these pods still hold devices: {some(pods, 8)}; delete them"
        return Verdict(type_, True, Reason.DEVICES_HELD, message, only_when_true=True)
    return Verdict(type_, False, Reason.AS_EXPECTED, only_when_true=True)


def _capacity(profile: Profile) -> dict[str, int]:
    return {
        "computeCabinets": profile.compute_cabinets,
        "busCabinets": profile.bus_cabinets,
        "nodes": profile.servers,
        "packages": profile.packages,
        "dies": profile.dies,
        "busLinks": profile.die_ports,
        "l1Chips": profile.l1_chips,
        "l2Chips": profile.l2_chips,
        "uplinks": profile.uplinks,
    }


def _allocatable(view: MachineView, placed: Sequence[Object]) -> dict[str, int]:
    totals = {"dies": 0, "busLinks": 0}
    for cn in placed:
        status = read_status(cn)
        if isinstance(status, Garbage) or not node_is_ready(view.nodes.get(str(node_name(cn)))):
            continue
        devices = cn["spec"]["devices"]
        for resource in status.resources:
            for field, key in (("npuResource", "dies"), ("busLinkResource", "busLinks")):
                if resource.name == devices[field]:
                    totals[key] += max(0, resource.devices - resource.unhealthy)
    return totals
