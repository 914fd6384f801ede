"""What failures cost: availability, checkpoints, goodput, and what is lost while a part is broken.

    series        rate of the whole = sum of the rates of its parts
    availability  A = MTBF / (MTBF + MTTR)
    checkpoints   every sqrt(2 d M) - d of work (Daly, 2006, first order), d to write one, M the MTBF
    waste         1 - w / (M e^(R/M) (e^((w + d)/M) - 1)), w the work between two, R to restart: exact for failures
                  without memory, those during writing and restarting counted in
    goodput       throughput x A x (1 - waste)

Published: 98 % availability, MTBF above 24 h, restarts of 10 min (30 s online), a memory error mended in 1 min for 5 %
of the compute, more than 99 % of optical faults tolerated (reliability report of the vendor, in the press); MTBF 13.8 h
and 75 min to repair for 8,192 NPUs on a Clos, 98.5 h on a mesh (UB-Mesh, arXiv 2503.20377). Rates of single parts have
no public source: they are arguments. Times are seconds; every number may be an array.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from supernode_dataplane.numeric import Number, at_least, at_most, exp

__all__ = [
    "CHECKPOINT_SECONDS",
    "ECC_COMPUTE_LOSS",
    "ECC_PAUSE_SECONDS",
    "MTBF_CARDS",
    "MTBF_SECONDS",
    "MTTR_SECONDS",
    "OPTICAL_TOLERATED",
    "RESTART_SECONDS",
    "FlapEffect",
    "Goodput",
    "Part",
    "availability",
    "checkpoint_interval",
    "checkpoint_waste",
    "ecc_share",
    "goodput",
    "job_mtbf",
    "optical_flaps",
    "share_without_packages",
    "share_without_planes",
    "system_mtbf",
]

CHECKPOINT_SECONDS: Final = 60.0
"""To write a checkpoint; assumed."""
RESTART_SECONDS: Final = 600.0
"""From a failure to training again, below 10 min: vendor's reliability report."""
MTBF_CARDS: Final = 8192
MTBF_SECONDS: Final = 13.8 * 3600.0
"""Of so many cards on a Clos: UB-Mesh, arXiv 2503.20377."""
MTTR_SECONDS: Final = 75.0 * 60.0
"""To repair, of the same cluster: UB-Mesh, arXiv 2503.20377."""
ECC_PAUSE_SECONDS: Final = 60.0
"""To mend a multi-bit error of the memory in place: vendor's reliability report."""
ECC_COMPUTE_LOSS: Final = 0.05
"""Compute that the mended die has lost: vendor's reliability report."""
OPTICAL_TOLERATED: Final = 0.99
"""Share of optical faults that links retransmit through, more than this: vendor's reliability report."""


@dataclass(frozen=True, slots=True)
class Part:
    """So many parts of a kind, any of which stops the whole when it fails."""

    name: str
    count: int
    mtbf_seconds: float
    """Of one part."""


@dataclass(frozen=True, slots=True)
class Goodput:
    """What is left of a throughput over a long time."""

    tokens_per_second: Number
    availability: Number
    waste: Number
    """Share of the time in operation that goes into checkpoints, work done again and restarts."""
    checkpoint_interval_seconds: Number


@dataclass(frozen=True, slots=True)
class FlapEffect:
    """What short interruptions of optical links leave."""

    bandwidth_share: Number
    """Mean share of a link's bandwidth."""
    added_latency_seconds: Number
    """Mean over all messages."""
    stops_per_second: Number
    """Of all links together: those that are not tolerated end the job."""


def system_mtbf(parts: Iterable[Part]) -> float:
    """Return the mean time between failures of a whole that stops with any of its parts, inf without parts.

    Raises ValueError for a part with an MTBF that is not positive or a negative count.
    """
    rate = 0.0
    for part in parts:
        if part.mtbf_seconds <= 0 or part.count < 0:
            raise ValueError(f"{part.name}: needs an MTBF above 0 and a count of at least 0")
        rate += part.count / part.mtbf_seconds
    return 1.0 / rate if rate else float("inf")


def job_mtbf(cards: float) -> float:
    """Return the mean time between failures of a job on so many cards, seconds, where nothing else is known of it.

    Any card stops the job, and all fail alike: that of the published cluster, scaled by cards. The scaling is assumed.
    Raises ValueError without cards.
    """
    if cards <= 0:
        raise ValueError(f"a job has at least one card, not {cards}")
    return MTBF_SECONDS * MTBF_CARDS / cards


