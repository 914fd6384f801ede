"""What `supernode plan` is asked: machine, model, stack, formats, lengths and drafts, from options or a scenario file.

A file says them as `simulate` reads them; options go before it. Its layout and its load are what a plan finds.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Final

from supernode_cli.defaults import on_machine
from supernode_cli.errors import CliError, ScenarioError
from supernode_cli.evaluation import dies_in_use, machine_profile, parse_scenario
from supernode_cli.plan_failures import machine_left, read_failed
from supernode_cli.plan_scenario import Document
from supernode_cli.scenario import Scenario
from supernode_dataplane.architecture import Architecture
from supernode_dataplane.catalogue import load_model
from supernode_dataplane.deployment import Precision, Speculation
from supernode_dataplane.deployment_plan import DeploymentPlan
from supernode_dataplane.figures import counted
from supernode_dataplane.inference_fields import parse_inference
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.machine_defaults import default_format, default_stack
from supernode_dataplane.planning_inference import InferenceGoal
from supernode_dataplane.profile import Profile, load_profile
from supernode_dataplane.spec import parse_training
from supernode_dataplane.stacks import Stack, load_stack
from supernode_dataplane.state import Problem

__all__ = ["PlanRequest", "plan_request"]

_LAYOUT: Final = ("parallelism", "microBatchSize", "stageLayers")
"""Of a training section: what a plan finds."""
_FORMATS: Final = {"weights": "weights", "activations": "activations", "kv_cache": "kvCache"}
_LENGTHS: Final = {"input_tokens": "inputTokens", "output_tokens": "outputTokens"}
_TRAINED: Final = {"sequence_length": "sequenceLength", "global_batch_size": "globalBatchSize"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What is to be planned; of ``goal`` and ``spec`` the one that the phase has."""

    phase: str
    profile: Profile
    """What failures leave."""
    healthy: Profile
    dies: int
    stack: Stack
    model: Architecture
    goal: InferenceGoal | None = None
    spec: TrainingSpec | None = None
    figures: Document
    """Of the machine, that the file gives."""
    failed: Any = None
    model_section: Document
    """The model as a scenario has it."""
    training_section: Document
    """Of the file, but for the layout."""
    demand: float | None = None
    objective: str = "throughput"
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The machine for people: what is changed of it and what has failed."""
        words = counted(self.dies, "die") + f" of {self.profile.name}"
        words += "".join(f", {name} {value}" for name, value in self.figures.items())
        return words + (" with failures" if self.failed else "")


def plan_request(phase: str, wanted: dict[str, Any], given: set[str]) -> PlanRequest:
    """Return what the options (``given`` are those that were) and the file, if there is one, ask for.

    Raises DataplaneError for names that are not known, CliError for all else that cannot be.
    """
    if wanted["path"] is None:
        return _of_options(phase, wanted)
    from supernode_cli.scenario_files import read_document

    path = wanted["path"]
    document = _overridden(phase, deepcopy(read_document(path, wanted["workload"])), wanted, given, path)
    try:
        return _of_file(phase, document, wanted, given)
    except ScenarioError as error:
        raise CliError(f"{path}: {error}") from None


def _of_options(phase: str, wanted: dict[str, Any]) -> PlanRequest:
    if wanted["model"] is None:
        raise CliError("plan: give --model, a name of the catalogue, or -f, a scenario that has one")
    healthy, failed = load_profile(wanted["machine"]), read_failed(wanted["failed"])
    profile = machine_left(healthy, failed)
    stack, model = load_stack(wanted["stack"] or default_stack(profile)), load_model(wanted["model"])
    common = PlanRequest(
        phase=phase,
        profile=profile,
        healthy=healthy,
        dies=_dies(profile, wanted, profile.dies),
        stack=stack,
        model=model,
        figures={},
        failed=failed,
        model_section={"name": wanted["model"]},
        training_section={},
        demand=wanted["tokens_per_second"],
        objective=wanted["objective"],
    )
    if phase == "training":
        lengths = {name: wanted[name] for name in _TRAINED}
        return replace(common, spec=TrainingSpec(model=model, stack=stack.name, **lengths))
    return replace(common, goal=_goal(phase, wanted, _precision(profile, wanted), wanted["input_tokens"]))


def _of_file(phase: str, document: Document, wanted: dict[str, Any], given: set[str]) -> PlanRequest:
    scenario = parse_scenario(document)
    machine = scenario.machine
    if machine.supernodes > 1:
        raise ScenarioError("machine.supernodes", "a plan is of one machine: leave it out")
    healthy, failed = machine_profile(machine), document.get("machine", {}).get("failed")
    profile = machine_left(healthy, failed, f"{wanted['path']}: machine.failed")
    whole = machine.nodes is None and machine.dies is None
    scenario = on_machine(scenario, healthy)
    spec = parse_training(scenario.workload_spec()) if phase == "training" else None
    plan = None if phase == "training" else parse_inference(_without_load(scenario))
    for found in (spec, plan):
        if isinstance(found, Problem):
            raise ScenarioError(found.field.removeprefix("spec."), found.message.removeprefix("spec."))
    stack = load_stack(str(scenario.stack))
    section: Document = document.get("training") or {}
    common = PlanRequest(
        phase=phase,
        profile=profile,
        healthy=healthy,
        dies=_dies(profile, wanted, profile.dies if whole else dies_in_use(machine, healthy)),
        stack=stack,
        model=_model(spec, plan),
        figures=dict(machine.figures),
        failed=failed,
        model_section=document["model"],
        training_section={key: value for key, value in section.items() if key not in _LAYOUT},
        demand=wanted["tokens_per_second"],
        objective=wanted["objective"],
    )
    if isinstance(spec, TrainingSpec):
        return replace(common, spec=replace(spec, stage_layers=None, expert_tensor=1, context=1, data=None))
    assert isinstance(plan, DeploymentPlan)
    return replace(common, goal=_file_goal(phase, wanted, given, plan), notes=_left_out(scenario))


def _without_load(scenario: Scenario) -> Document:
    """Return the spec with any load in place of its own, which may be one of serve-sim: a plan finds it."""
    spec = scenario.workload_spec()
    inference = {key: value for key, value in spec["inference"].items() if key not in ("batch", "load")}
    if inference["mode"] != "Prefill":
        inference["load"] = {"concurrency": 1}
    return {**spec, "inference": inference}


def _model(spec: TrainingSpec | Problem | None, plan: DeploymentPlan | Problem | None) -> Architecture:
    found = spec or plan
    assert isinstance(found, TrainingSpec | DeploymentPlan)
    return found.model


def _overridden(phase: str, document: Document, wanted: dict[str, Any], given: set[str], path: str) -> Document:
    """Return the document with what the options say in its place; the phase's section is there."""
    kind = "training" if phase == "training" else "inference"
    if not isinstance(document.get(kind), dict):
        raise CliError(f"{path}: has no {kind}, which plan {phase} is about: give another file, or another phase")
    section = document[kind]
    if wanted["model"] is not None:
        document["model"] = {"name": wanted["model"]}
    if "machine" in given:
        document["machine"] = {"profile": wanted["machine"]}
    if wanted["failed"] is not None:
        machine = document.get("machine")
        document["machine"] = {
            **(machine if isinstance(machine, dict) else {}),
            "failed": read_failed(wanted["failed"]),
        }
    if wanted["stack"] is not None:
        document["stack"] = wanted["stack"]
    for option, name in (_TRAINED if kind == "training" else _LENGTHS).items():
        # A scenario of prompts alone has no output, which a plan of decoding takes from its option.
        if option in given and not (name == "outputTokens" and section.get("mode") == "Prefill"):
            section[name] = wanted[option]
    formats = {name: wanted[option] for option, name in _FORMATS.items() if wanted[option] is not None}
    if formats:
        own = section.get("precision")
        said: Document = own if isinstance(own, dict) else {}
        if "weights" in formats and "activations" not in said and formats["weights"] != "int4":
            formats = {"activations": formats["weights"], **formats}
        section["precision"] = {**said, **formats}
    return document


