"""What a batch is made of: prompts that are read in parts, groups that requests wait for, and runs of equal steps."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

__all__ = ["Chunk", "Run", "WaitingGroup"]


@dataclass(slots=True)
class Chunk:
    """Prompt tokens of one request in every step of a run: ``new`` over ``cached`` ones, of ``length`` to be read."""

    request: int
    new: int
    cached: int
    length: int


class WaitingGroup:
    """A data-parallel group: who waits for it, how many more it admits, and how many decode."""

    __slots__ = ("decoding", "room", "waiting")

    def __init__(self, room: int) -> None:
        self.room = room
        self.decoding = 0
        self.waiting: deque[int] = deque()

    @property
    def is_ready(self) -> bool:
        """Whether a request waits and there is a place for it."""
        return bool(self.waiting) and self.room > 0


@dataclass(slots=True)
class Run:
    """Steps of alpha + beta i seconds from ``start`` on."""

    start: float
    alpha: float
    beta: float
    steps: int
    decoding: bool
    chunks: list[Chunk]
    cuttable: bool
    """Arrivals may be admitted at the next step."""
    waiting: bool
    """A group could have read a prompt when it began, and waits for others."""

    def after(self, steps: int) -> float:
        """Return when so many of its steps have been taken."""
        return self.start + (steps * self.alpha + self.beta * (steps * (steps - 1) / 2))

    def steps_until(self, time: float) -> int:
        """Return the least number of steps, at least 1, that end at or after ``time``, which is after the start."""
        wanted = time - self.start
        if self.beta:
            slope = self.alpha - self.beta / 2
            guess = 2 * wanted / (slope + math.sqrt(slope * slope + 2 * self.beta * wanted))
        else:
            guess = wanted / self.alpha
        steps = max(math.ceil(guess), 1)
        while steps > 1 and self.after(steps - 1) >= time:
            steps -= 1
        while self.after(steps) < time:
            steps += 1
        return steps
