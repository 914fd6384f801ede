"""Speculative decoding: how many steps a request's output takes.

A step checks d drafts beside the next token and gives 1 to 1 + d tokens: draft j is kept when all before it are and,
given that, with probability p_j. A request of L tokens has its first from the prefill and needs the least number of
steps N whose tokens sum to L - 1. N is drawn exactly, not step by step: as long as at least ``left`` tokens are
missing, floor(left / (1 + d)) steps cannot reach the end, and how many of them gave 1, 2, … tokens is one multinomial
draw. So the cost is O(log L), and the mean of (L - 1) / N is the acceptance length.

Between its first and its last token a request advances evenly, (L - 1) / N tokens a step: after k steps it has emitted
1 + floor(k (L - 1) / N).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import numpy as np

from supernode_dataplane.serving.errors import InvalidServingError
from supernode_dataplane.serving.requests import IntArray

__all__ = ["NO_DRAFTS", "Acceptance"]

_FIELD = "acceptance"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Drafts per step and the probability that each is kept.

    ``given_all_before``: p_1 … p_d, each from 0 to 1, under the condition that all drafts before it were kept. An
    engine that logs the share of steps in which draft j was kept logs the products: see ``from_shares``.

    :raises InvalidServingError: a probability is not one.
    """

    given_all_before: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for number, probability in enumerate(self.given_all_before):
            if not 0 <= probability <= 1:
                raise InvalidServingError(f"{_FIELD}[{number}]", f"{probability:g}", "give a probability from 0 to 1")

    @classmethod
    def from_shares(cls, shares: Sequence[float]) -> Acceptance:
        """Return it from the share of steps in which draft 1, 2, … was kept; they cannot rise."""
        before, given = 1.0, []
        for number, share in enumerate(shares):
            if not 0 <= share <= before:
                remedy = "give shares of steps from 0 to 1 that do not rise from draft to draft"
                raise InvalidServingError(f"{_FIELD}[{number}]", f"{share:g} after {before:g}", remedy)
            given.append(share / before if before else 0.0)
            before = share
        return cls(tuple(given))

    @classmethod
    def from_length(cls, drafts: int, tokens_per_step: float) -> Acceptance:
        """Return d equal probabilities p with 1 + p + … + p^d tokens per step, as reports state it."""
        if not 1 <= tokens_per_step <= drafts + 1:
            remedy = f"give 1 to {drafts + 1} tokens per step for {drafts} drafts"
            raise InvalidServingError(f"{_FIELD}.length", f"{tokens_per_step:g}", remedy)
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            short = sum(middle**j for j in range(drafts + 1)) < tokens_per_step
            low, high = (middle, high) if short else (low, middle)
        return cls((high,) * drafts)

    @property
    def query_tokens(self) -> int:
        """Return the tokens of a sequence that a step reads: the next one and the drafts."""
        return 1 + len(self.given_all_before)

    @property
    def tokens_per_step(self) -> float:
        """Return the mean: 1 + p_1 + p_1 p_2 + …."""
        return 1.0 + float(sum(accumulate(self.given_all_before, mul)))

    def distribution(self) -> tuple[float, ...]:
        """Return the probability that a step gives 1, 2, … 1 + d tokens."""
        reached = [1.0, *accumulate(self.given_all_before, mul), 0.0]
        return tuple(reached[j] - reached[j + 1] for j in range(self.query_tokens))

    def steps(self, outputs: IntArray, seed: int | None) -> IntArray:
        """Return the decode steps of each output, shape as ``outputs``; without a seed the mean, rounded up."""
        left = outputs - 1
        if not self.given_all_before:
            return left.copy()
        if seed is None:
            return np.array([math.ceil(tokens / self.tokens_per_step - 1e-9) for tokens in left.tolist()], np.int64)
        random = np.random.default_rng(seed)
        steps = np.zeros_like(left)
        values = np.arange(1, self.query_tokens + 1)
        while len(open_ := np.flatnonzero(left > 0)):
            sure = np.maximum(left[open_] // self.query_tokens, 1)
            left[open_] -= random.multinomial(sure, self.distribution()) @ values
            steps[open_] += sure
        return steps


NO_DRAFTS = Acceptance()
