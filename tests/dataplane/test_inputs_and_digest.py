"""Reading API objects: lenient where agents and users may have garbled them, and a digest of exactly what was read."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernode_api.compute_node import FaultLevel
from supernode_dataplane import ProfileNotFoundError, load_profile, machine_inputs, solve_inputs
from supernode_dataplane.inputs import HARMLESS_LEVELS
from support.machines import SMALL, compute_nodes, only, ranks_of_parts, run, super_node, workload

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def digest(machine: dict[str, Any], nodes: list[dict[str, Any]], jobs: list[dict[str, Any]]) -> str:
    return machine_inputs(machine, nodes, jobs).digest


def parts() -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    nodes = compute_nodes(4, {1: [{"die": 3}, {"l1": {"plane": 2}}]})
    return super_node(), nodes, [workload("a", range(2), SMALL), workload("b", range(2, 4), SMALL)]


def test_the_digest_has_16_hex_digits_and_stays_with_equal_inputs():
    first, second = digest(*parts()), digest(*parts())
    assert first == second
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert solve_inputs(machine_inputs(*parts())).digest == first


def test_the_digest_does_not_depend_on_the_order_of_anything():
    machine, nodes, jobs = parts()
    for node in nodes:
        node["spec"]["faults"] = [dict(reversed(fault.items())) for fault in reversed(node["spec"]["faults"])]
        node["spec"] = dict(reversed(node["spec"].items()))
    for job in jobs:
        job["status"]["placement"]["ranks"].reverse()
    assert digest(machine, nodes[::-1], jobs[::-1]) == digest(*parts())


def _set(value: Any, *path: Any) -> Any:
    def change(objects: tuple[Any, ...]) -> None:
        target: Any = objects
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


CHANGES = {
    "profile": _set("atlas-a2-cluster", 0, "spec", "profile"),
    "fault gone": _set([], 1, 1, "spec", "faults"),
    "fault level": _set("SubHealthFault", 1, 1, "spec", "faults", 0, "level"),
    "node name": _set("worker-3", 1, 2, "spec", "nodeName"),
    "cabinet": _set(9, 1, 0, "spec", "cabinet"),
    "batch": _set(32, 2, 0, "spec", "training", "globalBatchSize"),
    "stack": _set("open-source", 2, 1, "spec", "stack"),
    "model": _set({"name": "qwen3-8b"}, 2, 1, "spec", "model"),
    "not running": _set(False, 2, 0, "status", "placement", "ranks", 1, "running"),
    "other dies": _set("0-14", 2, 0, "status", "placement", "ranks", 1, "parts", 0, "dies"),
    "other links": _set("0-100", 2, 0, "status", "placement", "ranks", 1, "parts", 0, "links"),
    "other server": _set(7, 2, 0, "status", "placement", "ranks", 1, "parts", 0, "server"),
    "name": _set("c", 2, 0, "metadata", "name"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_digest_changes_with_every_input(name: str):
    objects = parts()
    CHANGES[name](objects)
    assert digest(*objects) != digest(*parts())


def test_the_digest_changes_when_a_compute_node_or_a_workload_goes():
    machine, nodes, jobs = parts()
    assert len({digest(*parts()), digest(machine, nodes[1:], jobs), digest(machine, nodes, jobs[1:])}) == 3


def test_what_is_not_read_changes_neither_digest_nor_figures():
    machine, nodes, jobs = parts()
    before = solve_inputs(machine_inputs(machine, nodes, jobs))
    machine = {**machine, "status": {"x": 1}, "spec": {**machine["spec"], "superPodID": 7}}
    for node in nodes:
        node["status"] = {"allocations": "garbage", "conditions": [1, None]}
        node["metadata"]["resourceVersion"] = "17"
    for job in jobs:
        job["status"].update(performance={"mfu": "nan"}, progress=3, conditions=None)
        job["status"]["placement"].update(dies=-4, nodes="many")
        job["status"]["placement"]["ranks"][0]["pod"] = "another-name"
    after = solve_inputs(machine_inputs(machine, nodes, jobs))
    assert after.digest == before.digest
    assert after.workloads == before.workloads


def test_objects_of_another_supernode_are_left_out():
    machine, nodes, jobs = parts()
    other = copy.deepcopy(jobs[0])
    other["spec"]["superNode"] = "other"
    foreign = copy.deepcopy(nodes[1])
    foreign["spec"]["superNode"] = "other"
    assert digest(machine, [*nodes, foreign], [*jobs, other]) == digest(machine, nodes, jobs)


def test_levels_that_leave_devices_in_use_are_those_of_the_api():
    assert {str(level) for level in FaultLevel if not level.is_unhealthy} == HARMLESS_LEVELS


def test_an_unknown_profile_raises_with_the_known_names():
    with pytest.raises(ProfileNotFoundError, match="'gb300-nvl72'"):
        machine_inputs(super_node("gb300-nvl72"), [], [])
    with pytest.raises(ProfileNotFoundError):
        machine_inputs({"metadata": {"name": "x"}}, [], [])


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"server": 48, "dies": "0", "links": "all"}, "server '48' is not in the machine"),
        ({"server": -1, "dies": "0", "links": "all"}, "server '-1' is not in the machine"),
        ({"server": "a", "dies": "0"}, "server 'a' is not in the machine"),
        ({"server": 0, "dies": "0-16", "links": "all"}, "outside 0 to 15"),
        ({"server": 0, "dies": "3-1", "links": "all"}, "outside"),
        ({"server": 0, "dies": "x", "links": "all"}, "not a range"),
        ({"server": 0, "dies": 3, "links": "all"}, "must be text"),
        ({"server": 0, "dies": "0", "links": "112"}, "outside 0 to 111"),
        ("garbage", "not in the machine"),
    ],
)
def test_a_broken_part_is_left_out_with_a_note_and_the_rest_counts(part: Any, words: str):
    ranks = ranks_of_parts([[(0, "0-7")]])
    ranks[0]["parts"].append(part)
    result = only(run(workload("a", ranks=ranks, base=SMALL)))
    assert words in result.notes[0]
    assert result.dies == 8
    assert result.tokens_per_second > 0


def test_ranks_without_a_number_or_named_twice_are_left_out_with_a_note():
    ranks: Any = [*ranks_of_parts([[(0, "0-7")], [(0, "8-15")]]), {"rank": "x"}, 7]
    ranks[1]["rank"] = 0
    result = only(run(workload("a", ranks=ranks, base=SMALL)))
    assert result.dies == 8
    assert len(result.notes) == 3


def test_faults_that_name_nothing_are_passed_over():
    faults: list[Any] = [
        {},
        {"die": "x"},
        {"die": 99},
        {"diePort": 4},
        {"diePort": {"die": 1}},
        {"uplink": {"plane": 9, "port": 0}},
    ]
    faults += [{"l1": {"plane": 31}}, {"die": -1}, {"die": True}]
    state = run(faults={0: faults})
    assert state.devices.healthy.all()
    assert state.devices.port_up.all()


def test_of_two_compute_nodes_for_one_server_the_first_counts():
    nodes = compute_nodes(1, {0: [{"die": 1}]}) + compute_nodes(1)
    both = machine_inputs(super_node(), nodes, [])
    assert machine_inputs(super_node(), nodes[::-1], []).compute_nodes == both.compute_nodes
    assert len(both.compute_nodes) == 1


@settings(max_examples=150, deadline=None)
@given(JSON, JSON, JSON, JSON)
def test_whatever_stands_in_the_objects_nothing_raises(spec, ranks, faults, status):
    node = {
        "metadata": {"name": "n"},
        "spec": {"superNode": "cm", "serverIndex": 0, "faults": faults},
        "status": status,
    }
    jobs = [
        {"metadata": {"name": "a"}, "spec": {"superNode": "cm", "training": spec}, "status": status},
        {**workload("b", [0], SMALL), "status": {"placement": {"ranks": ranks}}},
        {**workload("c", [0], SMALL), "status": {"placement": ranks}},
        {"metadata": {"name": "d"}, "spec": {**workload("d", [1], SMALL)["spec"], "pods": spec, "stack": ranks}},
        {"metadata": {"name": "e"}, "spec": spec, "status": {"placement": {"ranks": [ranks]}}},
    ]
    inputs = machine_inputs(super_node(), [node, {"spec": faults}, {}], jobs)
    state = solve_inputs(inputs)
    json.dumps([w.waiting for w in state.workloads])
    assert state.workload("default/a") is not None


def test_a_profile_is_read_once():
    assert load_profile("cloudmatrix-384") is load_profile("cloudmatrix-384")
