"""What the machine is made of: exact numbers, and a source for every figure."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from supernode_dataplane import ProfileNotFoundError, load_profile, profile_names
from supernode_dataplane.constants import CONSTANTS
from supernode_dataplane.devices import machine_power
from supernode_dataplane.fabric import build_fabric, pair_bandwidth
from supernode_dataplane.figures import machine_performance
from supernode_dataplane.machine import ServerInput
from supernode_dataplane.profile import profile_figures
from support.machines import run

CM = load_profile("cloudmatrix-384")


def test_switch_chips_ports_and_optics_of_the_supernode_are_exact():
    assert (CM.dies, CM.packages, CM.servers, CM.compute_cabinets + CM.bus_cabinets) == (768, 384, 48, 16)
    assert CM.l1_chips == 48 * 7 == 336
    assert CM.l2_chips == 7 * 16 == 112
    assert CM.uplinks == 336 * 16 == 5376
    assert CM.l2_ports == 112 * 48 == 5376
    assert CM.die_ports == 768 * 7 == 5376
    assert CM.optical_modules == 384 * 18 == 6912
    assert CM.servers_per_cabinet == 4


def test_a_servers_uplinks_carry_exactly_what_its_packages_can_send():
    package = CM.dies_per_package * CM.die_bus_bytes_per_second
    assert package == 392e9
    assert CM.server_uplink_bytes_per_second == 3136e9 == 8 * package


def test_totals_are_those_that_are_published():
    assert CM.hbm_bytes == 48 * 2**40
    assert CM.dies * CM.hbm_bytes_per_second_per_die == pytest.approx(1228.8e12, rel=1e-12)
    assert CM.rated_flops == pytest.approx(288.768e15, rel=1e-12)
    figures = machine_performance(run())
    assert figures["ratedPetaflops"] == "288.8"
    assert figures["bf16Petaflops"] == "271.8"
    assert figures["hbmTebibytes"] == "48"
    assert figures["hbmBandwidthTerabytesPerSecond"] == "1229"
    assert figures["busBandwidthTerabytesPerSecond"] == "150.5"


def test_a_lost_plane_leaves_six_sevenths_of_every_pair():
    whole = build_fabric(CM, ())
    lost = build_fabric(CM, [ServerInput(server, l1=(3,)) for server in range(48)])
    assert Fraction(lost.bandwidth) / Fraction(whole.bandwidth) == Fraction(6, 7)
    for a, b in ((0, 5), (0, 700)):
        before, after = (sum(pair_bandwidth(fabric, a, b).values()) for fabric in (whole, lost))
        assert Fraction(after) / Fraction(before) == Fraction(6, 7)
    assert "plane-3" not in pair_bandwidth(lost, 0, 700)


def test_a_pair_keeps_its_rate_while_an_l2_chip_is_left_that_both_reach():
    uplinks = tuple((0, port) for port in range(15))
    fabric = build_fabric(CM, [ServerInput(2, uplinks=uplinks)])
    assert pair_bandwidth(fabric, 32, 0)["plane-0"] == 28e9
    apart = build_fabric(CM, [ServerInput(2, uplinks=uplinks), ServerInput(0, uplinks=((0, 15),))])
    assert "plane-0" not in pair_bandwidth(apart, 32, 0), "server 2 reaches chip 15 only, and server 0 all but that"
    assert "plane-0" in pair_bandwidth(apart, 32, 16)


def test_the_dies_of_a_package_do_not_need_the_bus():
    dead = build_fabric(CM, [ServerInput(0, ports=tuple((0, plane) for plane in range(7)))])
    assert pair_bandwidth(dead, 0, 1) == {"sio": 270e9}
    assert pair_bandwidth(dead, 0, 2) == {}


def test_the_traditional_cluster_has_as_many_dies_and_no_bus_between_servers():
    a2 = load_profile("atlas-a2-cluster")
    assert (a2.dies, a2.packages, a2.l1_chips, a2.l2_chips, a2.uplinks) == (768, 768, 0, 0, 0)
    assert a2.die_bus_bytes_per_second == 196e9
    assert pair_bandwidth(build_fabric(a2, ()), 0, 8) == {"rdma": 25e9}


@pytest.mark.parametrize("name", profile_names())
def test_every_figure_of_a_profile_has_a_unit_a_source_and_a_flag(name: str):
    figures = profile_figures(name)
    assert len(figures) > (30 if load_profile(name).supernode else 15)
    for key, figure in figures.items():
        assert figure["unit"], key
        assert len(figure["source"]) > 15, key
        assert figure["flag"] in ("V", "S", "S+", "I", "M"), key
        assert figure["flag"] != "M" or any(
            w in figure["source"] for w in ("assumed", "half of", "twice", "not counted")
        ), key


def test_every_constant_has_a_unit_a_source_and_a_status_and_a_name_of_its_own():
    assert len({constant.name for constant in CONSTANTS}) == len(CONSTANTS) > 15
    for constant in CONSTANTS:
        assert constant.unit, constant.name
        assert len(constant.source) > 10, constant.name
        assert constant.status in ("calibrated", "derived", "assumed"), constant.name


def test_an_unknown_profile_is_named_with_the_known_ones():
    with pytest.raises(ProfileNotFoundError, match=r"no hardware profile 'nvl72'.*atlas-a2-cluster, cloudmatrix-384"):
        load_profile("nvl72")


def test_full_load_draws_the_rated_power_and_an_idle_machine_far_less():
    state = run()
    full = np.full(768, (170 + 430 + 150 + 70 + 60) / 2.0)
    from dataclasses import replace

    assert machine_power(CM, replace(state.devices, power_watts=full), state.fabric) == pytest.approx(559e3)
    assert 200e3 < state.power_watts < 300e3
    assert np.all(state.devices.power_watts == 85.0), "170 W a package, measured idle"
