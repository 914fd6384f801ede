"""Writes ComputeNode statuses: only what differs, each object at most once a second, a few at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from supernode_deviceplugin.feed import wait_event
from supernode_deviceplugin.kube import ApiUnavailableError, ComputeNodes, ConflictError, NotFoundError

__all__ = ["StatusWriter"]

_SPACING_SECONDS: Final = 1.0
_CONFLICT_SECONDS: Final = 0.2
_MAX_DELAY_SECONDS: Final = 30.0
_PARALLEL: Final = 2
_log = logging.getLogger(__name__)

Json = dict[str, Any]


class StatusWriter:
    """Asks ``plan`` for each object that was marked, and writes what it returns; ``written`` hears of the result.

    A plan is the version of the object that it was made from, and the status.
    """

    def __init__(
        self,
        nodes: ComputeNodes,
        plan: Callable[[str], tuple[str, Json] | None],
        written: Callable[[Json], None],
    ) -> None:
        self._nodes = nodes
        self._plan = plan
        self._written = written
        self._marked: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._gate = asyncio.Semaphore(_PARALLEL)

    def mark(self, names: Iterable[str]) -> None:
        """These may have changed."""
        self._marked.update(names)
        self._wake.set()

    async def run(self) -> None:
        """Write for ever."""
        while True:
            timeout = self._next_due()
            await wait_event(self._wake, timeout)
            self._wake.clear()
            now = time.monotonic()
            due = {name for name in self._marked if self._not_before.get(name, now) <= now}
            self._marked -= due
            async with asyncio.TaskGroup() as writes:
                for name in sorted(due):
                    await self._gate.acquire()
                    await asyncio.sleep(0)  # the kubelet's calls go before the planning of many
                    planned = self._plan(name)
                    if planned is None:
                        self._gate.release()
                    else:
                        writes.create_task(self._write(name, *planned))

    def _next_due(self) -> float | None:
        if not self._marked:
            return None
        now = time.monotonic()
        return max(0.01, min(self._not_before.get(name, now) for name in self._marked) - now)

    async def _write(self, name: str, version: str, status: Json) -> None:
        """Write one status, then open the gate for the next."""
        delay = _SPACING_SECONDS
        try:
            obj = await self._nodes.patch_status(name, version, status)
            self._failures.pop(name, None)
            self._written(obj)
        except NotFoundError:
            _log.info("ComputeNode is gone", extra={"compute_node": name})
        except ConflictError:
            # what it is now comes by the watch, which marks it again; in case that was before this, once more by hand
            self._marked.add(name)
            delay = _CONFLICT_SECONDS
        except ApiUnavailableError as error:
            failures = self._failures[name] = self._failures.get(name, 0) + 1
            delay = min(_SPACING_SECONDS * 2 ** (failures - 1), _MAX_DELAY_SECONDS)
            self._marked.add(name)
            extra = {"compute_node": name, "problem": str(error), "retry_seconds": delay}
            _log.warning("status could not be written", extra=extra)
        finally:
            self._gate.release()
        self._not_before[name] = time.monotonic() + delay