def availability(mtbf: Number, mttr: Number) -> Number:
    """Return the share of time in operation; both times in one unit, ``mtbf`` above 0."""
    return 1.0 / (1.0 + mttr / mtbf)


def checkpoint_interval(mtbf: Number, checkpoint: Number = CHECKPOINT_SECONDS) -> Number:
    """Return how much work to do between two checkpoints, seconds: Daly's first order, at least one checkpoint's time.

    Below an MTBF of two checkpoints' time the first order has no root; the interval is then the checkpoint's time.
    """
    return at_least((2.0 * checkpoint * mtbf) ** 0.5 - checkpoint, checkpoint)


def checkpoint_waste(
    mtbf: Number, checkpoint: Number = CHECKPOINT_SECONDS, restart: Number = RESTART_SECONDS, interval: Number = None
) -> Number:
    """Return the share of time that is not progress, 0 to 1; ``interval`` None: Daly's.

    For a 60 s checkpoint, 10 min to restart and an MTBF of 24 h: 53 min between checkpoints, 4.35 % lost (to first
    order, d / w + (w / 2 + R) / M, 4.4 %).
    """
    work = checkpoint_interval(mtbf, checkpoint) if interval is None else interval
    # Beyond e^700 nothing is ever finished, and floats end.
    longest = at_most((work + checkpoint) / mtbf, 700.0)
    once = mtbf * exp(at_most(restart / mtbf, 700.0 - longest)) * (exp(longest) - 1.0)
    return at_least(1.0 - work / once, 0.0)


def goodput(
    throughput: Number,
    mtbf: Number,
    mttr: Number,
    *,
    checkpoint: Number = CHECKPOINT_SECONDS,
    restart: Number = RESTART_SECONDS,
) -> Goodput:
    """Return what is left of ``throughput`` (tokens per second) with failures, repairs and checkpoints."""
    share, waste = availability(mtbf, mttr), checkpoint_waste(mtbf, checkpoint, restart)
    return Goodput(throughput * share * (1.0 - waste), share, waste, checkpoint_interval(mtbf, checkpoint))


def share_without_packages(replicas: int, lost: int, spares: int = 0) -> float:
    """Return the share of the rate with ``lost`` packages, each in a data parallel replica of its own.

    A spare package takes the place of a lost one; where there is none the replica idles and the others go on.
    """
    if replicas < 1 or min(lost, spares) < 0:
        raise ValueError("needs at least one replica, and counts of at least 0")
    return max(0, replicas - max(0, lost - spares)) / replicas


def share_without_planes(planes: int, lost: int) -> float:
    """Return the share of every die's bandwidth that is left when whole planes are lost: (planes - lost) / planes."""
    if not 0 <= lost <= planes or planes < 1:
        raise ValueError(f"of {planes} planes {lost} cannot be lost")
    return (planes - lost) / planes


def optical_flaps(
    links: Number, flaps_per_link_second: Number, outage: Number, tolerated: Number = OPTICAL_TOLERATED
) -> FlapEffect:
    """Return what flaps of ``outage`` seconds cost: what was sent meanwhile is sent again afterwards.

    A message that meets a flap waits for the rest of it, half of it in the mean.
    """
    down = at_most(flaps_per_link_second * outage, 1.0)
    return FlapEffect(1.0 - down, down * outage / 2.0, links * flaps_per_link_second * (1.0 - tolerated))


def ecc_share(
    errors_per_second: Number,
    *,
    service_life: Number,
    pause: Number = ECC_PAUSE_SECONDS,
    loss: Number = ECC_COMPUTE_LOSS,
) -> Number:
    """Return the share of a job's rate with multi-bit memory errors that are mended in place, 0 to 1.

    Each error stops the job for ``pause`` seconds; the die goes on slower by ``loss``, and the whole job at its pace,
    until the die is replaced after ``service_life`` seconds.
    """
    paused = at_least(1.0 - errors_per_second * pause, 0.0)
    hurt = 1.0 - exp(-errors_per_second * service_life)  # at least one mended die in the job
    return paused * (1.0 - loss * hurt)
