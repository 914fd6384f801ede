"""What every running workload is, whatever it runs: its rate, its pace, and what each of its dies and links carries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DieLoads", "Run"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DieLoads:
    """Steady state of each die of a job, by position; what does not work is masked by :attr:`Run.working`."""

    busy: FloatArray
    """Busy share of the cores, 0 to 1; likewise the next three."""
    cube: FloatArray
    vector: FloatArray
    hbm: FloatArray
    """Share of the HBM bandwidth."""
    used_bytes: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One running workload at one operating point; arrays by position in the job unless they say otherwise."""

    tokens_per_second: float
    pace_seconds: float
    """Of a step on the links that it has; inf when nothing moves."""
    working: BoolArray
    port_tx_bytes_per_second: FloatArray
    """Shape (dies of the job, planes); sums over the job to what is received."""
    port_rx_bytes_per_second: FloatArray
    uplink_tx_bytes_per_second: FloatArray
    """Shape (servers, planes): from the servers of this workload; rx: to them."""
    uplink_rx_bytes_per_second: FloatArray
    loads: DieLoads | None
    """None when nothing moves."""
    waiting: str
    notes: tuple[str, ...]
