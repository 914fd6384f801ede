"""Laws of inference on placed dies, for any faults, links and placements: nothing is faster for having less."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernode_api.ranges import format_ranges
from supernode_dataplane import load_profile, machine_inputs, solve
from supernode_dataplane.communication import LinkView
from supernode_dataplane.pool_links import pool_links
from supernode_dataplane.state import MachineState
from support.deployments import MODES, deployment
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
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MOE, DENSE = {"model": SMALL_MOE["model"]}, {"model": {"name": "llama-2-7b"}}


def served(base: dict[str, Any], mode: str, *, decode: Any = None, prefill: Any = None, **more: Any) -> dict[str, Any]:
    """A spec; tokens and load are those of a busy chat service."""
    inference: dict[str, Any] = {"mode": mode, "inputTokens": 2000, **more}
    if mode != "Prefill":
        inference["outputTokens"] = 500
        inference.setdefault("load", {"concurrency": 640})
        if "batch" in more:
            del inference["load"]
    pools = {"decode": decode, "prefill": prefill}
    inference |= {role: pool for role, pool in pools.items() if pool is not None}
    return {**base, "stack": "vendor-tuned", "inference": inference}


def split(**parallelism: int) -> dict[str, Any]:
    return {"parallelism": parallelism}


SPECS = st.sampled_from(
    [
        served(MOE, "Decode", decode=split(expert=32)),
        served(MOE, "Decode", decode=split(expert=8, tensor=2), batch={"sequencesPerCard": 32}),
        served(MOE, "Decode", decode=split(expert=1, tensor=4), batch={"sequencesPerCard": 3}),
        served(MOE, "Prefill", prefill=split(expert=16), promptsPerBatch=2),
        served(MOE, "Prefill", prefill=split(expert=4, tensor=4), cache={"reusePercent": 50}),
        served(MOE, "Colocated", decode=split(expert=32), speculation={"drafts": 2, "acceptancePercent": [80, 50]}),
        served(
            MOE, "Disaggregated", prefill={"nodes": 2, **split(expert=4)},
            decode={**split(expert=24), "experts": {"redundant": 8}},
        ),
        served(MOE, "Disaggregated", prefill={"nodes": 6, **split(tensor=2, expert=8)}, decode=split(expert=8)),
        served(DENSE, "Decode", decode=split(tensor=2)),
        served(DENSE, "Colocated", decode=split(tensor=8)),
        served(DENSE, "Prefill", prefill=split(tensor=1)),
        served(DENSE, "Disaggregated", prefill={"nodes": 4, **split(tensor=16)}, decode=split(tensor=4)),
    ]
)  # fmt: skip
"""For eight ranks of four dies."""


@st.composite
def placements(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Eight ranks of four dies on five servers, in any order, with all or some of their links."""
    chosen = draw(st.permutations(range(80)) | st.just(list(range(32))))[:32]
    parts = []
    for rank in range(0, 32, 4):
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


Faults = dict[int, list[dict[str, Any]]]


def solved(ranks: list[dict[str, Any]], spec: dict[str, Any], faults: Faults) -> MachineState:
    return run(deployment("a", (), spec, ranks=ranks), faults=faults)


@SLOW
@given(placements(), SPECS, MACHINE_FAULTS, st.integers(0, 4), FAULTS)
def test_one_more_failure_never_makes_a_deployment_faster(ranks, spec, faults, server, fault):
    before = only(solved(ranks, spec, faults))
    after = only(solved(ranks, spec, {**faults, server: [*faults.get(server, []), fault]}))
    assert before.problem is None
    assert after.tokens_per_second <= before.tokens_per_second * (1 + 1e-12)


@SLOW
@given(placements(), SPECS, MACHINE_FAULTS, st.data())
def test_more_links_never_make_a_deployment_slower(ranks, spec, faults, data):
    fewer = only(solved(ranks, spec, faults))
    index = data.draw(st.integers(0, len(ranks) - 1))
    more = [dict(rank) for rank in ranks]
    more[index] = {**more[index], "parts": [{**part, "links": "all"} for part in more[index]["parts"]]}
    assert only(solved(more, spec, faults)).tokens_per_second >= fewer.tokens_per_second * (1 - 1e-12)


FASTER = st.sampled_from(
    [
        "node_measured_bytes_per_second",
        "pod_measured_bytes_per_second",
        "sio_measured_bytes_per_second",
        "hbm_bytes_per_second_per_die",
        "bf16_flops_per_die",
        "int8_ops_per_die",
    ]
)


@SLOW
@given(placements(), SPECS, MACHINE_FAULTS, FASTER, st.floats(1.0, 1.15))
def test_more_bandwidth_or_more_flops_never_make_a_deployment_slower(ranks, spec, faults, figure, factor):
    inputs = machine_inputs(super_node(), compute_nodes(48, faults), [deployment("a", (), spec, ranks=ranks)])
    better = replace(CM, **{figure: getattr(CM, figure) * factor})
    before, after = (solve(profile, inputs.compute_nodes, inputs.workloads) for profile in (CM, better))
    assert only(after).tokens_per_second >= only(before).tokens_per_second * (1 - 1e-12)


