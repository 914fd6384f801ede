"""The API side: list, watch, outages, stale events; status writes; probes; start and settings."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections import defaultdict

import pytest

from supernode_deviceplugin.settings import SettingsError, read_settings
from support.memory_nodes import DIES, LINKS, compute_node


async def up(world, servers: int = 2) -> None:
    for i in range(servers):
        world.nodes.put(compute_node(i))
    await world.up(16 * servers, 112 * servers)


async def test_an_unreachable_api_server_withdraws_nothing(world):
    await up(world)
    world.nodes.down = True
    await asyncio.sleep(1.0)
    assert world.kubelet.allocatable(DIES) == 32
    await world.kubelet.admit("p", {DIES: 16, LINKS: 112})
    world.nodes.objects["cm384-01"]["spec"]["faults"] = [{"name": "a", "die": 0}]
    world.nodes.put(world.nodes.objects["cm384-01"])
    world.nodes.down = False
    await world.serving(31, 217)
    await world.until(lambda: world.nodes.status("cm384-00").get("allocations"))


async def test_a_kubelet_restart_during_an_outage_of_the_api_server_brings_all_back(world):
    await up(world)
    world.nodes.down = True
    await world.kubelet.stop()
    await world.kubelet.start()
    await world.serving(32, 224)


async def test_watches_that_end_go_on_where_they_were(world):
    await up(world)
    lists = world.nodes.lists
    for n in range(5):
        world.nodes.cut()
        world.nodes.change("cm384-00", faults=[{"name": "a", "die": n}])
        await world.until(lambda n=n: world.kubelet.devices(DIES).get(f"Ascend910-{n}") == "Unhealthy")
    assert world.nodes.lists == lists


async def test_a_version_that_is_too_old_means_listing_again(world):
    await up(world)
    world.nodes.cut(forget=True)
    del world.nodes.objects["cm384-01"]
    await world.serving(16, 112)
    assert world.nodes.lists == 2


async def test_status_is_written_once_and_a_steady_node_writes_nothing(world):
    await up(world, 4)
    await world.kubelet.admit("p", {DIES: 16, LINKS: 112})
    await world.until(lambda: world.nodes.status("cm384-00").get("allocations"))
    await asyncio.sleep(1.2)
    writes = len(world.nodes.writes)
    assert writes <= 6
    await asyncio.sleep(2.5)
    assert len(world.nodes.writes) == writes


async def test_each_object_is_written_at_most_once_a_second(world):
    await up(world)
    for n in range(12):
        await world.kubelet.admit(f"p{n}", {DIES: 1, LINKS: 7})
        await asyncio.sleep(0.2)
    await world.until(lambda: len(world.nodes.status("cm384-00").get("allocations", ())) == 12)
    by_name = defaultdict(list)
    for at, name, _ in world.nodes.writes:
        by_name[name].append(at)
    for moments in by_name.values():
        assert all(b - a >= 0.99 for a, b in itertools.pairwise(moments))


async def test_a_foreign_hand_in_the_status_is_put_right(world):
    await up(world, 1)
    await world.until(lambda: world.nodes.condition("cm384-00")[1] == "Registered")
    obj = world.nodes.objects["cm384-00"]
    obj["status"] = {"allocations": [{"namespace": "x", "pod": "ghost", "container": "c"}], "conditions": []}
    world.nodes.put(obj)
    await world.until(lambda: world.nodes.condition("cm384-00")[1] == "Registered")
    assert world.nodes.status("cm384-00")["allocations"] == []


async def test_observed_generation_follows_the_spec(world):
    await up(world, 1)
    world.nodes.change("cm384-00", faults=[{"name": "a", "die": 1}])
    await world.until(lambda: world.nodes.status("cm384-00").get("observedGeneration") == 2)
    resources = world.nodes.status("cm384-00")["resources"]
    assert resources == [
        {"name": DIES, "devices": 16, "unhealthy": 1},
        {"name": LINKS, "devices": 112, "unhealthy": 7},
    ]


async def test_a_pod_that_goes_leaves_the_status(world):
    await up(world, 1)
    world.settle()
    await world.kubelet.admit("p", {DIES: 2})
    await world.until(lambda: world.nodes.status("cm384-00").get("allocations"))
    world.kubelet.remove("p")
    await world.until(lambda: not world.nodes.status("cm384-00")["allocations"])


async def get(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1]), answer.split("\r\n\r\n", 1)[1].strip()


async def test_probes_dial_our_own_sockets(world, unused_tcp_port):
    world.environment = {"SUPERNODE_HEALTH_PORT": str(unused_tcp_port)}
    world.nodes.down = True
    await world.kubelet.start()
    await world.start_agent()
    await asyncio.sleep(0.2)
    assert await get(unused_tcp_port, "/healthz") == (200, "ok")
    assert (await get(unused_tcp_port, "/readyz"))[0] == 503
    world.nodes.put(compute_node(0))
    world.nodes.down = False
    await world.serving(16, 112)
    await world.until(lambda: world.agent.registrations[DIES].is_registered)
    await world.until(lambda: world.agent.registrations[LINKS].is_registered)
    assert await get(unused_tcp_port, "/readyz") == (200, "ok")
    assert (await get(unused_tcp_port, "/other"))[0] == 404
    world.agent.registrations[DIES].server.path = world.kubelet.folder / "supernode-dead.sock"
    status, text = await get(unused_tcp_port, "/healthz")
    assert (status, "supernode-dead.sock" in text) == (503, True)


async def test_a_probe_that_sends_nonsense_harms_nobody(world, unused_tcp_port):
    world.environment = {"SUPERNODE_HEALTH_PORT": str(unused_tcp_port)}
    await world.start_agent()
    await asyncio.sleep(0.1)
    _, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
    writer.write(b"\x00" * 20000)
    writer.close()
    assert (await get(unused_tcp_port, "/healthz"))[0] == 200


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "NODE_NAME"),
        ({"NODE_NAME": "n", "LOG_LEVEL": "LOUD"}, "LOG_LEVEL"),
        ({"NODE_NAME": "n", "SUPERNODE_HEALTH_PORT": "99999"}, "SUPERNODE_HEALTH_PORT"),
        ({"NODE_NAME": "n", "SUPERNODE_LOG_FORMAT": "xml"}, "SUPERNODE_LOG_FORMAT"),
    ],
)
def test_a_setting_that_is_wrong_is_named(environment, name):
    with pytest.raises(SettingsError, match=name):
        read_settings(environment)


def run_agent(**environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("KUBECONFIG", "NODE_NAME", "KUBERNETES_SERVICE_HOST")}
    return subprocess.run(
        [sys.executable, "-m", "supernode_deviceplugin"],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_node_name_the_process_says_so_and_ends():
    done = run_agent()
    assert done.returncode == 2
    assert done.stderr == (
        "supernode_deviceplugin: NODE_NAME is not set: give the agent the name of its Kubernetes node (spec.nodeName)\n"
    )


def test_without_access_to_an_api_server_the_process_says_so_and_ends(tmp_path):
    done = run_agent(NODE_NAME="n", KUBECONFIG=str(tmp_path / "none"), HOME=str(tmp_path))
    assert done.returncode == 2
    assert "no access to an API server" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_process_imports_none_of_the_heavy_packages():
    code = (
        "import sys, supernode_deviceplugin.agent;"
        "print(sorted({'pydantic', 'kopf', 'kubernetes', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_stubs_are_what_the_protocols_generate(tmp_path, monkeypatch):
    from supernode_deviceplugin import generate

    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    generate.generate(tmp_path)
    package = os.path.dirname(generate.__file__)
    for proto in generate.PROTOS:
        folder = os.path.dirname(proto)
        for name in generate.GENERATED:
            made = (tmp_path / "supernode_deviceplugin" / folder / name).read_text()
            with open(os.path.join(package, folder, name)) as committed:
                assert committed.read() == made, f"{folder}/{name}: run make gen"
