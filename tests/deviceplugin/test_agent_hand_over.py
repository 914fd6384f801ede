"""Deleting, moving and sharing servers: unhealthy, drained, withdrawn, released; and PodResources that fails."""

from __future__ import annotations

import asyncio

from support.memory_nodes import DIES, LINKS, compute_node


async def up(world, servers: int) -> None:
    for i in range(servers):
        world.nodes.put(compute_node(i))
    await world.up(16 * servers, 112 * servers)
    world.settle()


def released(world, name: str) -> str:
    return world.nodes.condition(name, "Released")[0]


async def test_a_free_server_is_released_after_its_devices_are_withdrawn(world):
    await up(world, 2)
    world.nodes.delete("cm384-01")
    await world.until(lambda: released(world, "cm384-01") == "True")
    assert set(world.kubelet.devices(DIES)) == {f"Ascend910-{n}" for n in range(16)}
    assert world.nodes.status("cm384-01")["resources"] == []
    unhealthy = [d for _, d in world.kubelet.plugins[DIES].lists if len(d) == 32 and "Unhealthy" in d.values()]
    assert unhealthy, "its devices must be unhealthy before they go"
    world.nodes.finish("cm384-01")
    await world.serving(16, 112)


async def test_a_held_server_waits_and_names_the_pod_and_no_new_pod_gets_it(world):
    await up(world, 2)
    await world.kubelet.admit("holder", {DIES: 2, LINKS: 14})
    world.nodes.delete("cm384-00")
    await world.serving(16, 112)
    await world.until(lambda: "default/holder" in world.nodes.condition("cm384-00", "Released")[2])
    assert world.nodes.condition("cm384-00", "Released")[:2] == ("False", "Draining")
    environment = await world.kubelet.admit("next", {LINKS: 112, DIES: 16})
    assert "Ascend910-16" in environment["SUPERNODE_DEVICES"]
    await asyncio.sleep(1.0)
    assert released(world, "cm384-00") == "False"
    world.kubelet.remove("holder")
    await world.until(lambda: released(world, "cm384-00") == "True")


async def test_when_the_last_server_goes_the_list_is_empty_and_the_sockets_are_gone(world):
    await up(world, 1)
    plugin = world.kubelet.plugins[DIES]
    world.nodes.delete("cm384-00")
    await world.until(lambda: released(world, "cm384-00") == "True")
    await world.until(lambda: plugin.ended)
    assert plugin.lists[-1][1] == {}
    assert list(world.kubelet.folder.glob("supernode-*.sock")) == []
    world.nodes.finish("cm384-00")
    world.nodes.put(compute_node(0))
    await world.serving(16, 112)


async def test_an_unreachable_pod_resources_socket_never_means_that_nothing_is_held(world):
    await up(world, 1)
    world.kubelet.pods_fail = "the kubelet is confused"
    await asyncio.sleep(0.3)
    world.nodes.delete("cm384-00")
    await world.until(lambda: world.nodes.condition("cm384-00", "Released")[1] == "PodResourcesUnreachable")
    assert "the kubelet is confused" in world.nodes.condition("cm384-00", "Released")[2]
    assert world.kubelet.capacity(DIES) == 16
    world.kubelet.pods_fail = ""
    await world.until(lambda: released(world, "cm384-00") == "True")


async def test_pod_resources_that_fails_is_a_condition_and_keeps_the_allocations(world):
    await up(world, 1)
    await world.kubelet.admit("p", {DIES: 1})
    await world.until(lambda: world.nodes.status("cm384-00").get("allocations"))
    world.kubelet.pods_fail = "no"
    await world.until(lambda: world.nodes.condition("cm384-00")[1] == "PodResourcesUnreachable")
    assert world.nodes.status("cm384-00")["allocations"]
    world.kubelet.pods_fail = ""
    await world.until(lambda: world.nodes.condition("cm384-00")[1] == "Registered")


async def test_a_young_kubelet_is_not_believed_when_it_lists_no_pod(world):
    world.nodes.put(compute_node(0))
    await world.up(16, 112)
    await world.kubelet.admit("p", {DIES: 1})
    await world.until(lambda: world.nodes.status("cm384-00").get("allocations"))
    world.kubelet.hide_pods = True
    world.nodes.delete("cm384-00")
    await asyncio.sleep(2.0)
    assert released(world, "cm384-00") == "False"
    assert world.nodes.status("cm384-00")["allocations"]
    world.settle()
    await world.until(lambda: released(world, "cm384-00") == "True")


async def test_a_kubelet_that_does_not_list_the_agents_own_pod_is_not_believed(world):
    world.environment = {"POD_NAMESPACE": "agents", "POD_NAME": "agent-1"}
    await up(world, 1)
    world.nodes.delete("cm384-00")
    await asyncio.sleep(1.5)
    assert released(world, "cm384-00") == "False"
    world.kubelet.extra_pods = [("agents", "agent-1")]
    await world.until(lambda: released(world, "cm384-00") == "True")


async def test_an_allocation_that_no_pod_shows_yet_holds_up_the_release(world):
    await up(world, 1)
    await world.kubelet.admit("p", {DIES: 1})
    world.kubelet.hide_pods = True
    world.nodes.delete("cm384-00")
    await world.until(lambda: "a moment ago" in world.nodes.condition("cm384-00", "Released")[2])
    await asyncio.sleep(1.0)
    assert released(world, "cm384-00") == "False"


async def test_released_devices_stay_away_after_a_restart_of_the_agent(world):
    await up(world, 2)
    world.nodes.delete("cm384-01")
    await world.until(lambda: released(world, "cm384-01") == "True")
    await world.stop_agent()
    writes = len(world.nodes.writes)
    await world.start_agent()
    await world.serving(16, 112)
    await asyncio.sleep(0.5)
    assert world.kubelet.capacity(DIES) == 16
    assert len(world.nodes.writes) == writes


async def test_two_objects_with_the_same_ids_one_serves_and_the_other_says_conflict(world):
    await up(world, 1)
    twin = compute_node(0, name="twin")
    twin["metadata"]["creationTimestamp"] = "2027-01-01T00:00:00Z"
    world.nodes.put(twin)
    await world.until(lambda: world.nodes.condition("twin")[1] == "Conflict")
    assert "cm384-00" in world.nodes.condition("twin")[2]
    assert world.kubelet.capacity(DIES) == 16
    assert world.nodes.condition("cm384-00")[1] == "Registered"
    world.nodes.delete("cm384-00")
    await world.until(lambda: released(world, "cm384-00") == "True")
    world.nodes.finish("cm384-00")
    await world.until(lambda: world.nodes.condition("twin")[1] == "Registered")


async def test_an_unreadable_object_is_reported_and_the_others_are_served(world):
    bad = compute_node(1)
    bad["spec"]["devices"] = {"dies": -4}
    world.nodes.put(bad)
    await up(world, 1)
    await world.until(lambda: world.nodes.condition("cm384-01")[1] == "InvalidObject")
    assert world.nodes.condition("cm384-00")[1] in ("", "Registered")
