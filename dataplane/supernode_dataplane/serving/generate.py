"""Synthetic loads: how requests arrive, and how long they are. The same seed gives the same load.

Gaps between arrivals are independent: exponential (Poisson), or gamma with a coefficient of variation above 1 (bursts)
or below (more even). Lengths are fixed or lognormal with a stated mean and coefficient of variation, rounded to whole
tokens, at least 1 and at most a limit.

Presets are fitted to the public traces (see traces.py), whose means are published with them: requests and seconds give
the rate, the standard deviation over the mean of gaps and lengths the coefficients of variation, the longest the limit.
A lognormal cut at the limit has a slightly lower mean than the trace (below 4 %); correlations between lengths (below
0.1 in all three traces) and what prompts share are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from supernode_dataplane.serving.errors import InvalidServingError
from supernode_dataplane.serving.requests import MAX_TOKENS, FloatArray, IntArray, Requests

__all__ = [
    "LEAST_RATE",
    "PRESETS",
    "AtOnce",
    "ClosedLoop",
    "Fixed",
    "LogNormal",
    "OpenLoop",
    "Preset",
    "generate",
    "preset_load",
]


LEAST_RATE: Final = 1e-6
"""Requests per second: one in 11 days. Less is a slip, and a longer wait than times of a load can tell apart."""


def _above_zero(field: str, value: float, remedy: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InvalidServingError(field, f"{value:g}", remedy)


@dataclass(frozen=True, slots=True)
class AtOnce:
    """All requests are sent at the start."""


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests arrive at a mean rate; ``variation`` is that of the gaps: 1 is Poisson, more is bursts.

    :raises InvalidServingError: the rate or the coefficient of variation is not above 0.
    """

    requests_per_second: float
    variation: float = 1.0

    def __post_init__(self) -> None:
        rate = self.requests_per_second
        if not (math.isfinite(rate) and rate >= LEAST_RATE):
            raise InvalidServingError("load.rate", f"{rate:g}", f"give {LEAST_RATE:f} requests per second or more")
        _above_zero("load.burst", self.variation, "give a coefficient of variation above 0 (1 is Poisson)")


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """So many clients, each of which sends its next request when the last one has finished.

    ``pace``: requests come at this open loop's rate at most, as load generators do with both a rate and a limit.
    """

    concurrency: int
    pace: OpenLoop | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise InvalidServingError("load.concurrency", str(self.concurrency), "give at least 1 client")


@dataclass(frozen=True, slots=True)
class Fixed:
    """Every length is the same."""

    tokens: int

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= MAX_TOKENS:
            raise InvalidServingError("load.length", f"{self.tokens} tokens", f"give 1 to {MAX_TOKENS:,}")


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Lengths of a mean and a coefficient of variation, cut at ``most``."""

    mean: float
    variation: float
    most: int = MAX_TOKENS

    def __post_init__(self) -> None:
        if not 1 <= self.mean <= MAX_TOKENS:
            raise InvalidServingError("load.length.mean", f"{self.mean:g} tokens", f"give 1 to {MAX_TOKENS:,}")
        _above_zero(
            "load.length.variation", self.variation, "give a coefficient of variation above 0, or a fixed length"
        )
        if not 1 <= self.most <= MAX_TOKENS:
            raise InvalidServingError("load.length.most", f"{self.most} tokens", f"give 1 to {MAX_TOKENS:,}")
        if self.mean > self.most:
            problem = f"a mean of {self.mean:g} tokens is above the most, {self.most}"
            raise InvalidServingError("load.length.mean", problem, "give a lower mean, or a higher limit")


Arrivals = AtOnce | OpenLoop | ClosedLoop
Length = Fixed | LogNormal


@dataclass(frozen=True, slots=True)
class Preset:
    """Statistics of a trace, and where it is from."""

    arrivals: OpenLoop
    inputs: LogNormal
    outputs: LogNormal
    source: str


_AZURE: Final = "Azure/AzurePublicDataset, AzureLLMInferenceTrace_"
PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "azure-conversation": Preset(
            OpenLoop(19_366 / 3_501.7, 1.09),
            LogNormal(1_154.7, 0.960, 14_050),
            LogNormal(211.1, 0.771, 1_000),
            f"{_AZURE}conv.csv (2023-11-16): 19,366 requests in 3,502 s",
        ),
        "azure-code": Preset(
            OpenLoop(8_819 / 3_435.9, 13.2),
            LogNormal(2_047.8, 0.964, 7_437),
            LogNormal(27.9, 2.147, 1_899),
            f"{_AZURE}code.csv (2023-11-16): 8,819 requests in 3,436 s",
        ),
        "mooncake-conversation": Preset(
            OpenLoop(12_031 / 3_537.0, 3.03),
            LogNormal(12_035.1, 1.313, 126_195),
            LogNormal(342.6, 0.729, 2_000),
            "kvcache-ai/Mooncake, FAST25-release/traces/conversation_trace.jsonl: 12,031 requests in 3,537 s",
        ),
    }
)


def generate(prompts: int, *, arrivals: Arrivals, inputs: Length, outputs: Length, seed: int = 0) -> Requests:
    """Return a load of ``prompts`` requests, shape (prompts,) each; nothing is shared between prompts.

    :raises InvalidServingError: no prompts.
    """
    if not 1 <= prompts <= 10_000_000:
        raise InvalidServingError("load.prompts", str(prompts), "give 1 to 10,000,000 requests")
    # One stream for each, so that changing the lengths does not change when requests arrive.
    random = np.random.default_rng(seed).spawn(3)
    return Requests(
        arrivals=_arrivals(prompts, arrivals, random[0]),
        inputs=_lengths(prompts, inputs, random[1]),
        outputs=_lengths(prompts, outputs, random[2]),
        concurrency=arrivals.concurrency if isinstance(arrivals, ClosedLoop) else None,
    )


def preset_load(name: str, prompts: int, *, seed: int = 0) -> Requests:
    """Return a load with the statistics of a public trace; names: ``PRESETS``.

    :raises InvalidServingError: there is no such preset, or no prompts.
    """
    preset = PRESETS.get(name)
    if preset is None:
        raise InvalidServingError("load.preset", f"there is no {name[:64]!r}", f"give one of {', '.join(PRESETS)}")
    return generate(prompts, arrivals=preset.arrivals, inputs=preset.inputs, outputs=preset.outputs, seed=seed)


def _arrivals(prompts: int, arrivals: Arrivals, random: np.random.Generator) -> FloatArray:
    pace = arrivals.pace if isinstance(arrivals, ClosedLoop) else arrivals
    if not isinstance(pace, OpenLoop):
        return np.zeros(prompts)
    shape = pace.variation**-2
    gaps = random.gamma(shape, 1 / (shape * pace.requests_per_second), prompts)
    times: FloatArray = np.cumsum(gaps) - gaps[0]
    return times


def _lengths(prompts: int, length: Length, random: np.random.Generator) -> IntArray:
    if isinstance(length, Fixed):
        return np.full(prompts, length.tokens, np.int64)
    variance = math.log1p(length.variation**2)
    tokens = random.lognormal(math.log(length.mean) - variance / 2, math.sqrt(variance), prompts)
    return np.clip(np.rint(tokens), 1, length.most).astype(np.int64)
