"""The layout of a workload on a machine that it was not written for: the given one where it is legal, else the best.

The planner's lattice, at the same number of dies, all of them in use, with the sequences that the scenario asks for;
where no layout holds them, as many as are best. What is different is said by who compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from supernode_cli.evaluation import Evaluation, ScenarioError, parse_scenario
from supernode_cli.plan_scenario import training_section
from supernode_dataplane.deployment import Pool
from supernode_dataplane.deployment_plan import Deployment, DeploymentPlan, PoolPlan, deployment_of
from supernode_dataplane.figures import counted
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.inference_fields import parse_inference
from supernode_dataplane.machine import PartInput, RankInput, WorkloadInput
from supernode_dataplane.planning import search_training
from supernode_dataplane.planning_disaggregated import plan_disaggregated
from supernode_dataplane.planning_inference import InferenceGoal, layout_deployment, plan_inference
from supernode_dataplane.profile import Profile
from supernode_dataplane.solving import solve
from supernode_dataplane.spec import check_training, parse_training
from supernode_dataplane.stacks import load_stack
from supernode_dataplane.state import Problem, WorkloadResult

__all__ = ["FittedDeployment", "fit_training", "fitted_inference", "inference_words"]

_TRIED: Final = 8
"""Layouts that are computed as a whole deployment; the planner ranks them by one phase."""
_PHASES: Final[dict[str, Literal["prefill", "colocated"]]] = {"Prefill": "prefill", "Colocated": "colocated"}
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FittedDeployment:
    """A deployment of the planner that runs on a machine."""

    plan: DeploymentPlan
    layout: str
    result: WorkloadResult
    changed: tuple[str, ...]


def fit_training(asked: Document, profile: Profile, dies: int) -> bool:
    """Put the fastest layout into ``asked`` where the given one cannot be; return whether it did.

    Raises ScenarioError when no layout can be.
    """
    wanted = parse_training(parse_scenario(asked).workload_spec())
    if isinstance(wanted, Problem):
        raise ScenarioError(wanted.field.removeprefix("spec."), wanted.message.removeprefix("spec."))
    if wanted.tensor <= profile.dies_per_server and check_training(profile, wanted, dies, counted(dies, "die")) is None:
        return False
    free = replace(wanted, stage_layers=None, expert_tensor=1, context=1)
    found = search_training(profile, free, dies).best
    if not found:
        why = f"no layout of {counted(dies, 'die')} divides a batch of {wanted.global_batch_size} and fits into HBM"
        raise ScenarioError("training.parallelism", f"{why}; give another batch, or other cards")
    training = {key: value for key, value in asked["training"].items() if key != "stageLayers"}
    asked["training"] = {**training, **training_section(found[0].spec)}
    return True


def fitted_inference(spec: Document, profile: Profile, dies: int) -> FittedDeployment | None:
    """Return the best deployment for a workload's spec on the first dies of a healthy machine; None when none fits."""
    plan = parse_inference(spec)
    if isinstance(plan, Problem):
        return None
    best: FittedDeployment | None = None
    for deployment in _deployments(plan, profile, dies):
        found = _tried(plan, deployment, profile)
        if found is not None and (best is None or found.result.tokens_per_second > best.result.tokens_per_second):
            best = found
    return best


def inference_words(found: Evaluation) -> str:
    """Return the layout of an evaluated deployment for people."""
    (workload,) = found.inputs.workloads
    if workload.inference is None:
        return ""
    plan, dies = workload.inference, found.result.dies
    reading = plan.prefill_dies or plan.prefill_nodes * found.profile.dies_per_server
    deployment = deployment_of(plan, hardware_of(found.profile), dies, reading, "the dies")
    return plan.mode if isinstance(deployment, Problem) else _pools_words(deployment)


def _pools_words(deployment: Deployment) -> str:
    return "; ".join(f"{found.role} {found.instances} x {_pool_words(found.pool)}" for found in deployment.pools)


