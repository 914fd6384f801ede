"""The die with the hottest experts gets more than the others, and sends more back; nothing is created or lost."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernode_dataplane import load_profile
from supernode_dataplane.communication import LinkView, incast_of
from supernode_dataplane.incast import bounded_excess, excess_of, member_load
from supernode_dataplane.pool_links import pool_links
from supernode_dataplane.state import MachineState
from support.deployments import R1_DECODE, R1_DISAGGREGATED, R1_PREFILL, deployment, with_fields
from support.machines import SMALL_MOE, only, run, workload
from support.readings import check_readings

CM = load_profile("cloudmatrix-384")
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def prefill(percent: int, **faults: Any) -> MachineState:
    base = with_fields(R1_PREFILL, prefill__experts__imbalancePercent=percent)
    return run(deployment("a", range(4), base), **faults)


def decode(percent: int) -> MachineState:
    base = with_fields(R1_DECODE, decode__experts__imbalancePercent=percent)
    return run(deployment("a", range(20), base))


def training(percent: int, expert: int = 8, **parallelism: Any) -> MachineState:
    base = {**SMALL_MOE, "training": {**SMALL_MOE["training"], "expertImbalance": percent / 100}}
    return run(workload("a", range(2), base, expert=expert, **parallelism))


def of_dies(state: MachineState, way: str, count: int) -> Any:
    return getattr(state.devices, f"port_{way}_bytes_per_second")[:count].sum(axis=1)


def test_with_even_experts_all_dies_of_an_instance_carry_the_same():
    state = prefill(100)
    for way in ("tx", "rx"):
        assert np.ptp(of_dies(state, way, 64)) == pytest.approx(0, abs=1)


def test_the_hottest_rank_gets_imbalance_times_the_mean_of_what_is_dispatched():
    found = prefill(150)
    even = prefill(100)
    # The step is longer too: what the port carries is compared by the bytes of a step.
    seconds = [only(state).step_time_seconds for state in (even, found)]
    mean, hot = of_dies(even, "rx", 32)[0] * seconds[0], of_dies(found, "rx", 32)[0] * seconds[1]
    out = 7500 / 7168 / (7500 / 7168 + 2)  # quantised tokens go out, BF16 comes back
    back = (32 - 1.5) / 31  # what comes back from the others, who are less hot; its own never left it
    assert hot / mean == pytest.approx(1.5 * out + back * (1 - out), rel=1e-6)
    rest = of_dies(found, "rx", 32)[2:] * seconds[1]
    assert (rest < mean).all()
    received = of_dies(found, "rx", 32).sum() * seconds[1]
    assert received == pytest.approx(32 * mean, rel=1e-9), "nothing is created or lost"


def test_the_hottest_rank_sends_back_more_than_it_gets():
    tx, rx = (of_dies(prefill(150), way, 32) for way in ("tx", "rx"))
    assert tx[0] > rx[0] > rx[1:].max()
    assert tx[0] > tx[1:].max()


@pytest.mark.parametrize("make", [prefill, decode, training])
def test_hotter_experts_show_more_and_leave_the_other_dies_less(make):
    states = [make(percent) for percent in (100, 150, 300)]
    shares = [of_dies(state, "rx", 8)[0] / of_dies(state, "rx", 640).sum() for state in states]
    assert all(one < other for one, other in pairwise(shares))
    for state in states:
        check_readings(state)


def test_in_training_forward_and_backward_make_both_directions_alike():
    state = training(300)
    tx, rx = (of_dies(state, way, 32) for way in ("tx", "rx"))
    assert np.allclose(tx, rx)
    assert np.flatnonzero(rx > rx.mean() * 1.05).tolist() == [0, 8, 16, 24], "one of each expert group"


def test_dies_that_split_the_hottest_experts_are_all_hot_and_gather_more():
    even, state = (training(percent, expert=4, tensor=4, expertTensor=4) for percent in (100, 300))
    rx = of_dies(state, "rx", 32)
    assert np.flatnonzero(rx > rx.mean() * 1.05).tolist() == [0, 1, 2, 3, 16, 17, 18, 19]
    more = rx * only(state).step_time_seconds / (of_dies(even, "rx", 32) * only(even).step_time_seconds)
    assert more[0] > 1.5, "copies of tokens go round among the four dies that split an expert"
    assert more.mean() == pytest.approx(1)


def test_a_rank_gets_no_more_than_all_there_is():
    assert of_dies(training(900, expert=2), "rx", 32).max() == pytest.approx(
        of_dies(training(200, expert=2), "rx", 32).max()
        * only(training(200, expert=2)).step_time_seconds
        / only(training(900, expert=2)).step_time_seconds
    )


def test_a_port_without_room_is_full_and_carries_no_more():
    state = decode(10000)
    check_readings(state)
    busiest = max(state.devices.port_tx_bytes_per_second.max(), state.devices.port_rx_bytes_per_second.max())
    assert busiest <= CM.port_bytes_per_second * (1 + 1e-9)
    full = bounded_excess(99.0, (np.array([20e9]), np.array([4e9]), 28e9), (np.array([1.0]), np.array([-1.0]), 28e9))
    assert full == pytest.approx(2)
    assert bounded_excess(1.0, (np.array([20e9]), np.array([4e9]), 28e9)) == 1.0


UP = st.lists(st.tuples(st.integers(0, 63), st.integers(0, 6)), max_size=40)


@settings(SLOW, max_examples=80)
@given(st.permutations(range(64)), st.sampled_from([2, 4, 8, 16, 32]), UP, st.floats(1, 40))
def test_over_a_group_as_much_is_sent_as_received_on_every_plane_and_as_with_even_experts(order, size, down, imbalance):
    groups = np.array(order, dtype=np.int64).reshape(-1, size)
    ports = np.ones((CM.dies, CM.planes))
    for die, plane in down:
        if ports[die].sum() > 4:
            ports[die, plane] = 0.0
    view = LinkView(CM, ports if down else None, None)
    links, incast = pool_links(view, groups), incast_of(view, groups)
    load = links.local + links.remote
    wanted = min(imbalance, float(size)) - 1
    change = excess_of(incast, load, incast.ports / size)
    by_group = (-1, size, CM.planes)
    sent, received = (load + wanted * part for part in (change.sent, change.received))
    assert sent.min() >= -1e-12
    assert received.min() >= -1e-12
    assert np.allclose(sent.reshape(by_group).sum(axis=1), received.reshape(by_group).sum(axis=1))
    assert np.allclose(received, load * member_load(incast, imbalance))
    assert not sent[ports[groups.reshape(-1)] == 0].any()
    mixed = change.mixed(2.0, 3.0)
    assert np.allclose(mixed.sent, 2 * change.sent + 3 * change.received)
    assert np.allclose(mixed.received, 2 * change.received + 3 * change.sent)


FAULTS = st.dictionaries(
    st.integers(0, 13),
    st.lists(
        st.one_of(
            st.builds(
                lambda die, plane: {"diePort": {"die": die, "plane": plane}}, st.integers(0, 15), st.integers(0, 6)
            ),
            st.builds(
                lambda plane, port: {"uplink": {"plane": plane, "port": port}}, st.integers(0, 6), st.integers(0, 15)
            ),
            st.builds(lambda die: {"die": die}, st.integers(0, 15)),
        ),
        max_size=4,
    ),
    max_size=3,
)


@SLOW
@given(st.integers(100, 3000), FAULTS)
def test_readings_of_a_deployment_stay_consistent_however_hot_the_experts_are(percent, faults):
    base = with_fields(
        R1_DISAGGREGATED, prefill__experts__imbalancePercent=percent, decode__experts__imbalancePercent=percent
    )
    check_readings(run(deployment("a", range(14), base), faults=faults))


@SLOW
@given(st.integers(100, 3000), st.sampled_from([(8, 1), (32, 1), (4, 2)]), FAULTS)
def test_readings_of_training_stay_consistent_however_hot_the_experts_are(percent, degrees, faults):
    base = {**SMALL_MOE, "training": {**SMALL_MOE["training"], "expertImbalance": percent / 100}}
    job = workload("a", range(2), base, expert=degrees[0], tensor=4 if degrees[1] > 1 else 1, expertTensor=degrees[1])
    check_readings(run(job, faults=faults))
