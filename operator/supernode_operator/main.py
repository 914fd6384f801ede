"""Wires the parts together: settings, client, lease, cache, watches, workers, health.

A replica that does not lead serves health and metrics and waits. One that loses the lease stops writing and exits; so
does one whose watches or workers fail: starting anew is the one recovery.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from typing import Any

import structlog

from supernode_operator.config import Config, load_config
from supernode_operator.dispatch import Dispatcher
from supernode_operator.engine.client import Client, load_configuration
from supernode_operator.engine.errors import ConfigError, LeaseLostError
from supernode_operator.engine.health import serve
from supernode_operator.engine.kinds import SUPER_NODE, Key
from supernode_operator.engine.leader import Elector
from supernode_operator.engine.metrics import Metrics
from supernode_operator.engine.otlp_watch import OtlpWatch
from supernode_operator.engine.queue import WorkQueue
from supernode_operator.engine.store import Store
from supernode_operator.engine.tracing import Tracing, start_tracing
from supernode_operator.engine.watches import Watches
from supernode_operator.logs import configure_logs
from supernode_operator.loop import Loop
from supernode_operator.reconcilers.context import Context

__all__ = ["LEASE_NAME", "main"]

LEASE_NAME = "supernode-operator"
STUCK_SECONDS = 120.0
"""A reconcile that takes longer is stuck: the liveness probe fails."""

log = structlog.get_logger(__name__)


def main() -> int:
    """Run the operator; returns the exit code."""
    try:
        config = load_config()
        configure_logs(config.log_level, config.log_format)
        return asyncio.run(_run(config))
    except ConfigError as error:
        sys.stderr.write(f"supernode-operator: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 0


class _Operator:
    """The parts of one running replica."""

    def __init__(self, config: Config, client: Client, metrics: Metrics, tracing: Tracing) -> None:
        self.store = Store()
        self.queue = WorkQueue(metrics)
        self.watches = Watches(client, self.store, metrics)
        self.elector = Elector(client, config.namespace, LEASE_NAME, config.identity)
        self.otlp = OtlpWatch(config.telemetry, self._look_at_machines)
        self.ctx = Context(
            store=self.store,
            client=client,
            config=config,
            requeue=self._requeue,
            telemetry=lambda: self.otlp.health,
        )
        self.tracing = tracing
        self.loop = Loop(self.ctx, self.queue, metrics, tracing)
        self.dispatcher = Dispatcher(self.store, self.queue.add)
        client.feed(self.store.put, self.store.remove)

    def _requeue(self, key: Key, seconds: float, reason: str) -> None:
        self.tracing.requeue(reason, seconds)
        self.queue.add_after(key, seconds)

    def _look_at_machines(self) -> None:
        for super_node in self.store.list(SUPER_NODE):
            self.queue.add(SUPER_NODE.key(super_node))

    def healthy(self) -> tuple[bool, dict[str, Any]]:
        """Alive: no watch is dead and no reconcile is stuck."""
        now = time.monotonic()
        stuck = [str(key) for key, since in self.loop.busy_since.items() if now - since > STUCK_SECONDS]
        dead = self.watches.dead()
        report = {"deadWatches": dead, "stuck": stuck, "lastEventAgeSeconds": self.watches.ages()}
        return not dead and not stuck, report

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Ready: a leader with a full cache, or a replica that waits for the lease."""
        leading = self.elector.leading
        return not leading or self.watches.synced, {"leading": leading, "synced": self.watches.synced}


async def _run(config: Config) -> int:
    metrics = Metrics()
    configuration = await load_configuration(config.kubeconfig)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    log.info("start", **_shown(config))
    tracing = start_tracing(config.telemetry, config.identity)
    async with Client(configuration, metrics, tracing) as client:
        operator = _Operator(config, client, metrics, tracing)
        runners = await serve(config.health_port, config.metrics_port, operator.healthy, operator.ready, metrics)
        try:
            if not await _first(operator.elector.acquire(), stop.wait()):
                return 0
            metrics.leader.labels(LEASE_NAME).set(1)
            log.info("leading", identity=config.identity)
            return await _lead(operator, configuration, client, stop)
        finally:
            await operator.elector.release()
            for runner in runners:
                await runner.cleanup()
            await tracing.close()


async def _lead(operator: _Operator, configuration: Any, client: Client, stop: asyncio.Event) -> int:
    hold = asyncio.create_task(operator.elector.hold(), name="lease")
    work = asyncio.create_task(_work(operator, configuration, stop), name="work")
    halt = asyncio.create_task(stop.wait(), name="stop")
    done, _ = await asyncio.wait({hold, work, halt}, return_when=asyncio.FIRST_COMPLETED)
    code = 0 if halt in done else 1
    for task in done - {halt}:
        error = task.exception()
        if isinstance(error, LeaseLostError):
            log.error("lease lost: exit", error=str(error))
        else:
            log.error("stopped working: exit", task=task.get_name(), exc_info=error)
    client.fence()
    stop.set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            for task in (work, hold, halt):
                task.cancel()
            await asyncio.gather(work, hold, halt, return_exceptions=True)
    return code


async def _work(operator: _Operator, configuration: Any, stop: asyncio.Event) -> None:
    """Fill the cache, then watch and reconcile; any of them ending is the end."""
    await operator.watches.fill()
    operator.store.subscribe(operator.dispatcher.on_change)
    operator.dispatcher.everything()
    async with asyncio.TaskGroup() as group:
        group.create_task(_watch(operator, configuration, stop))
        group.create_task(operator.watches.resync())
        group.create_task(operator.loop.run())
        group.create_task(operator.otlp.run())


async def _watch(operator: _Operator, configuration: Any, stop: asyncio.Event) -> None:
    await operator.watches.run(configuration, stop)
    if not stop.is_set():
        # Kopf caught a signal itself: the same as being told to stop.
        stop.set()


async def _first(wanted: Any, other: Any) -> bool:
    """Wait for either; whether it was the first that ended."""
    tasks = [asyncio.ensure_future(wanted), asyncio.ensure_future(other)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    if tasks[0] in done:
        tasks[0].result()
        return True
    return False


def _shown(config: Config) -> dict[str, Any]:
    """The settings as they are printed at start: headers of telemetry may hold secrets."""
    shown = {name: getattr(config, name) for name in config.__slots__ if name != "telemetry"}
    shown["workload_namespaces"] = sorted(config.workload_namespaces)
    shown["telemetry"] = sorted(config.telemetry)
    return shown
