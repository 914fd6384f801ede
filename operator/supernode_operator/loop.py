"""The loop: takes keys from the queue and reconciles them; the one place where any exception is caught."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from supernode_operator.engine.errors import ConflictError, NotFoundError, OperatorError, UnavailableError
from supernode_operator.engine.kinds import COMPUTE_NODE, KINDS, SUPER_NODE, WORKLOAD, Key
from supernode_operator.engine.metrics import Metrics
from supernode_operator.engine.queue import WorkQueue
from supernode_operator.reconcilers.computenode import reconcile_compute_node
from supernode_operator.reconcilers.context import Context
from supernode_operator.reconcilers.supernode import reconcile_super_node
from supernode_operator.reconcilers.workload import reconcile_workload

__all__ = ["Loop"]

log = structlog.get_logger(__name__)

_RECONCILERS: Final[dict[str, Callable[[Context, Key], Awaitable[None]]]] = {
    SUPER_NODE.name: reconcile_super_node,
    COMPUTE_NODE.name: reconcile_compute_node,
    WORKLOAD.name: reconcile_workload,
}
WORKERS: Final = 3


class Loop:
    """Workers on one queue."""

    def __init__(self, ctx: Context, queue: WorkQueue, metrics: Metrics) -> None:
        self._ctx = ctx
        self._queue = queue
        self._metrics = metrics
        self.busy_since: dict[Key, float] = {}
        """Keys that are worked on, since when (monotonic seconds)."""

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            self.busy_since[key] = time.monotonic()
            try:
                await self._reconcile(key)
            finally:
                del self.busy_since[key]
                gone = self._ctx.store.get(KINDS[key.kind], key.name, key.namespace) is None
                if gone:
                    self._ctx.status_written.pop(key, None)
                self._queue.done(key, gone=gone)

    async def _reconcile(self, key: Key) -> None:
        started, result = time.perf_counter(), "success"
        try:
            await _RECONCILERS[key.kind](self._ctx, key)
            self._queue.forget(key)
        except (ConflictError, NotFoundError) as error:
            # What we read is no longer so: the event is on its way.
            result = "requeue"
            delay = self._queue.retry(key)
            log.info("read again", object=str(key), error=str(error), retry_seconds=delay)
        except UnavailableError as error:
            result = "error"
            log.warning(
                "API server not reached", object=str(key), error=str(error), retry_seconds=self._queue.retry(key)
            )
        except OperatorError as error:
            result = "error"
            log.error("refused", object=str(key), error=str(error), retry_seconds=self._queue.retry(key))
        except Exception:
            result = "error"
            log.exception("reconcile failed", object=str(key), retry_seconds=self._queue.retry(key))
        self._metrics.reconciles.labels(key.kind, result).inc()
        if result == "error":
            self._metrics.reconcile_errors.labels(key.kind).inc()
        self._metrics.reconcile_seconds.labels(key.kind).observe(time.perf_counter() - started)
