"""What a SuperNode's and a workload's conditions say, for each thing that can be wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from supernode_api import SuperNode, SuperNodeWorkload
from supernode_api.conditions import ConditionType, Reason, find_condition
from supernode_api.supernode import MachineCapacity, SuperNodeStatus
from supernode_api.workload import WorkloadStatus
from supernode_dataplane.profile import load_profile
from supernode_dataplane.state import Problem, WorkloadResult
from supernode_operator.domain.accept import Rejection, parse_super_node, parse_workload, reject_super_node
from supernode_operator.domain.allocations import Garbage, Holding
from supernode_operator.domain.claims import reject_workload
from supernode_operator.domain.compute_nodes import build_compute_node
from supernode_operator.domain.events import build_events
from supernode_operator.domain.nodes import NodeChoice, Refusal, choose_nodes
from supernode_operator.domain.objects import Object
from supernode_operator.domain.progressing import ProgressPlan
from supernode_operator.domain.supernode_status import MachineView, build_rejected_status, build_super_node_status
from supernode_operator.domain.workload_status import WorkloadView, build_workload_status

PROFILE = load_profile("cloudmatrix-384")
NPU, LINK = "huawei.com/Ascend910", "supernode.io/bus-link"


def machine(**spec: Any) -> dict[str, Any]:
    full = {"profile": "cloudmatrix-384", "nodes": {"selector": {"matchLabels": {"pool": "a"}}}, **spec}
    return {"metadata": {"name": "m", "uid": "u", "generation": 3}, "spec": full}


def node(name: str = "a", ready: str = "True", dies: int = 768) -> dict[str, Any]:
    capacity = {NPU: str(dies), LINK: str(dies * 7)}
    return {
        "metadata": {"name": name},
        "status": {"conditions": [{"type": "Ready", "status": ready}], "capacity": capacity},
    }


def servers(where: str | None = "a", **status: Any) -> list[dict[str, Any]]:
    raw = machine()
    parsed = SuperNode.model_validate(raw)
    full = {
        "conditions": [{"type": "Ready", "status": "True", "reason": "Registered", "lastTransitionTime": "t"}],
        "resources": [{"name": NPU, "devices": 16, "unhealthy": 0}, {"name": LINK, "devices": 112}],
        **status,
    }
    return [{**build_compute_node(raw, parsed, PROFILE, i, where), "status": full} for i in range(48)]


def stateful_set(ready: int, observed: int = 1) -> dict[str, Any]:
    return {"metadata": {"generation": 1}, "status": {"readyReplicas": ready, "observedGeneration": observed}}


def view(**changes: Any) -> MachineView:
    raw = changes.pop("raw", machine())
    good = MachineView(
        raw=raw,
        super_node=SuperNode.model_validate(raw),
        profile=PROFILE,
        choice=NodeChoice(("a",)),
        compute_nodes=servers(),
        nodes={"a": node()},
        stateful_sets=[stateful_set(12), stateful_set(4)],
        wanted_cabinets=16,
        holdings=[],
        garbage=[],
        performance={"powerKilowatts": "253"},
        stamp={"digest": "d", "version": "1"},
    )
    return replace(good, **changes)


def said(status: dict[str, Any], type_: ConditionType) -> tuple[str, str, str]:
    found = find_condition(status["conditions"], type_) or {}
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


def test_a_whole_machine_is_ready_and_its_status_is_valid() -> None:
    status = build_super_node_status(view(), "2026-01-01T00:00:00Z")
    assert SuperNodeStatus.model_validate(status).allocatable.dies == 768
    for type_ in ("Ready", "NodesReady", "DevicesReady", "CabinetsReady"):
        assert said(status, ConditionType(type_))[0] == "True"
    for type_ in ("Progressing", "Degraded"):
        assert said(status, ConditionType(type_))[0] == "False"
    assert find_condition(status["conditions"], "DeletionBlocked") is None
    assert status["observedGeneration"] == 3


def test_every_figure_of_the_capacity_is_written_as_the_profile_has_it() -> None:
    capacity = build_super_node_status(view(), "t")["capacity"]
    assert set(capacity) == {field.alias for field in MachineCapacity.model_fields.values()}
    written = MachineCapacity.model_validate(capacity)
    assert (written.nodes, written.packages, written.dies, written.bus_links) == (48, 384, 768, 768 * 7)
    assert (written.l1_chips, written.l2_chips, written.uplinks) == (48 * 7, 7 * 16, 48 * 7 * 16)


def leaving() -> list[dict[str, Any]]:
    rows = servers()
    rows[7]["metadata"]["deletionTimestamp"] = "t"
    return rows


def unregistered(reason: str, message: str) -> list[dict[str, Any]]:
    bad = {"type": "Ready", "status": "False", "reason": reason, "message": message, "lastTransitionTime": "t"}
    return [*servers()[:47], {**servers()[47], "status": {"conditions": [bad]}}]


HOLDER = Holding("n", "p", "c", 7, (0, 1), (0, 1, 2))
REFUSED = NodeChoice((), (Refusal("b", Reason.NODE_TAKEN, "node b is another's"),))
CASES: list[tuple[ConditionType, dict[str, Any], str, Reason, str]] = [
    (
        ConditionType.NODES_READY,
        {"compute_nodes": servers(None), "choice": NodeChoice(())},
        "False",
        Reason.NO_NODES_MATCH,
        "spec.nodes.selector",
    ),
    (
        ConditionType.NODES_READY,
        {"compute_nodes": servers(None), "choice": REFUSED},
        "False",
        Reason.NODE_TAKEN,
        "node b",
    ),
    (
        ConditionType.NODES_READY,
        {"choice": NodeChoice(("a",), REFUSED.refused)},
        "True",
        Reason.NODE_TAKEN,
        "left out: node b",
    ),
    (ConditionType.NODES_READY, {"compute_nodes": servers()[:40]}, "False", Reason.RECONCILING, "8 of 48"),
    (
        ConditionType.NODES_READY,
        {"nodes": {"a": node(ready="Unknown")}},
        "False",
        Reason.NODE_NOT_READY,
        "not Ready: a",
    ),
    (
        ConditionType.NODES_READY,
        {"compute_nodes": leaving(), "holdings": [HOLDER]},
        "False",
        Reason.WAITING_FOR_RELEASE,
        "n/p",
    ),
    (ConditionType.NODES_READY, {"compute_nodes": leaving()}, "False", Reason.WAITING_FOR_RELEASE, "node agent"),
    (ConditionType.PROGRESSING, {"compute_nodes": leaving()}, "True", Reason.WAITING_FOR_RELEASE, "m-07"),
    (ConditionType.DEGRADED, {"nodes": {"a": node(ready="False")}}, "True", Reason.NODE_NOT_READY, "a"),
    (
        ConditionType.DEVICES_READY,
        {"compute_nodes": servers(conditions=[])},
        "False",
        Reason.WAITING_FOR_AGENT,
        "and 45 more",
    ),
    (ConditionType.DEVICES_READY, {"compute_nodes": servers()[:47]}, "False", Reason.DEVICES_MISSING, "47 of 48"),
    (ConditionType.DEVICES_READY, {"compute_nodes": servers(resources=[])}, "False", Reason.DEVICES_MISSING, "0 of 16"),
    (ConditionType.DEVICES_READY, {"nodes": {"a": node(dies=5)}}, "False", Reason.DEVICES_MISSING, "shows 5 of 768"),
    (ConditionType.DEVICES_READY, {"nodes": {}}, "False", Reason.DEVICES_MISSING, "shows 0 of 768"),
    (
        ConditionType.DEVICES_READY,
        {"garbage": [Garbage("m-01", "nonsense")]},
        "False",
        Reason.INVALID_AGENT_STATUS,
        "m-01",
    ),
    (
        ConditionType.DEVICES_READY,
        {"compute_nodes": servers(resources="x")},
        "False",
        Reason.INVALID_AGENT_STATUS,
        "and 47 more",
    ),
    (
        ConditionType.DEVICES_READY,
        {"compute_nodes": unregistered("KubeletUnreachable", "no socket")},
        "False",
        Reason.KUBELET_UNREACHABLE,
        "no socket",
    ),
    (
        ConditionType.DEVICES_READY,
        {"compute_nodes": unregistered("Whatever", "")},
        "False",
        Reason.REGISTRATION_FAILED,
        "Whatever",
    ),
    (
        ConditionType.CABINETS_READY,
        {"compute_nodes": servers(None), "choice": REFUSED},
        "False",
        Reason.NODE_TAKEN,
        "No cabinet pods: node b",
    ),
    (
        ConditionType.CABINETS_READY,
        {"stateful_sets": [stateful_set(12)]},
        "False",
        Reason.WAITING_FOR_CABINETS,
        "12 of 16",
    ),
    (
        ConditionType.CABINETS_READY,
        {"stateful_sets": [stateful_set(16, observed=0)]},
        "False",
        Reason.WAITING_FOR_CABINETS,
        "0 of 16",
    ),
]


@pytest.mark.parametrize(("type_", "changes", "status", "reason", "words"), CASES)
def test_each_obstacle_has_its_reason(
    type_: ConditionType, changes: dict[str, Any], status: str, reason: Reason, words: str
) -> None:
    built = build_super_node_status(view(**changes), "t")
    got = said(built, type_)
    assert got[:2] == (status, reason)
    assert words in got[2]
    if type_ in (ConditionType.NODES_READY, ConditionType.DEVICES_READY) and status == "False":
        assert said(built, ConditionType.READY)[0] == "False"


def test_a_fault_degrades_and_takes_nothing_else() -> None:
    broken = servers()
    broken[3]["spec"]["faults"] = [{"name": "x", "die": 5}, {"name": "y", "uplink": {"plane": 1, "port": 2}}]
    built = build_super_node_status(view(compute_nodes=broken), "t")
    assert said(built, ConditionType.DEGRADED) == (
        "True",
        "FaultsInForce",
        "m-03 die 5 (SeparateNPU), m-03 uplink 2 of plane 1 (SeparateNPU)",
    )
    assert said(built, ConditionType.READY)[0] == "True"


def test_dedicated_asks_for_more_nodes() -> None:
    raw = machine(nodes={"selector": {"matchLabels": {"pool": "a"}}, "placement": "Dedicated"})
    built = build_super_node_status(view(raw=raw, compute_nodes=servers()[:46]), "t")
    assert said(built, ConditionType.NODES_READY)[1] == Reason.NOT_ENOUGH_NODES


def test_a_deletion_says_who_blocks_it_and_when_it_no_longer_does() -> None:
    raw = machine()
    raw["metadata"]["deletionTimestamp"] = "t"
    blocked = build_super_node_status(view(raw=raw, holdings=[HOLDER], performance={}, stamp=None), "t")
    assert said(blocked, ConditionType.READY)[1] == Reason.DELETING
    assert said(blocked, ConditionType.DELETION_BLOCKED)[0] == "True"
    assert (blocked["allocated"], "model" in blocked) == ({"dies": 2, "busLinks": 3}, False)
    raw["status"] = blocked
    free = build_super_node_status(view(raw=raw), "t")
    assert said(free, ConditionType.DELETION_BLOCKED)[:2] == ("False", "AsExpected")


def test_a_refused_machine_has_one_reason_everywhere() -> None:
    wrong: list[dict[str, Any]] = [{"profile": "nope"}, {"nodes": {}}]
    for spec in wrong:
        raw = machine(**spec)
        rejection = reject_super_node(raw, [raw])
        assert isinstance(rejection, Rejection)
        built = build_rejected_status(raw, rejection, "t")
        assert {c["reason"] for c in built["conditions"]} == {rejection.reason}
    assert isinstance(parse_super_node({"metadata": {"name": "m"}}), Rejection)
    assert isinstance(parse_workload({"metadata": {"name": "w"}}), Rejection)
    garbled = {"metadata": {"name": "m", "uid": "u"}}
    assert choose_nodes(garbled, [garbled], [node()], []) == NodeChoice(())
    older = {**machine(), "metadata": {"name": "a-first", "uid": "x"}}
    taken = reject_super_node(machine(), [older, machine()])
    assert taken is not None
    assert taken.reason is Reason.SUPER_POD_ID_TAKEN
    assert reject_super_node(older, [older, machine()]) is None
    assert reject_super_node(machine(superPodID=1), [older, machine()]) is None


def workload(**changes: Any) -> dict[str, Any]:
    training = {"sequenceLength": 4096, "globalBatchSize": 64, "parallelism": {"tensor": 8}}
    metadata = {"name": "w", "namespace": "n", "uid": "w", "resourceVersion": "7", "generation": 1}
    spec = {"superNode": "m", "model": {"name": "llama-3.1-8b"}, "training": training}
    return {"metadata": metadata, "spec": {**spec, "pods": {"managed": {"nodes": 1}}, **changes}}


def verdict(raw: dict[str, Any], *, super_node: Object | None = None, **more: Any) -> Rejection | None:
    parsed = SuperNodeWorkload.model_validate(raw)
    refused, profile = more.get("refused"), more.get("profile", PROFILE)
    return reject_workload(raw, parsed, super_node, refused, profile, allowed=more.get("allowed", True))


def test_a_workload_is_refused_for_each_thing_that_can_never_be() -> None:
    def reason(*args: Any, **more: Any) -> str:
        found = verdict(*args, **more)
        return str(found.reason) if found is not None else ""

    assert reason(workload()) == "SuperNodeNotFound"
    here = {"super_node": machine()}
    assert reason(workload(), **here) == ""
    refused = Rejection(Reason.SUPER_POD_ID_TAKEN, "twice")
    assert reason(workload(), **here, refused=refused, profile=None) == "SuperPodIDTaken"
    assert reason(workload(), **here, profile=None) == "ProfileNotFound"
    assert reason(workload(), **here, allowed=False) == "NamespaceNotAllowed"
    assert reason(workload(model={"name": "nope"}), **here) == "ModelNotFound"
    selector = {"selector": {"matchLabels": {"a": "b"}}}
    big = workload(pods=selector, model={"name": "llama-3.1-405b"})
    assert reason(big, **here, allowed=False) == ""
    assert reason(workload(pods=selector, model={"name": "nope"}), **here) == "ModelNotFound"
    served = {
        "inference": {"mode": "Colocated", "inputTokens": 512, "outputTokens": 64, "batch": {"sequencesPerCard": 1}}
    }
    del (adopted := workload(pods=selector, **served))["spec"]["training"]
    assert reason(adopted, **here) == "", "how many dies it has is for its pods to say"


RANK = {"rank": 0, "pod": "p", "running": True, "parts": []}
PLACED = {"nodes": 1, "dies": 16, "cabinets": 1, "ranks": [RANK]}
RUNS = WorkloadResult(
    "n/w", tokens_per_second=1234.0, tokens_per_second_per_card=154.2, bound="Compute", notes=("slow",)
)
SCHEDULED = {"metadata": {"name": "o"}, "status": {"conditions": [{"type": "PodScheduled"}, {"type": "Ready"}]}}
PENDING = {
    "metadata": {"name": "p"},
    "status": {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1 nodes"}]},
}


def workload_view(**changes: Any) -> WorkloadView:
    good = WorkloadView(
        raw=workload(),
        rejection=None,
        suspended=False,
        pods=[],
        contested=[],
        placement=PLACED,
        expected_ranks=1,
        result=RUNS,
        stamp={"digest": "d", "version": "1"},
        progress=ProgressPlan(None),
    )
    return replace(good, **changes)


IDLE = WorkloadResult("n/w", waiting="3 of its dies are broken", waiting_reason="DiesFaulty")
NOTHING = {"nodes": 0, "dies": 0, "cabinets": 0, "ranks": []}
READY: list[tuple[dict[str, Any], str, str]] = [
    ({}, "Running", "154.2 tokens/s on each card, 16 dies on 1 servers, bound by Compute; slow"),
    ({"progress": ProgressPlan({"tokens": 5, "at": "t"}, "t")}, "Completed", "complete"),
    ({"result": IDLE, "rejection": Rejection(Reason.DOES_NOT_FIT, "80 GiB")}, "DoesNotFit", "80 GiB"),
    ({"result": None, "suspended": True}, "Suspended", "deleted"),
    ({"result": IDLE, "pods": [SCHEDULED, PENDING]}, "Unschedulable", "pod p: 0/1 nodes"),
    ({"result": IDLE, "pods": [PENDING], "expected_ranks": 49, "servers": 48}, "Unschedulable", "48: lower it"),
    ({"result": IDLE, "job_problem": "its Job is Failed"}, "Incomplete", "Failed"),
    ({"result": IDLE, "placement": NOTHING}, "WaitingForPods", "No pod"),
    ({"result": IDLE, "placement": NOTHING, "contested": [("p", "n/old")]}, "PodsContested", "n/old"),
    ({"result": IDLE, "expected_ranks": 3}, "Incomplete", "2 of 3 ranks have no pod"),
    ({"result": IDLE, "placement": {**PLACED, "ranks": [{**RANK, "running": False}]}}, "Incomplete", "rank 0 (p)"),
    ({"result": IDLE}, "DiesFaulty", "3 of its dies are broken"),
    ({"result": None}, "Incomplete", "no rate"),
    (
        {"result": WorkloadResult("n/w", problem=Problem("InvalidParallelism", "f", "bad"))},
        "InvalidParallelism",
        "f: bad",
    ),
]


@pytest.mark.parametrize(("changes", "reason", "words"), READY)
def test_the_summary_of_a_workload_names_the_first_obstacle(changes: dict[str, Any], reason: str, words: str) -> None:
    status = build_workload_status(workload_view(**changes), "2026-01-01T00:00:00Z")
    WorkloadStatus.model_validate(status)
    got = said(status, ConditionType.READY)
    assert got[1] == reason
    assert words in got[2]
    assert got[0] == ("True" if reason == "Running" else "False")


def test_a_condition_that_ready_repeats_makes_no_event_of_its_own() -> None:
    contested = workload_view(result=IDLE, placement=NOTHING, contested=[("p", "n/old")])
    new = build_workload_status(contested, "2026-01-01T00:00:00Z")["conditions"]
    assert {c["type"] for c in new if c["reason"] == Reason.PODS_CONTESTED} == {"Ready", "PodsContested"}
    told = build_events("SuperNodeWorkload", contested.raw, [], new, "t")
    assert [(event["action"], event["reason"]) for event in told] == [("Ready", "PodsContested")]


def test_side_conditions_appear_when_they_apply() -> None:
    spread = replace(RUNS, spans_servers=(0, 3), links_mismatch=(1,))
    status = build_workload_status(workload_view(result=spread, target_tokens=9), "t")
    assert "rank 0, 3" in said(status, ConditionType.SPANS_SERVERS)[2]
    assert "rank 1" in said(status, ConditionType.LINKS_MISMATCH)[2]
    assert said(status, ConditionType.COMPLETE)[2] == "of 9 tokens"
    done = ProgressPlan({"tokens": 9}, "2026-01-01T00:00:10Z")
    complete = build_workload_status(workload_view(progress=done, stamp=None), "t")
    assert said(complete, ConditionType.COMPLETE) == ("True", "Completed", "9 tokens at 2026-01-01T00:00:10Z")
    assert complete["completionTime"] == "2026-01-01T00:00:10Z"
