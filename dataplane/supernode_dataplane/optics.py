"""Optical modules: which uplinks share one, and how many a machine has.

A link between an L1 and an L2 chip has a module at either end, and a module carries several such links:

    links of a module = 2 ends x uplinks / (packages x scale-up modules per package)      2 x 5,376 / 5,376 = 2

Modules at L1 chips come first, module m of the chip with its neighbouring ports 2 m and 2 m + 1; then those at L2
chips, module m with the neighbouring servers 2 m and 2 m + 1. Which ports are neighbours in a module is assumed: no
source says so. Scale-out modules (RDMA) carry no uplink and are counted only:

    6,912 = 384 packages x (14 scale-up + 4 scale-out) = 2,688 at L1 + 2,688 at L2 + 1,536 scale-out
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.profile import Profile

__all__ = ["Optics", "lit_modules", "optics_of"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Optics:
    """The optical modules of a machine; an uplink's number is (server x planes + plane) x ports of a chip + port."""

    at_l1: IntArray
    """Uplinks of each module at an L1 chip: shape (servers, planes, modules of a chip, links of a module)."""
    at_l2: IntArray
    """The same at L2 chips: shape (planes, chips of a plane, modules of a chip, links of a module)."""
    scale_out: int
    """Modules of the RDMA network: no uplink goes through them."""

    @property
    def links(self) -> int:
        """Uplinks that one module carries; 0 where none is known to share one."""
        return int(self.at_l1.shape[3])

    @property
    def scale_up(self) -> IntArray:
        """Uplinks of every module of the bus, shape (modules, links of a module); numbers of modules are rows here."""
        return np.concatenate([side.reshape(-1, max(self.links, 1)) for side in (self.at_l1, self.at_l2)])

    @property
    def modules(self) -> int:
        """All modules that are laid out here: both ends of every uplink, and scale-out."""
        return len(self.scale_up) + self.scale_out if self.links else self.scale_out


@lru_cache(maxsize=32)
def optics_of(profile: Profile) -> Optics:
    """Return the modules of a machine.

    None are laid out on the bus (arrays of size 0) where there are no uplinks, or where the modules that its profile
    counts do not carry them in equal, whole groups.
    """
    scale_out = profile.packages * profile.scale_out_optical_modules_per_package
    count = profile.packages * profile.scale_up_optical_modules_per_package
    links = 2 * profile.uplinks // count if count else 0
    even = links and links * count == 2 * profile.uplinks
    if not even or profile.uplinks_per_l1 % links or profile.servers % links:
        nothing = np.zeros((0, 0, 0, 0), dtype=np.int64)
        return Optics(nothing, nothing, scale_out)
    numbers = np.arange(profile.uplinks, dtype=np.int64)
    uplinks = numbers.reshape(profile.servers, profile.planes, profile.uplinks_per_l1)
    at_l1 = uplinks.reshape(profile.servers, profile.planes, -1, links)
    at_l2 = uplinks.transpose(1, 2, 0).reshape(profile.planes, profile.uplinks_per_l1, -1, links)
    return Optics(at_l1, at_l2, scale_out)


def lit_modules(profile: Profile, uplink_up: BoolArray) -> BoolArray:
    """Return which modules of the bus carry light, shape (modules,), from which uplinks are up, in any shape.

    A module is dark when none of its uplinks works: it has failed itself, or all that it connects has.
    """
    optics = optics_of(profile)
    if not optics.links:
        return np.zeros(0, dtype=np.bool_)
    lit: BoolArray = np.logical_or.reduce(uplink_up.reshape(-1)[optics.scale_up], axis=1)
    return lit
