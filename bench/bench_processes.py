"""Budgets that need no cluster: the mathematics, the command line, a page of metrics, the agent at its sockets."""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from rows import Row, median_and_least
from supernode_cabinet.engine import build_snapshot
from supernode_cabinet.prometheus import render_metrics
from supernode_cabinet.settings import read_settings
from supernode_dataplane.inputs import machine_inputs, solve_inputs
from supernode_deviceplugin.agent import Agent
from supernode_deviceplugin.settings import read_settings as read_agent_settings
from support import machines
from support.deployments import QWEN_COLOCATED, R1_DECODE, R1_DISAGGREGATED, R1_PREFILL, deployment
from support.memory_nodes import DIES, LINKS, MemoryNodes, compute_node
from support.scripted_kubelet import ScriptedKubelet

ROOT = Path(__file__).resolve().parent.parent
_Faults: TypeAlias = dict[int, list[dict[str, Any]]]
"""By server."""


def measure() -> Iterator[Row]:
    """Measure one after the other in this process, and the command line as a process of its own."""
    yield from _solve()
    yield _command_line()
    yield _scrape()
    with tempfile.TemporaryDirectory() as folder:
        yield from asyncio.run(_agent(Path(folder)))


def _solve() -> Iterator[Row]:
    small = {**machines.SMALL, "training": {**machines.SMALL["training"], "globalBatchSize": 96}}
    eight = [machines.workload(f"w{i}", range(6 * i, 6 * i + 6), small, managed=True) for i in range(8)]
    one = [machines.workload("whole", range(48), managed=True)]
    everywhere = machines.ranks_of_parts([[(server, "0-1")] for server in range(48)])
    shared = [
        machines.workload(f"w{i}", base=small, ranks=[_moved(rank, 2 * i) for rank in everywhere]) for i in range(8)
    ]
    uplink: _Faults = {5: [{"uplink": {"plane": 3, "port": 5}}]}
    each: _Faults = {
        s: [{"uplink": {"plane": s % 7, "port": s % 16}}, {"l1": {"plane": (s + 3) % 7}}] for s in range(48)
    }
    for what, jobs, faults in (
        ("with 8 workloads", eight, {}),
        ("with 8 workloads, a broken uplink", eight, uplink),
        ("with 8 workloads, an uplink and an L1 chip broken on each server", eight, each),
        ("with 8 workloads of inference and such faults", _inference(), each),
        ("with 8 workloads that share every server and such faults", shared, each),
        ("with one workload on all of it", one, {}),
    ):
        inputs = machine_inputs(machines.super_node(), machines.compute_nodes(48, faults), jobs)
        if not all(result.tokens_per_second > 0 for result in solve_inputs(inputs).workloads):
            raise SystemExit(f"bench: solve() {what}: a workload does not run, so this would measure nothing")
        median, least = median_and_least(lambda given=inputs: solve_inputs(given), 200)  # type: ignore[misc]
        how = f"CPU, median of 200, warm; least {least * 1000:.2f} ms"
        yield Row(f"solve() of a full supernode {what}", median * 1000, "ms", 5.0, how)
    yield _new_faults(eight)


def _moved(rank: dict[str, Any], first: int) -> dict[str, Any]:
    """Return a rank of two dies on other dies of its server."""
    return {**rank, "parts": [{**part, "dies": f"{first}-{first + 1}"} for part in rank["parts"]]}


def _inference() -> list[dict[str, Any]]:
    """Return DeepSeek-R1 in three modes and five of Qwen3-32B, on 48 servers."""
    several = [(R1_DISAGGREGATED, 14), (R1_DECODE, 20), (R1_PREFILL, 4), *[(QWEN_COLOCATED, 2)] * 5]
    first = [sum(size for _, size in several[:number]) for number in range(len(several))]
    return [
        deployment(f"d{number}", range(at, at + size), base)
        for number, (at, (base, size)) in enumerate(zip(first, several, strict=True))
    ]


def _new_faults(jobs: list[dict[str, Any]]) -> Row:
    """Measure with another broken L2 chip each time, which every workload has to do with and no kept cost knows."""
    failing = [
        machine_inputs(
            machines.super_node(),
            machines.compute_nodes(48, {s: [{"uplink": {"plane": n % 7, "port": n % 16}}] for s in range(48)}),
            jobs,
        )
        for n in range(112)
    ]
    following = itertools.cycle(failing)
    median, least = median_and_least(lambda: solve_inputs(next(following)), 112)
    how = f"another L2 chip broken each time, the workloads alike; CPU, median of 112; least {least * 1000:.2f} ms"
    return Row("solve() of a full supernode with 8 workloads after a new fault", median * 1000, "ms", 5.0, how)


