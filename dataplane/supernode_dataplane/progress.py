"""Progress of a workload between two writes: linear in time from where it was last written, capped at the target.

Pure: moments come in as seconds since 1970 and as RFC 3339 text. Arithmetic is exact (microseconds and decimals), so
that at the predicted moment of completion the tokens are the target, not one less.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

__all__ = ["completion_epoch", "format_time", "parse_time", "target_tokens", "tokens_at", "tokens_per_step"]

MAX_TOKENS: Final = (1 << 63) - 1
"""Largest integer that the API takes; an endless run stays there."""
_MICRO: Final = 1_000_000
_DAY: Final = 86_400
_END_OF_TIME: Final = 253_402_300_800 * _MICRO
"""The year 10000, which RFC 3339 cannot write."""
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_DECIMAL: Final = re.compile(r"[0-9]{1,24}(\.[0-9]{1,24})?", re.ASCII)


def tokens_per_step(spec: Mapping[str, Any]) -> int:
    """Return the tokens of one optimizer step (global batch x sequence), or of one request that is served."""
    inference = spec.get("inference")
    if inference is not None:
        return int(inference["inputTokens" if inference["mode"] == "Prefill" else "outputTokens"])
    training = spec["training"]
    return int(training["globalBatchSize"]) * int(training["sequenceLength"])


def target_tokens(spec: Mapping[str, Any]) -> int | None:
    """Return the tokens at which a SuperNodeWorkload.spec is complete; None for an endless run."""
    inference = spec.get("inference")
    runs = spec["training"] if inference is None else inference
    if runs.get("tokens") is not None:
        return int(runs["tokens"])
    turns = runs.get("steps" if inference is None else "requests")
    return None if turns is None else int(turns) * tokens_per_step(spec)


def tokens_at(progress: Mapping[str, Any] | None, target: int | None, now_epoch_seconds: float) -> int:
    """Return the tokens done at a moment; never below what was written, never above the target."""
    if not progress:
        return 0
    written = int(progress.get("tokens", 0))
    passed = max(0, round(now_epoch_seconds * _MICRO) - _micros(progress))
    done = written + int(_rate(progress) * passed / _MICRO)
    return min(done, MAX_TOKENS if target is None else max(target, 0))


def completion_epoch(progress: Mapping[str, Any] | None, target: int | None) -> float | None:
    """Return the moment at which the target is reached, to the microsecond; None when it never is, or after year 9999.

    ``tokens_at`` of that moment is the target exactly.
    """
    if not progress or target is None:
        return None
    left = target - int(progress.get("tokens", 0))
    at, rate = _micros(progress), _rate(progress)
    if left <= 0:
        return at / _MICRO
    if rate <= 0:
        return None
    # Rounded up, also in the floating point: one microsecond early would be one token short.
    micros = at - int((-left * _MICRO) // rate)
    if micros >= _END_OF_TIME:
        return None
    epoch = micros / _MICRO
    return epoch if round(epoch * _MICRO) >= micros else math.nextafter(epoch, math.inf)


def parse_time(text: str) -> int:
    """Return microseconds since 1970 of an RFC 3339 time; ValueError when it is not one."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text[:40]!r}")
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    if not (1 <= month <= 12 and 1 <= day <= _days_in(year, month) and hour < 24 and minute < 60 and second < 61):
        raise ValueError(f"not a time of the calendar: {text[:40]!r}")
    offset = 0
    if match[9]:
        offset = (int(match[10]) * 60 + int(match[11])) * 60 * (1 if match[9] == "+" else -1)
    seconds = _days(year, month, day) * _DAY + hour * 3600 + minute * 60 + second - offset
    return seconds * _MICRO + int((match[7] or "0").ljust(9, "0")[:6])


def format_time(epoch_seconds: float) -> str:
    """Return a moment as Kubernetes' MicroTime: RFC 3339 in UTC with six digits."""
    micros = round(epoch_seconds * _MICRO)
    seconds, fraction = divmod(micros, _MICRO)
    days, rest = divmod(seconds, _DAY)
    year, month, day = _civil(days)
    return f"{year:04d}-{month:02d}-{day:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}.{fraction:06d}Z"


def _micros(progress: Mapping[str, Any]) -> int:
    return parse_time(str(progress.get("at", "")))


def _rate(progress: Mapping[str, Any]) -> Fraction:
    text = str(progress.get("tokensPerSecond", "0"))
    if _DECIMAL.fullmatch(text) is None:
        raise ValueError(f"not a rate: {text[:40]!r}")
    return Fraction(text)


def _days_in(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _days(year: int, month: int, day: int) -> int:
    """Return days since 1970-01-01 in the Gregorian calendar (years begin in March, so that leap days come last)."""
    shifted = year - (month < 3)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400 + of_year - 719_468


def _civil(days: int) -> tuple[int, int, int]:
    days += 719_468
    era, of_era = divmod(days, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month_index = (5 * of_year + 2) // 153
    day = of_year - (153 * month_index + 2) // 5 + 1
    month = month_index + 3 if month_index < 10 else month_index - 9
    return era * 400 + year + (month < 3), month, day
