"""Devices, health, grants, allocations and reports as plain values; and that they agree with the API's models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernode_api.compute_node import ComputeNode, ComputeNodeStatus
from supernode_api.conditions import Reason
from supernode_api.faults import FaultLevel
from supernode_deviceplugin.domain.allocations import Holder, Settling, group_devices, settle
from supernode_deviceplugin.domain.devices import InvalidComputeNodeError, build_inventory, parse_server
from supernode_deviceplugin.domain.grants import PENDING_SECONDS, Grants
from supernode_deviceplugin.domain.health import unhealthy_dies, unhealthy_links
from supernode_deviceplugin.domain.holdings import Holdings
from supernode_deviceplugin.domain.reports import Report, ResourceReport, build_status, is_released
from support.memory_nodes import DIES, LINKS, compute_node

NOW = "2026-11-21T00:00:00Z"
LATER = "2026-11-21T00:01:00Z"

targets = st.one_of(
    st.integers(0, 15).map(lambda n: {"die": n}),
    st.tuples(st.integers(0, 15), st.integers(0, 6)).map(lambda t: {"diePort": {"die": t[0], "plane": t[1]}}),
    st.integers(0, 6).map(lambda n: {"l1": {"plane": n}}),
    st.tuples(st.integers(0, 6), st.integers(0, 15)).map(lambda t: {"uplink": {"plane": t[0], "port": t[1]}}),
)


def server(**spec):
    return parse_server(compute_node(0, **spec))


def fault(level: str = "SeparateNPU", **target):
    return {"name": "f", "level": level, **target}


@given(st.lists(st.tuples(targets, st.sampled_from(FaultLevel)), max_size=5))
def test_the_agent_reads_what_the_api_model_writes(faults):
    raw = [{"name": f"f{i}", "level": str(level), **target} for i, (target, level) in enumerate(faults)]
    model = ComputeNode.model_validate(compute_node(0, faults=raw))
    written = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    parsed = parse_server(written)
    assert not parsed.problems
    assert (parsed.dies, parsed.planes, parsed.first_die) == (16, 7, 0)
    for mine, theirs in zip(parsed.faults, model.spec.faults, strict=True):
        assert (mine.name, mine.level, mine.die) == (theirs.name, theirs.level, theirs.die)
        assert mine.port == ((theirs.die_port.die, theirs.die_port.plane) if theirs.die_port else None)
        assert mine.l1 == (theirs.l1.plane if theirs.l1 else None)


def test_a_broken_die_takes_its_links_along():
    broken = server(faults=[fault(die=3)])
    assert unhealthy_dies(broken) == {3}
    assert unhealthy_links(broken) == {(3, plane) for plane in range(7)}


def test_a_broken_port_is_one_link_and_a_broken_l1_chip_a_plane():
    assert unhealthy_links(server(faults=[fault(diePort={"die": 2, "plane": 5})])) == {(2, 5)}
    chip = server(faults=[fault(l1={"plane": 4})])
    assert unhealthy_links(chip) == {(die, 4) for die in range(16)}
    assert not unhealthy_dies(chip)


def test_an_uplink_makes_no_device_unhealthy():
    broken = server(faults=[fault(uplink={"plane": 0, "port": 0})])
    assert not unhealthy_dies(broken)
    assert not unhealthy_links(broken)


@pytest.mark.parametrize("target", [{"die": 0}, {"diePort": {"die": 0, "plane": 1}}, {"l1": {"plane": 2}}])
@pytest.mark.parametrize("level", FaultLevel)
def test_levels_that_leave_devices_schedulable_leave_them_healthy(level, target):
    broken = server(faults=[fault(level=str(level), **target)])
    assert bool(unhealthy_dies(broken)) is (level.is_unhealthy and "die" in target)
    assert bool(unhealthy_links(broken)) is level.is_unhealthy


def test_a_server_that_is_being_deleted_is_unhealthy_all_over():
    obj = compute_node(0)
    obj["metadata"]["deletionTimestamp"] = NOW
    assert len(unhealthy_dies(parse_server(obj))) == 16
    assert len(unhealthy_links(parse_server(obj))) == 112


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("spec",), None, "spec"),
        (("spec", "devices"), [], "spec.devices"),
        (("spec", "devices", "dies"), 0, "spec.devices.dies"),
        (("spec", "devices", "planes"), True, "spec.devices.planes"),
        (("spec", "devices", "firstDie"), -1, "spec.devices.firstDie"),
        (("spec", "devices", "npuResource"), "", "spec.devices.npuResource"),
        (("spec", "devices", "busLinkResource"), DIES, "spec.devices.busLinkResource"),
        (("spec", "serverIndex"), "3", "spec.serverIndex"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_field(path, value, field):
    obj = compute_node(0)
    at = obj
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(InvalidComputeNodeError, match=field):
        parse_server(obj)


@pytest.mark.parametrize(
    "bad",
    [
        "text",
        {"name": "f"},
        {"name": "f", "die": 16},
        {"name": "f", "die": 1, "level": "Unheard"},
        {"name": "f", "diePort": {"die": 1}},
        {"name": "f", "l1": 3},
        {"die": 3},
    ],
)
def test_a_fault_that_cannot_be_read_is_left_out_and_named(bad):
    parsed = server(faults=[bad, fault(die=1)])
    assert len(parsed.faults) == 1
    assert parsed.problems[0].startswith("spec.faults[0]")


def test_ids_are_arithmetic():
    inventory = build_inventory([parse_server(compute_node(2))])
    assert list(inventory.devices[DIES])[:2] == ["Ascend910-32", "Ascend910-33"]
    assert list(inventory.devices[LINKS])[:2] == ["bus-32-0", "bus-32-1"]
    assert inventory.devices[LINKS]["bus-47-6"][:3] == (0, 15, 6)


def test_of_two_with_the_same_ids_the_older_has_them():
    old, new = compute_node(0, name="z"), compute_node(0, name="a")
    new["metadata"]["creationTimestamp"] = LATER
    for order in ([old, new], [new, old]):
        inventory = build_inventory(map(parse_server, order))
        assert [s.name for s in inventory.servers] == ["z"]
        assert inventory.conflicts == {"a": "z"}


def test_of_two_as_old_the_first_by_name_has_them():
    inventory = build_inventory([parse_server(compute_node(0, name="b")), parse_server(compute_node(0, name="a"))])
    assert inventory.conflicts == {"b": "a"}


def test_pending_grants_end_when_seen_or_after_a_while():
    inventory = build_inventory([parse_server(compute_node(0))])
    grants = Grants()
    grants.record([inventory.devices[DIES][f"Ascend910-{n}"] for n in (0, 1)], 0.0, 1)
    grants.seen(["Ascend910-0"])
    assert grants.pending(1.0) == {"Ascend910-1"}
    assert grants.pending(PENDING_SECONDS + 0.1) == frozenset()


@pytest.mark.parametrize("first", [DIES, LINKS])
def test_a_container_with_both_has_nothing_open(first):
    inventory = build_inventory([parse_server(compute_node(0))])
    die, link = inventory.devices[DIES]["Ascend910-3"], inventory.devices[LINKS]["bus-3-0"]
    order = [die, link] if first == DIES else [link, die]
    grants = Grants()
    grants.record(order[:1], 0.0, 1)
    opened = (grants.open_dies(0.0, 1), grants.open_links(0.0, 1))
    assert opened == ((frozenset({(0, 3)}), frozenset()) if first == DIES else (frozenset(), frozenset({(0, 3)})))
    grants.record(order[1:], 0.0, 1)
    assert not grants.open_dies(0.0, 1)
    assert not grants.open_links(0.0, 1)


def test_a_known_holder_whose_devices_all_went_to_others_is_gone_even_from_a_young_kubelet():
    old = Holder("d", "a", "c", ((DIES, ("Ascend910-1",)),))
    new = Holder("d", "b", "c", ((DIES, ("Ascend910-1",)),))
    assert settle([old], [new], settled=False) == (new,)


def test_devices_that_are_not_ours_are_no_allocation():
    inventory = build_inventory([parse_server(compute_node(0))])
    foreign = Holder("d", "a", "c", (("nvidia.com/gpu", ("gpu-0",)),))
    assert Holdings(inventory, [foreign]).allocations() == {"cm384-00": []}


def test_an_answer_of_a_young_kubelet_removes_nobody():
    a = Holder("d", "a", "c", ((DIES, ("Ascend910-0", "Ascend910-1")),))
    b = Holder("d", "b", "c", ((DIES, ("Ascend910-1",)),))
    assert settle([a], [], settled=False) == (a,)
    assert settle([a], [], settled=True) == ()
    assert settle([a], [b], settled=False) == (a._replace(devices=((DIES, ("Ascend910-0",)),)), b)


ME = ("supernode-agent", "agent-x")
A = Holder("d", "a", "c", ((DIES, ("Ascend910-0",)),))
B = Holder("d", "b", "c", ((DIES, ("Ascend910-1",)),))


def judge(settling, now, age, pods, listed=(), known=(), own=ME):
    return settling.judge(age_seconds=age, own_pod=own, pods=set(pods), known=known, listed=listed, now=now)


def test_an_answer_is_complete_when_the_kubelet_is_old_and_lists_the_agents_own_pod():
    assert not judge(Settling(), 0, 3.0, [ME])
    assert judge(Settling(), 0, 100.0, [ME])
    assert not judge(Settling(), 0, 100.0, [("d", "other")])


def test_without_an_own_pod_the_kubelet_has_to_be_older():
    assert not judge(Settling(), 0, 15.0, [], own=None)
    assert judge(Settling(), 0, 31.0, [], own=None)


def test_a_kubelet_that_brings_pods_back_one_by_one_is_not_believed_until_it_stops():
    settling = Settling()
    known = [A, B]
    assert judge(settling, 0, 1000.0, [ME], known, known)
    assert not judge(settling, 1, 1.0, [], (), known)
    assert not judge(settling, 12, 12.0, [ME], (), known), "the own pod has just appeared"
    assert not judge(settling, 20, 20.0, [ME], [A], known)
    assert not judge(settling, 29, 29.0, [ME], [A], known), "somebody came back 9 s ago"
    assert judge(settling, 31, 31.0, [ME], [A], known)


def test_an_old_kubelet_is_believed_at_once_by_an_agent_that_starts():
    assert judge(Settling(), 0, 100.0, [ME], (), [A])


def test_allocations_are_ranges_of_the_server_and_sorted():
    inventory = build_inventory([parse_server(compute_node(i)) for i in range(2)])
    pairs = [(DIES, f"Ascend910-{n}") for n in (0, 1, 2, 17)] + [(LINKS, f"bus-1-{p}") for p in range(7)]
    holders = [Holder("d", "z", "c", group_devices(pairs)), Holder("d", "a", "c", ((DIES, ("Ascend910-5",)),))]
    got = Holdings(inventory, holders).allocations()
    assert [(a["pod"], a["dies"], a["links"]) for a in got["cm384-00"]] == [("a", "5", ""), ("z", "0-2", "7-13")]
    assert [(a["pod"], a["dies"], a["links"]) for a in got["cm384-01"]] == [("z", "1", "")]


def report(**changes):
    values = {
        "server": server(),
        "resources": (
            ResourceReport(DIES, 16, 0, Reason.REGISTERED),
            ResourceReport(LINKS, 112, 0, Reason.REGISTERED),
        ),
    }
    return Report(**{**values, **changes})


def deleting_server():
    obj = compute_node(0)
    obj["metadata"]["deletionTimestamp"] = NOW
    return parse_server(obj)


def condition(status, type_="Ready"):
    found = next(c for c in status["conditions"] if c["type"] == type_)
    return found["status"], found["reason"]


ALLOCATION = {"namespace": "d", "pod": "p", "container": "c", "dies": "0", "links": ""}


@pytest.mark.parametrize(
    ("changes", "ready"),
    [
        ({}, ("True", "Registered")),
        ({"conflict": "other"}, ("False", "Conflict")),
        ({"pod_resources_error": "gone"}, ("False", "PodResourcesUnreachable")),
        (
            {"resources": (ResourceReport(DIES, 16, 0, Reason.KUBELET_UNREACHABLE, "no socket"),)},
            ("False", "KubeletUnreachable"),
        ),
        (
            {"resources": (ResourceReport(DIES, 16, 0, Reason.REGISTRATION_FAILED, "said no"),)},
            ("False", "RegistrationFailed"),
        ),
    ],
)
def test_ready_says_how_it_stands_and_the_status_fits_the_api(changes, ready):
    status = build_status(report(**changes), {}, NOW)
    assert condition(status) == ready
    ComputeNodeStatus.model_validate(status)
    assert build_status(report(**changes), status, LATER) is None


@pytest.mark.parametrize(
    ("changes", "released"),
    [
        ({"allocations": (ALLOCATION,)}, ("False", "Draining", "d/p")),
        ({"pod_resources_error": "gone"}, ("False", "PodResourcesUnreachable", "gone")),
        ({"pending": 3}, ("False", "Draining", "3 devices")),
        ({}, ("False", "Draining", "asked")),
        ({"released": True}, ("True", "Released", "nothing")),
    ],
)
def test_released_says_what_it_waits_for(changes, released):
    status = build_status(report(server=deleting_server(), **changes), {}, NOW)
    found = next(c for c in status["conditions"] if c["type"] == "Released")
    assert (found["status"], found["reason"]) == released[:2]
    assert released[2] in found["message"]
    assert is_released(status) is (released[0] == "True")


def test_many_holders_are_named_by_the_first_few():
    held = tuple({**ALLOCATION, "pod": f"p{n}"} for n in range(9))
    status = build_status(report(server=deleting_server(), allocations=held), {}, NOW)
    assert "d/p4 and 4 more" in status["conditions"][1]["message"]


def test_garbage_in_the_status_is_replaced():
    garbage = {"conditions": "x", "resources": None, "allocations": [{"pod": 1}], "observedGeneration": "?"}
    status = build_status(report(), garbage, NOW)
    ComputeNodeStatus.model_validate(status)


def test_the_moment_of_a_transition_stays_while_the_status_does():
    first = build_status(report(), {}, NOW)
    second = build_status(report(allocations=(ALLOCATION,)), first, LATER)
    assert second["conditions"][0]["lastTransitionTime"] == NOW
    third = build_status(report(conflict="x"), second, LATER)
    assert third["conditions"][0]["lastTransitionTime"] == LATER
