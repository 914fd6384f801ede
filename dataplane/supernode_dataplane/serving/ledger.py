"""What is known of the requests, and what is written down of them and of each instance while they are served."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Final, NamedTuple

import numpy as np

from supernode_dataplane.serving.prefixes import Prefixes
from supernode_dataplane.serving.requests import IntArray
from supernode_dataplane.serving.settings import Engine

__all__ = ["GAP", "RUN", "Jobs", "Ledger", "Meter", "RunRow"]


@dataclass(slots=True)
class Jobs:
    """The requests as one group of instances sees them, and how far each is; lists, for they are read one by one.

    ``prompt``  tokens
    ``tokens``  output less the first token; 0 where only the prompt is to be read
    ``steps``   decode steps for these; at least 1 if tokens is
    ``shared``  the prompts' full prefix blocks, as pieces
    ``done``    steps taken; -1: not even the prefill
    ``order``   number of its last admission
    ``unread``  tokens to read before it can decode: its prompt and, preempted, what it had emitted; 0: its KV comes
                with the request
    ``blocks``  KV blocks that its next admission takes: for what is unread and the next step, or all that it will need
    """

    prompt: list[int]
    tokens: list[int]
    steps: list[int]
    shared: Prefixes
    unread: list[int]
    blocks: list[int]
    done: list[int] = field(init=False)
    order: list[int] = field(init=False)

    @classmethod
    def of(
        cls, engine: Engine, inputs: IntArray, tokens: IntArray, steps: IntArray, shared: Prefixes, *, ready: bool
    ) -> Jobs:
        """Return requests that have not begun; arrays of shape (requests,). ``ready``: with the prompts' KV."""
        kept = inputs + (np.minimum(tokens, 1) if engine.reserve == "prompt" else tokens)
        blocks = (-(-kept // engine.block_tokens)).tolist()
        unread = (np.zeros_like(inputs) if ready else inputs).tolist()
        return cls(inputs.tolist(), tokens.tolist(), steps.tolist(), shared, unread, blocks)

    def __post_init__(self) -> None:
        self.done = [-1] * len(self.prompt)
        self.order = [0] * len(self.prompt)


@dataclass(slots=True)
class Ledger:
    """Per request: seconds of its first token and its completion, preemptions, prompt tokens found in the cache."""

    first: list[float]
    completion: list[float]
    preemptions: list[int]
    cached: list[int]
    last_token: dict[int, float] = field(default_factory=dict)
    """Of requests that were preempted: when they gave their last token."""

    @classmethod
    def of(cls, requests: int) -> Ledger:
        """Return one without entries; -1 is not yet."""
        return cls([-1.0] * requests, [-1.0] * requests, [0] * requests, [-1] * requests)


class RunRow(NamedTuple):
    """One run: ``steps`` steps of alpha + beta i seconds, in which kv + growth i tokens are kept."""

    prompts: bool
    """Its steps read prompts."""
    decoding: int
    """Sequences past their first token, whether they advance or wait."""
    advancing: int
    """Sequences that take these steps; 0 or all of them."""
    even: bool
    """Their last tokens came at its start: the gaps between their tokens are its steps."""
    admitted: int
    steps: int
    alpha: float
    beta: float
    kv: float
    growth: float


@dataclass(slots=True)
class Meter:
    """Of one instance: its runs, and the gaps between tokens that are not simply the steps of a run.

    Rows of numbers, packed one after another: they need no conversion, and there is nothing for the garbage collector.
    """

    runs: bytearray = field(default_factory=bytearray)
    """Rows of RunRow, as ``RUN`` packs them."""
    gaps: bytearray = field(default_factory=bytearray)
    """(first, increment, how many, sequences), as ``GAP`` packs them: that many gaps in arithmetic progression, of so
    many sequences each."""


RUN: Final = Struct(f"{len(RunRow._fields)}d").pack
GAP: Final = Struct("4d").pack
