"""What came of a load: per request, as distributions, and of the instances.

TTFT is from sending a request to its first token. TPOT is per token: (end to end - TTFT) / (output - 1). ITL is the
time between the events of a stream, one per decode step, each of several tokens where drafts are accepted; a sequence
that waits while others' prompts are read, or until it is recomputed, has one long gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.serving.ledger import Ledger, Meter, RunRow
from supernode_dataplane.serving.requests import FloatArray, IntArray, Requests

if TYPE_CHECKING:
    from supernode_dataplane.serving.settings import Group

__all__ = ["Distribution", "Goodput", "GroupUse", "ServingResult", "build_result"]

# Gaps of one run differ evenly; they are represented so closely that a percentile is off by at most this share.
_RESOLUTION = 1e-3


@dataclass(frozen=True, slots=True)
class Distribution:
    """Mean and percentiles; nan where nothing was measured."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: FloatArray, weights: FloatArray | None = None) -> Distribution:
        """Return it for values, shape (n,); nan are left out. With weights a percentile is a value that occurs."""
        known = ~np.isnan(values)
        values = values[known]
        if not len(values):
            return cls(*[float("nan")] * 5)
        shares = (50, 90, 95, 99)
        if weights is None:
            return cls(float(values.mean()), *(float(value) for value in np.percentile(values, shares)))
        weights = weights[known]
        order = np.argsort(values)
        sums = np.cumsum(weights[order])
        places = np.minimum(np.searchsorted(sums, np.array(shares) / 100 * sums[-1]), len(values) - 1)
        return cls(float(values @ weights / sums[-1]), *(float(value) for value in values[order][places]))


@dataclass(frozen=True, slots=True)
class Goodput:
    """What met an objective: the share of requests, and per second of the whole load requests and output tokens."""

    share: float
    requests_per_second: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupUse:
    """What the instances of one group did, averaged over them and over the whole load.

    ``prefill_share, mixed_share, decode_share``  of the time, steps that only read prompts, both, only decode
    ``decode_steps, decode_step_seconds``         steps that only decode, and the mean of their seconds (nan: none)
    ``running, decoding``                         time averages per instance: admitted; past their first token
    ``kv_mean, kv_peak``                          share of KV memory with tokens of running requests, shared blocks
                                                  once; the peak is that of the fullest instance
    ``runs``                                      changes of a batch: what the simulation's time grows with
    """

    name: str
    instances: int
    prefill_share: float
    mixed_share: float
    decode_share: float
    decode_steps: int
    decode_step_seconds: float
    running: float
    decoding: float
    kv_mean: float
    kv_peak: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServingResult:
    """Per request, shape (requests,): seconds after the first was sent, and what is derived from them.

    ``sent, first_token, completed``  seconds
    ``outputs, decode_steps``         tokens generated; steps that gave all but the first
    ``preemptions``                   times it lost its blocks
    ``cached``                        prompt tokens that the prefix cache had at its first admission
    ``gaps, gap_weights``             time between stream events and how many had it, over all requests
    ``groups``                        use of the instances: one group, or prefill and decode
    """

    sent: FloatArray
    first_token: FloatArray
    completed: FloatArray
    inputs: IntArray
    outputs: IntArray
    decode_steps: IntArray
    preemptions: IntArray
    cached: IntArray
    gaps: FloatArray
    gap_weights: FloatArray
    groups: tuple[GroupUse, ...]

    @property
    def ttft(self) -> FloatArray:
        """Return the seconds to the first token, shape (requests,)."""
        return self.first_token - self.sent

    @property
    def e2e(self) -> FloatArray:
        """Return the seconds from sending to the last token, shape (requests,)."""
        return self.completed - self.sent

    @property
    def tpot(self) -> FloatArray:
        """Return the seconds per token after the first, shape (requests,); nan for an output of one token."""
        return _ratio(self.completed - self.first_token, self.outputs - 1)

    @property
    def itl(self) -> FloatArray:
        """Return the mean seconds between stream events, shape (requests,); nan for an output of one token."""
        return _ratio(self.completed - self.first_token, self.decode_steps)

    @property
    def seconds(self) -> float:
        """Return the wall time: from the first request sent to the last token."""
        return float(self.completed.max() - self.sent.min())

    @property
    def tokens_per_second(self) -> float:
        """Return output tokens over the wall time."""
        return float(self.outputs.sum()) / self.seconds

    @property
    def requests_per_second(self) -> float:
        """Return requests over the wall time."""
        return len(self.sent) / self.seconds

    @property
    def in_system(self) -> float:
        """Return the time average of requests that wait or run (exact: the sum of e2e over the wall time)."""
        return float(self.e2e.sum()) / self.seconds

    @property
    def prefix_hit_share(self) -> float:
        """Return the share of prompt tokens that the prefix cache had."""
        return float(self.cached.sum()) / float(self.inputs.sum())

    def distributions(self) -> dict[str, Distribution]:
        """Return ttft, tpot, e2e over requests and itl over stream events, seconds."""
        return {
            "ttft": Distribution.of(self.ttft),
            "tpot": Distribution.of(self.tpot),
            "itl": Distribution.of(self.gaps, self.gap_weights),
            "e2e": Distribution.of(self.e2e),
        }

    def goodput(self, *, ttft_seconds: float = float("inf"), tpot_seconds: float = float("inf")) -> Goodput:
        """Return what met both limits; an output of one token has no TPOT and meets its limit."""
        with np.errstate(invalid="ignore"):
            good = (self.ttft <= ttft_seconds) & ~(self.tpot > tpot_seconds)
        count, tokens = int(good.sum()), float(self.outputs[good].sum())
        return Goodput(count / len(good), count / self.seconds, tokens / self.seconds)


