"""How the instances of `supernode serve-sim` schedule: flags over what the scenario's engine says, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from supernode_cli.errors import CliError
from supernode_cli.scenario_inference import ScenarioEngine
from supernode_cli.serving_deployment import ServedScenario
from supernode_dataplane.capacity import weight_bytes
from supernode_dataplane.deployment import Speculation
from supernode_dataplane.deployment_plan import Role, RolePool
from supernode_dataplane.pool_steps import PoolSteps, kv_blocks
from supernode_dataplane.serving import (
    Engine,
    Group,
    Requests,
    ServingError,
    ServingResult,
    simulate,
    simulate_disaggregated,
)

__all__ = ["EngineChoice", "EngineFlags", "engine_of", "serve"]

PROMPT_TOKENS: Final = 8192
KV_BLOCK: Final = 128
_MOST: Final = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFlags:
    """What the command line says; None where it says nothing."""

    chunk: int | None = None
    kv_block: int | None = None
    max_running: int | None = None
    routing: Literal["round-robin", "least-loaded"] | None = None
    prefix_cache: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """What the instances' scheduler does.

    ``chunk``          tokens of a step of each data-parallel group, decoding sequences first; None: whole prompts
    ``prompt_tokens``  of a step of each group that reads whole prompts
    ``running``        sequences of an instance of each role; None: as many as its caches hold
    ``named``          what people call each number: a flag, or the scenario's field
    """

    chunk: int | None = None
    prompt_tokens: int = PROMPT_TOKENS
    kv_block: int = KV_BLOCK
    running: dict[Role, int | None] = field(default_factory=dict)
    routing: Literal["round-robin", "least-loaded"] = "round-robin"
    prefix_cache: bool = True
    group_queues: bool = False
    gather_steps: int = 0
    reserve: Literal["prompt", "output"] = "prompt"
    seed: int = 0
    named: dict[str, str] = field(default_factory=dict)


def engine_of(flags: EngineFlags, served: ServedScenario) -> EngineChoice:
    """Return the choice for a scenario.

    :raises CliError: a number is out of range, or two of the scenario's fields exclude one another.
    """
    for name, given in (("--chunk", flags.chunk), ("--kv-block", flags.kv_block), ("--max-running", flags.max_running)):
        if given is not None and not 1 <= given <= _MOST:
            raise CliError(f"{name}: {given} is out of range; give 1 to {_MOST:,}")
    said = served.engine
    chunk = flags.chunk or said.chunk_tokens
    _check_scenario(said, chunk, disaggregated=served.deployment.prefill is not None)
    kv_block = flags.kv_block or said.kv_block_tokens or KV_BLOCK
    return EngineChoice(
        chunk=chunk,
        prompt_tokens=said.prompt_tokens or PROMPT_TOKENS,
        kv_block=kv_block,
        running={
            "prefill": flags.max_running or said.prefill_max_running,
            "decode": flags.max_running or said.decode_max_running,
        },
        routing=flags.routing or (said.routing.value if said.routing is not None else "round-robin"),
        prefix_cache=flags.prefix_cache and said.prefix_cache,
        group_queues=said.group_queues,
        gather_steps=said.gather_steps,
        reserve=said.reserve.value,
        seed=flags.seed,
        named={
            "chunk": "inference.engine.chunkTokens" if flags.chunk is None and said.chunk_tokens else "--chunk",
            "kv_block": "--kv-block"
            if flags.kv_block is not None or said.kv_block_tokens is None
            else "inference.engine.kvBlockTokens",
        },
    )


def serve(served: ServedScenario, requests: Requests, engine: EngineChoice) -> ServingResult:
    """Return what the deployment makes of the requests.

    :raises CliError: no room for caches, a request that fits nowhere, or blocks that do not go into shared ones.
    """
    _check_prefixes(engine, requests)
    decode = served.deployment.decode
    assert decode is not None
    try:
        prompts = served.deployment.prefill
        if prompts is None:
            group = _group(served, decode, requests, engine)
            return simulate(requests, group, acceptance=served.acceptance, seed=engine.seed)
        # Drafts are checked where tokens are generated.
        reading = replace(prompts, pool=replace(prompts.pool, speculation=Speculation()))
        groups = (_group(served, found, requests, engine) for found in (reading, decode))
        return simulate_disaggregated(requests, *groups, acceptance=served.acceptance, seed=engine.seed)
    except ServingError as error:
        raise CliError(str(error)) from None


def _check_prefixes(engine: EngineChoice, requests: Requests) -> None:
    shared = requests.prefix_block_tokens
    if requests.prefixes is not None and engine.prefix_cache and shared % engine.kv_block:
        problem = f"{engine.kv_block} does not divide the {shared} tokens of the trace's prefix blocks"
        raise CliError(f"{engine.named['kv_block']}: {problem}; give a divisor, or --no-prefix-cache")


def _check_scenario(said: ScenarioEngine, chunk: int | None, *, disaggregated: bool) -> None:
    way = "inference.engine"
    if said.gather_steps and not said.group_queues:
        raise CliError(f"{way}.gatherSteps: is about groups with queues of their own; give groupQueues: true too")
    if said.gather_steps and chunk is not None:
        problem = "is about prompts that are read whole; leave out chunkTokens and --chunk, or this"
        raise CliError(f"{way}.gatherSteps: {problem}")
    if said.prompt_tokens is not None and chunk is not None:
        raise CliError(f"{way}.promptTokens: is about prompts that are read whole; leave out the chunk, or this")
    if said.prefill_max_running is not None and not disaggregated:
        problem = "is for mode Disaggregated; the one pool of mode Colocated takes decodeMaxRunning"
        raise CliError(f"{way}.prefillMaxRunning: {problem}")


def _group(served: ServedScenario, found: RolePool, requests: Requests, choice: EngineChoice) -> Group:
    pool, groups = found.pool, int(found.pool.groups)
    step_tokens = (choice.chunk or choice.prompt_tokens) * groups
    fraction = served.plan.memory_fraction
    blocks = kv_blocks(pool, choice.kv_block, step_tokens=step_tokens, memory_fraction=fraction)
    if blocks < 1:
        weights = f"{float(weight_bytes(pool)) / 2**30:.1f} GiB of weights"
        remedy = "spread the weights over more dies, choose a smaller format, or read fewer tokens in a step"
        remedy += f" ({choice.named['chunk'] if choice.chunk else 'inference.engine.promptTokens'})"
        raise CliError(f"inference.{found.role}: no HBM is left for caches beside {weights} per die; {remedy}")
    _check_lengths(found, requests, blocks // groups, choice.kv_block)
    inputs, outputs = requests.inputs.astype(float), requests.outputs.astype(float)
    engine = Engine(
        blocks=blocks,
        block_tokens=choice.kv_block,
        # A sequence has at least one block.
        max_running=min(blocks, choice.running.get(found.role) or blocks),
        prefill="unchunked" if choice.chunk is None else "chunked",
        step_tokens=step_tokens,
        # A prompt is read by one group, which has its part of the budget and no more.
        prompt_tokens=choice.chunk,
        groups=groups if choice.group_queues else 1,
        gather_steps=choice.gather_steps,
        reserve=choice.reserve,
        prefix_cache=choice.prefix_cache,
    )
    steps = PoolSteps(
        pool,
        # What a decode step meets: contexts weighted by the tokens that are generated over them.
        context=float((inputs + outputs / 2) @ outputs / outputs.sum()),
        prompt_tokens=min(float(inputs.mean()), float(choice.chunk or math.inf)),
    )
    return Group(model=steps, engine=engine, instances=found.instances, routing=choice.routing)


def _check_lengths(found: RolePool, requests: Requests, blocks: int, block_tokens: int) -> None:
    """Check that each request fits into the caches of one tensor group: a sequence is never spread over several."""
    tokens = requests.inputs if found.role == "prefill" else requests.inputs + requests.outputs - 1
    longest = int(tokens.argmax())
    if tokens[longest] <= blocks * block_tokens:
        return
    dies = int(found.pool.tensor) * found.pool.context * found.pool.pipeline
    where = f"the {dies} dies of a tensor group hold" if dies > 1 else "a die holds"
    raise CliError(
        f"request {longest}: {where} {blocks * block_tokens} tokens beside the weights, and it has {tokens[longest]}; "
        f"raise inference.{found.role}.parallelism.tensor, spread the weights over more dies, or leave out requests "
        "as long as this (requests are counted from 0, in order of time)"
    )
