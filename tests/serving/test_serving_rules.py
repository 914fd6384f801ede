"""What the loop does, in cases small enough to follow by hand, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest

from serving.serving_worlds import SECONDS, Linear, group, requests
from supernode_dataplane.serving import (
    NO_DRAFTS,
    Acceptance,
    AtOnce,
    Engine,
    Fixed,
    InvalidServingError,
    OpenLoop,
    RequestTooLongError,
    ServingError,
    attention_pairs,
    generate,
    simulate,
    simulate_disaggregated,
)
from supernode_dataplane.serving.batch import Run
from supernode_dataplane.serving.counting import EvenCounter
from supernode_dataplane.serving.decoders import Decoders
from supernode_dataplane.serving.lasttokens import LastTokens
from supernode_dataplane.serving.prefixes import prefix_pieces
from supernode_dataplane.serving.promptblocks import PromptBlocks

FLAT = Linear(fixed=10, per_sequence=0, per_context=0, per_token=1, per_pair=0, per_transfer=2)
ROOMY: dict[str, Any] = {"blocks": 1000, "block_tokens": 4}


def test_one_request_alone_takes_its_prefill_and_its_steps() -> None:
    result = simulate(requests([(5, 20, 4)]), group(FLAT, **ROOMY))
    assert result.sent.tolist() == [0]
    assert result.ttft.tolist() == [30]
    assert result.e2e.tolist() == [60]
    assert result.tpot.tolist() == result.itl.tolist() == [10]
    assert result.seconds == 60
    assert result.tokens_per_second == pytest.approx(4 / 60)
    assert result.in_system == 1


def test_a_context_grows_by_one_token_a_step() -> None:
    result = simulate(requests([(0, 3, 4)]), group(SECONDS, **ROOMY))
    prefill = 7 + 2 * 3 + attention_pairs(3, 0)
    assert result.ttft.tolist() == [prefill]
    assert result.e2e.tolist() == [prefill + 3 * 8 + (4 + 5 + 6)]


def test_unchunked_prefill_stops_decoding_and_the_stream_feels_it() -> None:
    result = simulate(requests([(0, 20, 10), (31, 70, 1)]), group(FLAT, **ROOMY))
    # Second arrives in the first decode step (30 to 40), is read until 120; the first's next token comes at 130.
    assert result.ttft.tolist() == [30, 89]
    assert result.completed.tolist() == [30 + 9 * 10 + 80, 120]
    assert sorted(np.repeat(result.gaps, result.gap_weights.astype(int)).tolist()) == [10.0] * 8 + [90.0]
    assert np.isnan(result.tpot[1])


def test_chunked_prefill_shares_its_steps_with_decoding() -> None:
    one = group(FLAT, **ROOMY, prefill="chunked", step_tokens=21)
    result = simulate(requests([(0, 20, 10), (31, 60, 1)]), one)
    # From 40 on, steps of 20 prompt tokens beside one decoding sequence: 3 of 31 s (fixed 11).
    assert result.completed[1] == 40 + 3 * 31
    assert result.completed[0] == 40 + 3 * 31 + 5 * 10
    use = result.groups[0]
    assert use.mixed_share == pytest.approx(3 * 31 / result.seconds)


def test_a_place_in_the_batch_must_be_free() -> None:
    result = simulate(requests([(0, 10, 2)] * 3), group(FLAT, **ROOMY, max_running=1))
    assert result.completed.tolist() == [30, 60, 90]
    assert result.groups[0].running == 1
    assert result.in_system == pytest.approx((30 + 60 + 90) / 90)


def test_prompts_share_a_prefill_step_up_to_its_tokens() -> None:
    result = simulate(requests([(0, 10, 1)] * 3), group(FLAT, **ROOMY, step_tokens=25))
    assert result.completed.tolist() == [30, 30, 50]


def test_a_shared_prefix_is_read_once_and_the_last_token_always() -> None:
    load = requests([(0, 8, 1), (100, 8, 1), (200, 10, 1)], prefixes=[[1, 2], [1, 2], [1, 2, 3]], prefix_block_tokens=4)
    result = simulate(load, group(FLAT, **ROOMY))
    assert result.cached.tolist() == [0, 4, 8]
    assert result.ttft.tolist() == [18, 14, 12]
    assert result.prefix_hit_share == pytest.approx(12 / 26)
    assert simulate(load, group(FLAT, **ROOMY, prefix_cache=False)).cached.tolist() == [0, 0, 0]


def test_the_prefix_used_least_recently_goes_first_and_its_end_before_its_beginning() -> None:
    prompts = [[1, 2], [3, 4], [5, 6], [1, 2]]
    load = requests([(100 * i, 9, 1) for i in range(4)], prefixes=prompts, prefix_block_tokens=4)
    # A prompt of 9 tokens takes 3 blocks, so the third request leaves room for 4, 3 or 2 idle ones of the first two.
    for blocks, cached in ((7, 8), (6, 4), (5, 0)):
        result = simulate(load, group(FLAT, blocks=blocks, block_tokens=4))
        assert result.cached.tolist() == [0, 0, 0, cached]


def test_blocks_that_run_out_send_the_last_one_back_to_be_recomputed() -> None:
    one = group(FLAT, blocks=8, block_tokens=1, watermark=0, max_running=2)
    result = simulate(requests([(0, 3, 4), (0, 3, 4)]), one)
    # Both hold 4 of 8 blocks for the first step; the second step needs 10: the second request waits for the first's end
    # (16 + 30 = 46), reads 3 + 2 tokens again (15 s, which give its third token) and takes one more step.
    assert result.preemptions.tolist() == [0, 1]
    assert result.completed.tolist() == [46, 46 + 15 + 10]
    assert result.groups[0].kv_peak == 1


def test_the_last_tokens_of_sequences_are_kept_in_the_order_of_admission() -> None:
    tokens, run = LastTokens(), Run()
    tokens.joined(3.0)
    tokens.joined(3.0)
    assert tokens.are_at(3.0)
    tokens.all_at(5.0, 2)
    for time in (6.0, 6.0, 7.0):
        tokens.joined(time)
    assert not tokens.are_at(5.0)
    run.start, run.alpha, run.beta, run.steps = 8.0, 2.0, 0.5, 3
    rows = np.frombuffer(tokens.gaps_of(run)).reshape(-1, 4).tolist()
    # Each waits for the first step's end, at 10; then all five have two more gaps, of 2.5 and 3 s.
    assert rows == [[5, 0, 1, 2], [4, 0, 1, 2], [3, 0, 1, 1], [2.5, 0.5, 2, 5]]
    assert [tokens.left() for _ in range(4)] == [7, 6, 6, 5]
    assert tokens.are_at(5.0)
    assert tokens.left() == 5
    tokens.joined(9.0)
    assert tokens.are_at(9.0)


def test_with_its_whole_output_reserved_nobody_is_preempted() -> None:
    one = group(FLAT, blocks=8, block_tokens=1, watermark=0, max_running=2, reserve="output")
    result = simulate(requests([(0, 3, 4), (0, 3, 4)]), one)
    assert result.preemptions.tolist() == [0, 0]
    assert result.completed.tolist() == [43, 86]


def test_blocks_of_a_prompt_that_was_not_read_to_its_end_are_nobodys() -> None:
    load = requests([(0, 4, 8), (20, 13, 1)], prefixes=[[9], [1, 2, 3, 4]], prefix_block_tokens=4)
    one = group(FLAT, blocks=20, block_tokens=1, watermark=0, prefill="chunked", step_tokens=2)
    result = simulate(load, one)
    # The second is admitted at 24, reads 1 token in each of three steps beside the first, and is preempted at 60.
    # The first ends 4 steps later, at 100; then all 13 tokens are read, 2 a step: 6 x 12 + 11 s.
    assert result.preemptions.tolist() == [0, 1]
    assert result.completed.tolist() == [100, 100 + 83]


def test_a_watermark_keeps_blocks_free_unless_nothing_else_runs() -> None:
    load = requests([(0, 3, 4), (0, 3, 4)])
    result = simulate(load, group(FLAT, blocks=10, block_tokens=1, watermark=0.3))
    assert result.ttft.tolist() == [13, 56]
    assert simulate(load, group(FLAT, blocks=8, block_tokens=1, watermark=0.9)).completed.max() > 0


def test_clients_of_a_closed_loop_send_when_they_have_their_answer() -> None:
    result = simulate(requests([(0, 10, 2)] * 5, concurrency=2), group(FLAT, instances=2, **ROOMY))
    assert result.sent.tolist() == [0, 0, 30, 30, 60]
    assert result.in_system == pytest.approx(5 * 30 / 90)


@pytest.mark.parametrize(("routing", "wait"), [("round-robin", 120), ("least-loaded", 20)])
def test_routing_decides_who_waits(routing: str, wait: float) -> None:
    load = requests([(0, 10, 11), (0, 10, 1), (30, 10, 1)])
    result = simulate(load, group(FLAT, 2, routing, **ROOMY, max_running=1))
    assert result.ttft[2] == wait - 30 + 20 if routing == "round-robin" else result.ttft[2] == wait


def test_apart_the_first_token_comes_with_the_cache_and_decoding_is_never_stopped() -> None:
    load = requests([(0, 20, 10), (31, 20, 10)])
    result = simulate_disaggregated(load, group(FLAT, **ROOMY), group(FLAT, **ROOMY))
    assert result.ttft.tolist() == [30 + 40, 30 + 40]
    assert result.e2e[0] == 70 + 90
    # It joins at the end of the step that was under way when its cache arrived (at 101; steps end at 110).
    assert result.completed[1] == 110 + 90
    assert [use.name for use in result.groups] == ["prefill", "decode"]
    assert simulate_disaggregated(requests([(0, 20, 1)]), group(FLAT, **ROOMY), group(FLAT, **ROOMY)).e2e.tolist() == [
        30
    ]


def test_sequences_that_come_with_their_cache_take_their_part_of_the_budget() -> None:
    load = requests([(0, 10, 3), (0, 10, 3)])
    decode = group(FLAT, **ROOMY, prefill="chunked", step_tokens=1)
    result = simulate_disaggregated(load, group(FLAT, **ROOMY), decode)
    assert result.ttft.tolist() == [50, 50]
    assert result.completed.tolist() == [70, 90]


def test_accepted_drafts_give_fewer_events_and_the_same_tokens() -> None:
    load = requests([(0, 4, 101)])
    result = simulate(load, group(FLAT, **ROOMY), acceptance=Acceptance((1.0,)))
    assert result.decode_steps.tolist() == [50]
    assert result.tpot.tolist() == [5]
    assert result.itl.tolist() == [10]
    assert result.distributions()["itl"].p50 == 10


@pytest.mark.parametrize("kept", [(0.7,), (0.9, 0.5, 0.2), (0.0,), (1.0, 0.0)])
def test_steps_are_drawn_with_the_distribution_of_one_draw_a_step(kept: tuple[float, ...]) -> None:
    acceptance, random = Acceptance(kept), np.random.default_rng(5)
    outputs = np.full(20_000, 41, np.int64)
    drawn = acceptance.steps(outputs, 1)
    tokens = random.choice(len(kept) + 1, size=(20_000, 40), p=acceptance.distribution()) + 1
    plain = (tokens.cumsum(axis=1) < 40).sum(axis=1) + 1
    assert drawn.mean() == pytest.approx(plain.mean(), rel=0.005)
    assert drawn.std() == pytest.approx(plain.std(), rel=0.05, abs=1e-12)
    long = acceptance.steps(np.full(200, 1_000_000, np.int64), 1)
    assert (1_000_000 / long).mean() == pytest.approx(acceptance.tokens_per_step, rel=1e-3)


def test_an_acceptance_length_or_shares_of_steps_give_the_same_mean() -> None:
    assert Acceptance.from_length(3, 2.05).tokens_per_step == pytest.approx(2.05)
    assert Acceptance.from_shares((0.8, 0.4)).given_all_before == pytest.approx((0.8, 0.5))
    assert NO_DRAFTS.tokens_per_step == 1
    assert sum(Acceptance((0.8, 0.5)).distribution()) == pytest.approx(1)


def test_prompts_that_come_together_are_one_piece() -> None:
    load = requests([(0, 12, 1), (0, 12, 1), (0, 3, 1)], prefixes=[[1, 2, 3], [1, 2, 4], []], prefix_block_tokens=4)
    pieces = prefix_pieces(load)
    sizes = [[pieces.sizes[piece] for piece in row] for row in pieces.pieces]
    assert sizes == [[2, 1], [2, 1], []]
    assert pieces.pieces[0][0] == pieces.pieces[1][0]


def test_blocks_in_one_array_are_the_same_as_in_lists() -> None:
    random = np.random.default_rng(6)
    lists = [random.integers(0, 2**62, int(size)).tolist() for size in random.integers(0, 5, 60)]
    sizes = [len(blocks) for blocks in lists]
    packed = PromptBlocks(np.array(list(chain.from_iterable(lists)), np.int64), np.cumsum([0, *sizes]))
    assert list(packed) == lists
    assert packed[-1] == lists[-1]
    for part in (slice(7), slice(5, 40), slice(9, 9), slice(None, None, -1), slice(3, None, 4)):
        assert list(packed[part]) == lists[part]
        assert list(packed[3:][part]) == lists[3:][part]
    counts = [min(size, 2) for size in sizes]
    assert packed.beginnings(np.array(counts)).tolist() == [block for blocks in lists for block in blocks[:2]]
    prompts = [[1, 2, 8], [1, 2, 4], [5], [1, 7]]
    rows = [(0.0, 12, 1), (0.0, 13, 1), (0.0, 3, 1), (0.0, 9, 1)]
    in_lists = requests(rows, prefixes=prompts, prefix_block_tokens=4)
    flat = np.array(list(chain.from_iterable(prompts)))
    in_array = replace(in_lists, prefixes=PromptBlocks(flat, np.array([0, 3, 6, 7, 9])))
    assert prefix_pieces(in_array) == prefix_pieces(in_lists)


def test_an_identity_after_two_different_ones_is_refused() -> None:
    load = requests([(0, 8, 1), (0, 8, 1)], prefixes=[[1, 2], [3, 2]], prefix_block_tokens=4)
    with pytest.raises(InvalidServingError, match=r"requests.prefixes: block 2 .*; an identity"):
        simulate(load, group(FLAT, **ROOMY))


def test_goodput_counts_what_meets_both_limits() -> None:
    result = simulate(requests([(0, 10, 2)] * 3), group(FLAT, **ROOMY, max_running=1))
    good = result.goodput(ttft_seconds=50)
    assert good.share == pytest.approx(2 / 3)
    assert good.tokens_per_second == pytest.approx(4 / 90)
    assert result.goodput(tpot_seconds=9).share == 0
    assert result.goodput().requests_per_second == result.requests_per_second


def test_a_request_that_can_never_fit_is_refused_before_anything_runs() -> None:
    class Silent(Linear):
        def prefill(self, tokens: int) -> tuple[float, float]:
            raise AssertionError("a step was computed")

    load = requests([(0, 4, 1), (0, 30, 12)])
    with pytest.raises(
        RequestTooLongError, match=r"request 1: its 41 tokens need 11 KV blocks .* has 10; give more"
    ) as caught:
        simulate(load, group(Silent(), blocks=10, block_tokens=4))
    assert caught.value.request == 1
    with pytest.raises(RequestTooLongError, match="a decode instance"):
        simulate_disaggregated(load, group(Silent(), **ROOMY), group(Silent(), blocks=10, block_tokens=4))


def test_a_prefix_block_must_be_whole_blocks() -> None:
    load = requests([(0, 8, 1)], prefixes=[[1, 2]], prefix_block_tokens=4)
    with pytest.raises(InvalidServingError, match=r"engine.block_tokens: 3 .*; give a divisor"):
        simulate(load, group(FLAT, blocks=9, block_tokens=3))


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": 0},
        {"block_tokens": 0},
        {"max_running": 0},
        {"step_tokens": 0},
        {"watermark": 1},
        {"prefill": "x"},
        {"reserve": "x"},
    ],
)
def test_an_engine_that_cannot_be_names_its_field(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidServingError, match=rf"engine.{next(iter(change))}: .+; give"):
        Engine(**{"blocks": 5, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": [0]},
        {"outputs": [0]},
        {"arrivals": [-1]},
        {"arrivals": [float("inf")]},
        {"prefixes": []},
        {"concurrency": 0},
    ],
)
def test_requests_that_cannot_be_name_their_field(change: dict[str, Any]) -> None:
    rows = [(change.pop("arrivals", [0])[0], change.pop("inputs", [1])[0], change.pop("outputs", [1])[0])]
    with pytest.raises(InvalidServingError, match=r"requests\.\w+: .+; give"):
        requests(rows, **change)


@pytest.mark.parametrize("bad", [(0, 0), (-1, 0), (1, -1), (float("nan"), 0)])
def test_a_step_that_takes_no_time_is_the_models_fault(bad: tuple[float, float]) -> None:
    class Wrong(Linear):
        def decode(self, batch: int) -> tuple[float, float]:
            return bad

    with pytest.raises(ServingError, match=r"step model: decode\(1\)"):
        simulate(requests([(0, 4, 3)]), group(Wrong(), **ROOMY))


@pytest.mark.parametrize("drafts", [False, True])
def test_the_steps_for_which_blocks_suffice_are_found_as_by_trying(drafts: bool) -> None:
    random = np.random.default_rng(2)
    for _ in range(200):
        decoders = Decoders(int(random.choice([1, 4, 16])), drafts=drafts)
        for request in range(int(random.integers(1, 80))):
            steps = int(random.integers(1, 60))
            tokens = steps * int(random.integers(1, 3)) + int(random.integers(0, 2)) if drafts else steps
            decoders.join(request, request, prompt=int(random.integers(1, 99)), tokens=tokens, steps=steps, done=0)
        most = decoders.until_completion()
        limit = int(random.integers(decoders.blocks(), decoders.blocks(most) + 2))
        tried = sum(decoders.blocks(ahead) <= limit for ahead in range(most))
        assert decoders.steps_within(limit, most) == tried


@pytest.mark.parametrize("block", [1, 16])
def test_counting_members_one_by_one_at_once_or_by_who_crosses_gives_the_same(block: int) -> None:
    random = np.random.default_rng(3)
    counter, members, now, crossed = EvenCounter(block), [], 0, 0
    for member in range(400):
        now += int(random.integers(0, 3)) * int(random.integers(0, 12))
        steps = int(random.integers(1, 900))
        counter.add(member, int(random.integers(1, 9999)), steps + int(random.integers(0, 2 * steps)), steps, -now)
        members.append(member)
        if random.random() < 0.8:
            counter.remove(members.pop(int(random.integers(len(members)))), 0, 0)
        for ahead in (0, 0, 1, int(random.integers(12)), steps):
            crossed += counter._from <= now + ahead < counter._until
            counted = counter.blocks(now + ahead, now)
            assert counted == counter._one_by_one(now + ahead)
            assert not members or counted == counter._at_once(now + ahead)
    assert crossed > 400  # else the way by crossings was hardly asked


@pytest.mark.parametrize("chunked", ["unchunked", "chunked"])
@pytest.mark.parametrize("acceptance", [NO_DRAFTS, Acceptance((0.7,))])
def test_longer_outputs_are_not_more_runs(chunked: Any, acceptance: Acceptance) -> None:
    runs = []
    for outputs in (200, 2000):
        load = generate(300, arrivals=AtOnce(), inputs=Fixed(500), outputs=Fixed(outputs))
        one = group(FLAT, blocks=5000, max_running=32, prefill=chunked)
        runs.append(simulate(load, one, acceptance=acceptance).groups[0].runs)
    # Every request is at most one admission and one completion, and fewer of them come together with drafts.
    assert runs[1] <= (runs[0] * 1.05 if acceptance is NO_DRAFTS else 2 * 300)


def test_times_of_a_large_load_do_not_drift() -> None:
    load = generate(3000, arrivals=OpenLoop(0.5, 2), inputs=Fixed(700), outputs=Fixed(150), seed=4)
    model = Linear(fixed=1, per_sequence=0, per_context=0, per_token=0, per_pair=0)
    result = simulate(load, group(model, blocks=5000), acceptance=Acceptance((0.6,)))
    steps = (result.completed - result.first_token - result.decode_steps) / result.decode_steps
    assert (steps > -1e-9).all()
