"""The rows of ``data/suite.yaml``: what somebody measured, and what they said of how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from supernode_dataplane.packaged import read_data

__all__ = ["Row", "load_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One published measurement; ``published`` has one value for each component.

    A component whose name ends with `` above`` or `` below`` is a bound, which holds or does not and has no error.
    """

    id: str
    set: Literal["calibration", "test"]
    informative: bool
    """Whether it counts in median, P90 and coverage."""
    text: str
    source: str
    kind: str
    given: Mapping[str, Any]
    published: Mapping[str, float]
    gate: str
    """``15``: percent; ``5 pp``: points; ``sign``: true or false."""
    read_back: Mapping[str, float] = field(default_factory=dict)
    """Published figures that the model takes as they are: shown beside what it has, in no error, fit or statistic."""
    variants: tuple[Mapping[str, Any], ...] = ()
    """Other inputs that its source allows: ``text``, and ``given`` with what differs."""
    counted: bool = True
    """Whether it counts in the statistics of its set and class; read back figures and the first path's gates do not."""

    @property
    def letter(self) -> str:
        """The class: K kernels, D decode, P prefill, S serving, T training, X other machines, R the rest."""
        return self.id.split("-")[1][0]


@cache
def load_rows() -> tuple[Row, ...]:
    """Return all rows in the order of the file."""
    rows = []
    for entry in read_data("suite.yaml")["rows"]:
        entry["gate"] = str(entry["gate"])
        entry.setdefault("informative", False)
        entry["read_back"] = entry.pop("readBack", {})
        entry["variants"] = tuple(entry.get("variants", ()))
        entry["counted"] = entry.get("counted", True) and bool(entry["published"])
        rows.append(Row(**entry))
    return tuple(rows)
