"""What every die, port and chip reads, from the solution: utilisation, HBM, traffic, power and temperature.

    machine = (packages + CPUs + switch chips + optics) x rated / (the same at full load)  fans and conversion
    (of a package each die has its part: :mod:`supernode_dataplane.power`)
    temperature = inlet + K/W x power of the package: the steady state

An idle die reads idle: no utilisation, no traffic, idle power, and the runtime's small resident HBM.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.fabric import Fabric, cpu_traffic
from supernode_dataplane.optics import lit_modules
from supernode_dataplane.placing import Placed
from supernode_dataplane.power import full_load_watts, package_power, steady_watts
from supernode_dataplane.profile import Profile
from supernode_dataplane.runs import Run
from supernode_dataplane.state import DeviceState, FabricState

__all__ = ["device_state", "fabric_state", "machine_power"]

FloatArray = NDArray[np.float64]


def device_state(fabric: Fabric, placed: Sequence[Placed], runs: Sequence[Run | None]) -> DeviceState:
    """Return what dies and ports read with these workloads on them."""
    profile = fabric.profile
    dies, shape = profile.dies, (profile.dies, profile.planes)
    owner = np.full(dies, -1, dtype=np.int64)
    busy, cube, vector, hbm, tokens = (np.zeros(dies) for _ in range(5))
    used = np.full(dies, profile.hbm_idle_bytes)
    sent, received = np.zeros(shape), np.zeros(shape)
    for index, (place, run) in enumerate(zip(placed, runs, strict=True)):
        owner[place.dies] = index
        if run is None or run.tokens_per_second <= 0 or run.loads is None:
            continue
        at, loads = place.dies[run.working], run.loads
        busy[at] = loads.busy[run.working]
        cube[at] = loads.cube[run.working]
        vector[at] = loads.vector[run.working]
        hbm[at] = loads.hbm[run.working]
        used[at] = loads.used_bytes[run.working]
        tokens[at] = run.tokens_per_second / at.size
        sent[place.dies] = run.port_tx_bytes_per_second
        received[place.dies] = run.port_rx_bytes_per_second
    bus = (sent.sum(axis=1) + received.sum(axis=1)) / (2.0 * profile.die_bus_bytes_per_second)
    power = package_power(profile, cube, hbm, vector, bus) / profile.dies_per_package
    package = power.reshape(-1, profile.dies_per_package).sum(axis=1).repeat(profile.dies_per_package)
    return DeviceState(
        healthy=fabric.healthy,
        owner=owner,
        utilisation=busy,
        cube_utilisation=cube,
        vector_utilisation=vector,
        hbm_used_bytes=used,
        hbm_total_bytes=np.full(dies, profile.hbm_bytes_per_die),
        hbm_bandwidth_utilisation=hbm,
        power_watts=power,
        temperature_celsius=profile.inlet_celsius + profile.celsius_per_watt * package,
        tokens_per_second=tokens,
        port_up=fabric.ports,
        port_tx_bytes_per_second=sent,
        port_rx_bytes_per_second=received,
    )


def fabric_state(fabric: Fabric, runs: Sequence[Run | None]) -> FabricState:
    """Return what switch chips, optics and uplinks read; traffic is spread evenly over the uplinks that are up."""
    profile = fabric.profile
    chips, ports = profile.l1_chips, profile.uplinks_per_l1
    up = fabric.uplinks.reshape(chips, ports)
    leaving = cpu_traffic(fabric)
    coming = leaving.copy()
    for run in runs:
        if run is not None:
            leaving += run.uplink_tx_bytes_per_second
            coming += run.uplink_rx_bytes_per_second
    count = up.sum(axis=1, keepdims=True)

    def spread(total: FloatArray) -> FloatArray:
        per_port = np.divide(total.reshape(-1, 1)[:chips], count, out=np.zeros((chips, 1)), where=count > 0)
        return np.where(up, per_port, 0.0)

    tx, rx = spread(leaving), spread(coming)
    wired = chips > 0 and ports > 0  # switches inside servers alone have no uplinks
    from_l1, to_l1 = (
        way.reshape(profile.servers, -1, ports).sum(axis=0).reshape(-1) if wired else np.zeros(0) for way in (tx, rx)
    )
    l1_up = fabric.l1.reshape(-1)
    l2_up = up.reshape(profile.servers, -1, ports).any(axis=0).reshape(-1) if wired else np.zeros(0, dtype=np.bool_)
    return FabricState(
        uplink_up=up,
        uplink_tx_bytes_per_second=tx,
        uplink_rx_bytes_per_second=rx,
        l1_up=l1_up,
        l2_up=l2_up,
        optics_up=lit_modules(profile, up),
        l2_rx_bytes_per_second=from_l1,
        l2_tx_bytes_per_second=to_l1,
        l1_power_watts=np.where(l1_up, profile.switch_chip_watts, 0.0),
        l2_power_watts=np.where(l2_up, profile.switch_chip_watts, 0.0) if wired else np.zeros(profile.l2_chips),
    )


def machine_power(profile: Profile, dies: DeviceState, fabric: FabricState) -> float:
    """Return the power of the whole machine at the racks, W; 0 where the profile has no source for it."""
    if not profile.has_power_model:
        return 0.0
    around = steady_watts(profile) + float(fabric.l1_power_watts.sum() + fabric.l2_power_watts.sum())
    return (float(dies.power_watts.sum()) + around) * profile.rated_watts / full_load_watts(profile)
