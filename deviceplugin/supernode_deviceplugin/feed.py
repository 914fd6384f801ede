"""The latest value of something, for many readers at their own pace; a slow reader skips what it missed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Generic, TypeVar

__all__ = ["Feed", "wait_event"]

T = TypeVar("T")


class Feed(Generic[T]):
    """A value, its version, and a way to wait for the next."""

    def __init__(self, value: T) -> None:
        self.value = value
        self.version = 1
        self._changed = asyncio.Event()

    def publish(self, value: T) -> bool:
        """Set the value; False, and nobody wakes, when it is the same."""
        if value == self.value:
            return False
        self.value = value
        self.version += 1
        self.wake()
        return True

    def wake(self) -> None:
        """Wake everybody who waits, with or without a new value."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait(self) -> None:
        """Return at the next publish or wake."""
        await self._changed.wait()


async def wait_event(event: asyncio.Event, timeout_seconds: float | None) -> None:
    """Wait for an event, but not longer than that; None waits for ever.

    Not ``asyncio.wait_for``: up to Python 3.11 it swallows a cancellation that comes together with the event, and the
    task that was to end goes on.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
