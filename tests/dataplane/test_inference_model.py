"""Laws of the inference model: arrays equal numbers, more hardware is never slower, work is conserved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernode_dataplane.capacity import capacity_of
from supernode_dataplane.catalogue import load_model
from supernode_dataplane.decode import decode_step
from supernode_dataplane.deployment import Experts, Pool, Precision, Speculation
from supernode_dataplane.exchange import all_reduce_seconds, combine, dispatch, one_shot_seconds, ring_seconds
from supernode_dataplane.hardware import Hardware, hardware_of
from supernode_dataplane.inference import InferenceSpec, inference_point
from supernode_dataplane.operators import attention_weights, expert_work
from supernode_dataplane.prefill import prefill_step
from supernode_dataplane.profile import load_profile
from supernode_dataplane.split import split_step
from supernode_dataplane.stacks import load_stack

CM = hardware_of(load_profile("cloudmatrix-384"))
STACK = load_stack("vendor-tuned")


def pool(model: str = "deepseek-r1", hardware: Hardware = CM, **changes: object) -> Pool:
    given: dict[str, object] = {"dies": 320, "expert": 320, "speculation": Speculation(drafts=1, accepted=0.7)}
    if not load_model(model).is_moe:
        given |= {"expert": 1, "tensor": 8, "dies": 8}
    given |= changes
    return Pool(architecture=load_model(model), hardware=hardware, stack=STACK, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["deepseek-r1", "qwen3-32b", "qwen3-235b-a22b", "deepseek-v3.2", "qwen3.5-27b"])
def test_arrays_give_what_numbers_give(model: str) -> None:
    given = pool(model)
    batch, context = np.array([1.0, 4.0, 33.0, 64.0]), np.array([100.0, 4224.0, 900.0, 65536.0])
    many, prompts = decode_step(given, batch, context), prefill_step(given, batch * 500, context)
    for index in range(batch.size):
        one = decode_step(given, float(batch[index]), float(context[index]))
        assert many.seconds[index] == pytest.approx(one.seconds, rel=1e-12)
        assert many.hbm_bytes[index] == pytest.approx(one.hbm_bytes, rel=1e-12)
        single = prefill_step(given, float(batch[index]) * 500, float(context[index]))
        assert prompts.seconds[index] == pytest.approx(single.seconds, rel=1e-12)


def test_a_step_is_the_sum_of_its_breakdown() -> None:
    for streams in ("auto", "one", "two"):
        step = decode_step(pool(streams=streams), 48.0, 4224.0)
        assert sum(step.breakdown.values()) == pytest.approx(step.seconds)
    batch = prefill_step(pool(dies=32, expert=32, speculation=Speculation()), 8192.0, 2048.0, 2.0)
    assert sum(batch.breakdown.values()) == pytest.approx(batch.seconds)


def test_drafts_cost_a_fixed_time_of_the_host_and_a_time_for_each_draft_token_of_a_die() -> None:
    stack = load_stack("open-source")
    assert stack.draft_seconds > 0
    assert stack.draft_token_seconds > 0
    given = replace(pool(dies=32, expert=32), stack=stack)
    batch = np.array([1.0, 19.0, 78.0])

    def cost(sequences: object, given: Pool = given) -> tuple[object, object]:
        """Return host time, and what draft tokens take beside the layers and heads that they need."""
        free = replace(given, stack=replace(stack, draft_token_seconds=0.0))
        step, without = decode_step(given, sequences, 4000.0), decode_step(free, sequences, 4000.0)
        assert step.seconds - without.seconds == pytest.approx(step.breakdown["draft"] - without.breakdown["draft"])
        return step.breakdown["host"], step.breakdown["draft"] - without.breakdown["draft"]

    fixed, each = stack.host_seconds + stack.draft_seconds, stack.draft_token_seconds
    assert cost(batch) == (fixed, pytest.approx(batch * each))
    assert cost(78.0) == (fixed, pytest.approx(78 * each))
    # Groups work side by side; the dies of one share its tokens; a step has one fixed part, however many drafts.
    assert cost(19.0, replace(given, dies=64)) == (fixed, pytest.approx(19 * each))
    assert cost(20.0, replace(given, tensor=4)) == (fixed, pytest.approx(5 * each))
    assert cost(19.0, replace(given, speculation=Speculation(drafts=3))) == (fixed, pytest.approx(3 * 19 * each))
    several = replace(given, speculation=Speculation(drafts=np.array([0.0, 1.0, 4.0])))
    host, tokens = cost(19.0, several)
    assert host == pytest.approx([stack.host_seconds, fixed, fixed])
    assert tokens == pytest.approx(np.array([0.0, 19.0, 76.0]) * each)
    plain = decode_step(replace(given, speculation=Speculation()), 78.0, 4000.0).breakdown
    assert plain["host"] == stack.host_seconds
    assert "draft" not in plain


def test_drafts_cost_the_same_where_attention_and_experts_are_apart() -> None:
    stack = load_stack("open-source")
    given = replace(pool(dies=64, expert=1), stack=stack)
    free = replace(given, stack=replace(stack, draft_token_seconds=0.0, draft_seconds=0.0))
    step, without = (split_step(each, 32, 2, 40.0, 4000.0) for each in (given, free))
    assert step.breakdown["host"] - without.breakdown["host"] == pytest.approx(stack.draft_seconds)
    assert step.breakdown["draft"] - without.breakdown["draft"] == pytest.approx(40 * stack.draft_token_seconds)
    assert step.seconds - without.seconds == pytest.approx(stack.draft_seconds + 40 * stack.draft_token_seconds)


@settings(deadline=None, max_examples=60)
@given(
    batch=st.floats(1, 96),
    context=st.floats(64, 32768),
    node=st.floats(0.2, 1.0),
    pod=st.floats(0.2, 1.0),
)
def test_fewer_links_are_never_faster(batch: float, context: float, node: float, pod: float) -> None:
    whole, less = pool(), pool(hardware=CM.scaled(node=node, pod=pod))
    assert decode_step(less, batch, context).seconds >= decode_step(whole, batch, context).seconds * (1 - 1e-12)
    assert prefill_step(less, batch * 100, context).seconds >= prefill_step(whole, batch * 100, context).seconds * (
        1 - 1e-12
    )


@settings(deadline=None, max_examples=60)
@given(batch=st.floats(1, 90), context=st.floats(64, 32768), more=st.floats(1.0, 3.0))
def test_more_work_takes_longer_and_more_hbm_bandwidth_never_does(batch: float, context: float, more: float) -> None:
    given = pool()
    step = decode_step(given, batch, context)
    assert decode_step(given, batch * more, context).seconds >= step.seconds * (1 - 1e-12)
    assert decode_step(given, batch, context * more).seconds >= step.seconds * (1 - 1e-12)
    faster = replace(CM, hbm_bytes_per_second=CM.hbm_bytes_per_second * more)
    assert decode_step(pool(hardware=faster), batch, context).seconds <= step.seconds * (1 + 1e-12)


def test_what_is_sent_stays_within_the_wire_and_counts_every_copy_once() -> None:
    out = dispatch(CM, STACK, 128.0, 8, 7168, 256.0, "bf16")
    every = 128 * 8 * 7168 * 2
    moved = out.sent.package + out.sent.node + out.sent.pod + out.sent.rdma
    assert moved == pytest.approx(every * 255 / 256)
    assert (out.sent.node + out.sent.pod) / out.wire <= CM.port_bytes_per_second
    assert combine(CM, STACK, 128.0, 8, 7168, 1.0).wire == 0


def test_a_mesh_is_faster_for_small_and_a_ring_for_large_messages_and_the_best_is_taken() -> None:
    for size, mesh in ((65536.0, True), (67108864.0, False)):
        assert (one_shot_seconds(CM, size, 16, STACK) < ring_seconds(CM, size, 16)) is mesh
        best = all_reduce_seconds(CM, size, 16, STACK) - STACK.collective_launch_seconds
        assert best <= min(one_shot_seconds(CM, size, 16, STACK), ring_seconds(CM, size, 16))


def test_auto_takes_the_faster_of_one_and_two_streams() -> None:
    for batch in (4.0, 32.0, 64.0):
        step = decode_step(pool(), batch, 4224.0)
        expected = min(float(step.one_stream_seconds), float(step.two_stream_seconds))
        assert float(step.seconds) == pytest.approx(expected)


def test_replicas_of_experts_take_memory_and_fewer_bits_give_it_back() -> None:
    plain = capacity_of(pool(dies=288, expert=288), 4096.0)
    doubled = capacity_of(pool(dies=288, expert=288, experts=Experts(redundant=288)), 4096.0)
    four = capacity_of(pool(dies=288, expert=288, precision=Precision(weights="int4")), 4096.0)
    assert doubled.weights > plain.weights > four.weights
    assert doubled.sequences < plain.sequences < four.sequences


def test_each_class_of_weights_has_its_bytes_and_its_time() -> None:
    formats: dict[str, Precision] = {
        "eight": Precision(),
        "experts": Precision(experts="int4"),
        "attention": Precision(attention="int4"),
        "four": Precision(weights="int4"),
    }
    held = {name: capacity_of(pool(precision=each), 4096.0).weights for name, each in formats.items()}
    read = {name: decode_step(pool(precision=each), 32.0, 4224.0).hbm_bytes for name, each in formats.items()}
    seconds = {name: decode_step(pool(precision=each), 32.0, 4224.0).seconds for name, each in formats.items()}
    for cost in (held, read, seconds):
        assert cost["four"] < min(cost["experts"], cost["attention"]) <= max(cost["experts"], cost["attention"])
        assert max(cost["experts"], cost["attention"]) < cost["eight"]
    # What classes save adds up to no more than what all weights of four bits save: dense and shared ones are a class.
    saved = {name: held["eight"] - held[name] for name in formats}
    assert saved["experts"] + saved["attention"] < saved["four"]


def test_a_class_of_every_format_equals_one_format_for_all() -> None:
    one, each = Precision(weights="int4"), Precision(weights="int4", attention="int4", experts="int4")
    assert capacity_of(pool(precision=one), 4096.0) == capacity_of(pool(precision=each), 4096.0)
    assert (
        decode_step(pool(precision=one), 32.0, 4224.0).seconds
        == decode_step(pool(precision=each), 32.0, 4224.0).seconds
    )


def test_products_with_bf16_weights_are_computed_in_bf16() -> None:
    tokens = 4096.0  # many: the products are bound by the cubes
    kinds = pool().architecture.groups[-1]
    eight, sixteen = (attention_weights(pool(precision=p), kinds.attention, tokens)
                      for p in (Precision(), Precision(attention="bf16")))  # fmt: skip
    half, whole = (work.flops / work.peak for work in (eight, sixteen))
    assert whole == pytest.approx(half * CM.peak("int8") / CM.peak("bf16"))
    assert sixteen.hbm_bytes == pytest.approx(2 * eight.hbm_bytes)
    # Routed experts are slower alone; dense blocks keep their rate.
    kept, slow = (expert_work(pool(precision=p), kinds.feed_forward, tokens)[1]
                  for p in (Precision(), Precision(experts="bf16")))  # fmt: skip
    assert slow.flops > 1.5 * kept.flops


def test_a_batch_that_does_not_fit_has_rate_zero() -> None:
    spec = InferenceSpec(mode="Decode", input_tokens=131072.0, output_tokens=64.0, decode=pool(), sequences=64.0)
    point = inference_point(spec)
    assert not point.fits
    assert point.tokens_per_second == 0


def test_disaggregated_throughput_is_that_of_the_slower_pool() -> None:
    prompts = pool(dies=32, expert=32, speculation=Speculation())
    spec = InferenceSpec(
        mode="Disaggregated", input_tokens=4096.0, output_tokens=256.0, decode=pool(), prefill=prompts, sequences=48.0
    )
    few = inference_point(spec)
    many = inference_point(replace(spec, prefill=replace(prompts, dies=320, expert=320)))
    assert few.prefill_share == pytest.approx(1.0)
    assert few.decode_share < 1
    assert many.tokens_per_second > few.tokens_per_second


def test_splitting_attention_from_experts_is_paced_by_the_slowest_part() -> None:
    step = split_step(pool(dies=480), 288, 3, 96.0, 3072.0)
    layers = 58 * max(2 * float(step.attention), float(step.attention + step.round_trip), 6 * float(step.experts))
    assert float(step.seconds) > layers * 0.99
    assert float(step.cards) == 384
