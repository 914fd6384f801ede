"""What a batch is made of: prompts that are read in parts, groups that requests wait for, and runs of equal steps."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["Chunk", "Run", "WaitingGroup", "work_of"]


class Chunk:
    """Prompt tokens of one request in every step of a run: ``new`` over ``cached`` ones, of ``length`` to be read."""

    __slots__ = ("cached", "length", "new", "request")

    def __init__(self, request: int, new: int, cached: int) -> None:
        self.request = request
        self.new = new
        self.cached = cached
        self.length = new + cached


def work_of(chunks: list[Chunk]) -> tuple[int, int, int, int]:
    """Return the new tokens of a step, its query-key pairs (see ``attention_pairs``), and what these grow by a step.

    And how many such steps there are: to before the last one of any prompt, but at least one.
    """
    tokens = pairs = growth = 0
    steps = chunks[0].length
    for chunk in chunks:
        new, cached = chunk.new, chunk.cached
        tokens += new
        pairs += new * cached + new * (new + 1) // 2
        growth += new * new
        steps = min(steps, (chunk.length - cached - 1) // new)
    return tokens, pairs, growth, steps or 1


class WaitingGroup:
    """A data-parallel group: who waits for it, and how many more it admits.

    Of the step that is being planned, chunked: ``decoding``, the sequences that decode, and ``left``, the tokens of the
    budget that are left; below 0 when it is overdrawn.
    """

    __slots__ = ("decoding", "left", "room", "waiting")

    def __init__(self, room: int) -> None:
        self.room = room
        self.waiting: deque[int] = deque()
        self.decoding = self.left = 0


class Run:
    """Steps of alpha + beta i seconds from ``start`` on; an instance has one at a time, and uses it again.

    ``decoding``  sequences take these steps
    ``chunks``    prompts that they read; without any, arrivals may be admitted at the next step
    ``waiting``   without chunks: a group could have read a prompt when it began, and waits for others
    """

    __slots__ = ("alpha", "beta", "chunks", "decoding", "start", "steps", "waiting")

    def __init__(self) -> None:
        self.start = self.alpha = self.beta = 0.0
        self.steps = 0
        self.decoding = self.waiting = False
        self.chunks: list[Chunk] = []

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
