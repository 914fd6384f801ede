"""An inference deployment as asked for, and as pools of dies: how many instances each pool holds, and what is illegal.

    instance   the smallest group of dies that serves alone: one set of expert ranks, else one tensor group or those
               that share prompts; of a pipeline all stages, and a pool with attention and experts apart as a whole
    pool       its dies / dies of an instance, all instances alike

The first nodes by rank read prompts when a deployment is disaggregated; all others decode. Numbers that decide no
layout (lengths, load, prompts, shares, accepted drafts, imbalance) may be arrays where rates are computed from a plan
(:mod:`supernode_dataplane.sweeping`); what is read from a workload has numbers only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.capacity import MEMORY_FRACTION, Capacity, capacity_of, explain_memory
from supernode_dataplane.deployment import Experts, Pool, Precision, Speculation, Split, Streams
from supernode_dataplane.hardware import Hardware
from supernode_dataplane.inference import InferenceSpec, Mode
from supernode_dataplane.numeric import Number
from supernode_dataplane.pool_layout import IllegalLayoutError, lay_out
from supernode_dataplane.state import Problem

__all__ = [
    "Deployment",
    "DeploymentPlan",
    "PoolPlan",
    "Role",
    "RolePool",
    "deployment_of",
    "inference_spec",
    "memory_problem",
    "pool_capacity",
    "sequences_per_group",
]

Role = Literal["decode", "prefill"]
_FIELD: Final = "spec.inference"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """How one pool is to split the model."""

    tensor: int = 1
    expert: int | None = None
    """None: over all dies of the pool, where the model has experts."""
    experts: Experts = field(default_factory=Experts)
    experts_per_die: int | None = None
    """Replicas that each expert rank holds of routed experts; None: as ``experts.redundant`` gives."""
    streams: Streams = "auto"
    expert_tensor: int = 1
    """Dies that an expert's matrices are split over."""
    pipeline: int = 1
    in_flight: int | None = None
    """Micro-batches of a decode step; None: one for each stage."""
    context: int = 1
    sequence_parallel: bool = False
    attention_share: float | None = None
    """Share of the cores that attention has with two streams; None: the stack's."""
    split: Split | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPlan:
    """What a SuperNodeWorkload.spec.inference asks for."""

    model: Architecture
    stack: str
    mode: Mode
    input_tokens: int
    output_tokens: int = 1
    precision: Precision = field(default_factory=Precision)
    decode: PoolPlan | None = None
    prefill: PoolPlan | None = None
    prefill_nodes: int = 0
    """Ranks of the prefill pool in mode Disaggregated; 0 where its dies are counted."""
    prefill_dies: int | None = None
    """Dies of that pool, the first of the workload, instead of whole ranks."""
    sequences_per_card: int | None = None
    concurrency: int | None = None
    """Sequences that decode at once on the whole deployment; exactly one of both is given, none in mode Prefill."""
    prompts: int = 1
    speculation: Speculation = field(default_factory=Speculation)
    cached_share: float = 0.0
    cache_domain_dies: int | None = None
    """Dies that share one context cache, of those that read prompts; None: all of them."""
    cache_bytes_per_second: float | None = None
    """What a die loads from the context cache; None: the way to other servers."""
    memory_fraction: float = MEMORY_FRACTION

    @property
    def tokens_per_request(self) -> int:
        """Tokens of a request that progress counts: output, or prompt in mode Prefill."""
        return self.input_tokens if self.mode == "Prefill" else self.output_tokens


@dataclass(frozen=True, slots=True)
class RolePool:
    """Dies of one role: ``pool`` is one instance of ``instances`` alike."""

    role: Role
    pool: Pool
    instances: int
    dies_per_card: int
    """Of the machine; what a scattered pool's hardware says is how its dies are packed."""

    @property
    def dies(self) -> int:
        """Dies of all instances."""
        return int(self.pool.dies) * self.instances