def build_result(
    requests: Requests,
    sent: list[float],
    steps: list[int],
    ledger: Ledger,
    groups: list[tuple[str, Group, list[Meter]]],
) -> ServingResult:
    """Return the result of a load that has been served; ``groups`` are (name, group, the meter of each instance)."""
    start, completed = min(sent), _floats(ledger.completion)
    seconds = float(completed.max()) - start
    uses, pieces = [], []
    for name, group, meters in groups:
        runs = [_columns(meter) for meter in meters]
        uses.append(_use(name, group, runs, seconds))
        pieces += [_table(meter.gaps, 4) for meter in meters]
        for row in runs:
            even = row.even & (row.advancing > 0)
            pieces.append(np.stack((row.alpha, row.beta, row.steps, row.advancing), axis=1)[even])
    gaps, weights = _expand(np.concatenate(pieces))
    return ServingResult(
        sent=_floats(sent) - start,
        first_token=_floats(ledger.first) - start,
        completed=completed - start,
        inputs=requests.inputs,
        outputs=requests.outputs,
        decode_steps=np.array(steps, np.int64),
        preemptions=np.array(ledger.preemptions, np.int64),
        cached=np.maximum(np.array(ledger.cached, np.int64), 0),
        gaps=gaps,
        gap_weights=weights,
        groups=tuple(uses),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Runs:
    """The runs of one instance as arrays, shape (runs,); see RunRow."""

    prompts: NDArray[np.bool_]
    decoding: FloatArray
    advancing: FloatArray
    even: NDArray[np.bool_]
    admitted: FloatArray
    steps: FloatArray
    alpha: FloatArray
    beta: FloatArray
    kv: FloatArray
    growth: FloatArray

    @property
    def ones(self) -> FloatArray:
        """Return the sum of i over the steps of each run."""
        return self.steps * (self.steps - 1) / 2

    @property
    def seconds(self) -> FloatArray:
        """Return the duration of each run."""
        return self.steps * self.alpha + self.beta * self.ones

    @property
    def kv_seconds(self) -> FloatArray:
        """Return the integral of the tokens kept over each run."""
        ones, squares = self.ones, self.ones * (2 * self.steps - 1) / 3
        return self.alpha * (self.kv * self.steps + self.growth * ones) + self.beta * (
            self.kv * ones + self.growth * squares
        )


def _columns(meter: Meter) -> _Runs:
    table = _table(meter.runs, len(RunRow._fields)).T
    flags = {"prompts", "even"}
    return _Runs(
        *(column.astype(bool) if name in flags else column for name, column in zip(RunRow._fields, table, strict=True))
    )


def _floats(values: list[float]) -> FloatArray:
    return np.fromiter(values, float, len(values))  # np.array would look at each number twice


def _table(rows: bytearray, columns: int) -> FloatArray:
    """Return packed rows as an array of floats, shape (rows, columns)."""
    return np.frombuffer(rows).reshape(-1, columns)


def _use(name: str, group: Group, runs: list[_Runs], seconds: float) -> GroupUse:
    total = seconds * len(runs)
    capacity = group.engine.blocks * group.engine.block_tokens
    spent = dict.fromkeys(("prefill", "mixed", "decode"), 0.0)
    decode_steps, running, decoding, kept, peak = 0, 0.0, 0.0, 0.0, 0.0
    for row in runs:
        duration, only_decode = row.seconds, ~row.prompts
        spent["prefill"] += float(duration[row.prompts & (row.advancing == 0)].sum())
        spent["mixed"] += float(duration[row.prompts & (row.advancing > 0)].sum())
        spent["decode"] += float(duration[only_decode].sum())
        decode_steps += int(row.steps[only_decode].sum())
        running += float(row.admitted @ duration)
        decoding += float(row.decoding @ duration)
        kept += float(row.kv_seconds.sum())
        peak = max(peak, float((row.kv + row.growth * (row.steps - 1)).max(initial=0)))
    return GroupUse(
        name=name,
        instances=len(runs),
        prefill_share=spent["prefill"] / total,
        mixed_share=spent["mixed"] / total,
        decode_share=spent["decode"] / total,
        decode_steps=decode_steps,
        decode_step_seconds=spent["decode"] / decode_steps if decode_steps else float("nan"),
        running=running / total,
        decoding=decoding / total,
        kv_mean=kept / (total * capacity),
        kv_peak=peak / capacity,
        runs=sum(len(row.steps) for row in runs),
    )


def _expand(gaps: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return values and weights of gaps, rows as in Meter.gaps: as few values as the resolution asks for."""
    first, increment, count, sequences = gaps.T
    spread = increment * (count - 1)
    points = np.clip(np.ceil(spread / (first * _RESOLUTION)), 1, count).astype(np.int64)
    index = np.repeat(np.arange(len(points)), points)
    place = np.arange(len(index)) - np.repeat(np.cumsum(points) - points, points)
    # Each point stands for an equal share of its run, and is the middle of that share.
    share = (place + 0.5) / points[index]
    values = first[index] + increment[index] * (share * count[index] - 0.5)
    return values, count[index] * sequences[index] / points[index]


def _ratio(seconds: FloatArray, parts: IntArray) -> FloatArray:
    return np.where(parts > 0, seconds / np.maximum(parts, 1), np.nan)
