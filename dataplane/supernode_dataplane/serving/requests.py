"""The requests of a load, as arrays: when each is sent, how long it is, and what its prompt shares with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.serving.errors import InvalidServingError

__all__ = ["MAX_TOKENS", "FloatArray", "IntArray", "Requests"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

# Bounds a prompt or an output; ten times the longest context on offer. It keeps products of lengths within int64.
MAX_TOKENS: Final = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requests:
    """Requests in the order in which they are sent.

    ``arrivals``     seconds from the start of the load, shape (requests,), never decreasing
    ``inputs``       tokens of each prompt, shape (requests,), at least 1
    ``outputs``      tokens generated for each, shape (requests,), at least 1; the prompt's prefill gives the first
    ``prefixes``     per request the identities of its prompt's consecutive blocks of ``prefix_block_tokens`` tokens;
                     equal ones mean an equal prompt up to and including that block. None: nothing is shared
    ``concurrency``  closed loop: this many clients, each of which sends the next request when its last one has
                     finished, but not before its arrival. None: open loop

    :raises InvalidServingError: shapes differ, a length is out of range, or arrivals go back in time.
    """

    arrivals: FloatArray
    inputs: IntArray
    outputs: IntArray
    prefixes: Sequence[Sequence[int]] | None = None
    prefix_block_tokens: int = 512
    concurrency: int | None = None

    def __post_init__(self) -> None:
        count = len(self.inputs)
        if count == 0:
            raise InvalidServingError("requests", "there are none", "give at least one")
        for name in ("arrivals", "inputs", "outputs"):
            if getattr(self, name).shape != (count,):
                problem = f"shape {getattr(self, name).shape}, not ({count},)"
                raise InvalidServingError(f"requests.{name}", problem, "give one number per request")
        for name in ("inputs", "outputs"):
            values = getattr(self, name)
            bad = np.flatnonzero((values < 1) | (values > MAX_TOKENS))
            if len(bad):
                problem = f"request {bad[0]} has {values[bad[0]]} tokens"
                raise InvalidServingError(f"requests.{name}", problem, f"give 1 to {MAX_TOKENS:,} tokens")
        if not np.isfinite(self.arrivals).all() or self.arrivals[0] < 0 or (np.diff(self.arrivals) < 0).any():
            remedy = "give seconds from 0 on, sorted"
            raise InvalidServingError("requests.arrivals", "negative, not finite or not in order", remedy)
        if self.prefixes is not None and len(self.prefixes) != count:
            problem = f"{len(self.prefixes)} entries for {count} requests"
            raise InvalidServingError("requests.prefixes", problem, "give one list of block identities per request")
        if self.prefix_block_tokens < 1:
            remedy = "give at least 1 (Mooncake traces: 512)"
            raise InvalidServingError("requests.prefix_block_tokens", str(self.prefix_block_tokens), remedy)
        if self.concurrency is not None and self.concurrency < 1:
            raise InvalidServingError("requests.concurrency", str(self.concurrency), "give at least 1 client, or none")

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.inputs)

    @property
    def total_inputs(self) -> int:
        """Return the tokens of all prompts."""
        return int(self.inputs.sum())

    @property
    def total_outputs(self) -> int:
        """Return the tokens of all outputs."""
        return int(self.outputs.sum())
