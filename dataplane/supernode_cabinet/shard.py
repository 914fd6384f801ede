"""Which part of the machine one cabinet pod publishes. Pure arithmetic on a profile.

Cabinets are numbered compute first: 0 to 11 hold four servers each, 12 to 15 the L2 chips (cloudmatrix-384). Pod i of
k cabinets has compute cabinets i*k to i*k + k - 1, or bus cabinets that many after the last compute cabinet.

No source says which L2 chips share a bus cabinet. We assume that each holds the same share of every plane (4 of the
16 chips of each of 7 planes, 28 in all), so that losing a bus cabinet costs every die port the same quarter.
"""

from __future__ import annotations

from dataclasses import dataclass

from supernode_cabinet.settings import Role
from supernode_dataplane.profile import Profile

__all__ = ["Shard", "bus_cabinet_of", "plan_shard"]


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of a machine that one pod publishes."""

    cabinets: tuple[int, ...]
    """Numbers of its cabinets in the machine; empty when the machine has no cabinet for this pod."""
    servers: tuple[int, ...]
    """Servers of its compute cabinets."""
    l2_chips: tuple[int, ...]
    """L2 chips of its bus cabinets, by number plane x chips per plane + chip."""
    whole: bool
    """Whether it publishes what there is once per machine: workloads and totals."""


def bus_cabinet_of(profile: Profile, chip: int) -> int:
    """Return the cabinet of an L2 chip, counted over all cabinets of the machine."""
    of_plane = chip % profile.l2_chips_per_plane
    return profile.compute_cabinets + of_plane * profile.bus_cabinets // profile.l2_chips_per_plane


def plan_shard(profile: Profile, role: Role, ordinal: int, cabinets_per_pod: int) -> Shard:
    """Return the shard of the pod with this role and ordinal."""
    first, end = ordinal * cabinets_per_pod, (ordinal + 1) * cabinets_per_pod
    compute: range = range(0)
    bus: range = range(0)
    if role == "all":
        compute, bus = range(profile.compute_cabinets), range(profile.bus_cabinets)
    elif role == "compute":
        compute = range(min(first, profile.compute_cabinets), min(end, profile.compute_cabinets))
    else:
        bus = range(min(first, profile.bus_cabinets), min(end, profile.bus_cabinets))
    per_cabinet = profile.servers_per_cabinet
    buses = tuple(profile.compute_cabinets + number for number in bus)
    return Shard(
        cabinets=(*compute, *buses),
        servers=tuple(
            server for cabinet in compute for server in range(cabinet * per_cabinet, (cabinet + 1) * per_cabinet)
        ),
        l2_chips=tuple(chip for chip in range(profile.l2_chips) if bus_cabinet_of(profile, chip) in buses),
        whole=role in ("compute", "all") and ordinal == 0,
    )
