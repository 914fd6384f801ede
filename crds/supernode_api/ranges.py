"""Compact sets of small integers as text: ``0-3,8,10-11``.

The form in which ComputeNode.status and SuperNodeWorkload.status name dies and links: short, sorted, without overlap.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["format_ranges", "parse_ranges"]


def format_ranges(numbers: Iterable[int]) -> str:
    """Format distinct integers as sorted ranges; the empty set is the empty string."""
    parts: list[str] = []
    start = previous = None
    for number in sorted(set(numbers)):
        if previous is not None and number == previous + 1:
            previous = number
            continue
        if start is not None:
            parts.append(_one(start, previous))
        start = previous = number
    if start is not None:
        parts.append(_one(start, previous))
    return ",".join(parts)


def parse_ranges(text: str, limit: int = 1 << 20) -> list[int]:
    """Parse what :func:`format_ranges` writes; ValueError names the part that is not a range below ``limit``."""
    numbers: set[int] = set()
    for part in text.split(",") if text else []:
        first, dash, last = part.partition("-")
        if not first.isascii() or not first.isdigit() or (dash and not (last.isascii() and last.isdigit())):
            raise ValueError(f"not a range of numbers: {part[:40]!r}")
        # Longer than any limit of ours: int() of thousands of digits is slow and, in the end, refused by Python.
        low, high = (int(first), int(last) if dash else int(first)) if len(part) <= 20 else (1, 0)
        if low > high or high >= limit:
            raise ValueError(f"range {part[:40]!r} is outside 0 to {limit - 1}")
        numbers.update(range(low, high + 1))
    return sorted(numbers)


def _one(start: int, end: int | None) -> str:
    return str(start) if end is None or end == start else f"{start}-{end}"
