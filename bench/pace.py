"""How fast the machine was while something was measured: a shared one varies by a factor of two within an hour."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["Pace"]

_STEAL = 7  # column of /proc/stat: time in which others had the processor that this machine wanted
_ADDITIONS = 1_000_000


class Pace:
    """From here until it is asked: what others took of the processors, and a yardstick at either end."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._before = self._ticks()
        self._seconds = _yardstick()

    def __str__(self) -> str:
        """Return both in words."""
        words = f"a million additions in {max(self._seconds, _yardstick()) * 1e3:.0f} ms"
        before, after = self._before, self._ticks()
        if before and after and (wanted := _wanted(after) - _wanted(before)) > 0:
            words = f"{(after[_STEAL] - before[_STEAL]) / wanted:.0%} of the processor time taken by others, {words}"
        return words

    def _ticks(self) -> list[int]:
        try:
            first = self._stat.read_text(encoding="ascii").partition("\n")[0]
            ticks = [int(value) for value in first.split()[1:]]
        except (OSError, ValueError):
            return []
        return ticks if len(ticks) > _STEAL else []


def _wanted(ticks: list[int]) -> int:
    """Return the time that was worked or would have been: all but idle and waiting for disks, guests not twice."""
    return sum(ticks[: _STEAL + 1]) - ticks[3] - ticks[4]


def _yardstick() -> float:
    """Return the best of three times of a loop that does nothing else, in seconds of the processor."""
    found = []
    for _ in range(3):
        start, total = time.process_time(), 0
        for number in range(_ADDITIONS):
            total += number
        found.append(time.process_time() - start)
    return min(found)
