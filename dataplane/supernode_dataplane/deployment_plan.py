"""An inference deployment as asked for, and as pools of dies: how many instances each pool holds, and what is illegal.

    instance   the smallest group of dies that serves alone: one set of expert ranks, else one tensor group
    pool       its dies / dies of an instance, all instances alike

The first nodes by rank read prompts when a deployment is disaggregated; all others decode. Numbers that decide no
layout (lengths, load, prompts, shares, accepted drafts, imbalance) may be arrays where rates are computed from a plan
(:mod:`supernode_dataplane.sweeping`); what is read from a workload has numbers only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.capacity import MEMORY_FRACTION, Capacity, capacity_of, explain_memory
from supernode_dataplane.deployment import Experts, Pool, Precision, Speculation, Streams
from supernode_dataplane.hardware import Hardware
from supernode_dataplane.inference import InferenceSpec, Mode
from supernode_dataplane.numeric import Number
from supernode_dataplane.stacks import load_stack
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
    streams: Streams = "auto"


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
    """Ranks of the prefill pool in mode Disaggregated."""
    sequences_per_card: int | None = None
    concurrency: int | None = None
    """Sequences that decode at once on the whole deployment; exactly one of both is given, none in mode Prefill."""
    prompts: int = 1
    speculation: Speculation = field(default_factory=Speculation)
    cached_share: float = 0.0
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
        return plan.sequences_per_card * float(pool.tensor) / decode.dies_per_card
    concurrency = 0 if plan.concurrency is None else plan.concurrency
    return concurrency / (float(pool.groups) * instances)


def deployment_of(
    plan: DeploymentPlan, hardware: Hardware, dies: int, prefill_dies: int, dies_text: str
) -> Deployment | Problem:
    """Return the pools of a plan on ``dies``, of which the first ``prefill_dies`` read prompts if disaggregated.

    What is illegal comes back as a Problem that names the field; memory is checked by :func:`memory_problem`.
    """
    try:
        return _pools(plan, hardware, dies, prefill_dies, dies_text)
    except _Illegal as error:
        return error.problem


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
            remedy = "spread the weights over more dies (tensor, expert), or choose a smaller format"
        elif found.role == "prefill":
            remedy = "read fewer prompts at once, or share each over more dies (tensor)"
        else:
            each = float(capacity.sequences) / float(found.pool.tensor)
            most, card = int(each * found.dies), int(each * found.dies_per_card)
            held = f"its {found.dies} dies hold {most} such sequences, {card} on each card"
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


class _Illegal(Exception):
    def __init__(self, field_path: str, message: str) -> None:
        self.problem = Problem("InvalidParallelism", f"{_FIELD}.{field_path}", message)
        super().__init__(message)


def _pools(plan: DeploymentPlan, hardware: Hardware, dies: int, prefill_dies: int, dies_text: str) -> Deployment:
    if plan.mode == "Prefill":
        return Deployment(plan, _role_pool(plan, "prefill", hardware, dies, dies_text), None)
    if plan.mode != "Disaggregated":
        return Deployment(plan, None, _role_pool(plan, "decode", hardware, dies, dies_text))
    if not 0 < prefill_dies < dies:
        message = f"prefill.nodes {plan.prefill_nodes} leave no dies of {dies_text} to decode"
        raise _Illegal("prefill.nodes", f"{message}; give it fewer nodes, or the workload more")
    rest = dies - prefill_dies
    prefill = _role_pool(plan, "prefill", hardware, prefill_dies, f"the {prefill_dies} dies of its nodes")
    return Deployment(plan, prefill, _role_pool(plan, "decode", hardware, rest, f"the other {rest} dies"))


def _role_pool(plan: DeploymentPlan, role: Role, hardware: Hardware, dies: int, dies_text: str) -> RolePool:
    split = (plan.prefill if role == "prefill" else plan.decode) or PoolPlan()
    expert = split.expert if split.expert is not None else (dies if plan.model.is_moe else 1)
    for field_path, dividing in (("tensor", split.tensor), ("expert", expert)):
        if dies % dividing:
            message = f"{field_path} {dividing} does not divide {dies_text}; choose a degree that does"
            raise _Illegal(f"{role}.parallelism.{field_path}", message)
    _check_tensor(plan.model, split, f"{role}.parallelism.tensor")
    if plan.model.is_moe:
        _check_experts(plan.model, split, expert, role)
    elif expert > 1:
        raise _Illegal(f"{role}.parallelism.expert", f"{plan.model.name} has no experts: leave expert out")
    elif split.experts != Experts():
        raise _Illegal(f"{role}.experts", f"{plan.model.name} has no experts: leave experts out")
    size = expert if expert > 1 else split.tensor
    pool = Pool(
        architecture=plan.model,
        hardware=hardware,
        stack=load_stack(plan.stack),
        dies=size,
        tensor=split.tensor,
        expert=expert,
        precision=plan.precision,
        experts=split.experts,
        speculation=plan.speculation,
        streams=split.streams,
    )
    return RolePool(role, pool, dies // size, hardware.dies_per_card)


def _check_tensor(model: Architecture, split: PoolPlan, field_path: str) -> None:
    tensor = split.tensor
    for kind in model.kinds:
        heads, key_values = kind.attention.heads, kind.attention.kv_heads
        if heads % tensor:
            raise _Illegal(field_path, f"tensor {tensor} does not divide the {heads} attention heads of {model.name}")
        if key_values % tensor and tensor % key_values:
            message = f"tensor {tensor} and the {key_values} key-value heads of {model.name} do not divide one another"
            raise _Illegal(field_path, message)


def _check_experts(model: Architecture, split: PoolPlan, expert: int, role: Role) -> None:
    redundant, shared = int(split.experts.redundant), int(split.experts.shared_ranks)
    if expert == 1:
        if redundant or shared:
            message = "redundant and sharedRanks need experts that are spread over dies: expert above 1"
            raise _Illegal(f"{role}.experts", message)
        return
    if expert % split.tensor:
        message = f"tensor {split.tensor} does not divide expert {expert}: whole tensor groups share a set of experts"
        raise _Illegal(f"{role}.parallelism.expert", message)
    block = next(kind.feed_forward for kind in model.kinds if kind.feed_forward.is_moe)
    if shared and not block.shared_width:
        raise _Illegal(f"{role}.experts.sharedRanks", f"{model.name} has no shared experts: leave sharedRanks out")
    if shared >= expert:
        message = f"sharedRanks {shared} leaves none of {expert} expert ranks for routed experts; give it fewer"
        raise _Illegal(f"{role}.experts.sharedRanks", message)
    ranks, replicas = expert - shared, block.experts + redundant
    if replicas % ranks:
        message = (
            f"{block.experts} experts and {redundant} redundant replicas do not spread evenly over {ranks} ranks; "
            f"make it {redundant + -replicas % ranks} redundant"
        )
        raise _Illegal(f"{role}.experts.redundant", message)
