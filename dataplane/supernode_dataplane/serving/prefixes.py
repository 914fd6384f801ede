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
from supernode_dataplane.serving.promptblocks import PromptBlocks
from supernode_dataplane.serving.requests import IntArray, Requests

__all__ = ["Prefixes", "prefix_pieces"]

_FIELD = "requests.prefixes"
_SPARSE = 8  # identities up to so many times their count are counted in place


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
    prefixes = requests.prefixes
    if isinstance(prefixes, PromptBlocks):
        named = np.diff(prefixes.starts)
    else:
        named = np.fromiter(map(len, prefixes), np.int64, len(requests))
    if (named < full).any():
        bad = int(np.argmax(named < full))
        problem = f"request {bad} names {named[bad]} blocks and its prompt has {full[bad]} full ones"
        raise InvalidServingError(f"{_FIELD}[{bad}]", problem, "name every block of the prompt")
    counts, total = full.tolist(), int(full.sum())
    if not total:
        return Prefixes.none(len(requests))
    identities = _beginnings(prefixes, full)
    starts = np.cumsum(full) - full
    first = np.zeros(total, bool)
    first[starts[full > 0]] = True
    block, uses = _counted(identities)
    before = np.where(first, -1, np.roll(block, 1))
    _check_tree(identities, block, before, len(uses))
    heads = first | (uses[block] != uses[before])
    places = np.flatnonzero(heads)
    numbers, sizes = _numbered(block[places], np.diff(places, append=total), len(uses))
    ends = np.concatenate(([0], np.cumsum(heads)))[starts + full].tolist()
    # Slices of a tuple: the garbage collector need not look at tuples of numbers twice.
    pieces = [numbers[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return Prefixes(pieces, counts, sizes)


def _beginnings(prefixes: Sequence[Sequence[int]], counts: IntArray) -> IntArray:
    """Return the first so many identities of each prompt, shape (sum of counts,)."""
    if isinstance(prefixes, PromptBlocks):
        return prefixes.beginnings(counts)
    rows = (row[:count] for row, count in zip(prefixes, counts.tolist(), strict=True))
    return np.fromiter(chain.from_iterable(rows), np.int64, int(counts.sum()))


def _counted(identities: IntArray) -> tuple[IntArray, IntArray]:
    """Return numbers that stand for the identities, and how often each number occurs.

    Identities that are small numbers already, as those of traces are, need no sorting.
    """
    if identities.min() >= 0 and identities.max() <= _SPARSE * len(identities):
        return identities, np.bincount(identities)
    _known, block, uses = np.unique(identities, return_inverse=True, return_counts=True)
    return block, uses


def _numbered(heads: IntArray, lengths: IntArray, numbers: int) -> tuple[tuple[int, ...], list[int]]:
    """Return the pieces that begin with these blocks, numbered from 0 on, and the blocks of each piece."""
    piece = np.zeros(numbers, np.int64)
    piece[heads] = 1
    piece = np.cumsum(piece) - 1
    found = piece[heads]
    sizes = np.zeros(int(piece[-1]) + 1, np.int64)
    sizes[found] = lengths
    return tuple(found.tolist()), sizes.tolist()


def _check_tree(identities: IntArray, block: IntArray, before: IntArray, numbers: int) -> None:
    """Check that each block always follows the same one."""
    usual = np.empty(numbers, np.int64)
    usual[block] = before
    wrong = np.flatnonzero(usual[block] != before)
    if len(wrong):
        problem = f"block {identities[wrong[0]]} does not always follow the same block"
        remedy = "an identity must stand for the whole prompt up to its block (hash each block with the hash before it)"
        raise InvalidServingError(_FIELD, problem, remedy)
