"""The closed form gives what one step at a time gives, for any small world."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from serving.serving_worlds import Linear, ask_oracle, assert_agree, group, requests
from supernode_dataplane.serving import (
    NO_DRAFTS,
    Acceptance,
    Engine,
    Group,
    Requests,
    simulate,
    simulate_disaggregated,
)

SMALL = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PREFIX = 4


@st.composite
def loads(draw: st.DrawFn, *, open_only: bool = False) -> Requests:
    count = draw(st.integers(1, 9))
    span = draw(st.sampled_from([0, 50, 1000, 5000]))
    arrivals: list[float] = sorted(draw(st.lists(st.integers(0, span), min_size=count, max_size=count)))
    if open_only:  # ends of steps are never these, so rounding decides nothing
        arrivals = [time + (i + 1) / 1999 for i, time in enumerate(arrivals)]
    inputs = draw(st.lists(st.integers(1, 30), min_size=count, max_size=count))
    outputs = draw(st.lists(st.one_of(st.integers(1, 4), st.integers(1, 25)), min_size=count, max_size=count))
    prefixes = None
    if draw(st.booleans()):
        prefixes = [_chain(draw, -(-tokens // PREFIX)) for tokens in inputs]
    clients = None if open_only else draw(st.one_of(st.none(), st.integers(1, 5)))
    rows = list(zip(arrivals, inputs, outputs, strict=True))
    return requests(rows, prefixes=prefixes, prefix_block_tokens=PREFIX, concurrency=clients)


def _chain(draw: st.DrawFn, blocks: int) -> list[int]:
    """Identities of a prompt's blocks: a common beginning of one of two stories, then its own."""
    story, common = draw(st.integers(0, 1)), draw(st.integers(0, blocks))
    own = draw(st.integers(2, 5))
    return [100 * story + i if i < common else 1000 * own + 100 * story + 10 * common + i for i in range(blocks)]


def models() -> st.SearchStrategy[Linear]:
    return st.builds(
        Linear,
        fixed=st.integers(1, 50),
        per_sequence=st.integers(0, 5),
        per_context=st.integers(0, 3),
        per_token=st.integers(0, 3),
        per_pair=st.integers(0, 2),
        per_transfer=st.integers(0, 5),
    )


@st.composite
def groups(draw: st.DrawFn, longest: int) -> Group:
    block = draw(st.sampled_from([1, 2, 4]))
    least = -(-longest // block)
    prefill: Any = draw(st.sampled_from(["unchunked", "chunked"]))
    engine = Engine(
        blocks=draw(st.one_of(st.integers(least, least + 12), st.integers(least, 8 * least))),
        block_tokens=block,
        max_running=draw(st.integers(1, 6)),
        prefill=prefill,
        step_tokens=draw(st.integers(1, 40)),
        prompt_tokens=draw(st.sampled_from([None, 1, 3, 8, 20])),
        groups=draw(st.sampled_from([1, 1, 2, 3])),
        gather_steps=draw(st.sampled_from([0, 1, 5, 30])),
        reserve=draw(st.sampled_from(["prompt", "prompt", "output"])),
        watermark=draw(st.sampled_from([0, 0, 0.1, 0.3])),
        prefix_cache=draw(st.booleans()),
    )
    instances = draw(st.integers(1, 3))
    routing: Any = draw(st.sampled_from(["round-robin", "least-loaded"]))
    return Group(model=draw(models()), engine=engine, instances=instances, routing=routing)


def longest(load: Requests) -> int:
    return int((load.inputs + load.outputs - 1).max())


@SMALL
@given(st.data())
def test_every_request_has_the_times_of_the_step_by_step_simulator(data: st.DataObject) -> None:
    load = data.draw(loads())
    one = data.draw(groups(longest(load)))
    expected = ask_oracle(load, [one], (load.outputs - 1).tolist(), 1)
    assert_agree(simulate(load, one), expected, exact=True)


@SMALL
@given(st.data())
def test_prefill_and_decode_apart_agree_too(data: st.DataObject) -> None:
    load = data.draw(loads())
    prefill, decode = data.draw(groups(longest(load))), data.draw(groups(longest(load)))
    expected = ask_oracle(load, [prefill, decode], (load.outputs - 1).tolist(), 1)
    assert_agree(simulate_disaggregated(load, prefill, decode), expected, exact=True)


@SMALL
@given(st.data(), st.lists(st.floats(0, 1), min_size=1, max_size=3), st.one_of(st.none(), st.integers(0, 9)))
def test_accepted_drafts_change_nothing_about_that(data: st.DataObject, kept: list[float], seed: int | None) -> None:
    load = data.draw(loads(open_only=True))
    one = data.draw(groups(longest(load)))
    acceptance = Acceptance(tuple(kept))
    steps = acceptance.steps(load.outputs, seed).tolist()
    expected = ask_oracle(load, [one], steps, acceptance.query_tokens)
    assert_agree(simulate(load, one, acceptance=acceptance, seed=seed), expected, exact=False)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_worlds_short_of_blocks_preempt_and_still_agree(data: st.DataObject) -> None:
    load = data.draw(loads())
    blocks = longest(load) + data.draw(st.integers(0, 10))
    chunked: Any = data.draw(st.sampled_from(["unchunked", "chunked"]))
    step_tokens, dealt = data.draw(st.integers(8, 60)), data.draw(st.sampled_from([1, 1, 2, 3]))
    engine = Engine(blocks=blocks, block_tokens=1, prefill=chunked, step_tokens=step_tokens, groups=dealt, watermark=0)
    one = Group(model=data.draw(models()), engine=engine)
    result = simulate(load, one)
    assume(result.preemptions.sum() > 0)
    expected = ask_oracle(load, [one], (load.outputs - 1).tolist(), NO_DRAFTS.query_tokens)
    assert_agree(result, expected, exact=True)
    assert np.all(result.ttft > 0)


@SMALL
@given(st.data(), st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_accepted_drafts_change_nothing_about_prefill_and_decode_apart(data: st.DataObject, kept: list[float]) -> None:
    load = data.draw(loads(open_only=True))
    prefill, decode = data.draw(groups(longest(load))), data.draw(groups(longest(load)))
    acceptance = Acceptance(tuple(kept))
    steps = acceptance.steps(load.outputs, None).tolist()
    expected = ask_oracle(load, [prefill, decode], steps, acceptance.query_tokens)
    found = simulate_disaggregated(load, prefill, decode, acceptance=acceptance, seed=None)
    assert_agree(found, expected, exact=False)


def test_a_budget_overdrawn_by_one_that_came_with_its_caches_is_made_good_in_the_next_step() -> None:
    rows = [(3.0, 11, 18), (41.0, 11, 19), (70.0, 6, 23), (237.0, 29, 21), (313.0, 12, 10), (315.0, 23, 3)]
    load = requests([(time + 1 / 1999, tokens, output) for time, tokens, output in rows])
    prefill = group(blocks=1000, block_tokens=1)
    # The decode instance reads again what it preempted, three query tokens for each sequence: 7 are soon overdrawn.
    decode = group(blocks=61, block_tokens=1, prefill="chunked", step_tokens=7, prompt_tokens=5, watermark=0)
    acceptance = Acceptance((0.5, 0.5))
    steps = acceptance.steps(load.outputs, None).tolist()
    expected = ask_oracle(load, [prefill, decode], steps, acceptance.query_tokens)
    found = simulate_disaggregated(load, prefill, decode, acceptance=acceptance, seed=None)
    assert found.preemptions.sum() > 0
    assert_agree(found, expected, exact=False)
