"""The agent against a kubelet on real sockets: the scenarios of the kubelet's own plugin tests, and worse ones."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from typing import Any

import grpc
import grpc.aio
import pytest

from supernode_deviceplugin.errors import SocketPathError
from supernode_deviceplugin.kubelet import remove_stale_sockets
from supernode_deviceplugin.plugin import socket_name
from supernode_deviceplugin.v1beta1 import api_pb2, api_pb2_grpc
from support.memory_nodes import DIES, LINKS, compute_node
from support.scripted_kubelet import AdmissionError


def sockets(world) -> list[str]:
    return sorted(p.name for p in world.kubelet.folder.glob("supernode-*.sock"))


async def test_a_whole_machine_is_registered_once_for_each_resource(world):
    for i in range(48):
        world.nodes.put(compute_node(i))
    await world.up(768, 5376)
    assert {resource for _, resource, _ in world.kubelet.registrations} == {DIES, LINKS}
    assert len(world.kubelet.registrations) == 2
    for _, _, endpoint in world.kubelet.registrations:
        path = world.kubelet.folder / endpoint
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


async def test_a_list_of_a_whole_machine_is_far_below_the_limit_of_a_message(world):
    for i in range(48):
        world.nodes.put(compute_node(i))
    await world.up(768, 5376)
    devices = [api_pb2.Device(ID=i, health="Unhealthy") for i in world.kubelet.devices(LINKS)]
    assert len(api_pb2.ListAndWatchResponse(devices=devices).SerializeToString()) < (4 << 20) / 20


async def test_the_options_offer_preferred_allocation_and_nothing_else(world):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    stub = world.kubelet.plugins[DIES].stub
    options = await stub.GetDevicePluginOptions(api_pb2.Empty())
    assert options.get_preferred_allocation_available
    assert not options.pre_start_required
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.PreStartContainer(api_pb2.PreStartContainerRequest())
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_without_compute_nodes_nothing_is_registered(world):
    await world.kubelet.start()
    await world.start_agent()
    await world.until(lambda: world.nodes.watches > 0)
    assert world.kubelet.registrations == []
    world.nodes.put(compute_node())
    await world.serving(16, 112)


async def test_faults_turn_devices_unhealthy_and_back_with_one_list_for_each_resource(world):
    for i in range(48):
        world.nodes.put(compute_node(i))
    await world.up(768, 5376)
    cases = [
        ([{"name": "a", "die": 3}], 767, 5369),
        ([{"name": "a", "die": 3}, {"name": "b", "die": 4}], 766, 5362),
        ([{"name": "b", "die": 4}], 767, 5369),
        ([{"name": "c", "diePort": {"die": 0, "plane": 6}}], 768, 5375),
        ([{"name": "d", "l1": {"plane": 2}}], 768, 5360),
        ([{"name": "e", "uplink": {"plane": 2, "port": 1}}], 768, 5376),
        ([{"name": "f", "die": 3, "level": "SubHealthFault"}], 768, 5376),
        ([], 768, 5376),
    ]
    for faults, dies, links in cases:
        sent = [len(world.kubelet.plugins[resource].lists) for resource in (DIES, LINKS)]
        world.nodes.change("cm384-07", faults=faults)
        await world.serving(dies, links)
        # How soon is measured in bench/.
        lists = [len(world.kubelet.plugins[resource].lists) for resource in (DIES, LINKS)]
        assert all(now - before <= 1 for now, before in zip(lists, sent, strict=True))
        assert world.kubelet.capacity(DIES) == 768
        assert world.kubelet.capacity(LINKS) == 5376


async def test_a_fault_under_a_running_pod_leaves_the_pod_alone(world):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    await world.kubelet.admit("p", {DIES: 16})
    world.nodes.change("cm384-00", faults=[{"name": "a", "die": 0}])
    await world.serving(15, 105)
    await world.until(lambda: world.nodes.status("cm384-00").get("allocations"))
    assert world.nodes.status("cm384-00")["allocations"][0]["dies"] == "0-15"
    assert world.nodes.status("cm384-00")["resources"][0] == {"name": DIES, "devices": 16, "unhealthy": 1}


async def test_allocate_of_an_unknown_or_unhealthy_device_is_an_invalid_argument_that_names_it(world):
    world.nodes.put(compute_node(0, faults=[{"name": "a", "die": 5}]))
    await world.up(15, 105)
    for device in ("Ascend910-99", "Ascend910-5"):
        request = api_pb2.AllocateRequest(
            container_requests=[api_pb2.ContainerAllocateRequest(devices_ids=["Ascend910-1", device])]
        )
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await world.kubelet.plugins[DIES].stub.Allocate(request)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert device in error.value.details()


async def test_containers_of_one_request_are_answered_in_order(world):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    asked = [["Ascend910-3"], ["Ascend910-1", "Ascend910-0"]]
    request = api_pb2.AllocateRequest(
        container_requests=[api_pb2.ContainerAllocateRequest(devices_ids=ids) for ids in asked]
    )
    answer = await world.kubelet.plugins[DIES].stub.Allocate(request)
    assert [r.envs["ASCEND_VISIBLE_DEVICES"] for r in answer.container_responses] == ["3", "0,1"]
    assert not answer.container_responses[0].devices
    assert not answer.container_responses[0].mounts


async def test_48_pods_in_mixed_order_land_on_whole_servers_and_the_status_says_so(world):
    for i in range(48):
        world.nodes.put(compute_node(i))
    await world.up(768, 5376)
    for i in range(48):
        order = [(DIES, 16), (LINKS, 112)]
        environment = await world.kubelet.admit(f"p{i:02d}", dict(order if i % 2 else order[::-1]))
        assert environment["ASCEND_VISIBLE_DEVICES"] == ",".join(map(str, range(16)))
    await world.until(lambda: all(world.nodes.status(n).get("allocations") for n in world.nodes.objects))
    with pytest.raises(AdmissionError):
        await world.kubelet.admit("one-too-many", {DIES: 1})

    def allocations():
        return [world.nodes.status(name)["allocations"] for name in sorted(world.nodes.objects)]

    expected = [
        [{"namespace": "default", "pod": f"p{i:02d}", "container": "main", "dies": "0-15", "links": "0-111"}]
        for i in range(48)
    ]
    await world.until(lambda: allocations() == expected)


async def test_a_preferred_allocation_that_fails_inside_is_still_a_valid_answer(world, caplog):
    world.nodes.put(compute_node())
    agent_world = world
    await agent_world.up(16, 112)
    registration = world.agent.registrations[DIES]
    assert registration.server is not None

    class Broken:
        def prefer(self, *_):
            raise RuntimeError("a mistake")

    registration.server._answers = Broken()
    request = api_pb2.PreferredAllocationRequest(
        container_requests=[
            api_pb2.ContainerPreferredAllocationRequest(
                available_deviceIDs=["b", "a", "c"], must_include_deviceIDs=["c"], allocation_size=2
            )
        ]
    )
    answer = await world.kubelet.plugins[DIES].stub.GetPreferredAllocation(request)
    assert list(answer.container_responses[0].deviceIDs) == ["c", "a"]
    assert "a mistake" in caplog.text


async def test_many_streams_all_get_every_change(world):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    path = world.kubelet.folder / world.kubelet.plugins[DIES].endpoint
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        streams: list[Any] = [api_pb2_grpc.DevicePluginStub(channel).ListAndWatch(api_pb2.Empty()) for _ in range(20)]
        assert {len((await s.read()).devices) for s in streams} == {16}
        world.nodes.change("cm384-00", faults=[{"name": "a", "die": 0}])
        for stream in streams:
            assert sum(d.health == "Unhealthy" for d in (await stream.read()).devices) == 1
        for stream in streams:
            stream.cancel()
    assert world.kubelet.allocatable(DIES) == 15


async def test_a_slow_kubelet_gets_the_latest_list_and_not_all_of_them(world):
    world.nodes.put(compute_node())
    world.kubelet.read_delay = 0.3
    await world.up(16, 112)
    for n in range(16):
        world.nodes.change("cm384-00", faults=[{"name": "a", "die": n}])
        await asyncio.sleep(0.02)
    world.nodes.change("cm384-00", faults=[])
    await world.until(lambda: world.kubelet.devices(DIES) and world.agent.registrations[DIES].is_sent())
    await world.serving(16, 112)


async def test_a_restarted_kubelet_gets_everything_anew(world):
    for i in range(4):
        world.nodes.put(compute_node(i))
    await world.up(64, 448)
    before = await world.kubelet.admit("p", {DIES: 16, LINKS: 112})
    for _ in range(3):
        await world.kubelet.stop()
        await asyncio.sleep(0.2)
        await world.kubelet.start()
        await world.serving(64, 448)
    assert len(sockets(world)) == 2
    assert before["SUPERNODE_DEVICES"].split(",") == [f"Ascend910-{n}" for n in range(16)]


async def test_a_killed_kubelet_that_leaves_its_socket_behind_is_found_again(world):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    await world.kubelet.stop(leave_socket=True)
    await asyncio.sleep(1.0)
    await world.kubelet.start()
    await world.serving(16, 112)


async def test_a_kubelet_restart_keeps_the_allocations_in_the_status(world):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    await world.kubelet.admit("p", {DIES: 4, LINKS: 28})
    await world.until(lambda: world.nodes.status("cm384-00").get("allocations"))
    expected = world.nodes.status("cm384-00")["allocations"]
    world.kubelet.hide_pods = True
    await world.kubelet.stop()
    await world.kubelet.start()
    await world.serving(16, 112)
    await asyncio.sleep(1.5)
    assert world.nodes.status("cm384-00")["allocations"] == expected


async def test_a_kubelet_that_closes_its_stream_gets_a_new_registration(world):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    plugin = world.kubelet.plugins[DIES]
    await world.kubelet.disconnect(plugin)
    await world.until(lambda: world.kubelet.plugins[DIES] is not plugin)
    await world.serving(16, 112)


async def test_a_socket_that_somebody_deletes_is_bound_and_registered_anew(world):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    old = sockets(world)
    for name in old:
        (world.kubelet.folder / name).unlink()
    await world.until(lambda: len(sockets(world)) == 2)
    assert not set(sockets(world)) & set(old)
    await world.serving(16, 112)


async def test_a_refusal_is_reported_with_the_kubelets_words_and_tried_again(world):
    world.nodes.put(compute_node())
    world.kubelet.refuse = "the ResourceName is invalid"
    await world.kubelet.start()
    await world.start_agent()
    await world.until(lambda: world.nodes.condition("cm384-00")[1] == "RegistrationFailed")
    assert "the ResourceName is invalid" in world.nodes.condition("cm384-00")[2]
    assert world.nodes.status("cm384-00")["resources"] == []
    assert world.kubelet.registrations == []
    world.kubelet.refuse = ""
    await world.serving(16, 112)
    await world.until(lambda: world.nodes.condition("cm384-00")[1] == "Registered")


async def test_a_kubelet_that_cannot_get_the_options_refuses_and_nothing_is_listed(world, monkeypatch):
    from supernode_deviceplugin.plugin import PluginServer

    async def fail(self, request, context):
        await context.abort(grpc.StatusCode.INTERNAL, "no options today")

    world.nodes.put(compute_node())
    with monkeypatch.context() as patched:
        patched.setattr(PluginServer, "GetDevicePluginOptions", fail)
        await world.kubelet.start()
        await world.start_agent()
        await world.until(lambda: world.nodes.condition("cm384-00")[1] == "RegistrationFailed")
        assert "no options today" in world.nodes.condition("cm384-00")[2]
        assert world.kubelet.plugins == {}
    await world.serving(16, 112)


async def test_a_kubelet_that_is_not_there_is_a_condition_and_no_crash(world):
    world.nodes.put(compute_node())
    await world.start_agent()
    await world.until(lambda: world.nodes.condition("cm384-00")[1] == "KubeletUnreachable")
    assert "kubelet.sock" in world.nodes.condition("cm384-00")[2]
    await world.kubelet.start()
    await world.serving(16, 112)
    await world.until(lambda: world.nodes.condition("cm384-00")[:2] == ("True", "Registered"))


async def test_a_kubelet_that_is_away_as_long_as_a_restart_takes_is_not_reported(world):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    await world.until(lambda: world.nodes.condition("cm384-00")[1] == "Registered")
    writes = len(world.nodes.writes)
    await world.kubelet.stop()
    await asyncio.sleep(1.0)
    await world.kubelet.start()
    await world.serving(16, 112)
    await asyncio.sleep(0.5)
    assert len(world.nodes.writes) == writes


async def test_a_stopped_agent_withdraws_its_devices_at_once_and_removes_its_sockets(world):
    world.nodes.put(compute_node())
    await world.up(16, 112)
    plugins = dict(world.kubelet.plugins)
    await world.stop_agent()
    for plugin in plugins.values():
        await world.kubelet.until(lambda plugin=plugin: plugin.ended)
        assert plugin.lists[-1][1] == {}
    assert sockets(world) == []


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_a_restarted_agent_offers_the_same_devices_and_loses_no_allocation(world, how):
    for i in range(2):
        world.nodes.put(compute_node(i))
    await world.up(32, 224)
    devices = set(world.kubelet.devices(LINKS))
    await world.kubelet.admit("p", {DIES: 16, LINKS: 112})
    await world.until(lambda: world.nodes.status("cm384-00").get("allocations"))
    held = world.nodes.status("cm384-00")["allocations"]
    await (world.stop_agent() if how == "stopped" else world.kill_agent())
    world.kubelet.hide_pods = True
    await world.start_agent()
    await world.serving(32, 224)
    assert set(world.kubelet.devices(LINKS)) == devices
    assert world.nodes.status("cm384-00")["allocations"] == held
    world.kubelet.hide_pods = False
    environment = await world.kubelet.admit("q", {LINKS: 112, DIES: 16})
    assert environment["SUPERNODE_DEVICES"].startswith("Ascend910-16,")
    assert environment["SUPERNODE_LINKS"].startswith("bus-16-0,")
    assert len(sockets(world)) == 2


def test_only_sockets_on_which_nobody_listens_are_removed(folder):
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as dead:
        alive.bind(str(folder / "supernode-a-1.sock"))
        alive.listen()
        dead.bind(str(folder / "supernode-b-1.sock"))
        dead.close()
        (folder / "supernode-c-1.sock").write_text("a file")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(folder / "another.sock"))
        assert remove_stale_sockets(folder) == ["supernode-b-1.sock"]
    assert sorted(os.listdir(folder)) == ["another.sock", "supernode-a-1.sock", "supernode-c-1.sock"]


def test_socket_paths_fit_whatever_the_resource_is_called(tmp_path):
    from pathlib import Path

    short = Path("/var/lib/kubelet/device-plugins")
    for resource in (DIES, "a" * 200 + "/b"):
        name = socket_name(resource, short)
        assert len(str(short / name)) <= 105
        assert name != socket_name(resource, short)
    with pytest.raises(SocketPathError, match="SUPERNODE_KUBELET_DIR"):
        socket_name(DIES, Path("/" + "x" * 90))
