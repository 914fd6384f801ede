"""KV blocks of sequences that grow, counted for any step at once.

A sequence keeps ``prompt + 1 + floor(k tokens / steps)`` tokens in the step after its k-th. Where no drafts are
accepted that is one token a step: the sequences' places within a block rotate together, so a histogram of the places
answers in time of the block size. In general it takes a pass over arrays.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Final, Protocol

import numpy as np

__all__ = ["Counter", "EvenCounter", "UnitCounter"]

_FAR: Final = 1 << 30  # steps in which nobody crosses a border when there is nobody
_FEW: Final = 24  # members up to which a loop is faster than a dozen operations on arrays


class Counter(Protocol):
    """Counts the blocks of its members at a step number. ``offset``: a member's steps done less the step number."""

    def add(self, member: int, prompt: int, tokens: int, steps: int, offset: int) -> None:
        """Count a sequence from now on."""
        ...

    def remove(self, member: int, prompt: int, offset: int) -> None:
        """Count it no longer."""
        ...

    def blocks(self, step: int, now: int) -> int:
        """Return the blocks of all members in the step after step number ``step``; nobody asks before ``now`` again."""
        ...


class UnitCounter:
    """One token a step: a histogram of the places of the members' last tokens within their blocks."""

    __slots__ = ("_bins", "_block", "_count", "_whole")

    def __init__(self, block_tokens: int) -> None:
        self._block = block_tokens
        self._bins = [0] * block_tokens
        self._whole = 0
        self._count = 0

    def add(self, member: int, prompt: int, tokens: int, steps: int, offset: int) -> None:
        """Count a sequence from now on."""
        self._change(prompt + offset, 1)

    def remove(self, member: int, prompt: int, offset: int) -> None:
        """Count it no longer."""
        self._change(prompt + offset, -1)

    def _change(self, tokens: int, sign: int) -> None:
        whole, place = divmod(tokens + self._block, self._block)
        self._whole += sign * whole
        self._bins[place] += sign
        self._count += sign

    def blocks(self, step: int, now: int) -> int:
        """Return the blocks of all members in the step after step number ``step``; nobody asks before ``now`` again."""
        whole, place = divmod(step, self._block)
        return self._whole + self._count * whole + sum(self._bins[self._block - place :])


class EvenCounter:
    """Any number of tokens a step.

    A member holds floor(((offset + step) tokens + (prompt + block) steps) / (steps block)) blocks. From a step of
    reference on, all hold what they held there and one more for each step since at which somebody crossed the border
    of a block. These *crossings* are kept in order, so that the next steps are a matter of looking up a place. Further
    on, where somebody crosses for the second time, members are counted one by one; where they are many, in columns:
    one division of whole numbers below 2**53, so that floats round down to the right one.
    """

    __slots__ = ("_answer", "_asked", "_base", "_block", "_columns", "_crossings", "_from", "_members", "_until",
                 "_window")  # fmt: skip

    def __init__(self, block_tokens: int) -> None:
        self._block = block_tokens
        self._members: dict[int, tuple[int, int, int, int]] = {}  # offset, tokens, then the constant and the divisor
        # While nobody comes or goes: the same in columns, and the last step that was counted, with its answer.
        self._columns: np.ndarray | None = None
        self._asked = self._answer = -1
        self._crossings: list[int] = []
        self._base = 0  # blocks of all at the step of reference
        self._from = 0  # step of reference: crossings answer from here on
        self._until = 0  # and before this step: by then nobody crosses for the second time
        self._window = block_tokens  # how many steps that were

    def add(self, member: int, prompt: int, tokens: int, steps: int, offset: int) -> None:
        """Count a sequence from now on."""
        divisor = steps * self._block
        figures = self._members[member] = (offset, tokens, (prompt + self._block) * steps, divisor)
        self._columns, self._asked = None, -1
        if self._until > self._from:
            held, crossing = _crossing(figures, self._from)
            self._base += held
            insort(self._crossings, crossing)
            self._until = min(self._until, crossing + divisor // tokens)

    def remove(self, member: int, prompt: int, offset: int) -> None:
        """Count it no longer."""
        figures = self._members.pop(member)
        self._columns, self._asked = None, -1
        if self._until > self._from:
            held, crossing = _crossing(figures, self._from)
            self._base -= held
            del self._crossings[bisect_left(self._crossings, crossing)]

    def blocks(self, step: int, now: int) -> int:
        """Return the blocks of all members in the step after step number ``step``; nobody asks before ``now`` again."""
        if step >= self._until and step < now + self._window and now > self._from:
            self._refer_to(now)
        if step < self._until:
            return self._base + bisect_right(self._crossings, step)
        if step != self._asked:
            self._asked = step
            self._answer = self._one_by_one(step) if len(self._members) <= _FEW else self._at_once(step)
        return self._answer

    def _refer_to(self, step: int) -> None:
        """Make this the step of reference."""
        base, crossings, until = 0, [], step + _FAR
        for offset, tokens, constant, divisor in self._members.values():
            held = ((offset + step) * tokens + constant) // divisor
            base += held
            crossing = -((constant - (held + 1) * divisor) // tokens) - offset  # rounded up
            crossings.append(crossing)
            until = min(until, crossing + divisor // tokens)
        crossings.sort()
        self._base, self._crossings = base, crossings
        self._from, self._until, self._window = step, until, until - step

    def _one_by_one(self, step: int) -> int:
        held = 0
        for offset, tokens, constant, divisor in self._members.values():
            held += ((offset + step) * tokens + constant) // divisor
        return held

    def _at_once(self, step: int) -> int:
        if self._columns is None:
            self._columns = np.array(list(self._members.values()), float).T.copy()
        offset, tokens, constant, divisor = self._columns
        held = offset + step
        held *= tokens
        held += constant
        held /= divisor
        np.floor(held, out=held)
        return int(held.sum())


def _crossing(figures: tuple[int, int, int, int], step: int) -> tuple[int, int]:
    """Return the blocks that a member holds at a step, and the first step at which it holds one more."""
    offset, tokens, constant, divisor = figures
    held = ((offset + step) * tokens + constant) // divisor
    return held, -((constant - (held + 1) * divisor) // tokens) - offset  # rounded up
