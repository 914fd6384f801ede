"""``helm test``: a SuperNode of the test's own becomes Ready on one free node and goes without a trace.

It takes one Kubernetes node that no SuperNode has, and no other. What cannot get better by waiting (no such node, a
taken superPodID) ends the test early with the value to change. The SuperNode is deleted whatever happens.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from supernode_api.conditions import ConditionType, Reason, find_condition
from supernode_api.names import API_VERSION
from supernode_operator.domain.free_node import HOSTNAME_LABEL, NodeSearch, find_free_node
from supernode_operator.hooks import (
    HookError,
    Nodes,
    SuperNodes,
    describe_conditions,
    list_reasons,
    poll,
    run_hook,
    say,
)

__all__ = ["build_super_node", "find_hopeless", "main", "run_test", "summarize"]

_REMEDIES: Final[Mapping[str, str]] = {
    Reason.NO_NODES_MATCH: "the node that was chosen has gone, run helm test again",
    Reason.NODE_TAKEN: "somebody took the node that was chosen, run helm test again",
    Reason.FOREIGN_DEVICE_PLUGIN: "set the value test.nodeSelector to nodes without another Ascend device plugin",
    Reason.SUPER_POD_ID_TAKEN: "set the value test.superPodID to a number that no SuperNode has",
    Reason.PROFILE_NOT_FOUND: "the image is older than the chart: set the value image.tag",
}
_HOPELESS_SECONDS: Final = 10.0
_DELETE_SECONDS: Final = 60.0


def build_super_node(name: str, super_pod_id: int, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the SuperNode of the test: a whole machine with all cabinets in one pod."""
    return {
        "apiVersion": API_VERSION,
        "kind": "SuperNode",
        "metadata": {"name": name},
        "spec": {
            "profile": "cloudmatrix-384",
            "superPodID": super_pod_id,
            "nodes": {"selector": {"matchLabels": dict(labels)}, "placement": "Packed"},
            "cabinetsPerPod": 16,
        },
    }


def find_hopeless(super_node: Mapping[str, Any]) -> str | None:
    """Return the remedy if a condition says what waiting does not change."""
    for condition in (super_node.get("status") or {}).get("conditions") or []:
        if condition.get("status") != "True" and (remedy := _REMEDIES.get(condition.get("reason", ""))):
            return f"{condition.get('reason')}: {condition.get('message')}; {remedy}"
    return None


def summarize(super_node: Mapping[str, Any]) -> str:
    """Return one line about a Ready SuperNode."""
    status = super_node["status"]
    has, nodes = status.get("allocatable") or {}, status.get("kubernetesNodes", 0)
    return (
        f"SuperNode {super_node['metadata']['name']} is Ready: {status.get('placedNodes', 0)} compute servers on "
        f"{nodes} Kubernetes node{'s' if nodes != 1 else ''}, {has.get('dies', 0)} dies and "
        f"{has.get('busLinks', 0)} bus links allocatable"
    )


def run_test(body: dict[str, Any], seconds: float, *, hopeless_seconds: float = _HOPELESS_SECONDS) -> None:
    """Choose a node, create, wait for Ready, delete, wait for gone.

    The selector of ``body`` says which nodes there are to choose from; the SuperNode that is created selects one of
    them alone. What cannot get better by waiting is believed after ``hopeless_seconds``: nodes may just be joining.
    Raises :class:`HookError` with what was seen last.
    """
    super_nodes = SuperNodes()
    name = body["metadata"]["name"]
    _remove(super_nodes, name)  # an earlier test may have been killed
    found = _choose_node(super_nodes, body, hopeless_seconds)
    say(f"creating SuperNode {name} on node {found.node}")
    selector = {"matchLabels": {HOSTNAME_LABEL: found.hostname}}
    spec = {**body["spec"], "nodes": {**body["spec"]["nodes"], "selector": selector}}
    super_nodes.create({**body, "spec": spec})
    try:
        say(summarize(_wait_ready(super_nodes, name, seconds, hopeless_seconds)))
    finally:
        _remove(super_nodes, name)
    say(f"SuperNode {name} is gone")


def _choose_node(super_nodes: SuperNodes, body: Mapping[str, Any], patience_seconds: float) -> NodeSearch:
    """Return a free node; what is wrong with all of them is an error after a while, not at once."""
    nodes = Nodes()
    found: NodeSearch | None = None

    def look() -> bool:
        nonlocal found
        found = find_free_node(body, super_nodes.list(), nodes.list())
        return bool(found.node)

    for _ in poll(look, patience_seconds):
        pass
    if found is None:
        raise HookError(f"the API server did not answer within {patience_seconds:.0f} s; run helm test again")
    if found.node:
        return found
    labels = body["spec"]["nodes"]["selector"]["matchLabels"]
    wanted = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    if not found.why_not:
        raise HookError(f"no Kubernetes node has {wanted}; set the value test.nodeSelector to labels that a node has")
    raise HookError(
        f"of the nodes with {wanted} none is free for the test: {found.why_not}. "
        "Free one, add one, or set the value test.nodeSelector to labels of one that is free"
    )


def _wait_ready(super_nodes: SuperNodes, name: str, seconds: float, hopeless_seconds: float) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    ready = False

    def look() -> bool:
        nonlocal seen, ready
        seen = super_nodes.get(name) or {}
        condition = find_condition((seen.get("status") or {}).get("conditions") or [], ConditionType.READY)
        ready = condition is not None and condition.get("status") == "True"
        return ready

    told: list[str] | None = None
    hopeless_since: float | None = None
    for elapsed in poll(look, seconds):
        hopeless = find_hopeless(seen)
        hopeless_since = (elapsed if hopeless_since is None else hopeless_since) if hopeless else None
        if hopeless_since is not None and elapsed - hopeless_since >= hopeless_seconds:
            raise HookError(f"SuperNode {name} cannot become Ready. {hopeless}")
        if elapsed >= 2 and (reasons := list_reasons(seen)) != told:
            say(f"waiting: {describe_conditions(seen)}")
            told = reasons
    if not ready:
        raise HookError(f"SuperNode {name} is not Ready after {seconds:.0f} s: {describe_conditions(seen)}")
    return seen


def _remove(super_nodes: SuperNodes, name: str) -> None:
    found: dict[str, Any] | None = {}

    def look() -> bool:
        nonlocal found
        found = super_nodes.get(name)
        if found is not None and not found["metadata"].get("deletionTimestamp"):
            super_nodes.delete(name)
        return found is None

    for _ in poll(look, _DELETE_SECONDS):
        pass
    if found is not None:
        raise HookError(f"SuperNode {name} is not gone after {_DELETE_SECONDS:.0f} s: {describe_conditions(found)}")


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _stop(*_: object) -> None:
    raise HookError("stopped before it was Ready")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test; returns its exit status."""
    parser = argparse.ArgumentParser(prog="supernode_operator.chart_test", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--name", required=True, help="name of the test's SuperNode")
    parser.add_argument("--super-pod-id", type=int, required=True, metavar="NUMBER", help="its superPodID")
    parser.add_argument(
        "--node-label",
        type=_label,
        action="append",
        required=True,
        metavar="KEY=VALUE",
        help="a label of the nodes to choose one from",
    )
    parser.add_argument("--timeout", type=float, default=180.0, metavar="SECONDS", help="how long to wait for Ready")
    options = parser.parse_args(arguments)
    body = build_super_node(options.name, options.super_pod_id, dict(options.node_label))
    signal.signal(signal.SIGTERM, _stop)
    return run_hook(lambda: run_test(body, options.timeout))


if __name__ == "__main__":
    sys.exit(main())