def _file_goal(phase: str, wanted: dict[str, Any], given: set[str], plan: DeploymentPlan) -> InferenceGoal:
    """Return the goal with what the file says, where no option says it."""
    asked = dict(wanted)
    if "output_tokens" not in given and plan.mode != "Prefill":
        asked["output_tokens"] = plan.output_tokens
    if wanted["memory_fraction"] is None:
        asked["memory_fraction"] = plan.memory_fraction
    goal = _goal(phase, asked, plan.precision, plan.input_tokens)
    return goal if "drafts" in given else replace(goal, speculation=plan.speculation)


def _goal(phase: str, wanted: dict[str, Any], precision: Precision, input_tokens: int) -> InferenceGoal:
    fraction = {} if wanted["memory_fraction"] is None else {"memory_fraction": wanted["memory_fraction"]}
    return InferenceGoal(
        phase="prefill" if phase == "prefill" else "colocated" if phase == "colocated" else "decode",
        input_tokens=input_tokens,
        output_tokens=wanted["output_tokens"],
        tpot_seconds=(wanted["tpot_ms"] or float("inf")) / 1e3,
        ttft_seconds=(wanted["ttft_ms"] or float("inf")) / 1e3,
        speculation=Speculation(drafts=wanted["drafts"], accepted=wanted["accepted"]),
        precision=precision,
        objective=wanted["objective"],
        batch_per_card=wanted["batch"],
        demand=wanted["tokens_per_second"],
        **fraction,
    )


def _precision(profile: Profile, wanted: dict[str, Any]) -> Precision:
    kind = default_format(profile)
    weights = wanted["weights"] or kind
    usual = kind if weights == "int4" else weights
    return Precision(weights=weights, activations=wanted["activations"] or usual, kv_cache=wanted["kv_cache"] or "bf16")


def _dies(profile: Profile, wanted: dict[str, Any], usual: int) -> int:
    cards = wanted["cards"]
    if cards is not None and cards > profile.packages:
        raise CliError(f"plan: --cards {cards} is more than the {profile.packages} of {profile.name}")
    dies = usual if cards is None else int(cards * profile.dies_per_package)
    if dies > profile.dies:
        raise CliError(
            f"plan: failures leave {profile.dies} dies of the machine, and {dies} are asked for; give --cards"
        )
    return dies


def _left_out(scenario: Scenario) -> tuple[str, ...]:
    """Return notes about what of an inference scenario a plan does not know."""
    inference = scenario.inference
    if inference is None:
        return ()
    notes = []
    if inference.cache.reuse_percent:
        notes.append("inference.cache.reusePercent is not planned with: every prompt is read whole")
    for role, pool in (("decode", inference.decode), ("prefill", inference.prefill)):
        if pool is not None and pool.experts.imbalance_percent is not None:
            notes.append(
                f"inference.{role}.experts.imbalancePercent is not planned with: experts are as the stack has them"
            )
    return tuple(notes)
