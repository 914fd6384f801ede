"""One published claim with our values for it.

A claim may be read in several ways. The first reading is ours; the claim holds when that one lies within the tolerance
of what is published, holds by another definition when another reading does, and else does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Claim", "Reading", "Verdict"]

Verdict = Literal["holds", "holds by another definition", "does not hold"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to compute what a claim says."""

    definition: str
    value: float
    expected_error_percent: float | None = None
    """Half of a 90 % interval, where the value is modelled; None: arithmetic on published figures."""

    def to_json(self) -> dict[str, Any]:
        """Return the reading as JSON values."""
        error = self.expected_error_percent
        return {
            "definition": self.definition,
            "value": self.value,
            "expectedErrorPercent": None if error is None else round(error, 1),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What somebody published, and what we compute."""

    id: str
    subject: str
    unit: str
    published: tuple[float, float]
    """Lowest and highest published value; equal when there is one."""
    source: str
    readings: tuple[Reading, ...]
    definition: str
    """One sentence: relative to what, counted how."""
    tolerance: float = 0.05
    """Share by which a value may lie outside of what is published."""

    @property
    def value(self) -> float:
        """Our value: that of the first reading."""
        return self.readings[0].value

    @property
    def agreeing(self) -> Reading | None:
        """The first reading that agrees with what is published."""
        low, high = self.published
        return next(
            (r for r in self.readings if low * (1 - self.tolerance) <= r.value <= high * (1 + self.tolerance)), None
        )

    @property
    def verdict(self) -> Verdict:
        """Whether the claim holds."""
        if self.agreeing is None:
            return "does not hold"
        return "holds" if self.agreeing is self.readings[0] else "holds by another definition"

    def to_json(self) -> dict[str, Any]:
        """Return the claim as JSON values."""
        low, high = self.published
        return {
            "id": self.id,
            "subject": self.subject,
            "unit": self.unit,
            "ours": self.value,
            "expectedErrorPercent": self.readings[0].to_json()["expectedErrorPercent"],
            "published": low if low == high else [low, high],
            "source": self.source,
            "definition": self.definition,
            "verdict": self.verdict,
            "tolerancePercent": self.tolerance * 100,
            "readings": [reading.to_json() for reading in self.readings],
        }
