"""Laws that hold for any faults, links and placements."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernode_api.ranges import format_ranges
from supernode_dataplane import load_profile, machine_inputs, solve
from supernode_dataplane.communication import LinkView, data_cost, pipeline_cost, tensor_cost
from supernode_dataplane.constants import LINK_EFFICIENCY
from supernode_dataplane.state import MachineState
from support.machines import SMALL, SMALL_MOE, compute_nodes, only, ranks_of_parts, run, super_node, workload
from support.readings import check_readings

CM = load_profile("cloudmatrix-384")
FAULTS = st.one_of(
    st.builds(lambda die: {"die": die}, st.integers(0, 15)),
    st.builds(lambda die, plane: {"diePort": {"die": die, "plane": plane}}, st.integers(0, 15), st.integers(0, 6)),
    st.builds(lambda plane, port: {"uplink": {"plane": plane, "port": port}}, st.integers(0, 6), st.integers(0, 15)),
    st.builds(lambda plane: {"l1": {"plane": plane}}, st.integers(0, 6)),
)
MACHINE_FAULTS = st.dictionaries(st.integers(0, 4), st.lists(FAULTS, max_size=6), max_size=4)


@st.composite
def placements(draw: st.DrawFn, dies: int = 32) -> list[dict[str, Any]]:
    """Ranks that hold 32 dies of five servers, in any order, with all or some of their links."""
    chosen = draw(st.permutations(range(80)))[:dies]
    parts = []
    for rank in range(0, dies, 4):
        servers: dict[int, list[int]] = {}
        for die in chosen[rank : rank + 4]:
            servers.setdefault(die // 16, []).append(die % 16)
        of_rank = []
        for server, held in servers.items():
            links = draw(st.sampled_from(["all", "most"]))
            ports = [die * 7 + plane for die in held for plane in range(7) if plane != 3]
            of_rank.append((server, format_ranges(held), "all" if links == "all" else format_ranges(ports)))
        parts.append(of_rank)
    return ranks_of_parts(parts)


LAYOUTS = st.sampled_from([(8, 2, 2), (8, 4, 1), (4, 2, 1), (2, 4, 4), (1, 2, 1), (1, 1, 1), (16, 2, 1), (32, 1, 1)])
MOE_LAYOUTS = st.sampled_from(
    [
        {"expert": 8}, {"expert": 32}, {"tensor": 8, "expert": 4}, {"tensor": 4, "pipeline": 2, "expert": 2},
        {"tensor": 4, "expert": 4, "expertTensor": 2}, {"context": 4, "expert": 8}, {"context": 4, "expert": 2},
        {"tensor": 2, "pipeline": 2, "virtualPipeline": 2, "context": 2, "expert": 4, "expertTensor": 2},
        {"pipeline": 4, "expert": 1},
    ]
)  # fmt: skip
"""Of 32 dies, for a model with experts."""
DENSE = LAYOUTS.map(lambda degrees: dict(zip(("tensor", "pipeline", "virtualPipeline"), degrees, strict=True)))
EVERY = DENSE.map(lambda degrees: ("dense", degrees)) | MOE_LAYOUTS.map(lambda degrees: ("moe", degrees))
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def solved(
    ranks: list[dict[str, Any]], layout: tuple[str, dict[str, Any]], faults: dict[int, list[dict[str, Any]]]
) -> MachineState:
    kind, degrees = layout
    base = {**SMALL, "training": {**SMALL["training"], "globalBatchSize": 64}} if kind == "dense" else SMALL_MOE
    return run(workload("a", ranks=ranks, base=base, **degrees), faults=faults)


@SLOW
@given(placements(), EVERY, MACHINE_FAULTS, st.integers(0, 4), FAULTS)
def test_one_more_failure_never_makes_a_workload_faster(ranks, layout, faults, server, fault):
    before = only(solved(ranks, layout, faults))
    worse = {**faults, server: [*faults.get(server, []), fault]}
    after = only(solved(ranks, layout, worse))
    assert before.problem is None
    assert after.tokens_per_second <= before.tokens_per_second * (1 + 1e-12)


@SLOW
@given(placements(), EVERY, MACHINE_FAULTS, st.data())
def test_more_links_never_make_a_workload_slower(ranks, layout, faults, data):
    fewer = only(solved(ranks, layout, faults))
    index = data.draw(st.integers(0, len(ranks) - 1))
    more = [dict(rank) for rank in ranks]
    more[index] = {**more[index], "parts": [{**part, "links": "all"} for part in more[index]["parts"]]}
    assert only(solved(more, layout, faults)).tokens_per_second >= fewer.tokens_per_second * (1 - 1e-12)


FASTER = st.sampled_from(
    ["port_bytes_per_second", "sio_bytes_per_second", "hbm_bytes_per_second_per_die", "bf16_flops_per_die"]
)
RINGS = st.sampled_from([{"tensor": 4, "context": 2}, {"tensor": 2, "pipeline": 2, "context": 4}, {"context": 8}]).map(
    lambda degrees: ("dense", degrees)
)
BESIDE = st.fixed_dictionaries(
    {
        "optimizerSharding": st.sampled_from(["zero1", "zero3"]),
        "recompute": st.sampled_from(["auto", "full"]),
        "sequenceLength": st.sampled_from([1024, 4096, 16384]),
    }
)
"""What decides which transfers run beside compute, and how much of it they have."""


@settings(SLOW, max_examples=150)
@given(placements(), EVERY | RINGS, BESIDE, st.booleans(), MACHINE_FAULTS, FASTER, st.floats(1.0, 15.0))
def test_more_bandwidth_or_more_flops_never_make_a_workload_slower(
    ranks, layout, beside, overlap, faults, figure, factor
):
    kind, degrees = layout
    base = SMALL if kind == "dense" else SMALL_MOE
    if kind == "moe":
        beside = {**beside, "overlapExchange": overlap}
    training = {**base["training"], "globalBatchSize": 64, **beside}
    job = workload("a", ranks=ranks, base={**base, "training": training}, **degrees)
    inputs = machine_inputs(super_node(), compute_nodes(48, faults), [job])
    better = replace(CM, **{figure: getattr(CM, figure) * factor})
    before, after = (solve(profile, inputs.compute_nodes, inputs.workloads) for profile in (CM, better))
    assert only(after).tokens_per_second >= only(before).tokens_per_second * (1 - 1e-12)


@SLOW
@given(placements(), EVERY, MACHINE_FAULTS)
def test_every_reading_is_consistent_with_every_other(ranks, layout, faults):
    state = solved(ranks, layout, faults)
    check_readings(state)


@settings(SLOW, max_examples=25)
@given(MACHINE_FAULTS, st.integers(0, 2**32 - 1))
def test_several_workloads_at_once_never_get_more_than_the_links_carry(faults, seed):
    order = np.random.default_rng(seed).permutation(80)
    base = {**SMALL, "training": {**SMALL["training"], "globalBatchSize": 64}}
    jobs = []
    for index in range(4):
        mine = order[index * 16 : index * 16 + 16]
        parts = [[(int(die) // 16, str(int(die) % 16)) for die in mine[rank : rank + 8]] for rank in (0, 8)]
        jobs.append(workload(f"w{index}", ranks=ranks_of_parts(merged(parts)), base=base, tensor=(16, 8, 2, 1)[index]))
    together = run(*jobs, faults=faults)
    check_readings(together)
    for job, result in zip(jobs, together.workloads, strict=True):
        assert result.problem is None
        assert result.tokens_per_second <= only(run(job, faults=faults)).tokens_per_second * (1 + 1e-9)


def merged(parts: list[list[tuple[int, str]]]) -> list[list[tuple[int, str]]]:
    """Parts of one server become one."""
    result = []
    for of_rank in parts:
        servers: dict[int, list[int]] = {}
        for server, die in of_rank:
            servers.setdefault(server, []).append(int(die))
        result.append([(server, format_ranges(dies)) for server, dies in servers.items()])
    return result


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(64)), LAYOUTS)
def test_links_that_are_all_whole_cost_the_same_when_looked_at_one_by_one(order, layout):
    tensor, pipeline, chunks = layout
    grid = np.array(order[: 64 // (tensor * pipeline) * tensor * pipeline], dtype=np.int64).reshape(
        pipeline, -1, tensor
    )
    alike = LinkView(CM, None, None)
    each = LinkView(CM, np.ones((CM.dies, CM.planes)), np.ones((CM.servers, CM.servers, CM.planes)))
    for cost in (tensor_cost, data_cost, lambda view, dies: pipeline_cost(view, dies, chunks)):
        one, many = cost(alike, grid), cost(each, grid)
        assert np.isclose(one.seconds_per_byte, many.seconds_per_byte, rtol=1e-12)
        assert one.latency_seconds == many.latency_seconds
        assert np.allclose(one.ports * np.ones(CM.planes), many.ports)
        assert np.allclose(one.uplinks * np.ones(CM.planes), many.uplinks)


def test_in_a_full_mesh_a_die_reaches_each_peer_over_one_port_only():
    a2 = load_profile("atlas-a2-cluster")
    view, port = LinkView(a2, None, None), 1 / (28e9 * LINK_EFFICIENCY)
    dies = np.arange(8, dtype=np.int64)
    for size in (2, 4, 8):
        assert np.isclose(tensor_cost(view, dies[:size].reshape(1, 1, size)).seconds_per_byte, port)
        assert np.isclose(data_cost(view, dies[:size].reshape(1, size, 1)).seconds_per_byte, port / (size - 1))
        assert np.isclose(pipeline_cost(view, dies[:size].reshape(size, 1, 1), 1).seconds_per_byte, port)


def test_in_a_switched_server_a_die_uses_all_of_its_ports_for_any_peer():
    view, die = LinkView(CM, None, None), 1 / (196e9 * LINK_EFFICIENCY)
    dies = np.arange(0, 16, 2, dtype=np.int64)
    assert np.isclose(tensor_cost(view, dies.reshape(1, 1, 8)).seconds_per_byte, 7 * die)
    assert np.isclose(data_cost(view, dies.reshape(1, 8, 1)).seconds_per_byte, die)
    assert np.isclose(pipeline_cost(view, dies.reshape(8, 1, 1), 1).seconds_per_byte, die)
    package = np.arange(2, dtype=np.int64)
    assert np.isclose(tensor_cost(view, package.reshape(1, 1, 2)).seconds_per_byte, 1 / (270e9 * LINK_EFFICIENCY))


def test_between_servers_bandwidth_is_lower_and_latency_higher():
    view = LinkView(CM, None, None)
    near = tensor_cost(view, np.arange(0, 16, 2, dtype=np.int64).reshape(1, 1, 8))
    far = tensor_cost(view, np.arange(0, 128, 16, dtype=np.int64).reshape(1, 1, 8))
    assert np.isclose(far.seconds_per_byte / near.seconds_per_byte, 170 / 150)
    assert np.isclose(far.latency_seconds / near.latency_seconds, 2.1 / 0.7)


@pytest.mark.parametrize("chunks", [1, 3])
def test_ports_carry_exactly_the_bytes_of_the_messages(chunks: int):
    view, grid = LinkView(CM, None, None), np.arange(384, dtype=np.int64).reshape(4, 6, 16)
    planes = np.ones(CM.planes)
    tensor = (tensor_cost(view, grid).ports * planes).sum(axis=1)
    assert np.allclose(tensor, 14), "a shard for each of 15 others, one of them in the package"
    stages = (pipeline_cost(view, grid, chunks).ports * planes).sum(axis=1).reshape(4, 96)
    ends, middle = 2 * chunks - 1, 2 * chunks
    assert np.allclose(stages, np.array([ends, middle, middle, ends])[:, None]), (
        "handed on, and back; no wrap at the end"
    )
    assert np.allclose((data_cost(view, grid).ports * planes).sum(axis=1), 1)
    assert np.allclose((data_cost(view, grid).uplinks * planes).sum(axis=1), 1), "every edge leaves the server"


def test_a_ring_sends_half_either_way_on_the_planes_that_each_pair_has():
    ports = np.ones((CM.dies, CM.planes))
    ports[4, 3] = 0
    load = np.asarray(
        data_cost(LinkView(CM, ports, None), np.array([0, 2, 4, 6], dtype=np.int64).reshape(1, 4, 1)).ports
    )
    whole, lacking = np.full(7, 1 / 7), np.array([1 / 6] * 3 + [0] + [1 / 6] * 3)
    assert np.allclose(load, [whole, (whole + lacking) / 2, lacking, (whole + lacking) / 2])
