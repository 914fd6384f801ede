"""When the decoding sequences of one instance gave their last token.

Those that took the last decode step gave it at the end of that; sequences that have joined since gave it when their
prompts were read, or came with it. The last ones to be admitted are the first to be preempted.
"""

from __future__ import annotations

from supernode_dataplane.serving.batch import Run
from supernode_dataplane.serving.ledger import GAP

__all__ = ["LastTokens"]


class LastTokens:
    """Points in time, and how many sequences had their last token there, in the order of admission."""

    __slots__ = ("_first", "_later", "_sequences")

    def __init__(self) -> None:
        # The first point in time, often the only one, and its sequences; none: nobody decodes.
        self._first = 0.0
        self._sequences = 0
        self._later: list[tuple[float, int]] = []

    def all_at(self, time: float, sequences: int) -> None:
        """Note that all sequences that decode, so many, had a token at this time."""
        self._first, self._sequences = time, sequences
        if self._later:
            self._later.clear()

    def joined(self, time: float) -> None:
        """Note a sequence that decodes from now on, admitted after all others, and when it had its last token."""
        if not self._sequences:
            self._first, self._sequences = time, 1
        elif self._later and self._later[-1][0] == time:
            self._later[-1] = (time, self._later[-1][1] + 1)
        elif self._later or self._first != time:
            self._later.append((time, 1))
        else:
            self._sequences += 1

    def left(self) -> float:
        """Forget the sequence that was admitted last; return when it had its last token."""
        if not self._later:
            self._sequences -= 1
            return self._first
        time, sequences = self._later.pop()
        if sequences > 1:
            self._later.append((time, sequences - 1))
        return time

    def are_at(self, time: float) -> bool:
        """Say whether all sequences had their last token at this time."""
        return not self._later and self._first == time

    def gaps_of(self, run: Run) -> bytes:
        """Return the gaps between tokens that the run of all sequences ends or makes, rows as in ``Meter.gaps``."""
        first_end, count = run.after(1), self._sequences
        gaps = GAP(first_end - self._first, 0.0, 1, count)
        for time, sequences in self._later:
            gaps += GAP(first_end - time, 0.0, 1, sequences)
            count += sequences
        return gaps + GAP(run.alpha + run.beta, run.beta, run.steps - 1, count) if run.steps > 1 else gaps
