"""Rows by definition: published claims that `supernode validate` prints with their arithmetic and counts nowhere.

They have the fields of the suite's measured rows, null where a definition has nothing to say, and beside them those of
the claim: unit, readings, verdict.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from supernode_dataplane.claims.claim import Claim

__all__ = ["definition_rows"]


def definition_rows(claims: tuple[Claim, ...]) -> tuple[dict[str, Any], ...]:
    """Return the rows of those claims that the suite names (H-..., HC25), as `supernode validate -o json` has them."""
    return tuple(_row(claim) for claim in claims if claim.id.startswith(("H-", "HC25")))


def _row(claim: Claim) -> dict[str, Any]:
    low, high = claim.published
    published = {claim.unit: low} if low == high else {f"{claim.unit} above": low, f"{claim.unit} below": high}
    # A range has no error inside of itself; outside it is the distance to the nearer end.
    nearest = min(max(claim.value, low), high)
    letter = re.match(r"H-([A-Z])", claim.id)
    return {
        "set": "definition",
        "informative": False,
        "class": letter[1] if letter else None,
        "text": claim.subject,
        "computed": dict.fromkeys(published, claim.value),
        "errorPercent": (claim.value / nearest - 1.0) * 100,
        "worst": next(reversed(published)) if claim.value > nearest else next(iter(published)),
        "gate": f"{claim.tolerance * 100:g}",
        "gatePercent": claim.tolerance * 100,
        "passed": claim.agreeing is not None,
        **_interval(claim, published),
        "counted": False,
        "readBack": [],
        **{key: value for key, value in claim.to_json().items() if key != "published"},
        "published": published,
    }


def _interval(claim: Claim, published: Mapping[str, float]) -> dict[str, Any]:
    width = claim.readings[0].expected_error_percent
    if width is None:
        return dict.fromkeys(("intervalPercent", "interval", "covered"))
    interval = [claim.value / math.exp(width / 100), claim.value * math.exp(width / 100)]
    covered = interval[0] <= max(published.values()) and min(published.values()) <= interval[1]
    return {"intervalPercent": width, "interval": interval, "covered": covered}
