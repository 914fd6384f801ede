"""Failures, checkpoints and goodput: published arithmetic, limits, and laws."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernode_dataplane.reliability import (
    Part,
    availability,
    checkpoint_interval,
    checkpoint_waste,
    ecc_share,
    goodput,
    optical_flaps,
    share_without_packages,
    share_without_planes,
    system_mtbf,
)

DAY = 86400.0
times = st.floats(1.0, 1e8)


def test_availability_of_the_published_clos_is_91_6_percent():
    assert availability(13.8, 75 / 60) == pytest.approx(0.916, abs=1e-3)
    assert availability(98.5, 75 / 60) > 0.98


def test_a_minute_of_checkpoint_and_a_failure_a_day_give_53_minutes_and_4_4_percent():
    assert checkpoint_interval(DAY) / 60 == pytest.approx(53, abs=0.5)
    assert checkpoint_waste(DAY) == pytest.approx(0.044, abs=1e-3)


def test_the_waste_is_what_a_machine_that_fails_at_random_really_loses():
    mtbf, checkpoint, restart, work = 4 * 3600.0, 60.0, 600.0, 1500.0
    rng = random.Random(1)
    clock = 0.0
    pieces = 4000
    for _ in range(pieces):
        while (until := rng.expovariate(1 / mtbf)) < work + checkpoint:
            clock += until
            while (again := rng.expovariate(1 / mtbf)) < restart:
                clock += again
            clock += restart
        clock += work + checkpoint
    lost = 1 - pieces * work / clock
    assert checkpoint_waste(mtbf, checkpoint, restart, work) == pytest.approx(lost, abs=0.005)


@given(mtbf=times, checkpoint=times)
def test_the_interval_of_daly_is_near_the_best_one(mtbf: float, checkpoint: float):
    if mtbf < 50 * checkpoint:
        return
    best = min(checkpoint_waste(mtbf, checkpoint, 0.0, work) for work in np.geomspace(checkpoint, mtbf, 200))
    assert checkpoint_waste(mtbf, checkpoint, 0.0) <= best * 1.02


@given(mtbf=times, mttr=times, checkpoint=times, restart=times)
def test_goodput_is_never_negative_nor_more_than_the_throughput(
    mtbf: float, mttr: float, checkpoint: float, restart: float
):
    result = goodput(1000.0, mtbf, mttr, checkpoint=checkpoint, restart=restart)
    assert 0.0 <= result.tokens_per_second <= 1000.0
    rarer = goodput(1000.0, mtbf * 2, mttr, checkpoint=checkpoint, restart=restart)
    assert rarer.tokens_per_second >= result.tokens_per_second * (1 - 1e-9)


def test_arrays_and_numbers_agree():
    mtbf = np.array([3600.0, DAY, 30 * DAY])
    together = goodput(np.full(3, 5.0), mtbf, 600.0)
    assert together.tokens_per_second == pytest.approx(
        [goodput(5.0, m, 600.0).tokens_per_second for m in mtbf.tolist()]
    )


def test_rates_of_parts_add_up():
    parts = [Part("package", 384, 5e4 * 3600), Part("optical module", 6912, 1e6 * 3600)]
    assert system_mtbf(parts) == pytest.approx(3600 / (384 / 5e4 + 6912 / 1e6))
    assert system_mtbf([]) == math.inf
    with pytest.raises(ValueError, match="package: needs an MTBF above 0"):
        system_mtbf([Part("package", 1, 0.0)])


def test_a_lost_package_idles_its_replica_unless_a_spare_takes_its_place():
    assert share_without_packages(6, 1) == pytest.approx(5 / 6)
    assert share_without_packages(6, 1, spares=1) == 1.0
    assert share_without_packages(2, 5) == 0.0
    with pytest.raises(ValueError, match="at least one replica"):
        share_without_packages(0, 0)


def test_a_lost_plane_leaves_six_sevenths():
    assert share_without_planes(7, 1) == 6 / 7
    with pytest.raises(ValueError, match="of 7 planes 8"):
        share_without_planes(7, 8)


def test_flaps_cost_a_little_bandwidth_and_one_in_a_hundred_ends_the_job():
    effect = optical_flaps(6912, 1 / DAY, 0.5)
    assert effect.bandwidth_share == pytest.approx(1 - 0.5 / DAY)
    assert effect.added_latency_seconds == pytest.approx(0.5 / DAY * 0.25)
    assert effect.stops_per_second == pytest.approx(6912 / DAY / 100)


def test_a_mended_memory_error_pauses_a_minute_and_takes_five_percent_until_the_die_is_replaced():
    assert ecc_share(0.0, service_life=DAY) == 1.0
    assert ecc_share(1 / DAY, service_life=1e12) == pytest.approx((1 - 60 / DAY) * 0.95)
    assert ecc_share(1 / DAY, service_life=DAY) > ecc_share(2 / DAY, service_life=DAY)
