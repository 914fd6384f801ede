"""What dies, ports and chips read in the situations that people look at."""

from __future__ import annotations

import numpy as np
import pytest

from supernode_dataplane import load_profile
from support.machines import SMALL, only, run, workload

CM = load_profile("cloudmatrix-384")


def test_an_idle_machine_reads_idle_everywhere():
    state = run()
    dies = state.devices
    assert not dies.utilisation.any()
    assert not dies.hbm_bandwidth_utilisation.any()
    assert not dies.port_tx_bytes_per_second.any()
    assert not state.fabric.uplink_tx_bytes_per_second.any()
    assert (dies.hbm_used_bytes == 3150 * 2**20).all(), "what the runtime keeps on an idle die"
    assert (dies.owner == -1).all()
    assert dies.temperature_celsius == pytest.approx(np.full(768, 37.65))
    assert state.workloads == ()


def test_dies_of_a_workload_are_busy_and_their_neighbours_are_not():
    state = run(workload("a", [3], SMALL))
    mine = np.zeros(768, dtype=bool)
    mine[48:64] = True
    assert (state.devices.owner[mine] == 0).all()
    assert (state.devices.utilisation[mine] > 0.5).all()
    assert (state.devices.utilisation > 0).sum() == 16
    assert (state.devices.temperature_celsius[mine] > 45).all()
    assert (state.devices.port_tx_bytes_per_second[mine] > 0).all()
    assert not state.fabric.uplink_tx_bytes_per_second.any(), "it never leaves its server"


def test_a_busy_share_is_not_mfu():
    result = only(state := run(workload("a", range(48))))
    busy = state.devices.utilisation.mean()
    assert result.mfu < state.devices.cube_utilisation.mean() < busy
    assert 0.85 < busy < 1


def test_all_cards_at_work_draw_well_below_the_rated_power_and_well_above_idle():
    state = run(workload("a", range(48)))
    assert run().power_watts < 300e3 < state.power_watts < 559e3
    assert only(state).power_watts == pytest.approx(state.devices.power_watts.sum())


def test_a_dead_port_reads_down_and_dark_and_the_others_take_its_load():
    state = run(workload("a", [0], SMALL), faults={0: [{"diePort": {"die": 4, "plane": 6}}]})
    ports = state.devices.port_tx_bytes_per_second[4]
    assert not state.devices.port_up[4, 6]
    assert ports[6] == 0
    assert np.ptp(ports[:6]) == pytest.approx(0, abs=1)
    assert state.bus_bandwidth_bytes_per_second == 5375 * 28e9


def test_a_dead_chip_takes_its_ports_and_uplinks_and_power_with_it():
    state = run(faults={2: [{"l1": {"plane": 5}}]})
    chip = 2 * 7 + 5
    assert not state.fabric.l1_up[chip]
    assert state.fabric.l1_up.sum() == 335
    assert not state.fabric.uplink_up[chip].any()
    assert not state.devices.port_up[32:48, 5].any()
    assert state.fabric.l1_power_watts[chip] == 0
    assert state.power_watts < run().power_watts
    assert state.fabric.l2_up.all()


def test_an_l2_chip_whose_uplinks_are_all_dead_reads_down():
    faults = {server: [{"uplink": {"plane": 1, "port": 9}}] for server in range(48)}
    down = np.flatnonzero(~run(faults=faults).fabric.l2_up)
    assert down.tolist() == [1 * 16 + 9]


def test_a_broken_die_is_unhealthy_and_idle_while_its_port_keeps_its_state():
    state = run(workload("a", range(2), SMALL), faults={0: [{"die": 7}]})
    assert not state.devices.healthy[7]
    assert state.devices.owner[7] == 0
    assert state.devices.utilisation[7] == 0
    assert state.devices.port_up[7].all()
    lost = np.flatnonzero(state.devices.utilisation[:32] == 0)
    assert lost.tolist() == list(range(8)), "its whole replica stands still"


def test_the_traditional_cluster_has_dies_and_ports_but_no_chips():
    state = run(workload("a", range(4), SMALL, profile="atlas-a2-cluster"), profile="atlas-a2-cluster")
    assert state.fabric.l1_up.size == state.fabric.l2_up.size == state.fabric.uplink_up.size == 0
    assert only(state).cards == 32
    assert state.devices.port_tx_bytes_per_second[:32].all()
    assert state.power_watts < 498e3
