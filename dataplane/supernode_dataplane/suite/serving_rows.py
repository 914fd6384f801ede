"""Rows of real serving runs, through the serving loop: fixed-batch formulas miss their queues and interruptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from supernode_dataplane.catalogue import load_model
from supernode_dataplane.deployment import Pool, Precision, Speculation
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.pool_steps import PoolSteps, kv_blocks
from supernode_dataplane.profile import load_profile
from supernode_dataplane.serving import (
    Acceptance,
    ClosedLoop,
    Engine,
    Fixed,
    Group,
    OpenLoop,
    ServingResult,
    generate,
    simulate,
    simulate_disaggregated,
)
from supernode_dataplane.stacks import Stack

__all__ = ["serving_row"]

_BLOCK = 128
_MANY = 100_000
_GATHER_STEPS = 30
"""Decode steps that sgl-project/sglang lets prompts wait for those of other data-parallel groups."""


def serving_row(given: Mapping[str, Any], stacks: Mapping[str, Stack]) -> dict[str, float]:
    """Return mean TPOT and TTFT in milliseconds, and output tokens per second and card, of a served load.

    ``decode alone ms`` is the TPOT of steps that only decode, ``prefill share`` that of the time in which prompts are
    read, both of the instances that decode.
    """
    result, cards = _serve(given, stacks[given["stack"]])
    distributions, use = result.distributions(), result.groups[-1]
    return {
        "TPOT ms": distributions["tpot"].mean * 1e3,
        "TTFT ms": distributions["ttft"].mean * 1e3,
        "tokens/s/card": result.tokens_per_second / cards,
        "decode alone ms": use.decode_step_seconds * 1e3 / (1.0 + given["accepted"]),
        "prefill share": use.prefill_share,
    }


def _serve(given: Mapping[str, Any], stack: Stack) -> tuple[ServingResult, float]:
    # The load generator of sgl-project/sglang: a rate, and at most so many in the system.
    pace = OpenLoop(given["requestsPerSecond"]) if "requestsPerSecond" in given else None
    arrivals = ClosedLoop(given["inSystem"], pace)
    load = generate(
        given["requests"], arrivals=arrivals, inputs=Fixed(given["input"]), outputs=Fixed(given["output"]), seed=0
    )
    acceptance = Acceptance.from_length(given["drafts"], 1.0 + given["accepted"])
    pool = _pool(given, stack, dies=given["dies"], tensor=given.get("tensor", 1), expert=given.get("expert", 1))
    decode = _group(pool, given, given.get("running", _MANY), prompt_tokens=given.get("promptTokens", 8192))
    if given["mode"] == "Colocated":
        return simulate(load, decode, acceptance=acceptance), float(pool.cards)
    dies, count = given["prefillDies"], given["prefillInstances"]
    prompts = replace(
        _pool(given, stack, dies=dies, tensor=given["prefillTensor"], expert=given["prefillExpert"]),
        speculation=Speculation(),
        sequence_parallel=given.get("sequenceParallel", False),
    )
    prefill = _group(
        prompts, given, given.get("prefillRunning", _MANY), count, prompt_tokens=given["prefillPromptTokens"]
    )
    cards = float(pool.cards) + count * float(prompts.cards)
    return simulate_disaggregated(load, prefill, decode, acceptance=acceptance), cards


def _pool(given: Mapping[str, Any], stack: Stack, *, dies: int, tensor: int, expert: int) -> Pool:
    weights = given.get("weights", "int8")
    return Pool(
        architecture=load_model(given["model"]),
        hardware=hardware_of(load_profile(given["machine"])),
        stack=stack,
        dies=dies,
        tensor=tensor,
        expert=expert,
        precision=Precision(
            weights=weights, experts=given.get("experts"), activations="bf16" if weights == "bf16" else "int8"
        ),
        speculation=Speculation(drafts=given["drafts"], accepted=given["accepted"]),
    )


def _group(pool: Pool, given: Mapping[str, Any], running: int, instances: int = 1, *, prompt_tokens: int) -> Group:
    """Return instances whose every data-parallel group reads ``prompt_tokens`` in a step, or one longer prompt."""
    steps = PoolSteps(pool, context=given["input"] + given["output"] / 2, prompt_tokens=float(given["input"]))
    groups = max(1, int(pool.groups))
    step_tokens = groups * max(prompt_tokens, given["input"])
    engine = Engine(
        blocks=kv_blocks(pool, _BLOCK, step_tokens=step_tokens),
        block_tokens=_BLOCK,
        max_running=running,
        step_tokens=step_tokens,
        groups=groups,
        gather_steps=_GATHER_STEPS if given.get("gather") else 0,
        prefix_cache=False,
    )
    return Group(model=steps, engine=engine, instances=instances)
