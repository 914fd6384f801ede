"""How an error says what was given and what is wanted: one wording for scenarios, manifests and raw objects.

must be a whole number from 1 to 4096, not true        is missing: give one of Prefill, Decode
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

__all__ = ["given", "missing", "must_be", "nearest", "number", "one_of", "whole_number"]

_MOST: Final = 40


def whole_number(least: float, most: float) -> str:
    """Return the words for a whole number in these bounds."""
    return f"a whole number from {least} to {most}"


def number(least: float, most: float, *, above: bool = False) -> str:
    """Return the words for a number in these bounds; ``above``: the least one is not in them."""
    return f"a number above {least:g} and at most {most:g}" if above else f"a number from {least:g} to {most:g}"


def one_of(words: Iterable[str]) -> str:
    """Return the words for a choice."""
    return f"one of {', '.join(words)}"


def given(value: Any) -> str:
    """Return a value as it stands in a file, in at most 42 characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return repr(value[:_MOST]) if isinstance(value, str) else str(value)[:_MOST]


def must_be(wanted: str, value: Any) -> str:
    """Return what is wrong with a value."""
    return f"must be {wanted}, not {given(value)}"


def missing(wanted: str) -> str:
    """Return what is wrong with a field that is not there."""
    return f"is missing: give {wanted}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that a person most likely meant, empty when none is near: case and - _ do not count."""
    plain = {_plain(other): other for other in sorted(known)}
    found = get_close_matches(_plain(name[:64]), plain, n=1, cutoff=0.7)
    return plain[found[0]] if found else ""


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
