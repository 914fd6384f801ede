"""The rule for dies and links, by itself."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernode_deviceplugin.domain.devices import DIE, Device
from supernode_deviceplugin.domain.preferred import prefer_dies, prefer_links

PLANES = 7


def die(server: int, phy: int) -> Device:
    return Device(server, phy, DIE, f"Ascend910-{server * 16 + phy}")


def link(server: int, phy: int, plane: int) -> Device:
    return Device(server, phy, plane, f"bus-{server * 16 + phy}-{plane}")


def server_dies(server: int, phys=range(16)) -> list[Device]:
    return [die(server, phy) for phy in phys]


def server_links(server: int, phys=range(16), planes=range(PLANES)) -> list[Device]:
    return [link(server, phy, plane) for phy in phys for plane in planes]


def phys(devices) -> list[int]:
    return sorted(device.phy for device in devices)


def servers(devices) -> set[int]:
    return {device.server for device in devices}


dies_sets = st.sets(st.tuples(st.integers(0, 4), st.integers(0, 15)), max_size=80).map(
    lambda places: [die(*place) for place in sorted(places)]
)
links_sets = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 15), st.integers(0, PLANES - 1)), max_size=200).map(
    lambda places: [link(*place) for place in sorted(places)]
)


@given(dies_sets, st.data())
def test_dies_are_distinct_available_of_the_right_number_and_with_all_that_must_be(available, data):
    size = data.draw(st.integers(0, 40))
    must = data.draw(st.lists(st.sampled_from(available), unique=True, max_size=size)) if available else []
    follow = data.draw(st.sets(st.sampled_from([d.die for d in available]), max_size=20)) if available else set()
    missing = data.draw(st.dictionaries(st.integers(0, 4), st.integers(0, 9)))
    chosen = prefer_dies(available, must, size, open_dies=follow, missing_links=missing)
    assert len(chosen) == len(set(chosen)) == min(size, len(available))
    assert set(must) <= set(chosen) <= set(available)


@given(links_sets, dies_sets, st.data())
def test_links_are_distinct_available_of_the_right_number_and_with_all_that_must_be(available, free, data):
    size = data.draw(st.integers(0, 150))
    must = data.draw(st.lists(st.sampled_from(available), unique=True, max_size=size)) if available else []
    follow = data.draw(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 15)), max_size=20))
    chosen = prefer_links(available, must, size, planes=PLANES, free_dies=free, open_dies=follow)
    assert len(chosen) == len(set(chosen)) == min(size, len(available))
    assert set(must) <= set(chosen) <= set(available)


@given(dies_sets, st.integers(1, 16), st.randoms())
def test_the_order_in_which_devices_are_named_changes_nothing(available, size, shuffle: random.Random):
    mixed = list(available)
    shuffle.shuffle(mixed)
    assert prefer_dies(mixed, (), size) == prefer_dies(available, (), size)


@given(dies_sets, st.integers(1, 16))
def test_one_server_is_enough_whenever_one_has_enough_and_it_is_the_fullest_that_does(available, size):
    free = {s: sum(d.server == s for d in available) for s in servers(available)}
    enough = [count for count in free.values() if count >= size]
    chosen = prefer_dies(available, (), size)
    if enough:
        assert len(servers(chosen)) == 1
        assert free[chosen[0].server] == min(enough)


@given(dies_sets, st.integers(1, 8))
def test_whole_packages_come_whole(available, pairs):
    chosen = prefer_dies(available, (), pairs * 2)
    for server in servers(chosen):
        packages = [[p for p in (2 * k, 2 * k + 1) if die(server, p) in available] for k in range(8)]
        whole = sum(len(p) == 2 for p in packages)
        mine = set(phys(d for d in chosen if d.server == server))
        got = sum(len(p) == 2 and set(p) <= mine for p in packages)
        assert got == min(whole, len(mine) // 2)


def test_a_broken_up_package_is_used_before_another_is_broken():
    assert phys(prefer_dies(server_dies(0, [0, 1, 2, 3, 5]), (), 1)) == [5]
    assert phys(prefer_dies(server_dies(0, [0, 1, 2, 3, 5]), (), 3)) == [0, 1, 5]
    assert phys(prefer_dies(server_dies(0, [0, 1, 2, 3]), (), 3)) == [0, 1, 2]


def test_the_partner_of_a_die_that_must_be_comes_first():
    available = server_dies(0)
    assert phys(prefer_dies(available, [die(0, 5)], 2)) == [4, 5]


def test_whole_servers_stay_whole():
    available = server_dies(0) + server_dies(1, range(4)) + server_dies(2)
    assert servers(prefer_dies(available, (), 4)) == {1}
    assert servers(prefer_dies(available, (), 16)) == {0}
    assert servers(prefer_dies(available, (), 6)) == {0}


def test_a_server_that_misses_links_comes_after_its_equals():
    available = server_dies(0) + server_dies(1)
    assert servers(prefer_dies(available, (), 16, missing_links={0: 1})) == {1}


def test_more_than_a_server_takes_as_few_servers_as_possible():
    available = server_dies(0, range(3)) + server_dies(1) + server_dies(2) + server_dies(3, range(5))
    chosen = prefer_dies(available, (), 21)
    assert servers(chosen) == {1, 3}
    assert servers(prefer_dies(available, (), 32)) == {1, 2}


def test_links_follow_open_dies_and_take_the_same_planes_on_each():
    available = server_links(0) + server_links(1)
    follow = {(1, 2), (1, 3)}
    chosen = prefer_links(available, (), 4, planes=PLANES, free_dies=server_dies(0), open_dies=follow)
    assert {(d.phy, d.plane) for d in chosen} == {(2, 0), (3, 0), (2, 1), (3, 1)}
    assert servers(chosen) == {1}


def test_links_with_nothing_open_go_to_the_dies_that_come_next():
    available = server_links(0) + server_links(1) + server_links(2)
    free = server_dies(1) + server_dies(2, range(4))
    chosen = prefer_links(available, (), 28, planes=PLANES, free_dies=free)
    assert {d.die for d in chosen} == {d.die for d in prefer_dies(free, (), 4)} == {(2, p) for p in range(4)}


def test_links_of_dies_that_others_hold_come_last():
    available = server_links(0) + server_links(1, [0])
    chosen = prefer_links(available, (), 8, planes=PLANES, free_dies=[die(1, 0)])
    assert servers(chosen[:7]) == {1}
    assert servers(chosen[7:]) == {0}


@settings(max_examples=60)
@given(st.data())
def test_links_of_held_dies_are_never_taken_while_others_suffice(data):
    free = data.draw(dies_sets.filter(bool))
    available = [link(d.server, d.phy, p) for d in free for p in range(PLANES)]
    others = data.draw(links_sets)
    size = data.draw(st.integers(1, len(available)))
    chosen = prefer_links({*available, *others}, (), size, planes=PLANES, free_dies=free)
    assert {d.die for d in chosen} <= {d.die for d in free}


@pytest.mark.parametrize("size", [0, -3])
def test_nothing_wanted_is_nothing_chosen(size):
    assert prefer_dies(server_dies(0), (), size) == []
    assert prefer_links(server_links(0), (), size, planes=PLANES, free_dies=()) == []


def test_open_links_are_followed_unless_only_another_server_has_room():
    available = server_dies(0, range(4)) + server_dies(1)
    follow = {(0, 0), (0, 1), (0, 2)}
    assert servers(prefer_dies(available, (), 4, open_dies=follow)) == {0}
    assert servers(prefer_dies(available, (), 16, open_dies=follow)) == {1}
