"""Which nodes a SuperNode may use, decided from values alone."""

from __future__ import annotations

from typing import Any

from supernode_operator.domain.accept import reject_super_node
from supernode_operator.domain.compute_nodes import is_released
from supernode_operator.domain.nodes import choose_nodes, find_lockout, resources_gone

NPU = "huawei.com/Ascend910"


def machine(name: str, second: int = 0, number: int = 0, **more: Any) -> dict[str, Any]:
    meta = {"name": name, "uid": name, "creationTimestamp": f"2026-01-01T00:00:{second:02d}Z", **more}
    nodes = {"selector": {"matchLabels": {"pool": "a"}}}
    return {"metadata": meta, "spec": {"profile": "cloudmatrix-384", "superPodID": number, "nodes": nodes}}


def node(name: str, capacity: dict[str, str] | None = None, ready: str = "True", **labels: str) -> dict[str, Any]:
    meta = {"name": name, "uid": name, "labels": {"pool": "a", **labels}}
    status = {"conditions": [{"type": "Ready", "status": ready}], "capacity": capacity or {}, "allocatable": {}}
    return {"metadata": meta, "status": status}


def label(name: str) -> dict[str, Any]:
    return {"supernode.io/supernode": name}


def test_ready_nodes_come_first_and_others_are_not_refused() -> None:
    choice = choose_nodes(machine("m"), [machine("m")], [node("a", ready="False"), node("b"), node("c", pool="x")], [])
    assert (choice.usable, choice.refused) == (("b", "a"), ())


def test_the_oldest_machine_has_a_node() -> None:
    old, young = machine("old", 1), machine("young", 2, number=1)
    assert choose_nodes(old, [old, young], [node("a")], []).usable == ("a",)
    refused = choose_nodes(young, [old, young], [node("a")], []).refused
    assert [(r.node, r.reason) for r in refused] == [("a", "NodeTaken")]


def test_a_machine_that_is_refused_or_being_deleted_has_no_claim() -> None:
    deleting = machine("old", 1, deletionTimestamp="2026-01-02T00:00:00Z")
    young = machine("young", 2, number=1)
    assert choose_nodes(young, [deleting, young], [node("a")], []).usable == ("a",)
    twin = machine("twin", 2, number=0)
    older = machine("older", 1, number=0)
    late = machine("late", 3, number=5)
    assert [r.message for r in choose_nodes(late, [twin, older, late], [node("a")], []).refused] == [
        "node a belongs to the older SuperNode older: change one of the selectors"
    ]


def test_a_node_is_not_taken_over_before_the_other_has_left_it() -> None:
    old, young = machine("old", 1), machine("young", 2, number=1)
    server = {"metadata": {"name": "young-00"}, "spec": {"superNode": "young", "nodeName": "a"}}
    assert choose_nodes(old, [old, young], [node("a")], [server]).refused[0].reason == "NodeTaken"
    assert choose_nodes(old, [old, young], [node("a", **label("young"))], []).refused[0].reason == "NodeTaken"
    assert choose_nodes(old, [old], [node("a", **label("young"))], []).usable == ("a",)
    assert choose_nodes(young, [young], [node("a")], [server]).usable == ("a",), "its own servers are no tenants"


def test_a_machine_is_locked_out_when_all_that_matches_is_refused_and_it_stands_nowhere() -> None:
    old, young = machine("old", 1), machine("young", 2, number=1)
    refused = choose_nodes(young, [old, young], [node("a")], [])
    unplaced, placed = {"spec": {"superNode": "young"}}, {"spec": {"superNode": "young", "nodeName": "b"}}
    lockout = find_lockout(refused, [unplaced])
    assert lockout is not None
    assert lockout.reason == "NodeTaken"
    assert find_lockout(refused, [unplaced, placed]) is None, "its servers have not left their node yet"
    assert find_lockout(choose_nodes(young, [young], [], []), [unplaced]) is None, "it waits for its first node"
    assert find_lockout(choose_nodes(old, [old, young], [node("a")], []), [unplaced]) is None


def test_a_foreign_device_plugin_is_one_that_shows_devices_without_our_label() -> None:
    mine = machine("m")
    assert choose_nodes(mine, [mine], [node("a", {NPU: "8"})], []).refused[0].reason == "ForeignDevicePlugin"
    assert choose_nodes(mine, [mine], [node("a", {NPU: "1k"})], []).refused[0].reason == "ForeignDevicePlugin"
    assert choose_nodes(mine, [mine], [node("a", {NPU: "0"})], []).usable == ("a",)
    assert choose_nodes(mine, [mine], [node("a", {NPU: "768"}, **label("m"))], []).usable == ("a",)


def test_resources_are_gone_when_no_ready_kubelet_shows_them() -> None:
    assert resources_gone(None, [NPU])
    assert resources_gone(node("a", {NPU: "768"}, ready="Unknown"), [NPU])
    assert resources_gone(node("a", {NPU: "0"}), [NPU])
    assert not resources_gone(node("a", {NPU: "768"}), [NPU])


def server(status: dict[str, Any] | None = None, deleting: bool = True, where: str | None = "a") -> dict[str, Any]:
    meta: dict[str, Any] = {"name": "m-00"}
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    devices = {"npuResource": NPU, "busLinkResource": "supernode.io/bus-link", "dies": 16, "planes": 7}
    spec: dict[str, Any] = {"superNode": "m", "serverIndex": 0, "devices": devices}
    if where:
        spec["nodeName"] = where
    return {"metadata": meta, "spec": spec, "status": status or {}}


def test_a_server_goes_only_when_it_was_handed_back_or_nobody_can_have_it() -> None:
    nodes = {"a": node("a")}
    released = {"conditions": [{"type": "Released", "status": "True"}]}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    assert not is_released(server(released, deleting=False), nodes)
    assert is_released(server(released), nodes)
    assert not is_released(server(ready), nodes)
    assert is_released(server(ready), {})
    assert is_released(server(ready, where=None), nodes)
    assert is_released(server(), nodes)
    assert not is_released(server(), {"a": node("a", {NPU: "768"})})
    assert not is_released(server({"conditions": ["garbage"], "allocations": "x"}), nodes)


def test_a_machine_that_is_there_to_be_compared_with_is_refused_as_a_supernode() -> None:
    raw = machine("m")
    raw["spec"]["profile"] = "h100-cluster"
    refused = reject_super_node(raw, ())
    assert refused is not None
    assert refused.reason == "ProfileNotFound"
    assert "h100-cluster is there to be compared with only" in refused.message
    assert "atlas-a2-cluster, cloudmatrix-384." in refused.message
