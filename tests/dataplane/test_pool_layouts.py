"""Layouts of a pool: stages, shared prompts, sliced experts, attention and experts apart; by the laws they keep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernode_dataplane import load_profile
from supernode_dataplane.capacity import cache_bytes, capacity_of, expert_weight_bytes, weight_bytes
from supernode_dataplane.catalogue import load_model
from supernode_dataplane.communication import LinkView
from supernode_dataplane.decode import decode_step
from supernode_dataplane.deployment import Experts, Pool, Speculation, Split
from supernode_dataplane.expert_slices import sliced_experts
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.pool_neighbours import ring_neighbours, stage_neighbours
from supernode_dataplane.pool_phases import decode_phase, hop_bytes, prompt_phase, ring_bytes
from supernode_dataplane.prefill import prefill_step
from supernode_dataplane.split import split_step
from supernode_dataplane.stacks import load_stack
from supernode_dataplane.stages import pool_stages
from support.deployments import QWEN_COLOCATED, R1_DECODE, R1_DISAGGREGATED, R1_PREFILL, deployment, with_fields
from support.machines import only, run

R1, QWEN = load_model("deepseek-r1"), load_model("qwen3-32b")
APART = {"decode__parallelism": {}, "decode__experts": {"redundant": 32}}


def pool(model: Any = R1, **changes: Any) -> Pool:
    given: dict[str, Any] = {"dies": 64, "expert": 64 if model.is_moe else 1, **changes}
    return Pool(
        architecture=model, hardware=hardware_of(load_profile("cloudmatrix-384")), stack=load_stack("vendor-tuned"),
        **given,
    )  # fmt: skip


BATCH, CONTEXT = st.floats(1, 200), st.floats(100, 60_000)


@settings(max_examples=30, deadline=None)
@given(BATCH, CONTEXT)
def test_one_stage_one_group_and_no_split_are_the_plain_steps(batch: float, context: float) -> None:
    plain = pool(speculation=Speculation(drafts=1, accepted=0.7))
    assert decode_phase(plain, batch, context) == decode_step(plain, batch, context)
    found = prompt_phase(plain, batch * 50, context, 2.0, cached=batch)
    assert found.step == prefill_step(plain, batch * 50, context, 2.0, cached=batch)
    assert found.latency_seconds == found.step.seconds
    assert sliced_experts(R1, 1) == R1
    (stage,) = pool_stages(plain)
    assert (stage.pool, stage.count, stage.first, stage.last) == (plain, 1, True, True)


@pytest.mark.parametrize("stages", [2, 3, 4, 7, 61])
def test_stages_have_all_layers_once_in_order_and_as_even_as_can_be(stages: int) -> None:
    found = pool_stages(pool(dies=stages * 8, expert=8, pipeline=stages))
    sizes = [stage.pool.architecture.layers for stage in found for _ in range(stage.count)]
    assert (len(sizes), sum(sizes)) == (stages, R1.layers)
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1
    dense = [group.feed_forward.is_moe for s in found for _ in range(s.count) for group in s.pool.architecture.groups]
    assert dense[0] is False
    assert (found[0].first, found[-1].last) == (True, True)
    assert all(stage.pool.dies == 8 for stage in found)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([2, 4, 8]), st.floats(8, 300), CONTEXT, st.integers(1, 16))
def test_a_token_waits_for_all_stages_and_micro_batches_overlap_in_them(
    stages: int, batch: float, context: float, flight: int
) -> None:
    whole = pool(QWEN, dies=4, tensor=4)
    piped = pool(QWEN, dies=4 * stages, tensor=4, pipeline=stages, in_flight=flight)
    step, plain = decode_phase(piped, batch, context), decode_step(whole, batch / min(flight, batch), context)
    assert step.seconds > plain.seconds, "every layer is passed, and hidden states are handed on"
    assert sum(step.breakdown.values()) == pytest.approx(step.seconds)
    assert step.breakdown["bubble"] >= -1e-12
    together = decode_step(whole, batch, context)
    assert step.flops == pytest.approx(together.flops / stages), "a die has its layers only"
    if flight == 1:
        assert step.seconds * stages > together.seconds * stages, "one micro-batch leaves the other stages idle"
        assert step.breakdown["bubble"] > 0.4 * step.seconds


def test_as_many_micro_batches_as_stages_keep_all_of_them_busy() -> None:
    steps = [
        decode_phase(pool(QWEN, dies=16, tensor=4, pipeline=4, in_flight=flight), 256.0, 4000.0) for flight in (1, 2, 4)
    ]
    rates = [256.0 / step.seconds for step in steps]
    assert rates[0] < rates[1] < rates[2]
    idle = [step.breakdown["bubble"] / step.seconds for step in steps]
    assert idle[0] > 0.7 > 0.25 > idle[2], "what is left: the last stage has the output head and the host beside"


def test_prompts_follow_one_another_through_stages() -> None:
    plain, piped = pool(QWEN, dies=4, tensor=4), pool(QWEN, dies=16, tensor=4, pipeline=4)
    alone, found = prompt_phase(plain, 8192.0, 4096.0), prompt_phase(piped, 8192.0, 4096.0)
    assert found.latency_seconds > alone.latency_seconds
    assert found.step.seconds < 0.3 * alone.step.seconds
    assert found.step.flops == pytest.approx(alone.step.flops / 4)
    assert sum(found.step.breakdown.values()) == pytest.approx(found.step.seconds)


@pytest.mark.parametrize("stages", [2, 4, 8])
def test_stages_share_weights_and_caches(stages: int) -> None:
    plain, piped = pool(QWEN, dies=4, tensor=4), pool(QWEN, dies=4 * stages, tensor=4, pipeline=stages)
    assert cache_bytes(piped, 5000.0) == pytest.approx(cache_bytes(plain, 5000.0) / stages)
    assert weight_bytes(piped) < weight_bytes(plain) / stages * 1.5
    assert capacity_of(piped, 5000.0).sequences > capacity_of(plain, 5000.0).sequences
    layers = sum((stage.pool.architecture.layers / QWEN.layers) * stage.count for stage in pool_stages(piped))
    assert layers == pytest.approx(1.0)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([2, 4, 8]), st.floats(2000, 60_000))
def test_groups_that_share_a_prompt_read_it_faster_than_one_and_not_faster_than_their_number(
    groups: int, tokens: float
) -> None:
    one, many = pool(QWEN, dies=8, tensor=8), pool(QWEN, dies=8 * groups, tensor=8, context=groups)
    plain, shared = prompt_phase(one, tokens, tokens / 2).step, prompt_phase(many, tokens, tokens / 2).step
    assert plain.seconds / groups <= shared.seconds < plain.seconds
    assert sum(shared.breakdown.values()) == pytest.approx(shared.seconds)
    assert shared.flops == pytest.approx(plain.flops / groups, rel=1e-3), "nothing is computed twice without latents"
    assert cache_bytes(many, tokens) == pytest.approx(cache_bytes(one, tokens) / groups)
    activations = [capacity_of(p, tokens, tokens_in_flight=tokens).activations for p in (many, one)]
    assert activations[0] == pytest.approx(activations[1] / groups)
    # Every part but its own passes each group once.
    sent = ring_bytes(many, tokens) * groups
    assert sent == pytest.approx((groups - 1) * cache_bytes(one, tokens)), "full attention caches what it passes on"


def test_latents_that_go_around_the_ring_are_expanded_again_on_every_group() -> None:
    one, many = pool(dies=32, expert=32), pool(dies=32, expert=32, context=4)
    plain, shared = prompt_phase(one, 8192.0, 4096.0).step, prompt_phase(many, 4 * 8192.0, 4096.0).step
    assert shared.breakdown["projections"] > plain.breakdown["projections"]
    assert shared.breakdown["core"] == pytest.approx(plain.breakdown["core"])


@pytest.mark.parametrize("slices", [2, 4, 8])
def test_sliced_experts_are_the_same_weights_and_products_with_more_copies(slices: int) -> None:
    parts = sliced_experts(R1, slices)
    whole, cut = pool(experts=Experts(redundant=64)), pool(parts, experts=Experts(redundant=64 * slices))
    assert parts.parameters == R1.parameters
    assert parts.active_parameters == R1.active_parameters
    assert weight_bytes(cut) == pytest.approx(weight_bytes(whole))
    a, b = decode_step(whole, 32.0, 4096.0), decode_step(cut, 32.0, 4096.0)
    assert b.flops == pytest.approx(a.flops)
    assert b.sent_bytes == pytest.approx(slices * a.sent_bytes)
    assert b.seconds > a.seconds


def test_slices_of_more_dies_hold_less_each() -> None:
    held = [
        weight_bytes(pool(sliced_experts(R1, slices), dies=64 * slices, expert=64 * slices)) for slices in (1, 2, 4)
    ]
    assert held[0] > held[1] > held[2]


def test_attention_and_experts_apart_are_the_step_of_the_library_with_all_that_a_step_has() -> None:
    speculation = Speculation(drafts=1, accepted=0.9)
    apart = pool(dies=768, expert=288, split=Split(expert_dies=288, domains=3), speculation=speculation)
    step = decode_phase(apart, 96.0, 4000.0)
    attention = replace(apart, dies=480, split=None)
    library = split_step(attention, 288, 3, 96.0, 4000.0)
    assert step.seconds == library.seconds
    assert sum(step.breakdown.values()) == pytest.approx(step.seconds)
    assert float(library.cards) == apart.cards == 384
    together = decode_step(replace(attention, expert=480, experts=Experts(redundant=224)), 96.0, 4000.0)
    # Experts see one domain at a time; FLOPs in all are those of the same tokens.
    everywhere = step.flops * 480 + library.expert_flops * 288
    assert everywhere == pytest.approx(together.flops * 480, rel=0.25)
    assert library.dispatched_bytes * 480 > 0
    assert expert_weight_bytes(apart) + weight_bytes(apart) > 0
    assert weight_bytes(apart) < weight_bytes(replace(attention, expert=480, experts=Experts(redundant=224)))


def test_a_split_takes_arrays_as_other_steps_do() -> None:
    apart = pool(dies=96, expert=32, split=Split(expert_dies=32, domains=2))
    piped = pool(QWEN, dies=16, tensor=4, pipeline=4, in_flight=4)
    batch = np.array([1.0, 2.0, 17.0, 64.0])
    for laid_out in (apart, piped):
        many = decode_phase(laid_out, batch, 3000.0).seconds
        for index, one in enumerate(batch):
            assert many[index] == pytest.approx(float(decode_phase(laid_out, float(one), 3000.0).seconds), rel=1e-12)


LAYOUTS: list[tuple[dict[str, Any], int, dict[str, Any]]] = [
    (R1_DECODE, 20, {"decode__parallelism": {"pipeline": 2, "expert": 160}, "decode__experts": {"redundant": 64}}),
    (R1_DECODE, 20, {"decode__parallelism": {"expertTensor": 2}, "decode__experts": {"redundant": 64}}),
    (R1_DECODE, 20, {**APART, "decode__split": {"expertDies": 144, "domains": 2}}),
    (R1_PREFILL, 4, {"prefill__parallelism": {"expert": 32, "context": 4}}),
    (R1_PREFILL, 4, {"prefill__parallelism": {"expert": 32, "pipeline": 2}, "prefill__experts": {"redundant": 32}}),
    (R1_DISAGGREGATED, 14, {**APART, "decode__split": {"expertDies": 72, "domains": 2}}),
    (R1_DISAGGREGATED, 14, {"prefill__parallelism": {"expert": 16, "context": 2, "pipeline": 2}}),
    (QWEN_COLOCATED, 3, {"decode__parallelism": {"tensor": 4, "pipeline": 4}}),
    (QWEN_COLOCATED, 3, {"decode__parallelism": {"tensor": 4, "sequence": True}}),
]


@pytest.mark.parametrize(("base", "nodes", "fields"), LAYOUTS, ids=[str(n) for n in range(len(LAYOUTS))])
def test_a_placed_layout_receives_what_it_sends_and_no_port_is_above_its_rate(
    base: dict[str, Any], nodes: int, fields: dict[str, Any]
) -> None:
    state = run(deployment("a", range(nodes), with_fields(base, **fields), managed=True))
    result, profile = only(state), load_profile("cloudmatrix-384")
    assert result.problem is None
    assert result.tokens_per_second > 0
    sent, received = state.devices.port_tx_bytes_per_second, state.devices.port_rx_bytes_per_second
    assert sent.sum() == pytest.approx(received.sum(), rel=1e-9)
    assert max(sent.max(), received.max()) <= profile.port_bytes_per_second * (1 + 1e-9)
    idle = slice(nodes * profile.dies_per_server, None)
    assert not sent[idle].any()
    assert not received[idle].any()
    assert result.breakdown_seconds is not None
    assert sum(result.breakdown_seconds.values()) == pytest.approx(result.step_time_seconds, rel=1e-6)


def test_stages_and_rings_put_what_they_hand_on_on_the_ports() -> None:
    qwen = with_fields(QWEN_COLOCATED, decode__parallelism={"tensor": 1, "pipeline": 2}, load__concurrency=40)
    flat = with_fields(QWEN_COLOCATED, decode__parallelism={"tensor": 1}, load__concurrency=40)
    # Stages of one die each are the two dies of a package, and so take no port; four stages leave it.
    four = with_fields(qwen, decode__parallelism={"tensor": 1, "pipeline": 4})
    totals = [
        run(deployment("a", range(1), spec, managed=True)).devices.port_tx_bytes_per_second.sum()
        for spec in (flat, qwen, four)
    ]
    assert totals[0] == totals[1] == 0
    assert totals[2] > 0
    assert hop_bytes(pool(QWEN, dies=4, tensor=4), 10.0) == 2 * 10 * QWEN.hidden / 4


def test_dies_with_experts_read_as_what_they_do_and_hold() -> None:
    spec = with_fields(R1_DECODE, **APART, decode__split={"expertDies": 144, "domains": 2})
    devices = run(deployment("a", range(20), spec, managed=True)).devices
    attention, experts = slice(0, 176), slice(176, 320)
    for part in (attention, experts):
        assert np.unique(np.round(devices.hbm_used_bytes[part] / 2**20)).size == 1
    assert devices.hbm_used_bytes[0] > devices.hbm_used_bytes[200], "caches are with attention"
    assert devices.cube_utilisation[200] != devices.cube_utilisation[0]


def test_a_broken_die_with_experts_stops_all_attention() -> None:
    from supernode_dataplane.inputs import machine_inputs, solve_inputs
    from support.machines import compute_nodes, super_node

    spec = with_fields(R1_DECODE, **APART, decode__split={"expertDies": 144, "domains": 2})
    nodes = compute_nodes(48)
    nodes[19]["spec"]["faults"] = [{"name": "f", "level": "SeparateNPU", "code": "", "die": 3}]
    state = solve_inputs(machine_inputs(super_node(), nodes, [deployment("a", range(20), spec, managed=True)]))
    assert "none of 1 instances is whole" in only(state).waiting


BAD: list[tuple[dict[str, Any], int, dict[str, Any], str, str]] = [
    (R1_DECODE, 20, {"decode__parallelism": {"pipeline": 3}}, "decode.parallelism.pipeline", "does not divide"),
    (R1_DECODE, 20, {"decode__parallelism": {"pipeline": 64}}, "decode.parallelism.pipeline", "61 layers"),
    (R1_DECODE, 20, {"decode__parallelism": {"inFlight": 2}}, "decode.parallelism.inFlight", "pipeline above 1"),
    (R1_DECODE, 20, {"decode__parallelism": {"sequence": True}}, "decode.parallelism.sequence", "tensor above 1"),
    (R1_DECODE, 20, {"decode__parallelism__expertTensor": 3}, "decode.parallelism.expertTensor", "2048 columns"),
    (R1_DECODE, 20, {"decode__experts__perDie": 1, "decode__experts__redundant": None,
                     "decode__experts__sharedRanks": 100}, "decode.experts.perDie", "at least 2"),
    (R1_DECODE, 20, {**APART, "decode__split": {"expertDies": 320}}, "decode.split.expertDies", "fewer"),
    (R1_DECODE, 20, {**APART, "decode__split": {"expertDies": 144, "domains": 3}}, "decode.split.domains", "176"),
    (R1_DECODE, 20, {**APART, "decode__split": {"expertDies": 144}, "decode__microBatches": "one"},
     "decode.microBatches", "two or auto"),
    (R1_DECODE, 20, {**APART, "decode__split": {"expertDies": 144}, "decode__attentionCorePercent": 50},
     "decode.attentionCorePercent", "dies of its own"),
    (R1_DECODE, 20, {"decode__microBatches": "one", "decode__attentionCorePercent": 50},
     "decode.attentionCorePercent", "two or auto"),
    (R1_DECODE, 20, {"decode__split": {"expertDies": 144}}, "decode.parallelism.expert", "expertDies"),
    (QWEN_COLOCATED, 3, {"decode__split": {"expertDies": 8}}, "decode.split", "no experts"),
    (R1_PREFILL, 4, {"prefill__parallelism__context": 5}, "prefill.parallelism.context", "divide"),
    (R1_PREFILL, 4, {"cache": {"reusePercent": 50, "domainDies": 33}}, "cache.domainDies", "64 dies"),
    (R1_DECODE, 20, {"cache": {"domainDies": 32}}, "cache.domainDies", "leave it out"),
    (R1_DECODE, 20, {"cache": {"gigabytesPerSecond": 2}}, "cache.gigabytesPerSecond", "leave it out"),
    (R1_PREFILL, 4, {"cache": {"gigabytesPerSecond": 0}}, "cache.gigabytesPerSecond", "0.001"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("base", "nodes", "fields", "field", "remedy"), BAD, ids=[f"{n} {row[3]}" for n, row in enumerate(BAD)]
)
def test_a_layout_that_cannot_be_names_field_and_remedy(
    base: dict[str, Any], nodes: int, fields: dict[str, Any], field: str, remedy: str
) -> None:
    found = only(run(deployment("a", range(nodes), with_fields(base, **fields), managed=True))).problem
    assert found is not None
    assert found.field == f"spec.inference.{field}"
    assert remedy in found.message


def test_linear_attention_has_no_context_rings() -> None:
    spec = {
        "model": {"name": "qwen3.5-397b-a17b"},
        "inference": {"mode": "Prefill", "inputTokens": 4096, "prefill": {"parallelism": {"expert": 32, "context": 2}}},
    }
    found = only(run(deployment("a", range(2), spec, managed=True))).problem
    assert found is not None
    assert "linear attention" in found.message


def test_a_cache_that_fewer_dies_share_is_hit_less_often() -> None:
    rates = []
    for domain in (None, 32, 16, 8):
        cache = {"reusePercent": 60} | ({} if domain is None else {"domainDies": domain})
        rates.append(only(run(deployment("a", range(4), with_fields(R1_PREFILL, cache=cache), managed=True))))
    speed = [result.tokens_per_second for result in rates]
    assert speed[0] > speed[1] > speed[2] > speed[3]
    none = only(run(deployment("a", range(4), R1_PREFILL, managed=True))).tokens_per_second
    assert speed[3] > none
    same = with_fields(R1_PREFILL, cache={"reusePercent": 60, "domainDies": 64})
    assert only(run(deployment("a", range(4), same, managed=True))).tokens_per_second == pytest.approx(speed[0])


def test_a_slower_context_cache_delays_the_first_token() -> None:
    fast, slow = (
        only(
            run(
                deployment(
                    "a", range(4),
                    with_fields(R1_PREFILL, cache={"reusePercent": 60, "gigabytesPerSecond": rate}), managed=True,
                )
            )
        )
        for rate in (100.0, 0.5)
    )  # fmt: skip
    assert slow.ttft_seconds > fast.ttft_seconds


def test_slower_links_between_servers_slow_what_stages_and_rings_hand_on() -> None:
    piped, ring = pool(QWEN, dies=64, tensor=4, pipeline=16), pool(QWEN, dies=64, tensor=4, context=16)
    slow = piped.hardware.scaled(pod=1e-3)
    fast, late = (decode_phase(one, 64.0, 4000.0) for one in (piped, replace(piped, hardware=slow)))
    assert late.seconds > fast.seconds
    assert late.breakdown["bubble"] > fast.breakdown["bubble"]
    hidden, shown = (prompt_phase(one, 32_000.0, 16_000.0).step for one in (ring, replace(ring, hardware=slow)))
    assert shown.breakdown["ring"] > hidden.breakdown["ring"] >= 0
    assert shown.seconds - hidden.seconds == pytest.approx(shown.breakdown["ring"] - hidden.breakdown["ring"])


def test_the_next_die_receives_what_a_die_sends() -> None:
    view = LinkView(load_profile("cloudmatrix-384"), None, None)
    dies = np.arange(64, dtype=np.int64)[None, :]
    stages, ring = stage_neighbours(view, dies, 4), ring_neighbours(view, dies, 4, 16)
    assert stages.remote_tx.sum() == stages.remote_rx.sum() == pytest.approx(48)
    assert not stages.remote_rx[:16].any(), "nothing comes to the first stage"
    assert not stages.remote_tx[48:].any(), "and nothing leaves the last"
    for found in (ring.remote_tx, ring.remote_rx):
        assert found.sum(axis=1) == pytest.approx(1.0)
    beside = ring_neighbours(view, dies, 2, 2)
    assert not beside.remote_tx.any()
    assert beside.local_rx.sum(axis=1) == pytest.approx(1.0)


def test_redundant_experts_are_whole_ones_however_they_are_sliced() -> None:
    held = [
        only(run(deployment("a", range(20), with_fields(R1_DECODE, **fields), managed=True))).memory_bytes
        for fields in (
            {"decode__experts": {"redundant": 64}},
            {"decode__experts": {"redundant": 64}, "decode__parallelism__expertTensor": 2},
        )
    ]
    assert held[0] is not None
    assert held[1] is not None
    assert held[0]["weights"] == pytest.approx(held[1]["weights"])
