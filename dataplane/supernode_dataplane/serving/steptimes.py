"""The step model's answers, asked once per argument and checked."""

from __future__ import annotations

import math

from supernode_dataplane.serving.errors import ServingError
from supernode_dataplane.serving.settings import StepModel

__all__ = ["StepTimes"]


class StepTimes:
    """What steps of one group of instances cost: the answers of ``StepModel``.

    :raises ServingError: a step takes no time, or a slope is negative: the model is wrong, not the load.
    """

    __slots__ = ("_decode", "_mixed", "_model", "_prefill")

    def __init__(self, model: StepModel) -> None:
        self._model = model
        self._decode: dict[int, tuple[float, float]] = {}
        self._prefill: dict[int, tuple[float, float]] = {}
        self._mixed: dict[tuple[int, int], tuple[float, float, float]] = {}

    def decode(self, batch: int) -> tuple[float, float]:
        """Return (fixed seconds, seconds per context token) of a step that only decodes."""
        found = self._decode.get(batch)
        if found is None:
            found = self._decode[batch] = self._model.decode(batch)
            _check(found, "decode", batch)
        return found

    def prefill(self, tokens: int) -> tuple[float, float]:
        """Return (fixed seconds, seconds per pair) of a step that only reads prompts."""
        found = self._prefill.get(tokens)
        if found is None:
            found = self._prefill[tokens] = self._model.prefill(tokens)
            _check(found, "prefill", tokens)
        return found

    def mixed(self, batch: int, tokens: int) -> tuple[float, float, float]:
        """Return (fixed seconds, seconds per context token, seconds per pair) of a step of both."""
        found = self._mixed.get((batch, tokens))
        if found is None:
            found = self._mixed[batch, tokens] = self._model.mixed(batch, tokens)
            _check(found, "mixed", batch, tokens)
        return found


def _check(answer: tuple[float, ...], what: str, *asked: int) -> None:
    # No comparison with nan holds.
    if 0 < answer[0] < math.inf and 0 <= answer[1] < math.inf and 0 <= answer[-1] < math.inf:
        return
    said = ", ".join(f"{value:g}" for value in answer)
    raise ServingError(
        f"step model: {what}({', '.join(map(str, asked))}) answers ({said}); "
        "a step takes more than 0 s and no slope is negative"
    )
