"""The loop: takes keys from the queue and reconciles them; the one place where any exception is caught."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from supernode_operator.engine.errors import ApiError, ConflictError, NotFoundError, OperatorError, UnavailableError
from supernode_operator.engine.kinds import COMPUTE_NODE, KINDS, SUPER_NODE, WORKLOAD, Key
from supernode_operator.engine.metrics import Metrics
from supernode_operator.engine.queue import WorkQueue
from supernode_operator.engine.tracing import Span, Tracing
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

    def __init__(self, ctx: Context, queue: WorkQueue, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._ctx = ctx
        self._queue = queue
        self._metrics = metrics
        self._tracing = tracing or Tracing()
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
                    self._ctx.reported.pop(key, None)
                self._queue.done(key, gone=gone)
            # A look that has nothing to write never waits, and a full queue neither: without this the others, the
            # lease's renewal among them, would get no turn.
            await asyncio.sleep(0)

    async def _reconcile(self, key: Key) -> None:
        started = time.perf_counter()
        with self._tracing.reconcile(key) as span:
            result = await self._try(key, span)
            span.note({"supernode.reconcile.result": result})
        self._metrics.reconciles.labels(key.kind, result).inc()
        if result == "error":
            self._metrics.reconcile_errors.labels(key.kind).inc()
        self._metrics.reconcile_seconds.labels(key.kind).observe(time.perf_counter() - started)

    async def _try(self, key: Key, span: Span) -> str:
        """Look once; return the result as the metrics name it: success, requeue or error."""
        try:
            await _RECONCILERS[key.kind](self._ctx, key)
            self._queue.forget(key)
            return "success"
        except (ConflictError, NotFoundError) as error:
            # What we read is no longer so: the event is on its way.
            log.info("read again", object=str(key), error=str(error), retry_seconds=self._retry(key, error.reason))
            return "requeue"
        except UnavailableError as error:
            span.fail(str(error))
            retry_seconds = self._retry(key, error.reason)
            log.warning("API server not reached", object=str(key), error=str(error), retry_seconds=retry_seconds)
        except OperatorError as error:
            span.fail(str(error))
            reason = error.reason if isinstance(error, ApiError) else type(error).__name__
            log.error("refused", object=str(key), error=str(error), retry_seconds=self._retry(key, reason))
        except Exception as error:
            span.fail(f"{type(error).__name__}: {error}", error)
            retry_seconds = self._retry(key, type(error).__name__)
            log.exception("reconcile failed", object=str(key), retry_seconds=retry_seconds)
        return "error"

    def _retry(self, key: Key, reason: str) -> float:
        """Queue a key again after a failure; return the delay in seconds."""
        delay = self._queue.retry(key)
        self._tracing.requeue(reason, delay)
        return delay
