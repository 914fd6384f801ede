"""The node's state as the kubelet meets it: whole admissions, in both orders, beside others."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernode_deviceplugin.domain.allocations import Holder, group_devices
from supernode_deviceplugin.domain.grants import OPEN_SECONDS
from supernode_deviceplugin.state import NodeState, RefusedError
from support.memory_nodes import DIES, LINKS, compute_node


class Kubelet:
    """The kubelet's part of admissions, on a state instead of sockets."""

    def __init__(self, state: NodeState, seed: int = 0) -> None:
        self.state = state
        self.held: dict[str, dict[str, list[str]]] = {}
        self.mark = 0
        self.now = 1000.0
        self.random = random.Random(seed)

    def admit(self, pod: str, limits: dict[str, int]) -> dict[str, str]:
        environment: dict[str, str] = {}
        for resource, size in limits.items():
            taken = {i for held in self.held.values() for i in held.get(resource, ())}
            healthy = [i for i, ok in self.state.lists()[resource] if ok and i not in taken]
            self.random.shuffle(healthy)
            ids = self.state.prefer(resource, healthy, [], size, now=self.now, mark=self.mark)
            assert len(set(ids)) == size
            assert set(ids) <= set(healthy)
            environment |= self.state.allocate(resource, ids, now=self.now, mark=self.mark)
            self.held.setdefault(pod, {})[resource] = ids
            self.now += 0.001
        self.mark += 1  # the checkpoint
        return environment

    def show(self) -> None:
        holders = [
            Holder("default", pod, "main", group_devices((r, i) for r, ids in held.items() for i in ids))
            for pod, held in self.held.items()
        ]
        self.state.set_holders(holders, settled=True)

    def remove(self, pod: str) -> None:
        del self.held[pod]

    def places(self, pod: str, resource: str) -> set[tuple[int, int]]:
        """(server, phyID) of the dies, or of the links' dies."""
        return {self.state.inventory.devices[resource][i].die for i in self.held[pod].get(resource, ())}


def machine(servers: int = 48, **spec) -> NodeState:
    state = NodeState()
    state.replace_objects([compute_node(i, **spec) for i in range(servers)])
    state.refresh()
    return state


ORDERS = {"dies first": [DIES, LINKS], "links first": [LINKS, DIES]}


@pytest.mark.parametrize("order", [*ORDERS, "either"])
@pytest.mark.parametrize("shown", [True, False])
def test_48_pods_land_on_48_whole_servers_with_matching_links(order, shown):
    kubelet = Kubelet(machine())
    for i in range(48):
        resources = ORDERS[order] if order in ORDERS else random.Random(i).sample([DIES, LINKS], 2)
        kubelet.admit(f"p{i}", {r: {DIES: 16, LINKS: 112}[r] for r in resources})
        if shown:
            kubelet.show()
    for i in range(48):
        assert kubelet.places(f"p{i}", DIES) == kubelet.places(f"p{i}", LINKS) == {(i, phy) for phy in range(16)}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_links_stay_with_their_dies_beside_pods_without_links(order):
    kubelet = Kubelet(machine(6))
    for i in range(3):
        kubelet.admit(f"bare{i}", {DIES: 16})
        kubelet.admit(f"p{i}", {r: {DIES: 16, LINKS: 112}[r] for r in order})
    for i in range(3):
        assert kubelet.places(f"p{i}", LINKS) == kubelet.places(f"p{i}", DIES)
        assert not kubelet.places(f"p{i}", LINKS) & kubelet.places(f"bare{i}", DIES)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_small_pods_get_the_links_of_their_own_dies(order):
    kubelet = Kubelet(machine(2))
    for i, dies in enumerate([2, 4, 1, 8, 2, 6, 1, 4, 2, 2]):
        kubelet.admit(f"p{i}", {r: {DIES: dies, LINKS: dies * 7}[r] for r in order})
        assert kubelet.places(f"p{i}", LINKS) == kubelet.places(f"p{i}", DIES)


def test_dies_without_links_are_not_taken_for_the_next_pods_when_the_kubelet_has_moved_on():
    kubelet = Kubelet(machine(2))
    kubelet.admit("bare", {DIES: 4})
    kubelet.admit("p", {LINKS: 28, DIES: 4})
    assert not kubelet.places("p", LINKS) & kubelet.places("bare", DIES)
    assert kubelet.places("p", LINKS) == kubelet.places("p", DIES)


