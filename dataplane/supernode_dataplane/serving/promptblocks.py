"""The identities of the blocks of many prompts, in one array.

A trace of long prompts has hundreds of thousands. As lists of numbers they are as many objects, all over the memory, to
go through whenever a load is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["PromptBlocks"]


class PromptBlocks(Sequence[Sequence[int]]):
    """Per prompt its blocks' identities, as a list; all of them: ``flat``, prompt i from ``starts[i]`` on.

    ``flat``    shape (blocks,)
    ``starts``  shape (prompts + 1,), the last is the number of blocks
    """

    __slots__ = ("flat", "starts")

    def __init__(self, flat: NDArray[np.int64], starts: NDArray[np.int64]) -> None:
        self.flat = flat
        self.starts = starts

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.starts) - 1

    @overload
    def __getitem__(self, place: int) -> list[int]: ...

    @overload
    def __getitem__(self, place: slice) -> PromptBlocks: ...

    def __getitem__(self, place: int | slice) -> list[int] | PromptBlocks:
        """Return the blocks of one prompt, or those of several."""
        if isinstance(place, slice):
            return self.of_prompts(np.arange(len(self))[place])
        place = range(len(self))[place]
        blocks: list[int] = self.flat[self.starts[place] : self.starts[place + 1]].tolist()
        return blocks

    def of_prompts(self, prompts: NDArray[np.int64]) -> PromptBlocks:
        """Return the blocks of these prompts, shape (prompts,), in this order; neighbours are not copied."""
        if (np.diff(prompts) == 1).all():
            first, end = (int(prompts[0]), int(prompts[-1]) + 1) if len(prompts) else (0, 0)
            starts = self.starts[first : end + 1]
            return PromptBlocks(self.flat[starts[0] : starts[-1]], starts - starts[0])
        counts = np.diff(self.starts)[prompts]
        starts = np.concatenate(([0], np.cumsum(counts)))
        return PromptBlocks(self._from(self.starts[prompts], counts), starts)

    def beginnings(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first so many blocks of each prompt, shape (sum of counts,); each has as many."""
        return self._from(self.starts[:-1], counts)

    def _from(self, starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
        shifts = starts - (np.cumsum(counts) - counts)
        return self.flat[np.repeat(shifts, counts) + np.arange(int(counts.sum()))]
