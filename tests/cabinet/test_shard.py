"""Which cabinet publishes what."""

from __future__ import annotations

import numpy as np
import pytest

from cabinet.machines import PROFILE, snapshot
from supernode_cabinet.shard import bus_cabinet_of, plan_shard


@pytest.mark.parametrize("per_pod", [1, 2, 4])
def test_all_pods_together_publish_every_server_and_chip_once(per_pod: int) -> None:
    pods = [plan_shard(PROFILE, "compute", i, per_pod) for i in range(12 // per_pod)]
    pods += [plan_shard(PROFILE, "bus", i, per_pod) for i in range(4 // per_pod)]
    assert sorted(c for pod in pods for c in pod.cabinets) == list(range(16))
    assert sorted(s for pod in pods for s in pod.servers) == list(range(48))
    assert sorted(c for pod in pods for c in pod.l2_chips) == list(range(112))
    assert sum(pod.whole for pod in pods) == 1


def test_one_pod_of_sixteen_cabinets_publishes_all() -> None:
    pod = plan_shard(PROFILE, "all", 0, 16)
    assert (len(pod.cabinets), len(pod.servers), len(pod.l2_chips), pod.whole) == (16, 48, 112, True)


def test_a_bus_cabinet_has_28_chips_four_of_each_plane() -> None:
    for cabinet in range(12, 16):
        chips = [chip for chip in range(112) if bus_cabinet_of(PROFILE, chip) == cabinet]
        assert len(chips) == 28
        assert [sum(chip // 16 == plane for chip in chips) for plane in range(7)] == [4] * 7


def test_a_pod_beyond_the_machine_publishes_nothing() -> None:
    pod = plan_shard(PROFILE, "compute", 12, 1)
    assert (pod.cabinets, pod.servers, pod.l2_chips, pod.whole) == ((), (), (), False)


def test_an_l2_port_is_the_other_end_of_an_uplink() -> None:
    seen = snapshot("bus", 1, 1)
    state, chips = seen.state.fabric, seen.shard.l2_chips
    tx = state.uplink_tx_bytes_per_second.ravel()[seen.selection.l2_port_uplinks]
    assert tx.shape == (28, 48)
    np.testing.assert_allclose(tx.sum(axis=1), state.l2_rx_bytes_per_second[list(chips)])
    server, chip = 17, 5
    plane, of_plane = divmod(chips[chip], 16)
    assert seen.selection.l2_port_uplinks[chip, server] == (server * 7 + plane) * 16 + of_plane