def _command_line() -> Row:
    command = [sys.executable, "-m", "supernode_cli.main", "simulate", "-f", "examples/llama-3.1-405b-training.yaml"]
    with tempfile.TemporaryDirectory() as folder:
        # Where the package is installed its modules are compiled; here they need not be.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def start() -> None:
            subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)

        start()
        median, least = median_and_least(start, 9, time.perf_counter)
    return Row("supernode simulate from a cold start", median, "s", 1.0, f"median of 9 processes; least {least:.2f} s")


def _scrape() -> Row:
    job = machines.workload("whole", range(48), managed=True)
    settings = read_settings(
        {
            "SUPERNODE_NAME": "cm",
            "SUPERNODE_CABINET_ROLE": "compute",
            "SUPERNODE_CABINETS_PER_POD": "1",
            "POD_NAME": "cm-compute-0",
        }
    )
    snapshot = build_snapshot(settings, machines.super_node(), machines.compute_nodes(48), {"team/whole": job}, None)
    median, least = median_and_least(lambda: render_metrics(snapshot), 50)
    how = f"rendered anew, CPU, median of 50; least {least * 1000:.1f} ms; later scrapes of a state are kept"
    return Row("cabinet: /metrics of 64 dies", median * 1000, "ms", 20, how)


async def _agent(folder: Path) -> list[Row]:
    kubelet, nodes = ScriptedKubelet(folder), MemoryNodes()
    for index in range(48):
        nodes.put(compute_node(index))
    environment = {
        "NODE_NAME": "node-a",
        "SUPERNODE_KUBELET_DIR": str(kubelet.folder),
        "SUPERNODE_POD_RESOURCES": str(kubelet.pod_resources),
        "SUPERNODE_HEALTH_PORT": "0",
    }
    agent, stop = Agent(read_agent_settings({**os.environ, **environment}), nodes), asyncio.Event()
    await kubelet.start()
    task = asyncio.create_task(agent.run(stop))

    def serving() -> bool:
        return kubelet.allocatable(DIES) == 768 and kubelet.allocatable(LINKS) == 5376

    await kubelet.until(serving, 20)
    rows = [await _faults(kubelet, nodes), await _allocate(kubelet), await _restart(kubelet, serving)]
    stop.set()
    await task
    await kubelet.stop()
    return rows


async def _faults(kubelet: ScriptedKubelet, nodes: MemoryNodes) -> Row:
    times = []
    name = next(iter(nodes.objects))
    for number in range(20):
        faults = [{"name": "f", "die": 3, "level": "SeparateNPU"}] if number % 2 == 0 else []
        nodes.change(name, faults=faults)
        wanted = 767 if faults else 768
        times.append(await kubelet.until(lambda w=wanted: kubelet.allocatable(DIES) == w, 10))  # type: ignore[misc]
    how = "median of 20, to a scripted kubelet that has 768 dies and 5,376 links"
    return Row("fault applied -> ListAndWatch sent", statistics.median(times) * 1000, "ms", 100, how)


async def _allocate(kubelet: ScriptedKubelet) -> Row:
    from supernode_deviceplugin.v1beta1 import api_pb2

    times = []
    kubelet.hide_pods = True  # its long answers would be made in this process, beside what is measured
    for round_ in range(4):
        for number in range(48):
            for resource, size in ((DIES, 16), (LINKS, 112)):
                ids = kubelet.available(resource)[:size]
                request = api_pb2.AllocateRequest(
                    container_requests=[api_pb2.ContainerAllocateRequest(devices_ids=ids)]
                )
                start = time.perf_counter()
                await kubelet.plugins[resource].stub.Allocate(request)
                times.append(time.perf_counter() - start)
                kubelet.held.setdefault(("default", f"p{round_}-{number}", "main"), {})[resource] = ids
        kubelet.held.clear()
    times.sort()
    p99 = times[int(len(times) * 0.99)]
    median = statistics.median(times) * 1000
    how = f"{len(times)} calls of 16 dies or 112 links over a unix socket, no PodResources; median {median:.1f} ms"
    return Row("Allocate p99", p99 * 1000, "ms", 5, how)


async def _restart(kubelet: ScriptedKubelet, serving: Callable[[], bool]) -> Row:
    times = []
    for _ in range(5):
        await kubelet.stop()
        await kubelet.start()
        times.append(await kubelet.until(serving, 20))
    how = "median of 5, until all devices are advertised again"
    return Row("re-registration, from the creation of kubelet.sock", statistics.median(times), "s", 2, how)
