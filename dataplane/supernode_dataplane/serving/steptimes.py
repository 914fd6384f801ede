"""The step model's answers, asked once per argument and checked."""

from __future__ import annotations

import math

from supernode_dataplane.serving.errors import ServingError
from supernode_dataplane.serving.settings import StepModel

__all__ = ["StepTimes"]


class StepTimes:
    """What steps of one group of instances cost.

    :raises ServingError: a step takes no time, or a slope is negative: the model is wrong, not the load.
    """

    __slots__ = ("_decode", "_mixed", "_model", "_prefill")

    def __init__(self, model: StepModel) -> None:
        self._model = model
        self._decode: dict[int, tuple[float, float]] = {}
        self._prefill: dict[int, tuple[float, float]] = {}
        self._mixed: dict[tuple[int, int], tuple[float, float, float]] = {}

    def coefficients(self, batch: int, tokens: int) -> tuple[float, float, float]:
        """Return (fixed seconds, seconds per context token, seconds per pair) of a step; one of the two is above 0."""
        if tokens == 0:
            found = self._decode.get(batch)
            if found is None:
                found = self._decode[batch] = self._model.decode(batch)
                _check(f"decode({batch})", *found)
            return (*found, 0.0)
        if batch == 0:
            found = self._prefill.get(tokens)
            if found is None:
                found = self._prefill[tokens] = self._model.prefill(tokens)
                _check(f"prefill({tokens})", *found)
            return found[0], 0.0, found[1]
        both = self._mixed.get((batch, tokens))
        if both is None:
            both = self._mixed[batch, tokens] = self._model.mixed(batch, tokens)
            _check(f"mixed({batch}, {tokens})", *both)
        return both


def _check(what: str, fixed: float, *slopes: float) -> None:
    if not (math.isfinite(fixed) and fixed > 0 and all(math.isfinite(slope) and slope >= 0 for slope in slopes)):
        answer = ", ".join(f"{value:g}" for value in (fixed, *slopes))
        raise ServingError(
            f"step model: {what} answers ({answer}); a step takes more than 0 s and no slope is negative"
        )
