"""One cabinet pod: reflectors -> snapshot -> board and OTLP. What happens when, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import Any, Final, Protocol

from lightkube import AsyncClient
from lightkube.generic_resource import create_global_resource, create_namespaced_resource

from supernode_api.names import GROUP, PLURALS, VERSION
from supernode_cabinet.board import Board
from supernode_cabinet.engine import build_snapshot
from supernode_cabinet.health import HealthMetrics
from supernode_cabinet.served import Served
from supernode_cabinet.settings import Settings
from supernode_cabinet.snapshot import Snapshot
from supernode_cabinet.watch import Reflector
from supernode_cabinet.web import WebServer
from supernode_dataplane.errors import ProfileNotFoundError

__all__ = ["Cabinet", "next_pause", "run"]

_log = logging.getLogger(__name__)

_DEBOUNCE_SECONDS: Final = 1.0
_LONGEST_DEBOUNCE_SECONDS: Final = 3.0
"""While 48 pods start, every change solved by 16 cabinets would take the cores from the pods: the longer changes go on
without a pause, the longer a cabinet waits for more of them."""
_HEALTH_SECONDS: Final = 1.0


class _Telemetry(Protocol):
    def update(self, snapshot: Snapshot | None) -> None: ...
    def stop(self) -> None: ...


class Cabinet:
    """The process: watches its inputs and keeps what is published up to date."""

    def __init__(self, settings: Settings, client: AsyncClient) -> None:
        self.settings = settings
        self.board = Board()
        self.health = HealthMetrics()
        self.web = WebServer(self.board, self.health, settings.host, settings.port)
        self._changed = asyncio.Event()
        self._previous: Snapshot | None = None
        self._wants_otlp = settings.otlp
        self._telemetry: _Telemetry | None = None
        name = settings.super_node
        super_node = create_global_resource(GROUP, VERSION, "SuperNode", PLURALS["SuperNode"])
        node = create_global_resource(GROUP, VERSION, "ComputeNode", PLURALS["ComputeNode"])
        workload = create_namespaced_resource(GROUP, VERSION, "SuperNodeWorkload", PLURALS["SuperNodeWorkload"])
        changed, of_machine = self._changed.set, {"spec.superNode": name}
        self._super_nodes = Reflector(client, super_node, changed, fields={"metadata.name": name}, namespaced=False)
        self._nodes = Reflector(client, node, changed, fields=of_machine, namespaced=False)
        self._workloads = Reflector(client, workload, changed, fields=of_machine, namespaced=True)
        self._reflectors = (self._super_nodes, self._nodes, self._workloads)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve, watch and publish until ``stop`` is set."""
        self.web.start()
        _log.info("cabinet %s (%s) listens on port %d", self.settings.pod_name, self.settings.role, self.web.port)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(reflector.run()) for reflector in self._reflectors]
            tasks += [group.create_task(self._follow()), group.create_task(self._report())]
            await stop.wait()
            for task in tasks:
                task.cancel()
        self.web.stop()
        if self._telemetry is not None:
            await asyncio.to_thread(self._telemetry.stop)

    async def _follow(self) -> None:
        pause = _DEBOUNCE_SECONDS
        while True:
            await self._changed.wait()
            if all(reflector.synced for reflector in self._reflectors):
                await self._update()
                await asyncio.sleep(pause)  # what else changes meanwhile is one more update, not many
                pause = next_pause(pause, changing=self._changed.is_set())
            else:
                self._changed.clear()

    async def _update(self) -> None:
        self._changed.clear()
        began = time.perf_counter()
        try:
            snapshot = self._snapshot()
        except ProfileNotFoundError as error:
            self._withdraw(str(error))
            return
        except Exception:  # the loop's edge: bad input must not end the process; the last snapshot stays
            _log.exception("cannot compute the machine; the last figures stay")
            return
        if snapshot is None:
            self._withdraw(f"SuperNode {self.settings.super_node} does not exist")
            return
        self.health.count_solve(time.perf_counter() - began)
        previous, self._previous = self._previous, snapshot
        if previous is None or previous.state.digest != snapshot.state.digest:
            state = snapshot.state
            _log.info(
                "solved: digest %s, model %s, %.4g tokens/s", state.digest, state.version, state.tokens_per_second
            )
        self.board.publish(snapshot)
        await asyncio.to_thread(self._export, snapshot)

    def _snapshot(self) -> Snapshot | None:
        super_node = self._super_nodes.objects.get(self.settings.super_node)
        if super_node is None:
            return None
        workloads = dict(self._workloads.objects)
        return build_snapshot(self.settings, super_node, self._nodes.objects.values(), workloads, self._previous)

    def _withdraw(self, why: str) -> None:
        if self.board.why != why:
            _log.warning("idle: %s", why)
        self.board.withdraw(why)
        self._previous = None
        self._export(None)

    def _export(self, snapshot: Snapshot | None) -> None:
        if self._telemetry is None and self._wants_otlp and snapshot is not None:
            self._wants_otlp = False
            self._telemetry = _start_telemetry(self.settings, self.health, self.board.served)
        if self._telemetry is not None:
            self._telemetry.update(snapshot)

    async def _report(self) -> None:
        while True:
            self.health.api_connected = all(reflector.connected for reflector in self._reflectors)
            await asyncio.sleep(_HEALTH_SECONDS)


def next_pause(seconds: float, *, changing: bool) -> float:
    """Return how long to wait after the next update, from how long it was now and whether more had changed by then."""
    return min(_LONGEST_DEBOUNCE_SECONDS, 1.5 * seconds) if changing else _DEBOUNCE_SECONDS


def _start_telemetry(settings: Settings, health: HealthMetrics, served: Served) -> _Telemetry | None:
    # gRPC costs ten megabytes: only those who use it pay.
    from supernode_api.otlp import OtlpConfigError, build_resource, read_otlp_config
    from supernode_cabinet.otlp import Telemetry

    own = {
        "service.name": "supernode-cabinet",
        "service.instance.id": settings.pod_name,
        "k8s.pod.name": settings.pod_name,
        "supernode.name": settings.super_node,
        "supernode.cabinet.role": settings.role,
    }
    try:
        config = read_otlp_config(os.environ)
        return Telemetry(config, build_resource(os.environ, own), health.count_export, served)
    except OtlpConfigError as error:
        _log.error("no OTLP metrics: %s", error)
        return None


async def run(settings: Settings) -> None:
    """Run a cabinet until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    client: Any = AsyncClient()
    try:
        await Cabinet(settings, client).run(stop)
    finally:
        await client.close()
