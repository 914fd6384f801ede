"""KV blocks of sequences that grow, counted for any step at once.

A sequence keeps ``prompt + 1 + floor(k tokens / steps)`` tokens in the step after its k-th. Where no drafts are
accepted that is one token a step: the sequences' places within a block rotate together, so a histogram of the places
answers in time of the block size. In general it takes a pass over arrays.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

__all__ = ["Counter", "EvenCounter", "UnitCounter"]

_FEW: Final = 24  # members up to which a loop is faster than a dozen operations on arrays


class Counter(Protocol):
    """Counts the blocks of its members at a step number. ``offset``: a member's steps done less the step number."""

    def add(self, member: int, prompt: int, tokens: int, steps: int, offset: int) -> None:
        """Count a sequence from now on."""
        ...

    def remove(self, member: int, prompt: int, offset: int) -> None:
        """Count it no longer."""
        ...

    def blocks(self, step: int) -> int:
        """Return the blocks of all members in the step after step number ``step``."""
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

    def blocks(self, step: int) -> int:
        """Return the blocks of all members in the step after step number ``step``."""
        whole, place = divmod(step, self._block)
        return self._whole + self._count * whole + sum(self._bins[self._block - place :])


class EvenCounter:
    """Any number of tokens a step: one by one where there are few members, else columns of figures.

    A member holds floor(((offset + step) tokens + (prompt + block) steps) / (steps block)) blocks: one division of
    whole numbers below 2**53, so that floats round down to the right one.
    """

    __slots__ = ("_block", "_column", "_figures", "_last", "_members", "_order")

    def __init__(self, block_tokens: int) -> None:
        self._block = block_tokens
        self._members: dict[int, tuple[int, int, int, int]] = {}  # offset, tokens, then the constant and the divisor
        self._figures = np.zeros((4, 64))  # the same in columns
        self._column: dict[int, int] = {}
        self._order: list[int] = []  # the member of each column
        self._last: tuple[int, int] | None = None  # the step asked for last, and the answer

    def add(self, member: int, prompt: int, tokens: int, steps: int, offset: int) -> None:
        """Count a sequence from now on."""
        column = len(self._order)
        if column == self._figures.shape[1]:
            self._figures = np.concatenate((self._figures, np.zeros_like(self._figures)), axis=1)
        figures = self._members[member] = (offset, tokens, (prompt + self._block) * steps, steps * self._block)
        self._figures[:, column] = figures
        self._column[member] = column
        self._order.append(member)
        self._correct(figures, 1)

    def remove(self, member: int, prompt: int, offset: int) -> None:
        """Count it no longer."""
        figures = self._members.pop(member)
        column, last = self._column.pop(member), self._order.pop()
        if last != member:
            self._order[column] = last
            self._column[last] = column
            self._figures[:, column] = self._figures[:, len(self._order)]
        self._correct(figures, -1)

    def _correct(self, figures: tuple[int, int, int, int], sign: int) -> None:
        """Keep the last answer true: the next question is often about the same step."""
        if self._last is not None:
            step, answer = self._last
            offset, tokens, constant, divisor = figures
            self._last = (step, answer + sign * (((offset + step) * tokens + constant) // divisor))

    def blocks(self, step: int) -> int:
        """Return the blocks of all members in the step after step number ``step``."""
        if self._last is not None and self._last[0] == step:
            return self._last[1]
        answer = self._one_by_one(step) if len(self._order) <= _FEW else self._at_once(step)
        self._last = (step, answer)
        return answer

    def _one_by_one(self, step: int) -> int:
        held = 0
        for offset, tokens, constant, divisor in self._members.values():
            held += ((offset + step) * tokens + constant) // divisor
        return held

    def _at_once(self, step: int) -> int:
        offset, tokens, constant, divisor = self._figures[:, : len(self._order)]
        held = offset + step
        held *= tokens
        held += constant
        held /= divisor
        np.floor(held, out=held)
        return int(held.sum())
