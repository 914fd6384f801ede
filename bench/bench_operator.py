"""An operator of 100 SuperNodes: its memory, and how long 4,800 servers take it.

A real etcd and kube-apiserver, the operator as a process of its own, and a script in the place of the node agents,
which reports each server once; a bare Node carries each machine. No kubelet, so no cabinet pods.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rows import Row, resident_mebibytes
from support.apiserver import running_api_server
from support.operator_world import API, OperatorProcess, ScriptedAgent, World

__all__ = ["measure"]

_SUPERNODES = 100
_SERVERS = 48 * _SUPERNODES
_LIMIT_SECONDS = 600
_LOOK_SECONDS = 5.0


def measure() -> Iterator[Row]:
    """Start all of it, measure, and end it, also after a failure."""
    with running_api_server() as server, tempfile.TemporaryDirectory() as folder:
        world = World(server)
        for number in range(_SUPERNODES):
            world.node(f"node-{number:03}", pool=f"pool-{number:03}")
        operator = OperatorProcess(server.kubeconfig, Path(folder))
        try:
            operator.wait_leading()
            yield from _measured(world, operator)
        finally:
            operator.kill()


def _measured(world: World, operator: OperatorProcess) -> Iterator[Row]:
    start = time.monotonic()
    for number in range(_SUPERNODES):
        nodes = {"selector": {"matchLabels": {"pool": f"pool-{number:03}"}}}
        world.super_node(f"cm384-{number:03}", superPodID=number, nodes=nodes, cabinetsPerPod=16)
    servers = _wait(lambda: _servers(world), _SERVERS, "servers")
    made = time.monotonic() - start
    how = f"{servers:,} ComputeNodes on {_SUPERNODES} bare Nodes"
    # The design's budget is of virtual nodes and until Ready: the limit is the same, the way there is shorter.
    yield Row(f"{_SUPERNODES} SuperNodes applied -> all of their servers", made, "s", 60, how)
    ScriptedAgent(world).play_round()
    ready = _wait(lambda: _devices_ready(world), _SUPERNODES, "machines")
    how = f"{ready} SuperNodes, {servers:,} servers that have reported; VmRSS, {os.cpu_count()} cores"
    resident = resident_mebibytes(Path("/proc", str(operator.process.pid)))
    yield Row(f"operator RSS at {_SUPERNODES} SuperNodes", resident, "MiB", 300, how)


def _wait(count: Callable[[], int], wanted: int, what: str) -> int:
    """Wait until there are so many; SystemExit with how far it came when that takes too long."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while (found := count()) < wanted:
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: {found} of {wanted} {what} after {_LIMIT_SECONDS} s: this measures nothing")
        time.sleep(_LOOK_SECONDS)
    return found


def _servers(world: World) -> int:
    """Return how many ComputeNodes there are, without reading them: that would be what is measured."""
    status, page = world.server.request("GET", f"{API}/computenodes", limit="1")
    if status != 200:  # a definition is served some moments after it was made
        return 0
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0))


def _devices_ready(world: World) -> int:
    machines = world.call("GET", f"{API}/supernodes")["items"]
    return sum(world.condition(one, "DevicesReady").get("status") == "True" for one in machines)
