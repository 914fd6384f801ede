"""Prompts' block identities as paths of a tree, with blocks that always come together as one piece.

An identity stands for a prompt up to and including its block, so the blocks form a tree, and a block that is in as
many prompts as the one before it is in the very same prompts. Such neighbours are always held, let go and used
together, so a cache may treat them as one *piece* of several blocks (of which the last are forgotten first). A prompt
of a hundred blocks is then two or three pieces: what it shares with others, and what it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from supernode_dataplane.serving.errors import InvalidServingError
from supernode_dataplane.serving.requests import IntArray, Requests

__all__ = ["Prefixes", "prefix_pieces"]

_FIELD = "requests.prefixes"


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Per request the numbers of its pieces, in order, and its full blocks; per piece its blocks."""

    pieces: Sequence[Sequence[int]]
    blocks: Sequence[int]
    sizes: Sequence[int]

    @classmethod
    def none(cls, requests: int) -> Prefixes:
        """Return it for requests that share nothing."""
        return cls([()] * requests, [0] * requests, [])


def prefix_pieces(requests: Requests) -> Prefixes:
    """Return the pieces of the prompts' full blocks; a last block that is not full is nobody else's.

    :raises InvalidServingError: a request names fewer blocks than its prompt has, or one identity follows two others,
        so that it cannot stand for one beginning.
    """
    if requests.prefixes is None:
        return Prefixes.none(len(requests))
    full = requests.inputs // requests.prefix_block_tokens
    named = np.fromiter(map(len, requests.prefixes), np.int64, len(requests))
    if (named < full).any():
        bad = int(np.argmax(named < full))
        problem = f"request {bad} names {named[bad]} blocks and its prompt has {full[bad]} full ones"
        raise InvalidServingError(f"{_FIELD}[{bad}]", problem, "name every block of the prompt")
    counts = full.tolist()
    rows = (row[:count] for row, count in zip(requests.prefixes, counts, strict=True))
    total = int(full.sum())
    identities = np.fromiter(chain.from_iterable(rows), np.int64, total)
    if not total:
        return Prefixes.none(len(requests))
    first = np.zeros(total, bool)
    starts = np.cumsum(full) - full
    first[starts[full > 0]] = True
    known, block, uses = np.unique(identities, return_inverse=True, return_counts=True)
    before = np.where(first, -1, np.roll(block, 1))
    _check_tree(known, block, before)
    heads = first | (uses[block] != uses[before])
    places = np.flatnonzero(heads)
    sizes = np.zeros(len(known), np.int64)
    sizes[block[places]] = np.diff(np.append(places, total))
    numbers = block[places].tolist()
    ends = np.concatenate(([0], np.cumsum(heads)))[starts + full].tolist()
    pieces = [numbers[end - count : end] for end, count in zip(ends, _pieces_of(ends), strict=True)]
    return Prefixes(pieces, counts, sizes.tolist())


def _pieces_of(ends: list[int]) -> list[int]:
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _check_tree(known: IntArray, block: IntArray, before: IntArray) -> None:
    """Check that each block always follows the same one."""
    usual = np.empty(len(known), np.int64)
    usual[block] = before
    wrong = np.flatnonzero(usual[block] != before)
    if len(wrong):
        problem = f"block {known[block[wrong[0]]]} does not always follow the same block"
        remedy = "an identity must stand for the whole prompt up to its block (hash each block with the hash before it)"
        raise InvalidServingError(_FIELD, problem, remedy)
