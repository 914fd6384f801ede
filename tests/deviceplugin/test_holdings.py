"""What follows from who holds what: the same, whether it is worked out anew or kept from the answer before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supernode_deviceplugin.domain.allocations import Holder, group_devices
from supernode_deviceplugin.domain.devices import DIE, Device, build_inventory, parse_server
from supernode_deviceplugin.domain.holdings import Holdings
from support.memory_nodes import DIES, LINKS, compute_node

INVENTORY = build_inventory([parse_server(compute_node(i)) for i in range(2)])
DEVICES = [(resource, device) for resource in (DIES, LINKS) for device in INVENTORY.devices[resource].values()]
NEAR = [(resource, device) for resource, device in DEVICES if device.phy < 2]
"""Few enough for a die and its links to meet."""

some = st.lists(st.sampled_from(NEAR), max_size=12, unique=True)


def holder(pod: str, devices: list[tuple[str, Device]]) -> Holder:
    return Holder("default", pod, "main", group_devices((resource, device.id) for resource, device in devices))


@given(some, some, some, some)
def test_missing_links_are_those_of_free_dies_that_are_held_or_broken(first, second, pending, broken):
    holdings = Holdings(INVENTORY, [holder("a", first), holder("b", second)])
    held = {device for _, device in [*first, *second, *pending]}
    dies = {device.die for device in held if device.plane == DIE}
    wanted: dict[int, int] = {}
    for _, device in NEAR:
        out = device in held or device in [device for _, device in broken]
        if device.plane != DIE and out and device.die not in dies:
            wanted[device.server] = wanted.get(device.server, 0) + 1
    assert holdings.missing_links([d for _, d in pending], [d for _, d in broken]) == wanted


@given(some, some, some)
def test_allocations_are_the_same_whatever_was_known_before(first, second, third):
    before = Holdings(INVENTORY, [holder("a", first), holder("b", second)])
    now = [holder("a", first), holder("b", third)]
    assert Holdings(INVENTORY, now, before).allocations() == Holdings(INVENTORY, now).allocations()
    other = build_inventory([parse_server(compute_node(i)) for i in (1, 2)])
    assert Holdings(other, now, before).allocations() == Holdings(other, now).allocations()


def test_what_is_not_of_this_node_is_held_and_has_no_allocation():
    stranger = Holder("default", "x", "main", ((DIES, ("Ascend910-9999",)), ("example.com/other", ("one",))))
    holdings = Holdings(INVENTORY, [stranger])
    assert holdings.ids == {"Ascend910-9999", "one"}
    assert holdings.allocations() == {"cm384-00": [], "cm384-01": []}
    assert holdings.missing_links((), ()) == {}