@dataclass(frozen=True, slots=True)
class Deployment:
    """A plan on so many dies: prefill dies come first."""

    plan: DeploymentPlan
    prefill: RolePool | None
    decode: RolePool | None

    @property
    def pools(self) -> tuple[RolePool, ...]:
        """The pools there are, in the order of their dies."""
        return tuple(pool for pool in (self.prefill, self.decode) if pool is not None)

    @property
    def sequences(self) -> Number:
        """Running on each tensor group of the decode pool when all of its instances work; 0 without one."""
        return 0.0 if self.decode is None else sequences_per_group(self.plan, self.decode, self.decode.instances)


def sequences_per_group(plan: DeploymentPlan, decode: RolePool, instances: int) -> Number:
    """Return the sequences of each tensor group when so many instances share the load."""
    pool = decode.pool
    if plan.sequences_per_card is not None:
        return plan.sequences_per_card * float(pool.dies / pool.groups) / decode.dies_per_card
    concurrency = 0 if plan.concurrency is None else plan.concurrency
    return concurrency / (float(pool.groups) * instances)


def deployment_of(
    plan: DeploymentPlan, hardware: Hardware, dies: int, prefill_dies: int, dies_text: str
) -> Deployment | Problem:
    """Return the pools of a plan on ``dies``, of which the first ``prefill_dies`` read prompts if disaggregated.

    What is illegal comes back as a Problem that names the field; memory is checked by :func:`memory_problem`.
    """
    try:
        deployment = _pools(plan, hardware, dies, prefill_dies, dies_text)
        _check_some_sequence(deployment)
        return deployment
    except IllegalLayoutError as error:
        return error.problem


