"""A scenario's inference deployment as instances of the serving loop: step times and KV memory from its pools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from supernode_cli.errors import CliError
from supernode_cli.evaluation import ScenarioError, evaluate, parse_scenario
from supernode_dataplane.capacity import weight_bytes
from supernode_dataplane.deployment import Speculation
from supernode_dataplane.deployment_plan import Deployment, DeploymentPlan, RolePool
from supernode_dataplane.pool_steps import PoolSteps, kv_blocks
from supernode_dataplane.profile import Profile
from supernode_dataplane.serving import (
    Acceptance,
    Engine,
    Group,
    Requests,
    ServingError,
    ServingResult,
    simulate,
    simulate_disaggregated,
)
from supernode_dataplane.solving import linked_deployment

__all__ = ["EngineFlags", "ServedScenario", "serve", "served_scenario"]

STEP_TOKENS: Final = 8192
_MODES: Final = ("Colocated", "Disaggregated")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFlags:
    """What the command line says about the instances' scheduler.

    ``chunk``        tokens of a step of each tensor group, decoding sequences first; None: prompts are read whole
    ``max_running``  sequences of an instance; None: as many as its caches hold
    """

    chunk: int | None = None
    kv_block: int = 128
    max_running: int | None = None
    routing: Literal["round-robin", "least-loaded"] = "round-robin"
    prefix_cache: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ServedScenario:
    """A scenario whose deployment is legal and whose weights fit: the instances that are whole on its machine."""

    profile: Profile
    model: str
    stack: str
    plan: DeploymentPlan
    deployment: Deployment
    acceptance: Acceptance
    cards: int
    """Packages that it holds."""
    clients: int | None
    """What the scenario keeps in flight."""
    notes: tuple[str, ...]


def served_scenario(document: Mapping[str, Any]) -> ServedScenario:
    """Return the deployment of a scenario. Its batch or load says how much runs in a steady state, here nothing.

    :raises ScenarioError: it cannot run, or has nothing that serves whole requests.
    """
    scenario = parse_scenario(document)
    if scenario.inference is None:
        raise ScenarioError("training", "serves no requests; give inference instead")
    mode = str(scenario.inference.mode)
    if mode not in _MODES:
        raise ScenarioError("inference.mode", f"{mode} does not serve whole requests; give {' or '.join(_MODES)}")
    alone = {key: value for key, value in document["inference"].items() if key != "batch"}
    evaluation = evaluate({**document, "inference": {**alone, "load": {"concurrency": 1}}})
    (workload,) = evaluation.inputs.workloads
    deployment = linked_deployment(evaluation.profile, evaluation.inputs.compute_nodes, workload)
    # Whatever has a rate above 0, as an evaluation has, has whole instances.
    assert deployment is not None
    plan, profile = deployment.plan, evaluation.profile
    spoken = scenario.inference.speculation
    acceptance = Acceptance(() if spoken is None else tuple(p / 100 for p in spoken.acceptance_percent))
    clients = None if scenario.inference.load is None else scenario.inference.load.concurrency
    if scenario.inference.batch is not None and deployment.decode is not None:
        clients = scenario.inference.batch.sequences_per_card * deployment.decode.dies // profile.dies_per_package
    notes = list(evaluation.result.notes)
    if plan.cached_share:
        notes.append("inference.cache.reusePercent is not used: prompts share what a trace says that they share")
    return ServedScenario(
        profile=profile,
        model=scenario.model.name or "own config",
        stack=plan.stack,
        plan=plan,
        deployment=deployment,
        acceptance=acceptance,
        cards=evaluation.result.cards,
        clients=clients,
        notes=tuple(notes),
    )


def serve(served: ServedScenario, requests: Requests, flags: EngineFlags) -> ServingResult:
    """Return what the deployment makes of the requests.

    :raises CliError: no room for caches, a request that fits nowhere, or a flag out of range.
    """
    _check(flags, requests)
    decode = served.deployment.decode
    assert decode is not None
    try:
        prompts = served.deployment.prefill
        if prompts is None:
            group = _group(served, decode, requests, flags)
            return simulate(requests, group, acceptance=served.acceptance, seed=flags.seed)
        # Drafts are checked where tokens are generated.
        reading = replace(prompts, pool=replace(prompts.pool, speculation=Speculation()))
        groups = (_group(served, found, requests, flags) for found in (reading, decode))
        return simulate_disaggregated(requests, *groups, acceptance=served.acceptance, seed=flags.seed)
    except ServingError as error:
        raise CliError(str(error)) from None


def _check(flags: EngineFlags, requests: Requests) -> None:
    for name, number in (
        ("--chunk", flags.chunk),
        ("--kv-block", flags.kv_block),
        ("--max-running", flags.max_running),
    ):
        if number is not None and not 1 <= number <= 1 << 24:
            raise CliError(f"{name}: {number} is out of range; give 1 to {1 << 24:,}")
    shared = requests.prefix_block_tokens
    if requests.prefixes is not None and flags.prefix_cache and shared % flags.kv_block:
        problem = f"{flags.kv_block} does not divide the {shared} tokens of the trace's prefix blocks"
        raise CliError(f"--kv-block: {problem}; give a divisor, or --no-prefix-cache")


def _group(served: ServedScenario, found: RolePool, requests: Requests, flags: EngineFlags) -> Group:
    pool, groups = found.pool, int(found.pool.groups)
    step_tokens = (flags.chunk or STEP_TOKENS) * groups
    fraction = served.plan.memory_fraction
    blocks = kv_blocks(pool, flags.kv_block, step_tokens=step_tokens, memory_fraction=fraction)
    if blocks < 1:
        weights = f"{float(weight_bytes(pool)) / 2**30:.1f} GiB of weights"
        remedy = "spread the weights over more dies, choose a smaller format, or give a smaller --chunk"
        raise CliError(f"inference.{found.role}: no HBM is left for caches beside {weights} per die; {remedy}")
    _check_lengths(found, requests, blocks // groups, flags.kv_block)
    inputs, outputs = requests.inputs.astype(float), requests.outputs.astype(float)
    engine = Engine(
        blocks=blocks,
        block_tokens=flags.kv_block,
        # A sequence has at least one block.
        max_running=min(blocks, flags.max_running or blocks),
        prefill="unchunked" if flags.chunk is None else "chunked",
        step_tokens=step_tokens,
        prefix_cache=flags.prefix_cache,
    )
    steps = PoolSteps(
        pool,
        # What a decode step meets: contexts weighted by the tokens that are generated over them.
        context=float((inputs + outputs / 2) @ outputs / outputs.sum()),
        prompt_tokens=float(inputs.mean()),
    )
    return Group(model=steps, engine=engine, instances=found.instances, routing=flags.routing)


def _check_lengths(found: RolePool, requests: Requests, blocks: int, block_tokens: int) -> None:
    """Check that each request fits into the caches of one tensor group: a sequence is never spread over several."""
    tokens = requests.inputs if found.role == "prefill" else requests.inputs + requests.outputs - 1
    longest = int(tokens.argmax())
    if tokens[longest] <= blocks * block_tokens:
        return
    dies = int(found.pool.tensor)
    where = f"the {dies} dies of a tensor group hold" if dies > 1 else "a die holds"
    raise CliError(
        f"request {longest}: {where} {blocks * block_tokens} tokens beside the weights, and it has {tokens[longest]}; "
        f"raise inference.{found.role}.parallelism.tensor, spread the weights over more dies, or leave out requests "
        "as long as this (requests are counted from 0, in order of time)"
    )
