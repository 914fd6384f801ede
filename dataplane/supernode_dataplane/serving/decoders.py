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

    __slots__ = ("_block", "_counter", "_ends", "_place", "context", "count", "now", "slope")

    def __init__(self, block_tokens: int, *, drafts: bool) -> None:
        self._block = block_tokens
        self._counter: Counter = EvenCounter(block_tokens) if drafts else UnitCounter(block_tokens)
        self.count = 0
        self.now = 0
        self.context: float = 0
        """Sum of the contexts of the next step, tokens."""
        self.slope: float = 0
        """Tokens that the sum grows by with each step."""
        self._ends: list[tuple[int, int, int]] = []  # (step of completion, order of joining, request)
        # request -> (order, prompt, tokens, steps, steps done less now)
        self._place: dict[int, tuple[int, int, int, int, int]] = {}

    def join(self, request: int, order: int, *, prompt: int, tokens: int, steps: int, done: int) -> None:
        """Add a sequence that has taken ``done`` of its ``steps`` for ``tokens`` (its output but for the first)."""
        offset = done - self.now
        self._place[request] = (order, prompt, tokens, steps, offset)
        self._counter.add(request, prompt, tokens, steps, offset)
        self.count += 1
        self.slope += tokens / steps
        self.context += prompt + 1 + done * tokens / steps
        heapq.heappush(self._ends, (steps - offset, order, request))

    def leave(self, request: int) -> int:
        """Remove a sequence; return the steps that it has taken."""
        _order, prompt, tokens, steps, offset = self._place.pop(request)
        done = offset + self.now
        self._counter.remove(request, prompt, offset)
        self.count -= 1
        if self.count:
            self.slope -= tokens / steps
            self.context -= prompt + 1 + done * tokens / steps
        else:
            self.slope = self.context = 0  # no rounding outlives the batch
        return done

    def advance(self, steps: int) -> list[int]:
        """Take steps; return the sequences that are complete, which have left, in the order of joining.

        ``steps`` must not be more than ``until_completion`` says.
        """
        self.now += steps
        self.context += self.slope * steps
        complete = []
        ends, place, now = self._ends, self._place, self.now
        while ends and ends[0][0] <= now:
            _end, order, request = heapq.heappop(ends)
            if request in place and place[request][0] == order:
                complete.append(request)
                self.leave(request)
        return complete

    def until_completion(self) -> int:
        """Return the steps until the next sequence is complete; there must be one."""
        ends, place = self._ends, self._place
        while True:
            end, order, request = ends[0]
            if request in place and place[request][0] == order:
                return end - self.now
            heapq.heappop(ends)  # it was preempted since

    def blocks(self, ahead: int = 0) -> int:
        """Return the KV blocks of the next step, or of the one ``ahead`` steps after it."""
        return self._counter.blocks(self.now + ahead)

    def at_most(self, ahead: int = 0) -> float:
        """Return a number that ``blocks(ahead)`` cannot exceed, at once."""
        context = self.context + self.slope * ahead
        return (context + _SLACK + self.count * (self._block - 1)) / self._block

    def at_least(self) -> float:
        """Return a number that ``blocks()`` cannot be below, at once."""
        return (self.context - _SLACK - self.count) / self._block

    def steps_within(self, limit: int, steps: int) -> int:
        """Return how many of the next ``steps`` need at most ``limit`` blocks. The first must.

        The sum of contexts bounds the blocks from both sides; between the two bounds the answer is found by halving.
        """
        if steps <= 1 or self.at_most(steps - 1) <= limit or self.blocks(steps - 1) <= limit:
            return steps
        spare = limit * self._block - self.context
        low = int((spare - _SLACK - self.count * (self._block - 1)) / self.slope) - 1
        high = int((spare + _SLACK + self.count) / self.slope) + 2
        low, high = max(low, 0), min(high, steps - 1)  # low fits, high does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.blocks(middle) <= limit else (low, middle)
        return low + 1
