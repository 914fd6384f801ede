"""Steps of a pool: tables of many sizes at once answer as the formulas do for one size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from supernode_dataplane import load_profile
from supernode_dataplane.catalogue import load_model
from supernode_dataplane.deployment import Pool, Speculation
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.inference import transfer_seconds
from supernode_dataplane.pool_phases import decode_phase, prompt_phase
from supernode_dataplane.pool_steps import PoolSteps
from supernode_dataplane.stacks import load_stack

PROMPT, CONTEXT = 3000.0, 4000.0
SIZES = (1, 2, 255, 256, 2047, 2048, 2049, 3000, 3001, 8192, 96_000, 96_001, 131_072, 262_144)


def pool(model: str, **changes: Any) -> Pool:
    return Pool(
        architecture=load_model(model),
        hardware=hardware_of(load_profile("cloudmatrix-384")),
        stack=load_stack("vendor-tuned"),
        **changes,
    )


POOLS = {
    "dense": pool("qwen3-32b", dies=4, tensor=4),
    "dense, 32 groups": pool("qwen3-32b", dies=64, tensor=2),
    "experts": pool("deepseek-r1", dies=32, expert=32),
    "experts and drafts": pool("deepseek-r1", dies=64, expert=64, speculation=Speculation(drafts=1, accepted=0.7)),
    "drafts on the host": replace(
        pool("qwen3-32b", dies=16, tensor=4, speculation=Speculation(drafts=3, accepted=1.05)),
        stack=load_stack("open-source"),
    ),
    "experts, two streams": pool("deepseek-r1", dies=32, expert=32, streams="two"),
    "experts in tensor groups": pool("deepseek-r1", dies=32, tensor=4, expert=32),
    "stages": pool("qwen3-32b", dies=16, tensor=4, pipeline=4),
    "stages of experts": pool("deepseek-r1", dies=64, expert=16, pipeline=4),
    "prompts shared by groups": pool("deepseek-r1", dies=32, expert=32, context=4),
    "sparse attention": pool("deepseek-v3.2", dies=64, expert=64),
    "compressed caches": pool("deepseek-v4-flash", dies=16, expert=16),
    "linear attention": pool("qwen3.5-27b", dies=8, tensor=4),
    "sliding windows": pool("mimo-v2-flash", dies=16, tensor=2, expert=16),
}


@pytest.fixture(params=POOLS)
def steps(request: pytest.FixtureRequest) -> PoolSteps:
    return PoolSteps(POOLS[request.param], context=CONTEXT, prompt_tokens=PROMPT)


def one_prefill(pool: Pool, tokens: int) -> tuple[float, float]:
    """The line in query-key pairs through no keys and those of a typical prompt, at one size."""
    groups = float(pool.groups)
    each = max(tokens / groups, min(float(tokens), PROMPT))
    prompts, filled = max(1.0, each / PROMPT), tokens / groups / each
    flat, steep = (
        float(prompt_phase(pool, each, context, prompts, filled=filled).latency_seconds) for context in (0.0, PROMPT)
    )
    return flat, max(0.0, steep - flat) / PROMPT / tokens


@pytest.mark.parametrize("tokens", SIZES)
def test_a_prefill_step_of_the_table_is_that_of_its_size_alone(steps: PoolSteps, tokens: int) -> None:
    assert steps.prefill(tokens) == pytest.approx(one_prefill(steps.pool, tokens), rel=1e-12)


@pytest.mark.parametrize("batch", [1, 7, 255, 256, 700, 1500])
def test_a_decode_step_of_the_table_is_that_of_its_size_alone(steps: PoolSteps, batch: int) -> None:
    each = max(batch / float(steps.pool.groups), 1.0)
    low, high = (float(decode_phase(steps.pool, each, share * CONTEXT).seconds) for share in (0.5, 1.5))
    slope = max((high - low) / CONTEXT, 0.0)
    assert steps.decode(batch) == pytest.approx((low - slope * 0.5 * CONTEXT, slope / batch), rel=1e-12)


@pytest.mark.parametrize("tokens", SIZES)
def test_a_transfer_of_the_table_is_that_of_its_size_alone(steps: PoolSteps, tokens: int) -> None:
    assert steps.transfer(tokens) == pytest.approx(float(transfer_seconds(steps.pool, float(tokens))), rel=1e-12)


def test_a_step_of_both_reads_the_weights_once_however_often_it_is_asked(steps: PoolSteps) -> None:
    weights = float(prompt_phase(steps.pool, 1.0, 0.0).latency_seconds)
    for tokens in (1, 2048, 8192):
        (decode, slope), (prefill, pairs) = steps.decode(40), one_prefill(steps.pool, tokens)
        expected = (decode + max(0.0, prefill - weights), slope, pairs)
        assert steps.mixed(40, tokens) == pytest.approx(expected, rel=1e-12)


def test_answers_do_not_depend_on_what_was_asked_before(steps: PoolSteps) -> None:
    fresh = PoolSteps(steps.pool, context=CONTEXT, prompt_tokens=PROMPT)
    forward = [steps.prefill(tokens) for tokens in SIZES]
    assert [fresh.prefill(tokens) for tokens in reversed(SIZES)] == forward[::-1]
    assert all(type(value) is float for pair in forward for value in pair)