def test_without_a_checkpoint_a_container_closes_after_a_while():
    state = machine(2)
    state.allocate(DIES, ["Ascend910-0"], now=10.0, mark=None)
    state.set_holders([Holder("d", "p", "c", ((DIES, ("Ascend910-0",)),))], settled=True)
    links = [i for i, _ in state.lists()[LINKS]]
    assert state.prefer(LINKS, links, [], 7, now=11.0, mark=None)[0].startswith("bus-0-")
    assert not {f"bus-0-{p}" for p in range(7)} & set(
        state.prefer(LINKS, links, [], 7, now=10.1 + OPEN_SECONDS, mark=None)
    )


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 4, 6, 8, 16]), st.sampled_from(["dies", "links", "bare"]), st.booleans()),
        min_size=1,
        max_size=25,
    ),
    st.integers(0, 1000),
)
def test_in_any_churn_links_match_their_dies_and_nothing_is_held_twice(pods, seed):
    kubelet = Kubelet(machine(8), seed)
    free = 8 * 16
    alive: list[str] = []
    for i, (dies, kind, removes) in enumerate(pods):
        if removes and alive:
            gone = alive.pop(kubelet.random.randrange(len(alive)))
            free += len(kubelet.held[gone][DIES])
            kubelet.remove(gone)
            kubelet.show()
        if dies > free:
            continue
        sizes = {DIES: dies, LINKS: dies * 7}
        order = {"dies": [DIES, LINKS], "links": [LINKS, DIES], "bare": [DIES]}[kind]
        kubelet.admit(f"p{i}", {r: sizes[r] for r in order})
        alive.append(f"p{i}")
        free -= dies
        if kind != "bare":
            assert kubelet.places(f"p{i}", LINKS) == kubelet.places(f"p{i}", DIES)
    for a, b in itertools.combinations(alive, 2):
        assert not kubelet.places(a, DIES) & kubelet.places(b, DIES)


def test_a_server_with_a_broken_link_is_taken_last_in_both_orders():
    for order in ORDERS.values():
        state = machine(3)
        broken = compute_node(0, faults=[{"name": "x", "diePort": {"die": 3, "plane": 2}}])
        broken["metadata"]["uid"] = state.servers["cm384-00"].uid
        state.set_object(broken)
        state.refresh()
        kubelet = Kubelet(state)
        kubelet.admit("p", {r: {DIES: 16, LINKS: 112}[r] for r in order})
        assert {server for server, _ in kubelet.places("p", DIES)} == {1}
        assert kubelet.places("p", LINKS) == kubelet.places("p", DIES)


def test_ids_that_are_not_ours_do_not_stop_the_answer():
    state = machine(1)
    ids = state.prefer(DIES, ["Ascend910-3", "ghost-1", "ghost-2"], ["ghost-2"], 3, now=0.0, mark=0)
    assert sorted(ids) == ["Ascend910-3", "ghost-1", "ghost-2"]
    assert state.prefer("unknown/resource", ["a", "b"], [], 1, now=0.0, mark=0) == ["a"]


@pytest.mark.parametrize("bad", ["Ascend910-16", "bus-0-0", "", "Ascend910-x"])
def test_allocate_refuses_what_is_not_there_and_names_it(bad):
    with pytest.raises(RefusedError, match=f"no device '{bad}'"):
        machine(1).allocate(DIES, ["Ascend910-0", bad], now=0.0, mark=0)


def test_allocate_refuses_what_is_unhealthy_and_names_it():
    state = machine(1, faults=[{"name": "x", "die": 4}])
    with pytest.raises(RefusedError, match=r"Ascend910-4 .* unhealthy"):
        state.allocate(DIES, ["Ascend910-4"], now=0.0, mark=0)
    with pytest.raises(RefusedError, match=r"bus-4-6 .* unhealthy"):
        state.allocate(LINKS, ["bus-4-6"], now=0.0, mark=0)


def test_a_refused_allocate_leaves_no_trace():
    state = machine(1)
    with pytest.raises(RefusedError):
        state.allocate(DIES, ["Ascend910-0", "nothing"], now=0.0, mark=0)
    assert state.grants.pending(0.0) == frozenset()


