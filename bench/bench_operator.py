"""An operator of 100 SuperNodes: its memory, and how long 4,800 servers take it.

A real etcd and kube-apiserver, the operator as a process of its own, and a script in the place of the node agents (what
they report is written once for each server); a bare Node carries each machine. No kubelet, so no cabinet pods.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rows import Row
from support.apiserver import running_api_server
from support.operator_world import API, OperatorProcess, ScriptedAgent, World, wait_for

SUPERNODES = 100
_SERVERS = 48 * SUPERNODES


def measure() -> Iterator[Row]:
    """Start all of it, measure, and end it, also after a failure."""
    with running_api_server() as server, tempfile.TemporaryDirectory() as folder:
        world = World(server)
        for number in range(SUPERNODES):
            world.node(f"node-{number:03}", pool=f"pool-{number:03}")
        operator = OperatorProcess(server.kubeconfig, Path(folder))
        try:
            operator.wait_leading()
            yield from _measured(world, operator)
        finally:
            operator.kill()


def _measured(world: World, operator: OperatorProcess) -> Iterator[Row]:
    start = time.monotonic()
    for number in range(SUPERNODES):
        selector = {"matchLabels": {"pool": f"pool-{number:03}"}}
        world.super_node(f"cm384-{number:03}", superPodID=number, nodes={"selector": selector})
    wait_for(lambda: _servers(world) == _SERVERS, f"{_SERVERS} ComputeNodes", 600)
    how = f"{_SERVERS:,} ComputeNodes on {SUPERNODES} bare Nodes; until they exist, cabinets apart"
    # The design's budget is of virtual nodes and until Ready: the limit is the same, the way there is shorter.
    yield Row(f"{SUPERNODES} SuperNodes applied -> all of their servers", time.monotonic() - start, "s", 60, how)
    with ScriptedAgent(world):
        wait_for(lambda: _devices_ready(world) == SUPERNODES, "DevicesReady of all", 1200)
    how = f"{SUPERNODES} SuperNodes, {_SERVERS:,} servers that have reported; VmRSS, {os.cpu_count()} cores"
    yield Row(f"operator RSS at {SUPERNODES} SuperNodes", _resident_mebibytes(operator), "MiB", 300, how)


def _servers(world: World) -> int:
    """Return how many ComputeNodes there are, without reading them: that would be what is measured."""
    status, page = world.server.request("GET", f"{API}/computenodes", limit="1")
    if status != 200:  # a definition is served some moments after it was made
        return 0
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0))


def _devices_ready(world: World) -> int:
    machines = world.call("GET", f"{API}/supernodes")["items"]
    return sum(world.condition(one, "DevicesReady").get("status") == "True" for one in machines)


def _resident_mebibytes(operator: OperatorProcess) -> float:
    status = Path(f"/proc/{operator.process.pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    if found is None:
        raise RuntimeError(f"the operator has ended: {operator.log.read_text(encoding='utf-8')[-2000:]}")
    return int(found[1]) / 1024
