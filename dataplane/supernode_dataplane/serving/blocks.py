"""The blocks of prompts that stay for others (prefix cache) on one instance.

A prompt's full prefix blocks are stored once, however many running requests share them. Blocks that no running request
holds are idle: they stay until their space is needed, least recently used first; the blocks of one prompt are let go
from its end, so that a prefix outlives what follows it. A prompt's blocks count as stored from its admission on: who is
admitted after it, even in the same step, shares them. The unit is a piece (see prefixes.py): all of it is held, or some
of its first blocks are idle. Whoever holds a piece holds all that come before it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

__all__ = ["PrefixCache"]


class PrefixCache:
    """Pieces, with the number of running requests that hold each. ``sizes``: blocks of each piece."""

    __slots__ = ("_holders", "_idle", "_sizes", "idle")

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._holders = [0] * len(sizes)
        self._idle: OrderedDict[int, int] = OrderedDict()  # piece -> its first blocks that are still there
        self.idle = 0
        """Blocks that nobody holds."""

    def match(self, pieces: Sequence[int]) -> int:
        """Return how many of a prompt's blocks are there, up to the first that is not."""
        holders, sizes, found = self._holders, self._sizes, 0
        for piece in pieces:
            if holders[piece]:
                found += sizes[piece]
            else:
                there = self._idle.get(piece, 0)
                found += there
                if there < sizes[piece]:
                    break
        return found

    def held_of(self, pieces: Sequence[int]) -> int:
        """Return how many of these blocks are held by running requests: they take no more space."""
        holders, held = self._holders, 0
        for piece in pieces:
            if not holders[piece]:
                break
            held += self._sizes[piece]
        return held

    def take(self, pieces: Sequence[int]) -> int:
        """Hold these; return how many of their blocks nobody held, of which those that are not there are made."""
        holders, idle, new = self._holders, self._idle, 0
        for piece in pieces:
            if not holders[piece]:
                new += self._sizes[piece]
                if piece in idle:
                    self.idle -= idle.pop(piece)
            holders[piece] += 1
        return new

    def release(self, pieces: Sequence[int], blocks: int, computed: int) -> int:
        """Let these go, of ``blocks`` in all, the last first; return how many of them nobody holds any more.

        Only the first ``computed`` are there to stay.
        """
        holders, sizes, left = self._holders, self._sizes, 0
        for piece in reversed(pieces):
            size = sizes[piece]
            blocks -= size
            holders[piece] -= 1
            if holders[piece]:
                continue
            left += size
            if computed > blocks:
                there = self._idle[piece] = min(computed - blocks, size)
                self.idle += there
        return left

    def trim(self, room: int) -> None:
        """Forget the least recently used idle blocks until at most ``room`` are left."""
        idle = self._idle
        excess = self.idle - max(room, 0)
        if excess <= 0:
            return
        self.idle -= excess
        while excess:
            piece = next(iter(idle))
            there = idle[piece]
            if there > excess:
                idle[piece] = there - excess  # it keeps its place
                return
            idle.popitem(last=False)
            excess -= there
