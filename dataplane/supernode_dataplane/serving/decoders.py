"""The decoding sequences of one instance, advanced by any number of steps at once.

A sequence of prompt P that needs N decode steps for L - 1 tokens has, before step k + 1, a context of
P + 1 + k (L - 1) / N and keeps floor of it in KV blocks during that step. The sum of contexts is a line in the number
of steps, so nothing here is per step: completions are a heap of step numbers, the sum is one number and its slope, and
blocks are counted only where the bounds that the sum gives do not decide.
"""

from __future__ import annotations

import heapq

from supernode_dataplane.serving.counting import Counter, EvenCounter, UnitCounter

__all__ = ["Decoders"]

# Contexts are sums of fractions when drafts are accepted: bounds on whole tokens allow for rounding.
_SLACK = 1e-3


class Decoders:
    """Sequences that decode in lockstep; ``now`` counts the steps that they have taken since the start."""

    __slots__ = ("_block", "_counter", "_drafts", "_ends", "_place", "_stale", "context", "count", "most",
                 "now", "slope")  # fmt: skip

    def __init__(self, block_tokens: int, *, drafts: bool) -> None:
        self._block = block_tokens
        self._drafts = drafts
        self._counter: Counter | None = None
        """There is one from the first question that the bounds do not answer until nobody decodes."""
        self.count = 0
        self.now = 0
        self.context: float = 0
        """Sum of the contexts of the next step, tokens."""
        self.slope: float = 0
        """Tokens that the sum grows by with each step."""
        self.most: float = 0
        """Tokens that the blocks of the next step have room for, at most."""
        self._ends: list[tuple[int, int, int]] = []  # (step of completion, order of joining, request)
        self._stale = 0  # how many of these have left before
        # request -> (order, prompt, tokens, steps, steps done less now)
        self._place: dict[int, tuple[int, int, int, int, int]] = {}

    def join(self, request: int, order: int, *, prompt: int, tokens: int, steps: int, done: int) -> None:
        """Add a sequence that has taken ``done`` of its ``steps`` for ``tokens`` (its output but for the first)."""
        offset = done - self.now
        self._place[request] = (order, prompt, tokens, steps, offset)
        if self._counter is not None:
            self._counter.add(request, prompt, tokens, steps, offset)
        self.count += 1
        self.slope += tokens / steps
        self.context += prompt + 1 + done * tokens / steps
        self.most = self.context + _SLACK + self.count * (self._block - 1)
        heapq.heappush(self._ends, (steps - offset, order, request))

    def leave(self, request: int) -> int:
        """Remove a sequence before it is complete; return the steps that it has taken."""
        self._stale += 1
        done = self._remove(request)
        self.most = self.context + _SLACK + self.count * (self._block - 1)
        return done

    def _remove(self, request: int) -> int:
        _order, prompt, tokens, steps, offset = self._place.pop(request)
        done = offset + self.now
        self.count -= 1
        if self.count:
            self.slope -= tokens / steps
            self.context -= prompt + 1 + done * tokens / steps
            if self._counter is not None:
                self._counter.remove(request, prompt, offset)
        else:
            self.slope = self.context = 0  # no rounding outlives the batch
            self._counter = None
        return done

    def advance(self, steps: int) -> list[int]:
        """Take steps; return the sequences that are complete, which have left, in the order of joining.

        ``steps`` must not be more than ``until_completion`` says.
        """
        self.now += steps
        self.context += self.slope * steps
        complete: list[int] = []
        ends, now = self._ends, self.now
        while ends and ends[0][0] <= now:
            _end, order, request = heapq.heappop(ends)
            if self._stale and not self._is_here(request, order):
                self._stale -= 1
            else:
                complete.append(request)
                self._remove(request)
        self.most = self.context + _SLACK + self.count * (self._block - 1)
        return complete

    def until_completion(self) -> int:
        """Return the steps until the next sequence is complete; there must be one."""
        ends = self._ends
        while self._stale and not self._is_here(ends[0][2], ends[0][1]):
            heapq.heappop(ends)
            self._stale -= 1
        return ends[0][0] - self.now

    def _is_here(self, request: int, order: int) -> bool:
        """Say whether it has not been preempted since it joined."""
        return request in self._place and self._place[request][0] == order

    def blocks(self, ahead: int = 0) -> int:
        """Return the KV blocks of the next step, or of the one ``ahead`` steps after it."""
        if self._counter is None:
            self._counter = EvenCounter(self._block) if self._drafts else UnitCounter(self._block)
            for request, (_order, prompt, tokens, steps, offset) in self._place.items():
                self._counter.add(request, prompt, tokens, steps, offset)
        return self._counter.blocks(self.now + ahead, self.now)

    def at_least(self) -> float:
        """Return how many tokens the blocks of the next step have room for, at least."""
        return self.context - _SLACK - self.count

    def steps_within(self, limit: int, steps: int) -> int:
        """Return how many of the next ``steps`` need at most ``limit`` blocks. The first must.

        The sum of contexts bounds the blocks from both sides; between the two bounds the answer is found by halving.
        """
        last = steps - 1
        if self.most + self.slope * last <= limit * self._block or last <= 0 or self.blocks(last) <= limit:
            return steps
        spare = limit * self._block - self.context
        low = int((spare - _SLACK - self.count * (self._block - 1)) / self.slope) - 1
        high = int((spare + _SLACK + self.count) / self.slope) + 2
        low, high = max(low, 0), min(high, last)  # low fits, high does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.blocks(middle) <= limit else (low, middle)
        return low + 1
