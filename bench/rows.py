"""One measured budget."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured budget."""

    what: str
    value: float
    unit: str
    budget: float
    how: str

    @property
    def ratio(self) -> float:
        """Measured over budget: at most 1 is within it."""
        return self.value / self.budget if self.budget else (0.0 if self.value == 0 else float("inf"))
