"""The serving loop's step times from the decode and prefill steps of a pool.

The loop wants steps that are linear in contexts: a decode step is taken as the line through a half and one and a half
times a typical context, which is exact while the attention core stays on the same side of its roofline. A batch of
prompts takes its whole way through the stages of a pipeline: the loop's steps follow one another.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.capacity import MEMORY_FRACTION, capacity_of
from supernode_dataplane.deployment import Pool
from supernode_dataplane.inference import transfer_seconds
from supernode_dataplane.pool_phases import decode_phase, prompt_phase

__all__ = ["PoolSteps", "kv_blocks"]


_FIRST_TABLE = 256


@dataclass(slots=True)
class PoolSteps:
    """A pool as one instance: its tensor groups run in step, and what arrives is spread over them.

    ``context`` and ``prompt_tokens`` are typical ones; a prompt is read by one tensor group, so that a step with fewer
    prompts than groups leaves the others idle.
    """

    pool: Pool
    context: float
    prompt_tokens: float
    _table: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)), repr=False)

    def decode(self, batch: int) -> tuple[float, float]:
        """Return (a, c) of a decode step of so many sequences on the whole pool."""
        if batch >= len(self._table):
            self._table = self._decode_table(max(_FIRST_TABLE, 2 * batch))
        fixed, slope = self._table[batch].tolist()
        return fixed, slope

    def _decode_table(self, size: int) -> NDArray[np.float64]:
        """Return (a, c) of every batch below ``size``, computed at once, shape (size, 2)."""
        batch = np.maximum(np.arange(size, dtype=np.float64), 1.0)
        each = np.maximum(batch / float(self.pool.groups), 1.0)
        low = decode_phase(self.pool, each, 0.5 * self.context).seconds
        high = decode_phase(self.pool, each, 1.5 * self.context).seconds
        slope = np.maximum((high - low) / self.context, 0.0)
        return np.stack([low - slope * 0.5 * self.context, slope / batch], axis=1)

    def prefill(self, tokens: int) -> tuple[float, float]:
        """Return (a, p) of a step that reads so many prompt tokens on the whole pool."""
        groups = float(self.pool.groups)
        each = max(tokens / groups, min(float(tokens), self.prompt_tokens))
        prompts, filled = max(1.0, each / self.prompt_tokens), tokens / groups / each
        flat = float(prompt_phase(self.pool, each, 0.0, prompts, filled=filled).latency_seconds)
        steep = float(prompt_phase(self.pool, each, self.prompt_tokens, prompts, filled=filled).latency_seconds)
        return flat, max(0.0, steep - flat) / self.prompt_tokens / tokens

    def mixed(self, batch: int, tokens: int) -> tuple[float, float, float]:
        """Return (a, c, p) of a step of both; weights are read once, host and draft time are spent once."""
        decode_fixed, slope = self.decode(batch)
        prefill_fixed, pairs = self.prefill(tokens)
        weights = float(prompt_phase(self.pool, 1.0, 0.0).latency_seconds)
        return decode_fixed + max(0.0, prefill_fixed - weights), slope, pairs

    def transfer(self, tokens: int) -> float:
        """Return the seconds that the caches of a prompt take to another pool."""
        return float(transfer_seconds(self.pool, float(tokens)))


def kv_blocks(pool: Pool, block_tokens: int, *, step_tokens: float, memory_fraction: float = MEMORY_FRACTION) -> int:
    """Return the KV blocks of the whole pool: those of a tensor group times the groups."""
    each = step_tokens / float(pool.groups)
    capacity = capacity_of(pool, float(block_tokens), tokens_in_flight=each, memory_fraction=memory_fraction)
    per_block = float(capacity_of(pool, 1e6).bytes_per_sequence) / 1e6 * block_tokens
    return int(max(0.0, float(capacity.cache)) / per_block) * int(pool.groups)
