"""A pool of dies from its plan: what each degree must divide, and every layout that cannot be, by its field.

dies of an instance = pipeline x stage        stage: one set of expert ranks, else context x tensor
with attention and experts apart the whole pool is one instance
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.deployment import Experts, Pool
from supernode_dataplane.expert_slices import sliced_experts
from supernode_dataplane.hardware import Hardware
from supernode_dataplane.stacks import load_stack
from supernode_dataplane.state import Problem

if TYPE_CHECKING:
    from supernode_dataplane.deployment_plan import DeploymentPlan, PoolPlan, Role

__all__ = ["IllegalLayoutError", "lay_out"]

_FIELD: Final = "spec.inference"


class IllegalLayoutError(Exception):
    """A layout that cannot be; ``problem`` names the field."""

    def __init__(self, field_path: str, message: str) -> None:
        self.problem = Problem("InvalidParallelism", f"{_FIELD}.{field_path}", message)
        super().__init__(message)


def lay_out(  # noqa: PLR0917 - a pool is all of these
    plan: DeploymentPlan, split: PoolPlan, role: Role, hardware: Hardware, dies: int, dies_text: str
) -> Pool:
    """Return one instance of the pool of a role on so many dies; IllegalLayoutError when there is none."""
    model, way = plan.model, f"{role}.parallelism"
    _check_modes(plan, split, role)
    stage = _divide(split.pipeline, dies, dies_text, f"{way}.pipeline")
    if split.pipeline > model.layers:
        raise IllegalLayoutError(
            f"{way}.pipeline", f"pipeline {split.pipeline} has more stages than {model.layers} layers"
        )
    text = dies_text if split.pipeline == 1 else f"the {stage} dies of a stage"
    if split.split is not None:
        stage, text = _attention_dies(split, stage, role)
    _divide(split.tensor, stage, text, f"{way}.tensor")
    if split.context > 1:
        _divide(split.tensor * split.context, stage, text, f"{way}.context")
    expert = _expert(model, split, stage)
    if split.split is None:
        _divide(expert, stage, text, f"{way}.expert")
    _check_tensor(model, split, way)
    experts = split.experts
    if model.is_moe:
        experts = _experts(model, split, expert, role)
    elif expert > 1:
        raise IllegalLayoutError(f"{way}.expert", f"{model.name} has no experts: leave expert out")
    elif split.experts != Experts() or split.experts_per_die is not None:
        raise IllegalLayoutError(f"{role}.experts", f"{model.name} has no experts: leave experts out")
    size = (expert if expert > 1 else split.tensor * split.context) * split.pipeline
    return Pool(
        architecture=sliced_experts(model, split.expert_tensor),
        hardware=hardware,
        stack=load_stack(plan.stack),
        dies=dies if split.split is not None else size,
        tensor=split.tensor,
        expert=expert,
        precision=plan.precision,
        experts=experts,
        speculation=plan.speculation,
        sequence_parallel=split.sequence_parallel,
        streams=split.streams,
        attention_share=split.attention_share,
        pipeline=split.pipeline,
        in_flight=split.in_flight or split.pipeline,
        context=split.context,
        split=split.split,
    )


def _divide(dividing: int, dies: int, text: str, field_path: str) -> int:
    if dies % dividing:
        name = field_path.rpartition(".")[2]
        raise IllegalLayoutError(field_path, f"{name} {dividing} does not divide {text}; choose a degree that does")
    return dies // dividing


def _expert(model: Architecture, split: PoolPlan, stage: int) -> int:
    """Return the dies over which experts are spread: where nothing is said all of a stage, or those of a split."""
    if split.split is not None:
        return split.split.expert_dies
    return split.expert if split.expert is not None else (stage if model.is_moe else 1)


def _check_modes(plan: DeploymentPlan, split: PoolPlan, role: Role) -> None:
    """Check what goes together, whatever the dies."""
    way = f"{role}.parallelism"
    if split.sequence_parallel and split.tensor == 1:
        raise IllegalLayoutError(f"{way}.sequence", "sequence splits tokens inside a tensor group: give tensor above 1")
    if split.in_flight is not None and split.pipeline == 1:
        raise IllegalLayoutError(f"{way}.inFlight", "inFlight is about stages: give pipeline above 1")
    if split.context > 1:
        if any(kind.attention.kind == "linear" for kind in plan.model.kinds):
            message = f"context is not modelled for the linear attention of {plan.model.name}: leave it out"
            raise IllegalLayoutError(f"{way}.context", message)
        if split.in_flight is not None:
            raise IllegalLayoutError(f"{way}.inFlight", "inFlight is about decode steps: leave it out")
    if split.attention_share is not None and split.streams == "one":
        message = "attentionCorePercent shares cores between two streams: give microBatches two or auto"
        raise IllegalLayoutError(f"{role}.attentionCorePercent", message)
    if split.split is not None:
        _check_split(plan, split, role)


def _check_split(plan: DeploymentPlan, split: PoolPlan, role: Role) -> None:
    way = f"{role}.parallelism"
    if not plan.model.is_moe:
        raise IllegalLayoutError(f"{role}.split", f"{plan.model.name} has no experts: leave split out")
    if plan.mode == "Colocated":
        message = "a pool with attention and experts apart reads no prompts: give mode Decode or Disaggregated"
        raise IllegalLayoutError(f"{role}.split", message)
    for wrong, name, remedy in (
        (split.pipeline > 1, "pipeline", "stages are not modelled with a split"),
        (split.expert is not None, "expert", "expertDies says it"),
    ):
        if wrong:
            raise IllegalLayoutError(f"{way}.{name}", f"{name} and {role}.split: {remedy}; leave one out")
    if split.streams == "one":
        raise IllegalLayoutError(f"{role}.microBatches", "a split works on two micro-batches: give two or auto")
    if split.attention_share is not None:
        message = "attentionCorePercent and split: attention has dies of its own; leave one out"
        raise IllegalLayoutError(f"{role}.attentionCorePercent", message)


def _attention_dies(split: PoolPlan, dies: int, role: Role) -> tuple[int, str]:
    """Return the dies of an attention domain, and what they are in words."""
    assert split.split is not None
    experts, domains = split.split.expert_dies, split.split.domains
    attention = dies - experts
    if attention < 1:
        message = f"expertDies {experts} leaves none of {dies} dies for attention; give it fewer"
        raise IllegalLayoutError(f"{role}.split.expertDies", message)
    if attention % domains:
        message = f"domains {domains} does not divide the {attention} attention dies; choose a number that does"
        raise IllegalLayoutError(f"{role}.split.domains", message)
    return attention // domains, f"the {attention // domains} dies of an attention domain"


def _check_tensor(model: Architecture, split: PoolPlan, way: str) -> None:
    tensor = split.tensor
    for kind in model.kinds:
        heads, key_values = kind.attention.heads, kind.attention.kv_heads
        if heads % tensor:
            message = f"tensor {tensor} does not divide the {heads} attention heads of {model.name}"
            raise IllegalLayoutError(f"{way}.tensor", message)
        if key_values % tensor and tensor % key_values:
            message = f"tensor {tensor} and the {key_values} key-value heads of {model.name} do not divide one another"
            raise IllegalLayoutError(f"{way}.tensor", message)


def _experts(model: Architecture, split: PoolPlan, expert: int, role: Role) -> Experts:
    """Return the experts beyond one replica of each, of slices where experts are split."""
    redundant, shared = int(split.experts.redundant), int(split.experts.shared_ranks)
    slices, given = split.expert_tensor, split.experts
    if expert == 1:
        if redundant or shared or split.experts_per_die is not None:
            message = "redundant, sharedRanks and perDie need experts that are spread over dies: expert above 1"
            raise IllegalLayoutError(f"{role}.experts", message)
        if slices > 1:
            message = "expertTensor needs experts that are spread over dies: with expert 1, tensor splits them"
            raise IllegalLayoutError(f"{role}.parallelism.expertTensor", message)
        return given
    whole = split.tensor * split.context
    if split.split is None and expert % whole:
        what = f"tensor {split.tensor}" + (f" x context {split.context}" if split.context > 1 else "")
        message = f"{what} does not divide expert {expert}: whole tensor groups share a set of experts"
        raise IllegalLayoutError(f"{role}.parallelism.expert", message)
    block = next(kind.feed_forward for kind in model.kinds if kind.feed_forward.is_moe)
    if shared and not block.shared_width:
        message = f"{model.name} has no shared experts: leave sharedRanks out"
        raise IllegalLayoutError(f"{role}.experts.sharedRanks", message)
    if shared >= expert:
        message = f"sharedRanks {shared} leaves none of {expert} expert ranks for routed experts; give it fewer"
        raise IllegalLayoutError(f"{role}.experts.sharedRanks", message)
    ranks = expert - shared
    if split.experts_per_die is not None:
        redundant = _redundant(split, block.experts, ranks, role)
    if block.expert_width % slices:
        message = f"expertTensor {slices} does not divide the {block.expert_width} columns of an expert of {model.name}"
        raise IllegalLayoutError(f"{role}.parallelism.expertTensor", message)
    if (block.experts + redundant) * slices % ranks:
        raise IllegalLayoutError(f"{role}.experts.redundant", _uneven(block.experts, redundant, slices, ranks))
    return Experts(redundant=redundant * slices, shared_ranks=shared, imbalance=given.imbalance)


def _uneven(experts: int, redundant: int, slices: int, ranks: int) -> str:
    enough = next(
        more for more in range(redundant + 1, redundant + ranks + 1) if (experts + more) * slices % ranks == 0
    )
    parts = f", {slices} slices each," if slices > 1 else ""
    return (
        f"{experts} experts and {redundant} redundant replicas{parts} do not spread evenly over {ranks} ranks; "
        f"make it {enough} redundant"
    )


def _redundant(split: PoolPlan, experts: int, ranks: int, role: Role) -> int:
    """Return the redundant replicas that fill every rank."""
    each = split.experts_per_die or 0
    if split.expert_tensor > 1:
        raise IllegalLayoutError(
            f"{role}.experts.perDie", "perDie counts whole experts: leave out expertTensor, or this"
        )
    if each * ranks < experts:
        least = -(-experts // ranks)
        message = f"perDie {each} on {ranks} ranks holds fewer than {experts} experts; give at least {least}"
        raise IllegalLayoutError(f"{role}.experts.perDie", message)
    return each * ranks - experts
