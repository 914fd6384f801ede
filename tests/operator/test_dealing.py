"""Dealing servers over nodes: every server once at most, sticky, even."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from supernode_operator.domain.placing import plan_dedicated, plan_packed

NAMES = [f"node-{number}" for number in range(60)]
nodes_of = st.lists(st.sampled_from(NAMES), unique=True, max_size=60)
placed_of = st.dictionaries(st.integers(0, 47), st.sampled_from(NAMES), max_size=48)


def test_a_fresh_machine_is_dealt_in_cabinet_order_over_the_nodes() -> None:
    plan = plan_packed(48, {}, ["a", "b", "c"])
    assert [plan[server] for server in range(48)] == ["a"] * 16 + ["b"] * 16 + ["c"] * 16


def test_without_nodes_nothing_is_placed() -> None:
    assert plan_packed(48, {3: "gone"}, []) == {}
    assert plan_dedicated(48, {3: "gone"}, []) == {}


@given(placed_of, nodes_of.filter(bool))
def test_packed_places_every_server_and_moves_none_that_may_stay(placed: dict[int, str], nodes: list[str]) -> None:
    plan = plan_packed(48, placed, nodes)
    assert sorted(plan) == list(range(48))
    assert set(plan.values()) <= set(nodes)
    assert all(plan[server] == node for server, node in placed.items() if node in nodes)
    assert plan_packed(48, plan, nodes) == plan


@given(nodes_of.filter(bool))
def test_a_fresh_deal_is_even(nodes: list[str]) -> None:
    loads = Counter(plan_packed(48, {}, nodes).values())
    counts = [loads[node] for node in nodes]
    assert max(counts) - min(counts) <= 1


@given(nodes_of.filter(bool), st.lists(st.sampled_from(NAMES), max_size=5))
def test_new_nodes_get_only_servers_that_have_no_place(nodes: list[str], more: list[str]) -> None:
    before = plan_packed(48, {}, nodes)
    assert plan_packed(48, before, [*nodes, *(n for n in dict.fromkeys(more) if n not in nodes)]) == before


@given(placed_of, nodes_of, st.lists(st.sampled_from(NAMES), max_size=10))
def test_dedicated_gives_each_server_a_node_of_its_own(
    placed: dict[int, str], nodes: list[str], occupied: list[str]
) -> None:
    plan = plan_dedicated(48, placed, nodes, occupied)
    assert len(set(plan.values())) == len(plan)
    assert set(plan.values()) <= set(nodes)
    kept = {server: node for server, node in placed.items() if plan.get(server) == node}
    wanted = {node for node in placed.values() if node in nodes}
    assert {kept[server] for server in kept} >= wanted
    fresh = {server: node for server, node in plan.items() if server not in kept}
    assert not set(fresh.values()) & set(occupied)
    free = [node for node in nodes if node not in occupied and node not in wanted]
    assert len(fresh) == min(48 - len(kept), len(free))
