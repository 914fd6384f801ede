"""Power of a machine's parts, in watts: of a package at its utilisations, and of everything at full load.

    power of a package = idle + cube u_cube + hbm u_hbm + vector u_vector + bus u_bus
    parts at full load = packages (all u = 1) + CPUs + switch chips + optics

What the rated power of a machine has beyond its parts at full load is fans and conversion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.profile import Profile

__all__ = ["full_load_watts", "package_power", "steady_watts"]

FloatArray = NDArray[np.float64]


def package_power(
    profile: Profile, cube: FloatArray, hbm: FloatArray, vector: FloatArray, bus: FloatArray
) -> FloatArray:
    """Return the power of a package whose dies all are so busy, W; shares from 0 to 1 of any one shape."""
    return (
        profile.package_idle_watts
        + profile.package_cube_watts * cube
        + profile.package_hbm_watts * hbm
        + profile.package_vector_watts * vector
        + profile.package_bus_watts * bus
    )


def steady_watts(profile: Profile) -> float:
    """Return what CPUs and optics take whatever the load, W."""
    return (
        profile.servers * profile.cpus_per_server * profile.cpu_watts
        + profile.optical_modules * profile.optical_module_watts
    )


def full_load_watts(profile: Profile) -> float:
    """Return what all parts of a machine take at full load, W, without fans and conversion."""
    full = np.ones(1)
    packages = profile.packages * float(package_power(profile, full, full, full, full)[0])
    switches = profile.switch_chip_watts * (profile.l1_chips + profile.l2_chips)
    return packages + steady_watts(profile) + switches
