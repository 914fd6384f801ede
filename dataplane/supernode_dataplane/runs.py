"""What every running workload is, whatever it runs: rate, pace, what dies and links carry; and why one stands still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.fabric import Fabric
from supernode_dataplane.placing import Placed
from supernode_dataplane.profile import Profile
from supernode_dataplane.state import WaitingReason

__all__ = ["DieLoads", "Run", "Stall", "place_of", "stall_of_links"]

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


@dataclass(frozen=True, slots=True)
class Stall:
    """Why a run makes no tokens on the dies that it has."""

    reason: WaitingReason
    message: str


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
    stall: Stall | None
    """None while it runs."""
    notes: tuple[str, ...]


def place_of(profile: Profile, die: int) -> str:
    """Return where a die is, for messages."""
    return f"server {die // profile.dies_per_server} die {die % profile.dies_per_server}"


def stall_of_links(fabric: Fabric, placed: Placed, up: BoolArray) -> Stall:
    """Return why dies that must talk cannot; ``up`` (dies of the job, planes) is which of the links that it holds work.

    Links that no container holds are not broken: whoever asks for others runs. So it is a mismatch where a die holds no
    link at all, or where everything that its dies could use works.
    """
    idle = ~up.any(axis=1)
    bare = placed.dies[idle]
    if bare.size:
        first = f"the first is {place_of(fabric.profile, int(bare[0]))}"
        if placed.links[idle].any():
            return Stall("LinksFaulty", f"{bare.size} of its dies have no working bus link; {first}")
        return Stall("LinksMismatch", f"its containers hold no bus link of {bare.size} of its dies; {first}")
    servers = np.unique(placed.dies // fabric.profile.dies_per_server)
    if fabric.ports[placed.dies].all() and fabric.uplinks[servers].all():
        return Stall("LinksMismatch", "its containers hold no links on one plane of two of its dies that must talk")
    return Stall("LinksFaulty", "two of its dies that must talk have no working plane in common")
