"""The serving loop's step times from the decode and prefill steps of a pool.

The loop wants steps that are linear in contexts: a decode step is taken as the line through a half and one and a half
times a typical context, which is exact while the attention core stays on the same side of its roofline. A batch of
prompts takes its whole way through the stages of a pipeline: the loop's steps follow one another.

Steps are computed for many sizes at once, by the same formulas on arrays: a load has thousands of sizes of steps, and
an array of them costs little more than one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.capacity import MEMORY_FRACTION, capacity_of
from supernode_dataplane.deployment import Pool
from supernode_dataplane.inference import transfer_seconds
from supernode_dataplane.numeric import Number, at_least
from supernode_dataplane.pool_phases import decode_phase, prompt_phase

__all__ = ["PoolSteps", "kv_blocks"]

_FIRST_TABLE: Final = 256
_PAGE: Final = 4096
"""Prompt tokens of a page of the table of prefill steps: one takes as long as about ten sizes one by one."""
Table: TypeAlias = NDArray[np.float64]


@dataclass(slots=True)
class PoolSteps:
    """A pool as one instance: its tensor groups run in step, and what arrives is spread over them.

    ``context`` and ``prompt_tokens`` are typical ones; a prompt is read by one tensor group, so that a step with fewer
    prompts than groups leaves the others idle.
    """

    pool: Pool
    context: float
    prompt_tokens: float
    _decodes: Table = field(default_factory=lambda: np.zeros((0, 2)), init=False, repr=False, compare=False)
    _prefills: dict[int, Table] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By page: rows of all numbers of tokens in it."""
    _transfers: dict[int, Table] = field(default_factory=dict, init=False, repr=False, compare=False)
    _weights: float | None = field(default=None, init=False, repr=False, compare=False)

    def decode(self, batch: int) -> tuple[float, float]:
        """Return (a, c) of a decode step of so many sequences on the whole pool."""
        if batch >= len(self._decodes):
            self._decodes = self._decode_table(max(_FIRST_TABLE, 2 * batch))
        fixed, slope = self._decodes[batch].tolist()
        return fixed, slope

    def _decode_table(self, size: int) -> Table:
        """Return (a, c) of every batch below ``size``, computed at once, shape (size, 2)."""
        batch = np.maximum(np.arange(size, dtype=np.float64), 1.0)
        each = np.maximum(batch / float(self.pool.groups), 1.0)
        low = decode_phase(self.pool, each, 0.5 * self.context).seconds
        high = decode_phase(self.pool, each, 1.5 * self.context).seconds
        slope = np.maximum((high - low) / self.context, 0.0)
        return np.stack([low - slope * 0.5 * self.context, slope / batch], axis=1)

    def prefill(self, tokens: int) -> tuple[float, float]:
        """Return (a, p) of a step that reads so many prompt tokens on the whole pool."""
        number, place = divmod(tokens, _PAGE)
        page = self._prefills.get(number)
        if page is None:
            page = self._prefills[number] = self._prefill_page(number * _PAGE)
        fixed, slope = page[place].tolist()
        return fixed, slope

    def _prefill_page(self, first: int) -> Table:
        """Return (a, p) of every number of prompt tokens from ``first`` on, computed at once, shape (page, 2)."""
        tokens = np.maximum(np.arange(first, first + _PAGE, dtype=np.float64), 1.0)
        groups, typical = float(self.pool.groups), self.prompt_tokens
        each: Number = np.maximum(tokens / groups, np.minimum(tokens, typical))
        if each[0] == each[-1]:  # fewer prompts than groups: only how many of these have one differs
            each = float(each[0])
        prompts, filled = at_least(each / typical, 1.0), tokens / groups / each
        # Without keys to attend to, and with as many as a typical prompt has: shape (2, page).
        contexts = np.array([[0.0], [typical]])
        found = prompt_phase(self.pool, each, contexts, prompts, filled=filled).latency_seconds
        flat, steep = np.broadcast_to(found, (2, _PAGE))
        slope = np.maximum(steep - flat, 0.0) / typical / tokens
        return np.stack([flat, slope], axis=1)

    def mixed(self, batch: int, tokens: int) -> tuple[float, float, float]:
        """Return (a, c, p) of a step of both; weights are read once, host and draft time are spent once."""
        decode_fixed, slope = self.decode(batch)
        prefill_fixed, pairs = self.prefill(tokens)
        if self._weights is None:
            self._weights = float(prompt_phase(self.pool, 1.0, 0.0).latency_seconds)
        return decode_fixed + max(0.0, prefill_fixed - self._weights), slope, pairs

    def transfer(self, tokens: int) -> float:
        """Return the seconds that the caches of a prompt take to another pool."""
        number, place = divmod(tokens, _PAGE)
        page = self._transfers.get(number)
        if page is None:
            prompts = np.arange(number * _PAGE, (number + 1) * _PAGE, dtype=np.float64)
            page = self._transfers[number] = transfer_seconds(self.pool, prompts)
        return float(page[place])


def kv_blocks(pool: Pool, block_tokens: int, *, step_tokens: float, memory_fraction: float = MEMORY_FRACTION) -> int:
    """Return the KV blocks of the whole pool: those of a tensor group times the groups."""
    each = step_tokens / float(pool.groups)
    capacity = capacity_of(pool, float(block_tokens), tokens_in_flight=each, memory_fraction=memory_fraction)
    per_block = float(capacity_of(pool, 1e6).bytes_per_sequence) / 1e6 * block_tokens
    return int(max(0.0, float(capacity.cache)) / per_block) * int(pool.groups)