def _check_some_sequence(deployment: Deployment) -> None:
    """Check that the deployment has a whole sequence; a tensor group may have less, as its share of a few."""
    decode, each = deployment.decode, deployment.plan.sequences_per_card
    if decode is None or each is None or each * decode.dies >= decode.dies_per_card:
        return
    least = -(-decode.dies_per_card // decode.dies)
    raise IllegalLayoutError(
        "batch.sequencesPerCard",
        f"{each} on each card is {each * decode.dies / decode.dies_per_card:g} of a sequence on "
        f"{decode.dies} of the {decode.dies_per_card} dies of a card: give at least {least}, or more dies "
        "(machine.dies of a scenario)",
    )


def inference_spec(deployment: Deployment, sequences: Number | None = None) -> InferenceSpec:
    """Return what one instance of each pool runs; ``sequences`` of a tensor group, else as planned."""
    plan = deployment.plan
    return InferenceSpec(
        mode=plan.mode,
        input_tokens=1.0 * plan.input_tokens,
        output_tokens=1.0 * plan.output_tokens,
        decode=None if deployment.decode is None else deployment.decode.pool,
        prefill=None if deployment.prefill is None else deployment.prefill.pool,
        sequences=deployment.sequences if sequences is None else sequences,
        prompts=1.0 * plan.prompts,
        cached_share=plan.cached_share,
        cache_bytes_per_second=plan.cache_bytes_per_second,
        memory_fraction=plan.memory_fraction,
    )


def memory_problem(deployment: Deployment) -> Problem | None:
    """Return why the deployment does not fit into HBM, with the arithmetic of a die, or None."""
    for found in deployment.pools:
        capacity, sequences = pool_capacity(deployment, found)
        # Some tensor group has a whole sequence, however few there are.
        sequences = max(1.0, sequences)
        if float(capacity.sequences) >= sequences:
            continue
        text = explain_memory(found.pool, capacity, sequences)
        if capacity.weights + capacity.buffers >= capacity.hbm:
            remedy = "spread the weights over more dies (tensor, expert, pipeline), or choose a smaller format"
        elif found.role == "prefill":
            remedy = "read fewer prompts at once, or share each over more dies (tensor, context)"
        else:
            each = float(capacity.sequences) / float(found.pool.dies / found.pool.groups)
            most, card = int(each * found.dies), int(each * found.dies_per_card)
            whole = f"die holds {most}" if found.dies == 1 else f"{found.dies} dies hold {most}"
            held = f"its {whole} such sequences, {card} on each card"
            remedy = f"{held}: ask for fewer, or for more dies"
        return Problem("DoesNotFit", f"{_FIELD}.{found.role}", f"{text}; {remedy}")
    return None


def pool_capacity(deployment: Deployment, found: RolePool) -> tuple[Capacity, Number]:
    """Return the HBM of a die of the pool, and how many sequences of full length a tensor group has to hold."""
    plan, pool, fraction = deployment.plan, found.pool, deployment.plan.memory_fraction
    new: Number = 0.0
    held: Number
    context: Number
    if found.role == "prefill" or plan.mode == "Colocated":
        new = plan.prompts * plan.input_tokens * (1.0 - plan.cached_share)
    if found.role == "prefill":
        held, context = 1.0 * plan.prompts, 1.0 * plan.input_tokens
    else:
        held, context = deployment.sequences, 1.0 * (plan.input_tokens + plan.output_tokens)
    return capacity_of(pool, context, tokens_in_flight=new, memory_fraction=fraction), held


def _pools(plan: DeploymentPlan, hardware: Hardware, dies: int, prefill_dies: int, dies_text: str) -> Deployment:
    plan = _with_domains(plan, prefill_dies if plan.mode == "Disaggregated" else dies)
    if plan.mode == "Prefill":
        return Deployment(plan, _role_pool(plan, "prefill", hardware, dies, dies_text), None)
    if plan.mode != "Disaggregated":
        return Deployment(plan, None, _role_pool(plan, "decode", hardware, dies, dies_text))
    if not 0 < prefill_dies < dies:
        raise _nothing_to_decode(plan, hardware, dies, dies_text)
    rest = dies - prefill_dies
    owner = "its nodes" if plan.prefill_dies is None else "its own"
    prefill = _role_pool(plan, "prefill", hardware, prefill_dies, f"the {prefill_dies} dies of {owner}")
    return Deployment(plan, prefill, _role_pool(plan, "decode", hardware, rest, f"the other {rest} dies"))


def _nothing_to_decode(plan: DeploymentPlan, hardware: Hardware, dies: int, dies_text: str) -> IllegalLayoutError:
    """Return the error of a prefill pool that has all the dies, with what can be done about it."""
    if plan.prefill_dies is not None:
        message = f"prefill.dies {plan.prefill_dies} leave no dies of {dies_text} to decode"
        most = f"at most {dies - 1}" if dies > 1 else "the workload more than one die"
        return IllegalLayoutError("prefill.dies", f"{message}; give {most}")
    message = f"prefill.nodes {plan.prefill_nodes} leave no dies of {dies_text} to decode"
    servers = -(-dies // hardware.dies_per_server)
    if servers > 1:
        return IllegalLayoutError("prefill.nodes", f"{message}; give at most {servers - 1}, or the workload more nodes")
    remedy = "which are one server: in a scenario give prefill.dies instead"
    if hardware.dies > hardware.dies_per_server:
        remedy += ", or the workload more nodes"
    return IllegalLayoutError("prefill.nodes", f"{message}, {remedy}")


def _role_pool(plan: DeploymentPlan, role: Role, hardware: Hardware, dies: int, dies_text: str) -> RolePool:
    split = (plan.prefill if role == "prefill" else plan.decode) or PoolPlan()
    pool = lay_out(plan, split, role, hardware, dies, dies_text)
    return RolePool(role, pool, dies // int(pool.dies), hardware.dies_per_card)


def _with_domains(plan: DeploymentPlan, dies: int) -> DeploymentPlan:
    """Return the plan with the share of prompts that a cache of each domain holds.

    Tokens that are read again are read u = 1 / (1 - share) times in all. Prompts go to any of D domains, and the first
    to come to each misses: u - D (1 - (1 - 1/D)^u) of them hit.
    """
    each = plan.cache_domain_dies
    if each is None or dies < 1:
        return plan
    if dies % each:
        message = f"domainDies {each} does not divide the {dies} dies that read prompts; choose a number that does"
        raise IllegalLayoutError("cache.domainDies", message)
    domains, uses = dies // each, 1.0 / (1.0 - plan.cached_share)
    return replace(plan, cached_share=1.0 - domains * (1.0 - (1.0 - 1.0 / domains) ** uses) / uses)
