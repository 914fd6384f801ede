"""A scenario's inference deployment as what `supernode serve-sim` serves: the instances that are whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from supernode_cli.evaluation import ScenarioError, evaluate, parse_scenario
from supernode_cli.scenario import ScenarioModel
from supernode_cli.scenario_inference import ScenarioEngine, ScenarioLoad, ScenarioSpeculation
from supernode_dataplane.deployment_plan import Deployment, DeploymentPlan
from supernode_dataplane.profile import Profile
from supernode_dataplane.serving import Acceptance
from supernode_dataplane.solving import linked_deployment

__all__ = ["ServedScenario", "served_scenario"]

_MODES: Final = ("Colocated", "Disaggregated")


@dataclass(frozen=True, slots=True)
class ServedScenario:
    """A scenario whose deployment is legal and whose weights fit: the instances that are whole on its machine."""

    profile: Profile
    model: ScenarioModel
    stack: str
    plan: DeploymentPlan
    deployment: Deployment
    acceptance: Acceptance
    cards: int
    """Packages that it holds."""
    clients: int | None
    """What the scenario's batch keeps in flight."""
    load: ScenarioLoad | None
    engine: ScenarioEngine
    notes: tuple[str, ...]


def served_scenario(document: Mapping[str, Any]) -> ServedScenario:
    """Return the deployment of a scenario. Its batch or load says how much runs in a steady state, here nothing.

    :raises ScenarioError: it cannot run, or has nothing that serves whole requests.
    """
    scenario = parse_scenario(document)
    if scenario.inference is None:
        field = "training" if scenario.kernel is None else "kernel"
        raise ScenarioError(field, "serves no requests; give inference instead")
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
    acceptance = _acceptance(scenario.inference.speculation)
    clients = None
    if scenario.inference.batch is not None and deployment.decode is not None:
        # A part of a card has at least one of its sequences.
        per_card = scenario.inference.batch.sequences_per_card
        clients = max(1, per_card * deployment.decode.dies // profile.dies_per_package)
    notes = list(evaluation.result.notes)
    if any(found.pool.pipeline > 1 for found in deployment.pools):
        notes.append("batches of prompts follow one another here: they do not overlap in the stages of a pipeline")
    if plan.cached_share:
        notes.append("inference.cache.reusePercent is not used: prompts share what a trace says that they share")
    return ServedScenario(
        profile=profile,
        model=scenario.model,
        stack=plan.stack,
        plan=plan,
        deployment=deployment,
        acceptance=acceptance,
        cards=evaluation.result.cards,
        clients=clients,
        load=scenario.inference.load,
        engine=scenario.inference.engine,
        notes=tuple(notes),
    )


def _acceptance(spoken: ScenarioSpeculation | None) -> Acceptance:
    if spoken is None:
        return Acceptance()
    if spoken.tokens_per_step is not None:
        return Acceptance.from_length(spoken.drafts, spoken.tokens_per_step)
    return Acceptance(tuple(percent / 100 for percent in spoken.acceptance_percent or ()))
