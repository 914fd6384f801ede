"""The profiles that are no SuperNode: what their sources state, and n/a for what they do not."""

from __future__ import annotations

import numpy as np
import pytest

from supernode_dataplane import load_profile, profile_names, solve
from supernode_dataplane.catalogue import load_model
from supernode_dataplane.figures import machine_performance, workload_performance
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.machine import PartInput, RankInput, ServerInput, TrainingSpec, WorkloadInput
from supernode_dataplane.profile import sourced, supernode_profile_names

OTHERS = [name for name in profile_names() if name not in supernode_profile_names()]


def on(profile: str, tensor: int = 8):
    machine = load_profile(profile)
    training = TrainingSpec(load_model("llama-2-7b"), "vendor-tuned", 4096, 144, 1, tensor, 1)
    dies = tuple(range(machine.dies_per_server))
    ranks = tuple(RankInput(n, True, (PartInput(n, dies),)) for n in range(min(machine.servers, 2)))
    return solve(machine, (), (WorkloadInput("a/b", training, ranks),))


def test_five_machines_are_known_and_two_of_them_can_be_a_supernode():
    assert profile_names() == ("atlas-a2-cluster", "cloudmatrix-384", "gb200-nvl72", "h100-cluster", "h800-cluster")
    assert supernode_profile_names() == ("atlas-a2-cluster", "cloudmatrix-384")


def test_the_domain_of_an_nvl72_has_its_published_totals():
    rack = load_profile("gb200-nvl72")
    assert (rack.dies, rack.servers, rack.packages) == (72, 1, 72)
    assert rack.bf16_flops == pytest.approx(180e15)
    assert rack.hbm_bytes == pytest.approx(13.824e12)
    assert rack.dies * rack.hbm_bytes_per_second_per_die == pytest.approx(576e12)
    assert 2 * rack.dies * rack.die_bus_bytes_per_second == pytest.approx(129.6e12)


def test_an_h800_is_an_h100_with_less_than_half_of_the_nvlink():
    one, other = load_profile("h100-cluster"), load_profile("h800-cluster")
    assert other.die_bus_bytes_per_second == 200e9
    assert one.die_bus_bytes_per_second == 450e9
    assert (one.bf16_flops_per_die, one.hbm_bytes_per_die) == (other.bf16_flops_per_die, other.hbm_bytes_per_die)
    assert hardware_of(other).rdma_bytes_per_second == 46e9, "measured"
    assert hardware_of(one).rdma_bytes_per_second == 46e9, "the same network"


@pytest.mark.parametrize("name", OTHERS)
def test_all_cards_of_a_server_talk_at_the_rate_of_its_switches_and_others_over_rdma(name: str):
    hardware = hardware_of(load_profile(name))
    assert not hardware.mesh
    assert hardware.rate(2) == hardware.rate(hardware.dies_per_server) == hardware.node_bytes_per_second
    assert hardware.rate(hardware.dies_per_server + 1) == hardware.rdma_bytes_per_second
    assert hardware.peak("fp8") > 1.9 * hardware.peak("bf16")
    assert hardware.peak("int8") == hardware.peak("bf16"), "no source for INT8: it runs as BF16"


@pytest.mark.parametrize("name", OTHERS)
def test_they_train_and_say_nothing_of_a_power_that_no_source_states(name: str):
    state = on(name)
    (result,) = state.workloads
    assert result.problem is None
    assert 0.1 < result.mfu < 0.8
    assert state.power_watts == 0.0
    assert "powerKilowatts" not in machine_performance(state)
    assert "powerKilowatts" not in workload_performance(result)
    assert state.fabric.l2_up.size == 0
    assert state.fabric.uplink_up.shape[1] == 0
    assert np.all(state.devices.port_tx_bytes_per_second.sum(axis=1) <= load_profile(name).die_bus_bytes_per_second)


@pytest.mark.parametrize("name", profile_names())
def test_every_machine_can_be_solved_with_any_switch_of_a_server_broken(name: str):
    profile = load_profile(name)
    faults = [ServerInput(0, dies=(0,), ports=((1, 0),), l1=(0,))]
    training = TrainingSpec(load_model("llama-2-7b"), "vendor-tuned", 4096, 64, 1, 8, 1)
    ranks = (RankInput(0, True, (PartInput(0, tuple(range(8))),)),)
    state = solve(profile, faults, (WorkloadInput("a/b", training, ranks),))
    assert state.workloads[0].tokens_per_second == 0


def test_an_assumed_figure_is_not_a_sourced_one():
    assert sourced("cloudmatrix-384", "rated_kilowatts")
    assert sourced("gb200-nvl72", "rated_kilowatts")
    assert not sourced("atlas-a2-cluster", "rated_kilowatts"), "assumed"
    assert not sourced("h800-cluster", "rated_kilowatts"), "absent"
