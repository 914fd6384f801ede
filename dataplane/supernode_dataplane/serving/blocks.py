"""The KV blocks of one instance: who holds how many, and the blocks of prompts that stay for others (prefix cache).

A prompt's full prefix blocks are stored once, by identity, however many running requests share them. An entry that no
running request holds is idle: it stays until its space is needed, least recently used first; the blocks of one prompt
are let go from its end, so that a prefix outlives what follows it. Everything else a request holds is its own.

A prompt's entries are there from its admission on: who is admitted after it, even in the same step, shares them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

__all__ = ["PrefixCache"]


class PrefixCache:
    """Entries of one prefix block each, with the number of running requests that hold them."""

    __slots__ = ("_holders", "_idle", "held")

    def __init__(self) -> None:
        self._holders: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self.held = 0
        """Entries that a running request holds."""

    @property
    def idle(self) -> int:
        """Return the number of entries that nobody holds."""
        return len(self._idle)

    def match(self, identities: Sequence[int], limit: int) -> int:
        """Return how many of the first ``limit`` blocks are there, up to the first that is not."""
        holders, found = self._holders, 0
        for identity in identities:
            if found == limit or identity not in holders:
                break
            found += 1
        return found

    def held_of(self, identities: Sequence[int]) -> int:
        """Return how many of these are held by a running request: they take no more space."""
        holders = self._holders
        return sum(1 for identity in identities if holders.get(identity))

    def take(self, identities: Sequence[int]) -> None:
        """Hold these entries; what is not there is made."""
        holders, idle = self._holders, self._idle
        for identity in identities:
            count = holders.get(identity)
            if not count:
                self.held += 1
                if count is not None:
                    del idle[identity]
                holders[identity] = 1
            else:
                holders[identity] = count + 1

    def release(self, identities: Sequence[int], computed: int) -> None:
        """Let these go, the last first; of those from ``computed`` on nothing is there yet, so they are forgotten."""
        holders, idle = self._holders, self._idle
        for number in range(len(identities) - 1, -1, -1):
            identity = identities[number]
            count = holders[identity] - 1
            holders[identity] = count
            if count == 0:
                self.held -= 1
                if number < computed:
                    idle[identity] = None
                else:
                    del holders[identity]

    def trim(self, room: int) -> None:
        """Forget the least recently used idle entries until at most ``room`` are left."""
        idle, holders = self._idle, self._holders
        for _ in range(len(idle) - max(room, 0)):
            identity, _none = idle.popitem(last=False)
            del holders[identity]
