"""Supernodes joined by RDMA: identities, capacity after failures, laws of rings, memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernode_dataplane import load_model, load_profile
from supernode_dataplane.machine import ServerInput, TrainingSpec
from supernode_dataplane.superclusters import (
    ClusterFabric,
    ClusterFaults,
    Member,
    Ring,
    SpanningWorkload,
    Supercluster,
    build_cluster_fabric,
    pair_bandwidth,
    share_rings,
    solve_supercluster,
    supernode_bandwidth,
    tier_capacity,
)

CM = load_profile("cloudmatrix-384")
LLAMA = load_model("llama-3.1-405b")
WHOLE = tuple(range(48))


def fabric(supernodes: int = 4, oversubscription: int = 1, **faults: Any) -> ClusterFabric:
    cluster = Supercluster(profile=CM, supernodes=supernodes, oversubscription=oversubscription)
    return build_cluster_fabric(cluster, ClusterFaults(**faults))


def llama(key: str, supernodes: range, servers: tuple[int, ...] = WHOLE, each: int = 192) -> SpanningWorkload:
    batch = each * len(supernodes)
    training = TrainingSpec(LLAMA, "vendor-tuned", 8192, batch, tensor=16, pipeline=8, virtual_pipeline=4)
    return SpanningWorkload(key=key, training=training, members=tuple(Member(s, servers) for s in supernodes))


def ring(key: str, supernodes: tuple[int, ...], servers: tuple[int, ...], sent: float = 1e15) -> Ring:
    return Ring(
        key=key,
        supernodes=supernodes,
        servers=(servers,) * len(supernodes),
        bytes_per_step=sent,
        step_seconds=1.0,
        hidden_behind_seconds=0.0,
    )


def test_chips_ports_and_bandwidth_of_64_supernodes_are_exact():
    cluster = Supercluster(profile=CM, supernodes=64)
    assert (cluster.dies, cluster.packages, cluster.rails) == (49152, 24576, 8)
    assert (cluster.leaves, cluster.spines, cluster.links) == (512, 384, 24576)
    assert cluster.port_bytes_per_second == 50e9
    capacity = tier_capacity(build_cluster_fabric(cluster))
    assert capacity.ports == capacity.links == capacity.usable == 24576 * 50e9
    assert tier_capacity(fabric(64, 4)).links == capacity.links / 4


@pytest.mark.parametrize(
    ("supernodes", "oversubscription", "words"),
    [(65, 1, "from 1 to 64, not 65"), (0, 1, "from 1 to 64"), (2, 5, "divides the 48 servers"), (2, 0, "not 0")],
)
def test_what_cannot_be_wired_is_refused(supernodes: int, oversubscription: int, words: str):
    with pytest.raises(ValueError, match=words):
        Supercluster(profile=CM, supernodes=supernodes, oversubscription=oversubscription)


def test_a_dead_leaf_takes_a_rail_of_one_supernode_and_a_dead_spine_a_48th_of_a_rail_of_all():
    whole = supernode_bandwidth(fabric(), 0, 1)
    assert whole == 384 * 50e9
    leaf = fabric(leaves=((0, 3),))
    assert supernode_bandwidth(leaf, 0, 1) == whole * 7 / 8
    assert supernode_bandwidth(leaf, 1, 2) == whole
    spine = fabric(spines=((3, 5),))
    assert supernode_bandwidth(spine, 1, 2) == pytest.approx(whole * (1 - 1 / 8 / 48))
    assert tier_capacity(fabric(ports=((0, 0, 0),))).usable == 4 * whole - 50e9


def test_two_supernodes_that_reach_different_spines_have_no_way_on_that_rail():
    halves = tuple((0, 0, s) for s in range(24)) + tuple((1, 0, s) for s in range(24, 48))
    split = fabric(links=halves)
    assert pair_bandwidth(split, (0, 0), (1, 0)) == {}
    assert pair_bandwidth(split, (0, 0), (2, 0)) == {"rdma": 25e9}
    assert pair_bandwidth(split, (0, 0), (1, 2)) == {"rdma": 25e9}, "the receiver is on the next rail"


def test_a_message_leaves_by_the_port_of_its_server_that_is_on_the_receivers_rail():
    broken = fabric(ports=((0, 0, 1),))
    assert pair_bandwidth(broken, (0, 0), (1, 2)) == {}
    assert pair_bandwidth(broken, (0, 2), (1, 0)) == {"rdma": 25e9}
    with pytest.raises(ValueError, match="over its bus"):
        pair_bandwidth(broken, (0, 0), (0, 1))
    with pytest.raises(ValueError, match="no die 768"):
        pair_bandwidth(broken, (0, 768), (1, 1))


def test_a_ring_goes_at_the_rate_of_its_ports_and_what_is_sent_is_received():
    (result,), traffic = share_rings(fabric(), [ring("a", (0, 1, 2), WHOLE)])
    assert result.bytes_per_second == pytest.approx(0.7 * 384 * 50e9)
    assert result.ring_seconds == pytest.approx(1e15 / result.bytes_per_second, rel=1e-6)
    assert traffic.links_up.sum() == pytest.approx(traffic.links_down.sum())
    assert traffic.links_up.sum() == pytest.approx(traffic.ports.sum())
    assert traffic.ports.sum() * result.step_seconds == pytest.approx(3 * 1e15)
    assert traffic.links_up[3].sum() == 0.0, "the fourth supernode has no part in it"


def test_rings_share_an_oversubscribed_leaf_and_do_not_meet_on_a_full_one():
    first, second = ring("a", (0, 1), tuple(range(24))), ring("b", (0, 1), tuple(range(24, 48)))
    (alone,), _ = share_rings(fabric(oversubscription=4), [first])
    both, traffic = share_rings(fabric(oversubscription=4), [first, second])
    assert all(result.contended for result in both)
    assert both[0].step_seconds == pytest.approx(both[1].step_seconds)
    assert both[0].bytes_per_second == pytest.approx(alone.bytes_per_second / 2, rel=0.02)
    assert traffic.links_up.max() <= 0.7 * 50e9 * 1.001
    full, _ = share_rings(fabric(), [first, second])
    assert not any(result.contended for result in full)


faults = st.builds(
    ClusterFaults,
    ports=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 47), st.integers(0, 7)), max_size=20).map(tuple),
    links=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7), st.integers(0, 47)), max_size=20).map(tuple),
    leaves=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7)), max_size=3).map(tuple),
    spines=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 47)), max_size=20).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(faults, faults, st.sampled_from([1, 2, 4, 8]))
def test_a_failure_never_makes_a_ring_faster_and_no_link_is_above_its_rate(
    some: ClusterFaults, more: ClusterFaults, oversubscription: int
):
    cluster = Supercluster(profile=CM, supernodes=3, oversubscription=oversubscription)
    worse = ClusterFaults(
        ports=some.ports + more.ports,
        links=some.links + more.links,
        leaves=some.leaves + more.leaves,
        spines=some.spines + more.spines,
    )
    one = ring("a", (0, 1, 2), tuple(range(0, 48, 2)))
    before, after = (build_cluster_fabric(cluster, f) for f in (some, worse))
    (fast,), _ = share_rings(before, [one])
    (slow,), traffic = share_rings(after, [one])
    assert slow.step_seconds >= fast.step_seconds * (1 - 1e-9)
    assert tier_capacity(after).usable <= tier_capacity(before).usable
    for loads, up in ((traffic.links_up, after.links), (traffic.links_down, after.links), (traffic.ports, after.ports)):
        assert loads.max() <= 50e9 * (1 + 1e-9)
        assert not loads[~up].any()
    rich = replace(CM, rdma_bytes_per_second=2 * CM.rdma_bytes_per_second)
    wider = build_cluster_fabric(replace(cluster, profile=rich), some)
    (faster,), _ = share_rings(wider, [one])
    assert faster.step_seconds <= fast.step_seconds * (1 + 1e-9)


@settings(max_examples=15, deadline=None)
@given(faults, st.sampled_from([2, 4, 8]))
def test_traffic_of_several_rings_is_conserved_and_no_ring_is_faster_than_alone(
    some: ClusterFaults, oversubscription: int
):
    cluster = Supercluster(profile=CM, supernodes=3, oversubscription=oversubscription)
    broken = build_cluster_fabric(cluster, some)
    rings = [
        ring("a", (0, 1, 2), tuple(range(16)), 4e14),
        ring("b", (2, 1), tuple(range(16, 40)), 1e15),
        ring("c", (0, 2), tuple(range(40, 48)), 1e13),
    ]
    results, traffic = share_rings(broken, rings)
    for one, result in zip(rings, results, strict=True):
        (alone,), _ = share_rings(broken, [one])
        assert result.step_seconds >= alone.step_seconds * (1 - 1e-9)
    assert traffic.links_up.sum() == pytest.approx(traffic.links_down.sum())
    assert traffic.links_up.max() <= 50e9 * 1.01
    assert not traffic.links_up[~broken.links].any()


def test_training_across_supernodes_is_that_of_one_plus_the_ring():
    state = solve_supercluster(fabric(), [llama("a", range(4)), llama("b", range(0))])
    spanning, empty = state.workloads
    alone = solve_supercluster(fabric(1), [llama("a", range(1))]).workloads[0]
    assert spanning.slowest_part_seconds == pytest.approx(alone.step_seconds)
    assert spanning.step_seconds == pytest.approx(alone.step_seconds + spanning.exposed_seconds)
    assert 0.9 < spanning.tokens_per_second_per_card / alone.tokens_per_second_per_card < 1.0
    assert spanning.cards == 4 * 384
    assert state.tokens_per_second == spanning.tokens_per_second
    assert empty.problem is not None
    sent = state.traffic.ports[0].sum() * spanning.step_seconds
    assert sent == pytest.approx(2 * 3 / 4 * LLAMA.parameters * 4)


def test_faster_cores_never_make_a_run_across_supernodes_slower_though_they_hide_less():
    training = TrainingSpec(
        load_model("llama-3.1-70b"), "open-source", 4096, 24, tensor=16, pipeline=2, context=4,
        optimizer_sharding="zero3",
    )  # fmt: skip
    job = SpanningWorkload(key="a", training=training, members=(Member(0, WHOLE), Member(1, WHOLE)))
    steps = []
    for factor in (1.0, 1.2, 1.5, 2.0, 4.0, 14.0):
        machine = replace(CM, bf16_flops_per_die=CM.bf16_flops_per_die * factor)
        one = build_cluster_fabric(Supercluster(profile=machine, supernodes=2, oversubscription=48))
        (result,) = solve_supercluster(one, (job,)).workloads
        assert result.problem is None
        assert result.exposed_seconds > 0
        steps.append(result.step_seconds)
    assert all(faster <= slower * (1 + 1e-12) for slower, faster in pairwise(steps))


def test_the_slowest_supernode_and_a_network_that_is_cut_hold_up_the_whole_run():
    healthy = solve_supercluster(fabric(), [llama("a", range(4))]).workloads[0]
    hurt = solve_supercluster(fabric(), [llama("a", range(4))], {2: [ServerInput(0, dies=(0,))]}).workloads[0]
    assert hurt.step_seconds > healthy.step_seconds * 1.1
    cut = fabric(leaves=tuple((1, rail) for rail in range(8)))
    gone = solve_supercluster(cut, [llama("a", range(4))]).workloads[0]
    assert gone.tokens_per_second == 0
    assert "no way is left" in gone.waiting
    dead = {1: [ServerInput(s, dies=(0,)) for s in range(48)]}
    waits = solve_supercluster(fabric(), [llama("a", range(4))], dead).workloads[0]
    assert waits.waiting.startswith("supernode 1: ")


@pytest.mark.parametrize(
    ("members", "batch", "words"),
    [
        ((Member(0, WHOLE), Member(0, WHOLE)), 384, "each supernode named once"),
        ((Member(0, WHOLE), Member(9, WHOLE)), 384, "supernodes 0 to 3"),
        ((Member(0, WHOLE), Member(1, (0, 48))), 384, "supernode 1: servers"),
        ((Member(0, WHOLE), Member(1, (0, 1))), 384, "as many servers"),
        ((Member(0, WHOLE), Member(1, WHOLE)), 385, "385 is not divisible by 2 supernodes"),
    ],
)
def test_what_cannot_be_is_said_with_its_field(members: tuple[Member, ...], batch: int, words: str):
    training = TrainingSpec(LLAMA, "vendor-tuned", 8192, batch, tensor=16, pipeline=8, virtual_pipeline=4)
    workload = SpanningWorkload(key="a", training=training, members=members)
    (result,) = solve_supercluster(fabric(), [workload]).workloads
    assert result.problem is not None
    assert words in result.problem.message


def test_64_supernodes_with_a_fault_in_each_need_far_less_than_a_gibibyte():
    network = fabric(64, 4)
    assert network.nbytes < 1 << 20
    broken = {s: [ServerInput(s % 48, ports=((0, s % 7),))] for s in range(64)}
    workloads = [llama(f"w{i}", range(64), tuple(range(16 * i, 16 * i + 16)), 48) for i in range(3)]
    tracemalloc.start()
    state = solve_supercluster(network, workloads, broken)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 256 << 20
    assert len({id(machine) for machine in state.machines}) == 64
    assert all(result.tokens_per_second > 0 for result in state.workloads)
    assert np.isfinite(state.traffic.links_up).all()


def test_equal_supernodes_are_solved_once():
    state = solve_supercluster(fabric(4), [llama("a", range(4))])
    assert len({id(machine) for machine in state.machines}) == 1


def test_what_a_leaf_sends_up_comes_down_at_the_next_supernode_by_the_same_spines():
    broken = fabric(links=tuple((1, 0, spine) for spine in range(24)))
    _, traffic = share_rings(broken, [ring("a", (0, 1, 2), WHOLE)])
    assert np.allclose(traffic.links_up[0], traffic.links_down[1])
    assert np.allclose(traffic.links_up[2], traffic.links_down[0])
    assert not np.allclose(traffic.links_up[0], traffic.links_down[0]), "from 2 to 0 all spines are there"