def _pool_words(pool: Pool) -> str:
    words = f"TP{int(pool.tensor)} DP{int(pool.groups)}"
    return words + (f" EP{int(pool.expert)}" if pool.expert > 1 else "")


def _deployments(plan: DeploymentPlan, profile: Profile, dies: int) -> Iterator[Deployment]:
    """Yield layouts to try, the most promising first: for the load as given, and if there is none for the best."""
    wanted = (plan.concurrency or 0) * profile.dies_per_package / dies or None
    goal = InferenceGoal(
        phase=_PHASES.get(plan.mode, "decode"),
        input_tokens=plan.input_tokens,
        output_tokens=plan.output_tokens,
        speculation=plan.speculation,
        precision=plan.precision,
        memory_fraction=plan.memory_fraction,
        batch_per_card=wanted if plan.mode in {"Decode", "Colocated"} else None,
    )
    yield from _best(plan, profile, dies, goal) or _best(plan, profile, dies, replace(goal, batch_per_card=None))


def _best(plan: DeploymentPlan, profile: Profile, dies: int, goal: InferenceGoal) -> list[Deployment]:
    hardware, stack = hardware_of(profile), load_stack(plan.stack)
    if plan.mode == "Disaggregated":
        pairs, _ = plan_disaggregated(plan.model, hardware, stack, dies, goal)
        every = [pair.deployment for pair in pairs]
    else:
        layouts, _ = plan_inference(plan.model, hardware, stack, dies, goal)
        every = [layout_deployment(layout, goal) for layout in layouts]
    return [each for each in every if sum(found.dies for found in each.pools) == dies][:_TRIED]


def _tried(plan: DeploymentPlan, deployment: Deployment, profile: Profile) -> FittedDeployment | None:
    """Return the workload with a layout of the planner: at its own load where the layout holds it, else at its best.

    None when neither runs: both phases together hold more than one of them alone.
    """
    own, planned = deployment.pools, deployment.plan
    sections = {found.role: _pool_plan(found.pool) for found in own}
    segments = [found.dies for found in own] if plan.mode == "Disaggregated" else [sum(found.dies for found in own)]
    ranks = _ranks(profile, segments)
    reading = segments[0] if plan.mode == "Disaggregated" else None
    reads = plan.mode in {"Disaggregated", "Prefill"}
    run = replace(
        plan,
        decode=sections.get("decode"),
        prefill=sections.get("prefill"),
        prefill_nodes=0,
        prefill_dies=reading,
        prompts=planned.prompts if reads else plan.prompts,
    )
    every = tuple(RankInput(rank, True, (part,)) for rank, part in enumerate(part for side in ranks for part in side))
    changed = ("layout", *([f"promptsPerBatch {run.prompts}"] if run.prompts != plan.prompts else []))
    for load in dict.fromkeys((plan.concurrency, planned.concurrency)):
        asked = replace(run, concurrency=load)
        state = solve(profile, (), (WorkloadInput("compare/compare", inference=asked, ranks=every),))
        result = state.workload("compare/compare")
        if result is not None and result.tokens_per_second > 0:
            return FittedDeployment(asked, _pools_words(deployment), result, changed)
    return None


def _pool_plan(pool: Pool) -> PoolPlan:
    expert = int(pool.expert) if pool.architecture.is_moe else None
    return PoolPlan(tensor=int(pool.tensor), expert=expert, experts=pool.experts, streams=pool.streams)


def _ranks(profile: Profile, segments: list[int]) -> list[list[PartInput]]:
    """Return the dies of each pool from the machine's first on, a part for each server: a rack is one server here."""
    ranks: list[list[PartInput]] = []
    first, size = 0, profile.dies_per_server
    for count in segments:
        last, parts = first + count, []
        while first < last:
            end = min(last, (first // size + 1) * size)
            parts.append(PartInput(first // size, tuple(die % size for die in range(first, end))))
            first = end
        ranks.append(parts)
    return ranks
