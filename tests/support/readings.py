"""The invariants of telemetry, for any state of a Supernode 384."""

from __future__ import annotations

import numpy as np

from supernode_dataplane import load_profile
from supernode_dataplane.state import MachineState

__all__ = ["check_readings"]

CM = load_profile("cloudmatrix-384")


def check_readings(state: MachineState) -> None:
    """Assert that every reading is consistent with every other."""
    dies, fabric = state.devices, state.fabric
    rate = CM.port_bytes_per_second * (1 + 1e-9)
    for port in (dies.port_tx_bytes_per_second, dies.port_rx_bytes_per_second):
        assert np.isfinite(port).all()
        assert port.max(initial=0.0) <= rate
        assert port.min(initial=0.0) >= 0.0
        assert (port[~dies.port_up] == 0).all(), "a port that is down carries nothing"
    assert np.isclose(dies.port_tx_bytes_per_second.sum(), dies.port_rx_bytes_per_second.sum(), rtol=1e-12)
    for uplink in (fabric.uplink_tx_bytes_per_second, fabric.uplink_rx_bytes_per_second):
        assert uplink.max(initial=0.0) <= rate
        assert (uplink[~fabric.uplink_up] == 0).all()
    assert np.isclose(fabric.uplink_tx_bytes_per_second.sum(), fabric.l2_rx_bytes_per_second.sum())
    assert np.isclose(fabric.uplink_rx_bytes_per_second.sum(), fabric.l2_tx_bytes_per_second.sum())
    assert np.isclose(fabric.l2_rx_bytes_per_second.sum(), fabric.l2_tx_bytes_per_second.sum())
    assert fabric.uplink_tx_bytes_per_second.sum() <= dies.port_tx_bytes_per_second.sum() * (1 + 1e-9)
    assert (dies.hbm_used_bytes <= dies.hbm_total_bytes).all()
    for share in (dies.utilisation, dies.cube_utilisation, dies.vector_utilisation, dies.hbm_bandwidth_utilisation):
        assert ((share >= 0) & (share <= 1)).all()
    assert (dies.cube_utilisation <= dies.utilisation + 1e-12).all()
    for index, result in enumerate(state.workloads):
        mine = dies.owner == index
        assert np.isclose(dies.tokens_per_second[mine].sum(), result.tokens_per_second, rtol=1e-12)
        assert np.isclose(dies.power_watts[mine].sum(), result.power_watts) or result.tokens_per_second == 0
        assert int(mine.sum()) == result.dies
    idle = (dies.owner < 0) | ~dies.healthy
    for reading in (dies.utilisation, dies.tokens_per_second, dies.cube_utilisation, dies.hbm_bandwidth_utilisation):
        assert not reading[idle].any()
    assert not dies.port_tx_bytes_per_second[idle].any()
    assert not dies.port_rx_bytes_per_second[idle].any()
    assert (dies.hbm_used_bytes[idle] == CM.hbm_idle_bytes).all()
    assert (dies.power_watts[idle] == CM.package_idle_watts / 2).all()
    assert (dies.power_watts >= CM.package_idle_watts / 2).all()
    assert state.power_watts <= CM.rated_watts
    assert np.isclose(state.tokens_per_second, sum(r.tokens_per_second for r in state.workloads))