@SLOW
@given(placements(), SPECS, MACHINE_FAULTS)
def test_every_reading_of_a_deployment_is_consistent_with_every_other(ranks, spec, faults):
    check_readings(solved(ranks, spec, faults))


@settings(SLOW, max_examples=25)
@given(MACHINE_FAULTS, st.integers(0, 2**32 - 1), st.lists(SPECS, min_size=2, max_size=2))
def test_deployments_beside_training_never_get_more_than_the_links_carry(faults, seed, specs):
    order = np.random.default_rng(seed).permutation(80)
    jobs = []
    for index, spec in enumerate([None, *specs]):
        mine = order[index * 24 : index * 24 + 24] if index == 0 else order[24 + (index - 1) * 28 :][:28]
        mine = mine[:16] if spec is None else mine
        placed = ranks_of_parts([[(int(die) // 16, str(int(die) % 16))] for die in mine])
        if spec is None:
            base = {**SMALL, "training": {**SMALL["training"], "globalBatchSize": 64}}
            jobs.append(workload("t", ranks=placed, base=base, tensor=8))
        else:
            jobs.append(deployment(f"d{index}", (), spec, ranks=placed))
    together = run(*jobs, faults=faults)
    check_readings(together)
    for result in together.workloads:
        (job,) = (j for j in jobs if j["metadata"]["name"] == result.key.removeprefix("team/"))
        assert result.tokens_per_second <= only(run(job, faults=faults)).tokens_per_second * (1 + 1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_what_the_steps_send_is_what_the_ports_carry(mode):
    base, nodes = MODES[mode]
    state = run(deployment("a", range(nodes), base))
    check_readings(state)
    ports = state.devices.port_tx_bytes_per_second
    assert ports.sum() > 0
    if mode == "Decode":
        # Uniform experts: each of 320 ranks gets a 320th; one stays and one goes to the other die of the package.
        step = only(state).step_time_seconds
        tokens, copies, hidden, layers = 48 * 2, 8, 7168, 58
        sent = tokens * copies * hidden * layers * (7500 / 7168 + 2) * 318 / 320
        assert np.isclose(ports[0].sum(), sent / step, rtol=1e-9)
        out = state.fabric.uplink_tx_bytes_per_second.sum() / ports.sum()
        assert np.isclose(out, 304 / 318)


def test_caches_go_one_way_from_prefill_to_decode():
    base, nodes = MODES["Disaggregated"]
    state = run(deployment("a", range(nodes), base))
    ports = state.devices
    extra = (ports.port_tx_bytes_per_second - ports.port_rx_bytes_per_second).sum(axis=1)
    assert (extra[: 4 * 16] > 0).all()
    assert (extra[4 * 16 : 14 * 16] < 0).all()
    per_second = only(state).prompt_tokens_per_second * 70272
    assert np.isclose(extra[: 4 * 16].sum(), per_second, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(64)), st.sampled_from([(4, 16), (1, 64), (32, 2), (8, 8), (64, 1)]))
def test_links_that_are_all_whole_are_the_same_when_looked_at_one_by_one(order, shape):
    groups = np.array(order, dtype=np.int64).reshape(shape)
    alike = pool_links(LinkView(CM, None, None), groups)
    each = pool_links(LinkView(CM, np.ones((CM.dies, CM.planes)), np.ones((CM.servers, CM.servers, CM.planes))), groups)
    assert (each.node_share, each.pod_share) == (1.0, 1.0)
    assert np.allclose(alike.local, each.local)
    assert np.allclose(alike.remote, each.remote)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(48)), st.lists(st.tuples(st.integers(0, 47), st.integers(0, 6)), min_size=1, max_size=40))
def test_a_group_goes_at_the_pace_of_its_worst_pair(order, broken):
    ports = np.ones((CM.dies, CM.planes))
    for die, plane in broken:
        ports[die, plane] = 0
    members = np.array(order[:12], dtype=np.int64)
    links = pool_links(LinkView(CM, ports, None), members[None, :])
    near, far = [1.0], [1.0]
    load = np.zeros((12, CM.planes))
    for i, a in enumerate(members):
        for b in members:
            if a // 2 == b // 2:
                continue
            common = np.minimum(ports[a], ports[b])
            (near if a // 16 == b // 16 else far).append(float(common.sum()) / 7)
            if common.any():
                load[i] += common / common.sum() / 12
    assert np.isclose(links.node_share, min(near))
    assert np.isclose(links.pod_share, min(far))
    assert np.allclose(links.local + links.remote, load)
