"""Every failure that the fabric knows: what it takes from pairs, tiers and planes, and from whoever runs there."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernode_dataplane import load_profile, machine_inputs, solve
from supernode_dataplane.errors import ImpossibleFailureError
from supernode_dataplane.fabric import Fabric, build_fabric, pair_bandwidth, tier_bandwidth
from supernode_dataplane.failures import Failures, failed_servers
from supernode_dataplane.job_links import JobLinks, costs_of_job, job_links
from supernode_dataplane.link_costs import Groups, link_costs
from supernode_dataplane.optics import lit_modules, optics_of
from supernode_dataplane.state import MachineState
from support.deployments import QWEN_COLOCATED, R1_DISAGGREGATED, R1_PREFILL, deployment
from support.machines import LLAMA, SMALL_MOE, only, super_node, workload
from support.readings import check_readings

CM = load_profile("cloudmatrix-384")
GIGA = 1e9


def fabric(**failures: Any) -> Fabric:
    return build_fabric(CM, failed_servers(CM, Failures(**failures)))


def between(found: Fabric, a: int, b: int) -> float:
    return sum(pair_bandwidth(found, a, b).values()) / GIGA


def test_each_failure_takes_what_it_carries_and_nothing_else():
    near, far = (0, 5), (0, 16)
    assert between(fabric(die_ports=((0, 0, 2),)), *near) == between(fabric(), *near) * 6 / 7
    assert between(fabric(die_ports=((0, 1, 2),)), *far) == between(fabric(), *far)
    assert between(fabric(l1=((1, 2),)), *far) == between(fabric(), *far) * 6 / 7
    assert between(fabric(l1=((1, 2),)), *near) == between(fabric(), *near)
    one = fabric(uplinks=((0, 3, 9),))
    assert one.common is not None
    assert one.common[0, 1, 3] == 15
    assert one.common[1, 2, 3] == 16
    chip = fabric(l2=((3, 9),))
    assert chip.common is not None
    assert (chip.common[:, :, 3] == 15).all()
    assert (np.delete(chip.common, 3, axis=2) == 16).all()
    assert not fabric(servers=((5,),)).healthy[80:96].any()
    assert fabric(servers=((5,),)).healthy.sum() == 752


def links_on(servers: tuple[int, ...], **failures: Any) -> JobLinks:
    """The links of a job on all dies of these servers, others leaving it everything."""
    found = fabric(**failures)
    dies = np.concatenate([np.arange(16 * server, 16 * server + 16) for server in servers]).astype(np.int64)
    return job_links(found, dies, found.ports[dies], None)


def test_a_job_has_the_same_links_whatever_fails_on_servers_of_others():
    mine = links_on((3, 9, 20), uplinks=((9, 1, 4),))
    assert mine == links_on((3, 9, 20), uplinks=((9, 1, 4), (7, 2, 2)), l1=((8, 0),), die_ports=((30, 0, 0),))
    assert mine != links_on((3, 9, 20), uplinks=((9, 1, 5),))
    assert mine != links_on((3, 9, 20), uplinks=((9, 1, 4),), die_ports=((3, 0, 0),))


def test_costs_that_are_kept_are_those_of_the_pairs_as_they_are_and_alike_jobs_share_them():
    faults = {"uplinks": ((20, 1, 4), (20, 1, 5), (3, 0, 0)), "l1": ((9, 2),), "die_ports": ((20, 4, 6),)}
    moved = {kind: tuple((place[0] + 1, *place[1:]) for place in places) for kind, places in faults.items()}
    # In another order of its servers than theirs: what is kept goes by number.
    one, other, groups = links_on((20, 3, 9), **faults), links_on((21, 4, 10), **moved), Groups()
    shape = (1, 6, 8)
    kept = costs_of_job(one, shape, groups)
    fresh = link_costs(one.view(), np.frombuffer(one.dies, dtype=np.int64).reshape(shape), groups)
    for name in ("tensor", "pipeline", "data"):
        for part, value in asdict(getattr(fresh, name)).items():
            assert np.array_equal(getattr(getattr(kept, name), part), value), (name, part)
    assert kept.data.seconds_per_byte > costs_of_job(links_on((20, 3, 9)), shape, groups).data.seconds_per_byte
    assert costs_of_job(other, shape, groups) is kept
    assert costs_of_job(links_on((3, 9, 20), **faults), shape, groups) is not kept


def test_what_remains_of_each_tier_and_plane_is_counted_from_the_two_link_sets():
    found = tier_bandwidth(fabric(die_ports=((0, 0, 2), (4, 3, 2)), uplinks=((0, 3, 9),), planes=((6,),), l2=((1, 4),)))
    ports = np.array([768, 768, 766, 768, 768, 768, 0])
    uplinks = np.array([768, 720, 768, 767, 768, 768, 0])
    assert found.node == pytest.approx(ports * 28e9)
    assert found.pod == pytest.approx(uplinks * 28e9)
    whole = tier_bandwidth(fabric())
    assert whole.node.sum() == whole.pod.sum() == pytest.approx(5376 * 28e9)


def test_every_uplink_has_a_module_at_either_end_and_all_modules_are_the_published_ones():
    optics = optics_of(CM)
    assert optics.links == 2, "one 400G module carries two uplinks"
    assert optics.scale_up.shape == (5376, 2)
    assert (np.bincount(optics.scale_up.reshape(-1), minlength=5376) == 2).all()
    assert optics.modules == CM.optical_modules == 6912
    sides = (optics.at_l1.reshape(-1, 2), optics.at_l2.reshape(-1, 2))
    assert all((np.bincount(side.reshape(-1), minlength=5376) == 1).all() for side in sides)
    chip, port = np.divmod(sides[0], 16)
    assert (chip[:, 0] == chip[:, 1]).all(), "of one L1 chip"
    assert (port[:, 0] // 2 == port[:, 1] // 2).all()
    server, wired = np.divmod(sides[1], 7 * 16)
    assert (wired[:, 0] == wired[:, 1]).all(), "of one L2 chip"
    assert (server[:, 0] != server[:, 1]).all()


def test_a_machine_whose_modules_carry_no_whole_uplinks_has_none_laid_out():
    assert optics_of(load_profile("atlas-a2-cluster")).scale_up.size == 0
    assert lit_modules(load_profile("atlas-a2-cluster"), np.zeros((0, 0), dtype=bool)).size == 0


def solved(failures: Failures, *jobs: dict[str, Any], figures: dict[str, float] | None = None) -> MachineState:
    inputs = machine_inputs(super_node(), [], jobs)
    profile = CM if figures is None else type(CM)(**{**asdict(CM), **figures})
    return solve(profile, failed_servers(profile, failures), inputs.workloads)


def test_a_failed_module_is_dark_in_the_state_and_takes_two_uplinks():
    state = solved(Failures(l1_optics=((3, 2, 7),))).fabric
    dark = np.flatnonzero(~state.optics_up)
    assert dark.tolist() == [(3 * 7 + 2) * 8 + 7]
    chip, port = np.nonzero(~state.uplink_up)
    assert (chip.tolist(), port.tolist()) == ([23, 23], [14, 15])
    far = solved(Failures(l2_optics=((2, 15, 1),))).fabric
    assert np.flatnonzero(~far.optics_up).tolist() == [2688 + (2 * 16 + 15) * 24 + 1]
    chip, port = np.nonzero(~far.uplink_up)
    assert (chip.tolist(), port.tolist()) == ([2 * 7 + 2, 3 * 7 + 2], [15, 15])
    assert solved(Failures()).fabric.optics_up.all()


def test_a_failed_l2_chip_is_down_dark_and_draws_nothing():
    state = solved(Failures(l2=((2, 15),)))
    assert np.flatnonzero(~state.fabric.l2_up).tolist() == [2 * 16 + 15]
    assert state.fabric.l2_power_watts[2 * 16 + 15] == 0
    assert state.power_watts < solved(Failures()).power_watts
    assert (~state.fabric.optics_up).sum() == 24


IMPOSSIBLE = [
    ("servers", (48,), "server", "48 servers"),
    ("planes", (7,), "plane", "7 planes"),
    ("dies", (0, 16), "die", "16 dies"),
    ("dies", (48, 0), "server", "48 servers"),
    ("die_ports", (0, 0, 7), "plane", "7 planes"),
    ("die_ports", (0, 16, 0), "die", "16 dies"),
    ("uplinks", (0, 0, 16), "port", "16 uplinks"),
    ("uplinks", (0, 7, 0), "plane", "7 planes"),
    ("l1", (48, 0), "server", "48 servers"),
    ("l2", (0, 16), "chip", "16 L2 chips"),
    ("l2", (7, 0), "plane", "7 planes"),
    ("l1_optics", (0, 0, 8), "module", "8 modules"),
    ("l2_optics", (0, 0, 24), "module", "24 modules"),
    ("l2_optics", (0, 16, 0), "chip", "16 L2 chips"),
    ("dies", (-1, 0), "server", "48 servers"),
]


@pytest.mark.parametrize(("kind", "place", "part", "words"), IMPOSSIBLE)
def test_what_the_machine_does_not_have_cannot_fail(kind, place, part, words):
    failed: dict[str, Any] = {kind: ((0,) * len(place), place)}
    with pytest.raises(ImpossibleFailureError, match=words) as caught:
        failed_servers(CM, Failures(**failed))
    assert (caught.value.kind, caught.value.index, caught.value.part) == (kind, 1, part)


@pytest.mark.parametrize("kind", ["planes", "l1", "uplinks", "l2", "l1_optics", "l2_optics"])
def test_a_meshed_machine_says_what_can_fail_in_it_instead(kind):
    size = len(next(place for name, place, _, _ in IMPOSSIBLE if name == kind))
    failed: dict[str, Any] = {kind: ((0,) * size,)}
    with pytest.raises(ImpossibleFailureError, match="meshed; name dies") as caught:
        failed_servers(load_profile("atlas-a2-cluster"), Failures(**failed))
    assert caught.value.index is None


def _places(*counts: int) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    return st.lists(st.tuples(*(st.integers(0, count - 1) for count in counts)), max_size=3).map(tuple)


SERVERS = 14
"""Where the workloads of the laws are; others fail too."""
ANY = st.builds(
    Failures,
    servers=_places(SERVERS + 2).map(lambda found: found[:1]),
    planes=_places(7).map(lambda found: found[:1]),
    dies=_places(SERVERS, 16).map(lambda found: found[:1]),
    die_ports=_places(SERVERS, 16, 7),
    uplinks=_places(SERVERS, 7, 16),
    l1=_places(SERVERS, 7),
    l2=_places(7, 16),
    l1_optics=_places(SERVERS, 7, 8),
    l2_optics=_places(7, 16, 7),
)
JOBS = {
    "training": workload("a", range(8), LLAMA, tensor=16, pipeline=8, virtualPipeline=4),
    "experts": workload("a", range(2), SMALL_MOE, expert=8),
    "prefill": deployment("a", range(4), R1_PREFILL),
    "disaggregated": deployment("a", range(SERVERS), R1_DISAGGREGATED),
    "colocated": deployment("a", range(3), QWEN_COLOCATED),
}
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def joined(one: Failures, other: Failures) -> Failures:
    return Failures(**{field.name: getattr(one, field.name) + getattr(other, field.name) for field in fields(Failures)})


@SLOW
@given(st.sampled_from(sorted(JOBS)), ANY, ANY)
def test_failures_of_any_kind_never_make_a_lone_workload_faster(job, some, more):
    before, after = (only(solved(failures, JOBS[job])) for failures in (some, joined(some, more)))
    assert before.problem is None
    assert after.tokens_per_second <= before.tokens_per_second * (1 + 1e-12)


@SLOW
@given(st.sampled_from(sorted(JOBS)), ANY, st.sampled_from(["port", "measured"]), st.floats(1, 4))
def test_more_bandwidth_never_makes_a_lone_workload_slower_whatever_has_failed(job, failures, which, factor):
    names = ["port_bytes_per_second", "sio_bytes_per_second"]
    if which == "measured":
        names = [f"{tier}_measured_bytes_per_second" for tier in ("node", "pod", "sio")]
    more = {name: getattr(CM, name) * factor for name in names}
    before, after = (only(solved(failures, JOBS[job], figures=figures)) for figures in (None, more))
    assert after.tokens_per_second >= before.tokens_per_second * (1 - 1e-12)


@SLOW
@given(st.sampled_from(sorted(JOBS)), ANY)
def test_readings_stay_consistent_whatever_has_failed(job, failures):
    check_readings(solved(failures, JOBS[job]))
