"""Who holds what, which pod is which rank, and what becomes of garbage."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from supernode_api.workload import MAX_RANK, MAX_RANKS, WorkloadPlacement
from supernode_operator.domain.allocations import join_holdings
from supernode_operator.domain.ranks import assign_ranks, build_placement, claim_pods, reject_ranks

JOB = "batch.kubernetes.io/job-completion-index"


def pod(name: str, node: str = "a", *, phase: str = "Running", running: bool = True, **more: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "n", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z", **more}
    status: dict[str, Any] = {"phase": phase}
    if running:
        status["containerStatuses"] = [{"name": "c", "state": {"running": {}}}]
    return {"metadata": meta, "spec": {"nodeName": node} if node else {}, "status": status}


def server(index: int, *held: tuple[str, str, str], node: str = "a") -> dict[str, Any]:
    devices = {"npuResource": "npu", "busLinkResource": "link", "dies": 16, "planes": 7, "firstDie": 0}
    rows = [{"namespace": "n", "pod": p, "container": "c", "dies": d, "links": ls} for p, d, ls in held]
    spec = {"superNode": "m", "serverIndex": index, "nodeName": node, "devices": devices}
    return {"metadata": {"name": f"m-{index:02d}"}, "spec": spec, "status": {"allocations": rows}}


NODES = {"a": {"metadata": {"name": "a"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}}


def finder(*pods: dict[str, Any]) -> Any:
    return lambda namespace, name: next((p for p in pods if p["metadata"]["name"] == name), None)


def test_an_allocation_counts_only_while_its_pod_lives_on_that_node() -> None:
    pods = [pod("there"), pod("elsewhere", "b"), pod("done", phase="Succeeded"), pod("unbound", "")]
    rows = [("there", "0", ""), ("elsewhere", "1", ""), ("done", "2", ""), ("unbound", "3", ""), ("gone", "4", "")]
    found, garbage = join_holdings([server(0, *rows)], finder(*pods))
    assert [(h.pod, h.dies, h.links) for h in found] == [("there", (0,), None)]
    assert garbage == []


def test_garbage_is_named_and_the_rest_counts() -> None:
    pods = finder(pod("one"), pod("two"))
    bad = server(1)
    bad["status"] = {"allocations": "everything"}
    found, garbage = join_holdings([server(0, ("one", "0-99", ""), ("two", "0-3", "")), bad], pods)
    assert [(h.pod, h.server) for h in found] == [("two", 0)]
    assert [g.compute_node for g in garbage] == ["m-00", "m-01"]
    twice, named = join_holdings([server(0, ("one", "0-3", ""), ("two", "3-5", ""))], pods)
    assert [h.pod for h in twice] == ["one"]
    assert named[0].message == "die 3 is held by n/one and by n/two"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_status_whatever_stops_the_others(status: Any) -> None:
    bad = server(0)
    bad["status"] = {"allocations": status, "conditions": status, "resources": status}
    found, _ = join_holdings([bad, server(1, ("one", "0", ""))], finder(pod("one")))
    assert [(h.server, h.pod) for h in found] == [(1, "one")]


def test_a_container_that_asked_for_links_has_only_those() -> None:
    found, _ = join_holdings([server(0, ("one", "0-1", "0-6")), server(1, ("one", "0", ""))], finder(pod("one")))
    assert [h.links for h in found] == [(0, 1, 2, 3, 4, 5, 6), ()]
    placement = build_placement({0: pod("one")}, found, NODES, 4)
    assert placement["ranks"][0]["parts"] == [
        {"server": 0, "dies": "0-1", "links": "0-6"},
        {"server": 1, "dies": "0", "links": ""},
    ]
    assert (placement["nodes"], placement["dies"], placement["cabinets"]) == (2, 3, 1)


def test_ranks_come_from_the_index_else_from_the_order_of_names() -> None:
    indexed = [pod("x", annotations={JOB: "1"}), pod("y", labels={"apps.kubernetes.io/pod-index": "0"})]
    assert {rank: p["metadata"]["name"] for rank, p in assign_ranks(indexed).items()} == {0: "y", 1: "x"}
    loose = [pod("w-10"), pod("w-2"), pod("w-1")]
    assert [p["metadata"]["name"] for p in assign_ranks(loose).values()] == ["w-1", "w-2", "w-10"]
    mixed = [pod("x", annotations={JOB: "0"}), pod("b"), pod("a")]
    assert [p["metadata"]["name"] for p in assign_ranks(mixed).values()] == ["x", "a", "b"]


def test_leader_worker_sets_count_over_their_groups() -> None:
    prefix = "leaderworkerset.sigs.k8s.io"
    pods = [
        pod(
            f"lws-{group}-{worker}",
            labels={
                f"{prefix}/worker-index": str(worker),
                f"{prefix}/group-index": str(group),
                "apps.kubernetes.io/pod-index": str(group),
            },
            annotations={f"{prefix}/size": "2"},
        )
        for group in (0, 1)
        for worker in (0, 1)
    ]
    names = [p["metadata"]["name"] for p in assign_ranks(pods).values()]
    assert names == ["lws-0-0", "lws-0-1", "lws-1-0", "lws-1-1"]


def placed(pods: list[dict[str, Any]]) -> dict[str, Any]:
    return build_placement(assign_ranks(pods), [], NODES, 4)


def test_as_many_pods_as_a_status_can_hold_are_accepted_and_one_more_is_refused() -> None:
    pods = [pod(f"w-{number}") for number in range(MAX_RANKS)]
    assert reject_ranks(assign_ranks(pods)) is None
    assert len(WorkloadPlacement.model_validate(placed(pods)).ranks) == MAX_RANKS
    pods.append(pod("one-more"))
    refused = reject_ranks(assign_ranks(pods))
    assert refused is not None
    assert refused.reason == "TooManyPods"
    assert refused.message.startswith("spec.pods.selector matches 1025 pods, and a workload has at most 1024: ")
    with pytest.raises(ValidationError, match="at most 1024 items"):
        WorkloadPlacement.model_validate(placed(pods))


def test_the_highest_rank_is_accepted_and_the_next_is_refused_by_name() -> None:
    pods = [pod("w-0", annotations={JOB: "0"}), pod("w-1", annotations={JOB: str(MAX_RANK)})]
    assert reject_ranks(assign_ranks(pods)) is None
    assert WorkloadPlacement.model_validate(placed(pods)).ranks[1].rank == MAX_RANK
    pods[1]["metadata"]["annotations"] = {JOB: str(MAX_RANK + 1)}
    refused = reject_ranks(assign_ranks(pods))
    assert refused is not None
    assert refused.reason == "InvalidRank"
    assert refused.message.startswith("pod w-1 has index 65536, and the highest rank is 65535: ")
    with pytest.raises(ValidationError, match="less than or equal to 65535"):
        WorkloadPlacement.model_validate(placed(pods))
    assert reject_ranks({}) is None


@pytest.mark.parametrize("index", ["²", "٣", "-1", "1.5", "", "9" * 5000])
def test_an_index_that_is_no_number_is_none(index: str) -> None:
    odd = pod("odd", annotations={JOB: index}, labels={"apps.kubernetes.io/pod-index": "3"})
    assert list(assign_ranks([odd])) == [3]
    group = {"leaderworkerset.sigs.k8s.io/worker-index": index, "apps.kubernetes.io/pod-index": "3"}
    assert list(assign_ranks([pod("a"), pod("odd", labels=group)])) == [0, 1], "the group's index is not the pod's"


def test_of_two_pods_of_one_rank_the_newest_that_stays_stands_for_it() -> None:
    old = pod("old", annotations={JOB: "0"}, deletionTimestamp="2026-01-01T00:00:09Z")
    new = pod("new", annotations={JOB: "0"})
    assert assign_ranks([new, old])[0]["metadata"]["name"] == "new"
    newer = {**pod("newer", annotations={JOB: "0"})}
    newer["metadata"]["creationTimestamp"] = "2026-01-01T00:00:05Z"
    assert assign_ranks([newer, new])[0]["metadata"]["name"] == "newer"


def test_two_jobs_under_one_selector_lose_no_pod() -> None:
    owners = [{"controller": True, "uid": uid} for uid in ("j1", "j2")]
    pods = [
        pod(f"{owner['uid']}-{i}", annotations={JOB: str(i)}, ownerReferences=[owner])
        for owner in owners
        for i in (0, 1)
    ]
    assert len(assign_ranks(pods)) == 4


def test_a_rank_works_only_on_a_ready_node_with_its_container_running() -> None:
    def works(one: dict[str, Any], nodes: dict[str, Any] = NODES) -> bool:
        found, _ = join_holdings([server(0, (one["metadata"]["name"], "0", ""))], finder(one))
        return bool(build_placement({0: one}, found, nodes, 4)["ranks"][0]["running"])

    assert works(pod("one"))
    assert not works(pod("one", running=False))
    assert not works(pod("one", deletionTimestamp="2026-01-01T00:00:00Z"))
    assert not works(pod("one"), {})
    silent = {"a": {"metadata": {"name": "a"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}}
    assert not works(pod("one"), silent)
    assert not build_placement({0: pod("one")}, [], NODES, 4)["ranks"][0]["running"]


def test_the_oldest_claim_has_a_pod_and_terminal_pods_are_nobodys() -> None:
    pods = [pod("one"), pod("two"), pod("over", phase="Failed")]
    everything = lambda _: True  # noqa: E731
    only_two = lambda p: p["metadata"]["name"] == "two"  # noqa: E731
    claimed, contested = claim_pods(pods, everything, [("n/elder", only_two)])
    assert [p["metadata"]["name"] for p in claimed] == ["one"]
    assert contested == [("two", "n/elder")]
