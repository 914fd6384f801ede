"""What of a device shows in a pod: health in its status (ResourceHealthStatus), and what Allocate hands over (no CDI).

The kubelet makes pod.status.containerStatuses[].allocatedResourcesStatus from ListAndWatch alone: of each device that
a container holds, whether the latest list calls it Healthy. So the promise is about the list.
"""

from __future__ import annotations

import pytest

from supernode_deviceplugin.podresources import api_pb2 as pods_pb2
from supernode_deviceplugin.podresources.client import holders_from
from supernode_deviceplugin.v1beta1 import api_pb2
from support.memory_nodes import DIES, LINKS, compute_node


def unhealthy(world, pod: str, resource: str) -> set[str]:
    status = world.kubelet.allocated_resources_status(pod)[resource]
    return {device for device, health in status.items() if health != "Healthy"}


async def test_a_fault_shows_in_the_status_of_the_pod_that_holds_the_device_and_in_no_other(world):
    world.nodes.put(compute_node(0))
    world.nodes.put(compute_node(1))
    await world.up(32, 224)
    ids = (await world.kubelet.admit("hit", {DIES: 16, LINKS: 112}))["SUPERNODE_DEVICES"].split(",")
    await world.kubelet.admit("spared", {DIES: 16, LINKS: 112})
    assert unhealthy(world, "hit", DIES) == unhealthy(world, "hit", LINKS) == set()

    number = int(ids[3].rpartition("-")[2])
    world.nodes.change(f"cm384-0{number // 16}", faults=[{"name": "a", "die": number % 16}])
    await world.serving(31, 217)
    assert unhealthy(world, "hit", DIES) == {ids[3]}
    assert unhealthy(world, "hit", LINKS) == {f"bus-{number}-{plane}" for plane in range(7)}
    assert unhealthy(world, "spared", DIES) == unhealthy(world, "spared", LINKS) == set()

    world.nodes.change(f"cm384-0{number // 16}", faults=[])
    await world.serving(32, 224)
    assert unhealthy(world, "hit", DIES) == unhealthy(world, "hit", LINKS) == set()


async def test_a_link_that_breaks_shows_as_that_link_and_its_die_stays_healthy(world):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    await world.kubelet.admit("p", {DIES: 16, LINKS: 112})
    world.nodes.change("cm384-00", faults=[{"name": "c", "diePort": {"die": 5, "plane": 6}}])
    await world.serving(16, 111)
    assert unhealthy(world, "p", LINKS) == {"bus-5-6"}
    assert unhealthy(world, "p", DIES) == set()


async def test_a_fault_that_withdraws_nothing_shows_in_no_pod(world):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    await world.kubelet.admit("p", {DIES: 16})
    seen = len(world.kubelet.plugins[DIES].lists)
    world.nodes.change("cm384-00", faults=[{"name": "f", "die": 3, "level": "SubHealthFault"}])
    world.nodes.change("cm384-00", faults=[{"name": "f", "die": 3, "level": "SubHealthFault"}, {"name": "g", "die": 4}])
    await world.serving(15, 105)
    assert unhealthy(world, "p", DIES) == {"Ascend910-4"}
    assert all(lists["Ascend910-3"] == "Healthy" for _, lists in world.kubelet.plugins[DIES].lists[seen:])


async def test_a_held_device_never_leaves_the_list_so_it_never_reads_healthy_by_being_gone(world):
    world.nodes.put(compute_node(0))
    world.nodes.put(compute_node(1))
    await world.up(32, 224)
    world.settle()
    await world.kubelet.admit("p", {DIES: 16, LINKS: 112})
    held = world.kubelet.held["default", "p", "main"]
    server = int(held[DIES][0].rpartition("-")[2]) // 16
    world.nodes.delete(f"cm384-0{server}")
    await world.until(lambda: world.nodes.condition(f"cm384-0{server}", "Released")[1] == "Draining")
    await world.serving(16, 112)
    assert unhealthy(world, "p", DIES) == set(held[DIES])
    assert unhealthy(world, "p", LINKS) == set(held[LINKS])
    plugins = [(resource, list(world.kubelet.plugins[resource].lists)) for resource in (DIES, LINKS)]
    for resource, lists in plugins:
        assert all(set(held[resource]) <= set(devices) for _, devices in lists)
    world.kubelet.remove("p")
    await world.until(lambda: world.nodes.condition(f"cm384-0{server}", "Released")[0] == "True")
    assert not set(held[DIES]) & set(world.kubelet.devices(DIES))


async def test_a_device_is_an_id_and_one_of_the_two_words_that_the_kubelet_knows(world):
    world.nodes.put(compute_node(0, faults=[{"name": "a", "die": 5}]))
    await world.up(15, 105)
    stub = world.kubelet.plugins[DIES].stub
    stream = stub.ListAndWatch(api_pb2.Empty())
    message = await stream.read()
    stream.cancel()
    assert len(message.devices) == 16
    for device in message.devices:
        assert {field.name for field, _ in device.ListFields()} == {"ID", "health"}, "no NUMA node is made up"
    assert {device.health for device in message.devices} == {"Healthy", "Unhealthy"}


@pytest.mark.parametrize(("resource", "ids"), [(DIES, ["Ascend910-0", "Ascend910-1"]), (LINKS, ["bus-0-0"])])
async def test_allocate_hands_over_an_environment_and_no_device_mount_annotation_or_cdi_name(world, resource, ids):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    request = api_pb2.AllocateRequest(container_requests=[api_pb2.ContainerAllocateRequest(devices_ids=ids)])
    answer = await world.kubelet.plugins[resource].stub.Allocate(request)
    (container,) = api_pb2.AllocateResponse.FromString(answer.SerializeToString()).container_responses
    assert {field.name for field, _ in container.ListFields()} == {"envs"}
    assert {field.name for field in container.DESCRIPTOR.fields} >= {"mounts", "devices", "annotations", "cdi_devices"}


def test_cdi_devices_of_other_drivers_in_a_pod_are_none_of_ours():
    response = pods_pb2.ListPodResourcesResponse()
    container = response.pod_resources.add(namespace="n", name="p").containers.add(name="c")
    claim = container.dynamic_resources.add(claim_name="gpu", claim_namespace="n").claim_resources.add(
        driver_name="gpu.example.com", pool_name="node-a", device_name="gpu-0"
    )
    claim.cdi_devices.add(name="example.com/gpu=gpu-0")
    assert list(holders_from(response)) == []
    container.devices.add(resource_name=DIES, device_ids=["Ascend910-1"])
    (holder,) = holders_from(pods_pb2.ListPodResourcesResponse.FromString(response.SerializeToString()))
    assert (holder.namespace, holder.pod, holder.container) == ("n", "p", "c")
    assert holder.devices == ((DIES, ("Ascend910-1",)),)
