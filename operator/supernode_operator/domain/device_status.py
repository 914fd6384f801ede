"""DevicesReady: every server's devices are registered with its kubelet, and the kubelet shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from supernode_api.conditions import ConditionType, Reason, find_condition
from supernode_operator.domain.allocations import Garbage, read_status
from supernode_operator.domain.compute_nodes import node_name
from supernode_operator.domain.objects import Object, extended_quantity, name, some
from supernode_operator.domain.verdicts import Verdict, fine

__all__ = ["judge_devices"]


def judge_devices(
    placed: Sequence[Object], nodes: Mapping[str, Object], garbage: Sequence[Garbage], servers: int
) -> Verdict:
    """Judge the devices of the servers that have a place; ``servers`` is how many there should be."""
    type_ = ConditionType.DEVICES_READY
    if garbage:
        first = garbage[0]
        message = f"{first.compute_node}: {first.message}; the report is left out: restart the node agent there"
        return Verdict(type_, False, Reason.INVALID_AGENT_STATUS, message)
    waiting: list[str] = []
    refused: list[tuple[str, Reason, str]] = []
    for compute_node in placed:
        problem = _problem_of(compute_node)
        if problem is None:
            continue
        if problem[0] is Reason.WAITING_FOR_AGENT:
            waiting.append(name(compute_node))
        else:
            refused.append((name(compute_node), *problem))
    if refused:
        who, reason, message = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        return Verdict(type_, False, reason, f"{who}: {message}{more}")
    if waiting:
        message = f"{some(waiting, 3)}: no node agent has reported yet; is its pod running on that node?"
        return Verdict(type_, False, Reason.WAITING_FOR_AGENT, message)
    if len(placed) < servers:
        return Verdict(type_, False, Reason.DEVICES_MISSING, f"{len(placed)} of {servers} servers have devices")
    missing = _missing_in_kubelets(placed, nodes)
    if missing:
        return Verdict(type_, False, Reason.DEVICES_MISSING, "; ".join(missing[:3]))
    return fine(type_, "all devices are registered")


def _problem_of(compute_node: Object) -> tuple[Reason, str] | None:
    status = read_status(compute_node)
    if isinstance(status, Garbage):
        return Reason.INVALID_AGENT_STATUS, status.message
    conditions = (compute_node.get("status") or {}).get("conditions") or []
    ready = find_condition(conditions, ConditionType.READY)
    if ready is None:
        return Reason.WAITING_FOR_AGENT, ""
    if ready.get("status") != "True":
        reason = ready.get("reason", "")
        known = Reason(reason) if reason in list(Reason) else Reason.REGISTRATION_FAILED
        return known, str(ready.get("message") or reason)
    devices = compute_node["spec"]["devices"]
    registered = {resource.name: resource.devices for resource in status.resources}
    for field, wanted in (("npuResource", devices["dies"]), ("busLinkResource", devices["dies"] * devices["planes"])):
        if registered.get(devices[field], 0) < wanted:
            message = f"{registered.get(devices[field], 0)} of {wanted} {devices[field]} are registered"
            return Reason.DEVICES_MISSING, message
    return None


def _missing_in_kubelets(placed: Sequence[Object], nodes: Mapping[str, Object]) -> list[str]:
    expected: Counter[tuple[str, str]] = Counter()
    for compute_node in placed:
        where, devices = str(node_name(compute_node)), compute_node["spec"]["devices"]
        expected[where, devices["npuResource"]] += devices["dies"]
        expected[where, devices["busLinkResource"]] += devices["dies"] * devices["planes"]
    missing = []
    for (where, resource), wanted in sorted(expected.items()):
        shown = extended_quantity(nodes[where], resource) if where in nodes else 0
        if shown < wanted:
            missing.append(f"the kubelet of {where} shows {shown} of {wanted} {resource}")
    return missing