def test_the_environment_holds_phy_ids_and_full_ids():
    state = machine(2)
    dies = state.allocate(DIES, ["Ascend910-17", "Ascend910-2", "Ascend910-1"], now=0.0, mark=0)
    assert dies == {
        "ASCEND_VISIBLE_DEVICES": "1,2,1",
        "SUPERNODE_DEVICES": "Ascend910-1,Ascend910-2,Ascend910-17",
    }
    links = state.allocate(LINKS, ["bus-17-3", "bus-1-0"], now=0.0, mark=0)
    assert links == {"SUPERNODE_LINKS": "bus-1-0,bus-17-3"}


def test_an_object_that_becomes_unreadable_keeps_its_devices():
    state = machine(2)
    broken = compute_node(0)
    broken["metadata"]["uid"] = state.servers["cm384-00"].uid
    del broken["spec"]["devices"]
    state.set_object(broken)
    state.refresh()
    assert len(state.lists()[DIES]) == 32
    assert state.servers["cm384-00"].problems == ("spec.devices: is missing or not an object",)


def test_an_object_that_was_never_readable_is_skipped_and_says_so():
    state = NodeState()
    bad = compute_node(0)
    bad["spec"]["devices"]["dies"] = "many"
    state.replace_objects([bad, compute_node(1)])
    state.refresh()
    assert [s.name for s in state.inventory.servers] == ["cm384-01"]
    status = state.plan_status("cm384-00", {}, sent=True, now="2026-11-21T00:00:00Z", monotonic=0.0)
    assert status["conditions"][0]["reason"] == "InvalidObject"
    assert "spec.devices.dies" in status["conditions"][0]["message"]


def test_servers_are_not_withdrawn_while_held_pending_or_unknown():
    state = machine(2)
    deleting = compute_node(1)
    deleting["metadata"] |= {"uid": state.servers["cm384-01"].uid, "deletionTimestamp": "2026-11-21T00:00:00Z"}
    state.allocate(DIES, ["Ascend910-16"], now=0.0, mark=0)
    state.set_object(deleting)
    state.refresh()
    assert [ok for _, ok in state.lists()[DIES]] == [True] * 16 + [False] * 16
    assert state.withdrawable(1.0) == set()
    state.set_holders([Holder("d", "p", "c", ((DIES, ("Ascend910-16",)),))], settled=True)
    assert state.withdrawable(100.0) == set()
    state.set_holders([], settled=False)
    assert state.withdrawable(100.0) == set()
    state.set_holders([], settled=True)
    state.pod_resources_error = "unreachable"
    assert state.withdrawable(100.0) == set()
    state.pod_resources_error = ""
    assert state.withdrawable(100.0) == {"cm384-01"}
    state.withdraw({"cm384-01"})
    assert len(state.lists()[DIES]) == 16


def test_a_restarted_agent_knows_who_holds_what_from_the_status():
    obj = compute_node(3)
    obj["status"] = {
        "allocations": [
            {"namespace": "d", "pod": "p", "container": "c", "dies": "0-1,5", "links": "0-13"},
            {"namespace": "d", "pod": "q", "container": "c", "dies": "99", "links": ""},
            {"pod": 7},
            "garbage",
        ]
    }
    state = NodeState()
    state.replace_objects([obj])
    state.refresh()
    assert [h.pod for h in state.holders] == ["p"]
    dies = dict(state.holders[0].devices)[DIES]
    assert dies == ("Ascend910-48", "Ascend910-49", "Ascend910-53")
    state.set_holders([], settled=False)
    assert [h.pod for h in state.holders] == ["p"]
    state.set_holders([], settled=True)
    assert state.holders == ()


def test_a_server_that_was_released_is_not_offered_again_after_a_restart():
    obj = compute_node(0)
    obj["metadata"]["deletionTimestamp"] = "2026-11-21T00:00:00Z"
    obj["status"] = {"conditions": [{"type": "Released", "status": "True"}]}
    state = NodeState()
    state.replace_objects([obj])
    state.refresh()
    assert state.lists() == {}
    for sent in (False, True):
        status = state.plan_status("cm384-00", {}, sent=sent, now="2026-11-21T00:00:00Z", monotonic=0.0)
        assert next(c["status"] for c in status["conditions"] if c["type"] == "Released") == "True"


def test_the_same_name_made_anew_is_another_server():
    state = machine(1)
    old = state.servers["cm384-00"]
    state.withdraw({"cm384-00"})
    assert state.lists() == {}
    state.set_object(compute_node(0))
    state.refresh()
    assert state.servers["cm384-00"].uid != old.uid
    assert len(state.lists()[DIES]) == 16
