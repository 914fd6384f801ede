"""CPUs load the bus: what they send takes from the uplinks that dies use, and from nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernode_dataplane import load_profile, machine_inputs, solve
from supernode_dataplane.changed_profile import changed_profile
from supernode_dataplane.constants import POD_EFFICIENCY
from supernode_dataplane.errors import InvalidFigureError
from supernode_dataplane.fabric import build_fabric, cpu_share, cpu_traffic
from supernode_dataplane.machine import ServerInput
from supernode_dataplane.state import MachineState
from support.deployments import R1_DECODE, deployment
from support.machines import SMALL, SMALL_MOE, only, ranks_of_parts, super_node, workload

CM = load_profile("cloudmatrix-384")
EXCHANGE = workload("a", range(4), SMALL_MOE, expert=64)
"""All-to-all over four servers."""


def loaded(gigabytes: float) -> Any:
    return changed_profile("cloudmatrix-384", {"cpuGigabytesPerSecond": gigabytes})


def state(gigabytes: float, *jobs: dict[str, Any], broken: tuple[ServerInput, ...] = ()) -> MachineState:
    return solve(loaded(gigabytes), broken, machine_inputs(super_node(), [], jobs).workloads)


def test_a_servers_cpus_send_at_most_what_their_ports_carry():
    assert CM.cpus_per_server * CM.cpu_port_bytes_per_second == CM.most_cpu_bytes_per_second == 640e9
    assert CM.cpu_bytes_per_second == 0
    assert loaded(640).cpu_bytes_per_second == 640e9
    assert loaded(0) == CM
    with pytest.raises(InvalidFigureError, match="4 CPUs of a server send 160 GB/s each: give at most 640") as caught:
        loaded(641)
    assert caught.value.figure == "cpuGigabytesPerSecond"
    with pytest.raises(InvalidFigureError, match="must be a number from 0 to"):
        loaded(-1)
    with pytest.raises(InvalidFigureError, match="not on a bus between servers: leave it out"):
        changed_profile("atlas-a2-cluster", {"cpuGigabytesPerSecond": 1})


def test_an_exchange_between_servers_is_slower_by_what_the_cpus_take():
    times = [only(state(gigabytes, EXCHANGE)).breakdown_seconds for gigabytes in (0, 320)]
    idle, busy = (found["expert_parallel"] for found in times)
    left = 1 - 320e9 / (7 * 16 * 28e9 * POD_EFFICIENCY)
    assert idle < busy <= idle / left
    assert times[0]["compute"] == times[1]["compute"]
    assert times[0]["tensor_parallel"] == times[1]["tensor_parallel"]


def test_decode_over_many_servers_waits_for_them_too():
    whole, less = (only(state(gigabytes, deployment("a", range(20), R1_DECODE))) for gigabytes in (0, 640))
    assert less.breakdown_seconds["dispatch"] > whole.breakdown_seconds["dispatch"]
    assert less.tokens_per_second < whole.tokens_per_second
    assert any("CPUs send 640 GB/s" in note for note in less.notes)
    assert not whole.notes


def test_what_stays_inside_a_server_is_not_touched():
    inside = [only(state(gigabytes, workload("a", [3], SMALL))) for gigabytes in (0, 640)]
    assert inside[0] == inside[1]


def test_dies_that_leave_uplinks_to_spare_do_not_notice():
    few = ranks_of_parts([[(0, "0-3")], [(1, "0-3")]])
    rates = [only(state(gigabytes, workload("a", ranks=few, base=SMALL, tensor=8))) for gigabytes in (0, 640)]
    assert rates[0].tokens_per_second == rates[1].tokens_per_second


def test_the_uplinks_show_what_cpus_send_and_the_dies_stay_idle():
    idle = state(320)
    assert idle.fabric.uplink_tx_bytes_per_second.sum() == pytest.approx(48 * 320e9)
    assert idle.fabric.uplink_rx_bytes_per_second.sum() == pytest.approx(48 * 320e9)
    assert idle.fabric.l2_rx_bytes_per_second.sum() == pytest.approx(idle.fabric.l2_tx_bytes_per_second.sum())
    assert not idle.devices.port_tx_bytes_per_second.any()
    busy = state(320, EXCHANGE)
    more = busy.fabric.uplink_tx_bytes_per_second - idle.fabric.uplink_tx_bytes_per_second
    assert more.sum() == pytest.approx(state(0, EXCHANGE).fabric.uplink_tx_bytes_per_second.sum(), rel=0.5)
    assert (more[: 4 * 7] > 0).all()


def test_workloads_that_share_servers_share_what_the_cpus_leave():
    halves = [ranks_of_parts([(server, dies)] for server in range(4)) for dies in ("0-7", "8-15")]
    jobs = [workload(name, ranks=ranks, base=SMALL_MOE, expert=32) for name, ranks in zip("ab", halves, strict=True)]
    broken = tuple(ServerInput(s, uplinks=tuple((p, j) for p in range(7) for j in range(8))) for s in range(4))
    together = state(640, *jobs, broken=broken)
    limit = CM.port_bytes_per_second * (1 + 1e-9)
    assert together.fabric.uplink_tx_bytes_per_second.max() <= limit
    for job, result in zip(jobs, together.workloads, strict=True):
        assert result.tokens_per_second < only(state(0, job)).tokens_per_second


BROKEN = st.dictionaries(
    st.integers(0, 3), st.lists(st.tuples(st.integers(0, 6), st.integers(0, 15)), max_size=80), max_size=4
)


@settings(max_examples=80, deadline=None)
@given(BROKEN, st.floats(0, 640), st.floats(0, 640))
def test_more_cpu_traffic_never_makes_a_workload_faster_and_no_uplink_carries_more_than_its_rate(broken, one, other):
    faults = tuple(ServerInput(server, uplinks=tuple(sorted(set(pairs)))) for server, pairs in broken.items())
    less, more = (state(gigabytes, EXCHANGE, broken=faults) for gigabytes in sorted((one, other)))
    assert only(more).tokens_per_second <= only(less).tokens_per_second * (1 + 1e-12)
    for found in (less, more):
        for way in (found.fabric.uplink_tx_bytes_per_second, found.fabric.uplink_rx_bytes_per_second):
            assert way.max() <= CM.port_bytes_per_second * (1 + 1e-9)
            assert not way[~found.fabric.uplink_up].any()
        assert np.isclose(found.fabric.l2_rx_bytes_per_second.sum(), found.fabric.l2_tx_bytes_per_second.sum())


@settings(max_examples=100, deadline=None)
@given(BROKEN, st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 15)), st.floats(0.01, 640))
def test_one_more_broken_uplink_never_leaves_dies_more(broken, another, gigabytes):
    worse = {**broken, another[0]: [*broken.get(another[0], []), another[1:]]}
    before, after = (
        build_fabric(loaded(gigabytes), [ServerInput(s, uplinks=tuple(set(pairs))) for s, pairs in faults.items()])
        for faults in (broken, worse)
    )
    assert (cpu_share(after) <= cpu_share(before) + 1e-12).all()
    assert (cpu_traffic(after).sum(axis=1) <= gigabytes * 1e9 * (1 + 1e-12)).all()


def test_a_faster_port_leaves_dies_more():
    profile = loaded(640)
    faster = replace(profile, port_bytes_per_second=2 * profile.port_bytes_per_second)
    assert (cpu_share(build_fabric(faster, ())) > cpu_share(build_fabric(profile, ()))).all()


def test_where_few_uplinks_are_left_cpus_and_dies_get_a_half_each():
    pairs = tuple((plane, port) for plane in range(7) for port in range(1, 16))
    fabric = build_fabric(loaded(640), [ServerInput(5, uplinks=pairs)])
    assert cpu_share(fabric)[5] == pytest.approx(np.full(7, 0.5))
    assert cpu_traffic(fabric)[5].sum() == pytest.approx(7 * 28e9 * POD_EFFICIENCY / 2)
    assert cpu_traffic(fabric)[4].sum() == pytest.approx(640e9)
