"""The work-queue: keys of objects that want a look.

Deduplicating (a key waits at most once), exclusive (a key is never worked on twice at a time; what arrives meanwhile
comes after), rate limited (a pause between two runs of one key, longer after a long one), with exponential backoff per
key and delayed adds.
"""

from __future__ import annotations

import asyncio
from typing import Final

from supernode_operator.engine.kinds import Key
from supernode_operator.engine.metrics import Metrics

__all__ = ["WorkQueue"]

BASE_BACKOFF_SECONDS: Final = 0.2
MAX_BACKOFF_SECONDS: Final = 60.0
REST: Final = 25.0
"""Times what a run took is the pause after its start: while 48 pods start, a key leaves the cores to them."""
MOST_PAUSES: Final = 3.0
"""Times the usual pause is the longest one."""


class WorkQueue:
    """A queue of keys on the running event loop; not thread-safe."""

    def __init__(self, metrics: Metrics, *, settle_seconds: float = 0.02, pause_seconds: float = 0.2) -> None:
        self._metrics = metrics
        self._settle_seconds = settle_seconds
        self._pause_seconds = pause_seconds
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: dict[Key, float] = {}
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._last_run: dict[Key, float] = {}
        self._rest: dict[Key, float] = {}

    def add(self, key: Key) -> None:
        """Queue a key soon: bursts are collected, and two runs of one key keep a pause."""
        now = asyncio.get_running_loop().time()
        pause = self._rest.get(key, self._pause_seconds)
        earliest = self._last_run.get(key, now - pause) + pause
        self.add_after(key, max(self._settle_seconds, earliest - now))

    def add_after(self, key: Key, delay_seconds: float) -> None:
        """Queue a key after a delay; the earliest wish wins."""
        if key in self._queued:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + max(0.0, delay_seconds)
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._push, key)

    def retry(self, key: Key) -> float:
        """Queue a key again after a failure, each time later; returns the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(BASE_BACKOFF_SECONDS * 2.0 ** min(failures, 16), MAX_BACKOFF_SECONDS)
        self._metrics.retries.labels(key.kind).inc()
        self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """Reset the backoff of a key: it succeeded."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """Wait for the next key; call :meth:`done` with it afterwards."""
        key = await self._ready.get()
        now = asyncio.get_running_loop().time()
        self._metrics.queue_seconds.labels(key.kind).observe(now - self._queued.pop(key, now))
        self._metrics.depth.set(len(self._queued))
        self._working.add(key)
        self._last_run[key] = now
        return key

    def done(self, key: Key, *, gone: bool = False) -> None:
        """Say that the work on a key is over; ``gone`` forgets everything about it."""
        self._working.discard(key)
        now = asyncio.get_running_loop().time()
        took = now - self._last_run.get(key, now)
        self._rest[key] = max(self._pause_seconds, min(REST * took, MOST_PAUSES * self._pause_seconds))
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif gone:
            self._last_run.pop(key, None)
            self._rest.pop(key, None)
            self._failures.pop(key, None)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is worked on (delayed keys apart)."""
        return not self._queued and not self._working

    def _push(self, key: Key) -> None:
        self._timers.pop(key, None)
        if key in self._working:
            self._again.add(key)
        elif key not in self._queued:
            self._queued[key] = asyncio.get_running_loop().time()
            self._metrics.depth.set(len(self._queued))
            self._ready.put_nowait(key)
