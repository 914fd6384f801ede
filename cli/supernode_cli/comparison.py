"""One workload on several machines: absolute, per card, per PFLOPS and per kW. Documents in, values out; no printing.

The rule, the same for all: the scenario runs as it stands on its own machine. Any other machine gives it as many dies
as it has there (``cards`` says another number of cards), in whole servers unless the scenario counts dies and at most
all, with no changed figures and no failures. The load stays, in sequences of the whole deployment as in the batch of a
training run (:mod:`supernode_cli.comparison_load`). A layout stays where it is legal (training: and its tensor groups
fit into a server), else it is the best one of the planner at the same number of dies. What is written for the tuned
stack and the 8-bit format of one machine runs in those of the other. Figures per card, per PFLOPS and per kW are of
every card of which a die is in use, as a whole. What no source states is None: n/a.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from supernode_cli.comparison_layouts import fit_training, fitted_inference, inference_words
from supernode_cli.comparison_load import keep_load, load_words, running_sequences
from supernode_cli.defaults import on_machine
from supernode_cli.evaluation import (
    Evaluation,
    ScenarioError,
    dies_in_use,
    evaluate,
    machine_profile,
    parse_scenario,
)
from supernode_cli.scenario import Scenario
from supernode_cli.sources import machine_sources, sources_of
from supernode_dataplane.deployment_plan import DeploymentPlan
from supernode_dataplane.errors import ProfileNotFoundError
from supernode_dataplane.figures import counted
from supernode_dataplane.hardware import Format, hardware_of
from supernode_dataplane.inference_fields import parse_inference
from supernode_dataplane.machine_defaults import TUNED_STACKS, default_format, default_stack
from supernode_dataplane.profile import Profile, load_profile, sourced
from supernode_dataplane.spec import parse_training
from supernode_dataplane.state import Problem, WorkloadResult

__all__ = ["Comparison", "OperatingPoint", "compare", "operating_point", "scenario_on"]

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """One workload on one machine."""

    machine: str
    tokens_per_second: float
    cards: int
    dies: int
    peak_flops: float
    """Dense, of the cards in use, in the format that products run in."""
    peak_format: Format
    rated_watts: float | None
    """All-in at full load, of the cards in use as a share of the machine; None: no source."""
    rated_source: str
    """Where that power is from; empty without one."""
    sequences: float | None
    """That decode at once, in all; None: nothing decodes."""
    tpot_seconds: float | None
    ttft_seconds: float | None
    """Of a prompt that waits for no other; None: nothing reads prompts."""
    mfu: float
    bound: str | None
    expected_error_percent: float | None
    stack: str
    layout: str
    changed: tuple[str, ...] = ()
    """What is different from the scenario as written."""
    figures: Mapping[str, int | float | str] = field(default_factory=dict)
    """Of the machine, that the scenario gives."""

    @property
    def per_card(self) -> float:
        """Tokens per second of a card."""
        return self.tokens_per_second / self.cards

    @property
    def per_petaflops(self) -> float:
        """Tokens per second for each PFLOPS of dense peak."""
        return self.tokens_per_second / (self.peak_flops / 1e15)

    @property
    def per_kilowatt(self) -> float | None:
        """Tokens per second for each kW rated; None: no source."""
        return None if self.rated_watts is None else self.tokens_per_second / (self.rated_watts / 1e3)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row: a machine with what it makes of the workload, or why it cannot run it."""

    machine: str
    point: OperatingPoint | None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values; null is n/a."""
        point = self.point
        if point is None:
            return {"machine": self.machine, "problem": self.problem}
        return {
            "machine": self.machine,
            "cards": point.cards,
            "dies": point.dies,
            "sequences": point.sequences,
            "tokensPerSecond": point.tokens_per_second,
            "tpotSeconds": point.tpot_seconds,
            "ttftSeconds": point.ttft_seconds,
            "tokensPerSecondPerCard": point.per_card,
            "tokensPerSecondPerPetaflops": point.per_petaflops,
            "tokensPerSecondPerKilowatt": point.per_kilowatt,
            "peakPetaflops": point.peak_flops / 1e15,
            "peakFormat": point.peak_format,
            "ratedKilowatts": None if point.rated_watts is None else point.rated_watts / 1e3,
            "ratedSource": point.rated_source or None,
            "mfu": point.mfu,
            "bound": point.bound,
            "expectedErrorPercent": point.expected_error_percent,
            "stack": point.stack,
            "layout": point.layout,
            "changed": list(point.changed),
            "sources": sources_of(point.machine, [point.stack], point.figures),
        }


def compare(document: Document, machines: Sequence[str], cards: int | None = None) -> tuple[Comparison, ...]:
    """Return a row for each machine.

    Raises ProfileNotFoundError for the name of a machine, ScenarioError when the scenario itself is wrong or no machine
    can run it.
    """
    scenario = parse_scenario(document)
    if scenario.kernel is not None:
        raise ScenarioError("kernel", "is for supernode simulate and sweep: give training or inference instead")
    machine_profile(scenario.machine)
    for name in machines:
        load_profile(name)
    rows = []
    for name in machines:
        try:
            rows.append(Comparison(name, operating_point(document, name, cards)))
        except ScenarioError as error:
            rows.append(Comparison(name, None, str(error)))
    if rows and all(row.point is None for row in rows):
        problems = {row.problem for row in rows}
        said = problems if len(problems) == 1 else [f"{row.machine}: {row.problem}" for row in rows]
        raise ScenarioError("", "; ".join(said))
    return tuple(rows)


def operating_point(document: Document, machine: str, cards: int | None = None) -> OperatingPoint:
    """Return what a machine makes of a scenario; ScenarioError when it cannot run there."""
    asked, changed = scenario_on(document, machine, cards)
    try:
        found = evaluate(asked)
    except ScenarioError:
        if asked == document or "inference" not in asked or (asked.get("machine") or {}).get("failed"):
            raise
        point = _planned_point(document, asked, changed)
        if point is None:
            raise
        return point
    plan = found.inputs.workloads[0].inference
    return _point(document, found.profile, found.result, found.scenario, plan, layout=_words(found), changed=changed)


def _planned_point(document: Document, asked: Document, changed: tuple[str, ...]) -> OperatingPoint | None:
    """Return a deployment with the planner's layout; None when nothing of it fits."""
    given = parse_scenario(asked)
    profile = machine_profile(given.machine)
    scenario = on_machine(given, profile)
    found = fitted_inference(scenario.workload_spec(), profile, dies_in_use(given.machine, profile))
    if found is None:
        return None
    changed = (*changed, *found.changed)
    return _point(document, profile, found.result, scenario, found.plan, layout=found.layout, changed=changed)


def _point(
    document: Document,
    profile: Profile,
    result: WorkloadResult,
    scenario: Scenario,
    plan: DeploymentPlan | None,
    *,
    layout: str,
    changed: tuple[str, ...],
) -> OperatingPoint:
    """Return a point; ``document`` is the scenario as written, ``plan`` its deployment here."""
    watts, source, hardware = None, "", hardware_of(profile)
    dies = result.cards * profile.dies_per_package
    if sourced(profile.name, "rated_kilowatts") and profile.rated_watts:
        watts = profile.rated_watts * dies / profile.dies
        source = machine_sources(profile.name, scenario.machine.figures)["ratedKilowatts"]["source"]
    kind = hardware.multiplied("bf16" if plan is None else plan.precision.product_of("experts"))
    sequences = None if plan is None else running_sequences(plan, result.dies, profile)
    return OperatingPoint(
        machine=profile.name,
        tokens_per_second=result.tokens_per_second,
        cards=result.cards,
        dies=result.dies,
        peak_flops=dies * hardware.peak(kind),
        peak_format=kind,
        rated_watts=watts,
        rated_source=source,
        sequences=sequences,
        tpot_seconds=None if plan is None or plan.mode == "Prefill" else result.tpot_seconds,
        ttft_seconds=None if plan is None or plan.mode == "Decode" else result.ttft_seconds,
        mfu=result.mfu,
        bound=result.bound,
        expected_error_percent=result.expected_error_percent,
        stack=scenario.stack or default_stack(profile),
        layout=layout,
        changed=(*changed, *load_words(document, plan, result.dies, profile)),
        figures=scenario.machine.figures,
    )


def scenario_on(document: Document, machine: str, cards: int | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the scenario for another machine, and what was changed in it."""
    scenario, other = parse_scenario(document), _profile(machine)
    own = _profile(scenario.machine.profile)
    asked: dict[str, Any] = deepcopy(dict(document))
    if other is own and cards is None:
        return asked, ()
    given = scenario.machine.dies
    share: dict[str, int]
    if given is not None and cards is None:
        dies = min(given, other.dies)
        share = {"dies": dies}
    else:
        nodes = _nodes(other, given or own.dies_per_server * (scenario.machine.nodes or own.servers), cards)
        dies = nodes * other.dies_per_server
        share = {"nodes": nodes}
    changed: list[str] = []
    has = dies_in_use(scenario.machine, machine_profile(scenario.machine)) * scenario.machine.supernodes
    if cards is None and dies != has:
        changed.append(f"{counted(dies, 'die')} instead of {has}")
    if other is own:
        kept = {key: value for key, value in (asked.get("machine") or {}).items() if key != "dies"}
        asked["machine"] = {**kept, **share}
    else:
        asked["machine"] = {"profile": machine, **share}
        _use_its_stack(asked, on_machine(scenario, own), other, changed)
    keep_load(asked, scenario, own, other, has=has, dies=dies, cards=cards)
    if "training" in asked and fit_training(asked, other, dies):
        changed.append("layout")
    return asked, tuple(changed)


def _profile(name: str) -> Profile:
    try:
        return load_profile(name)
    except ProfileNotFoundError as error:
        raise ScenarioError("machine.profile", str(error)) from None


def _nodes(other: Profile, dies: int, cards: int | None) -> int:
    wanted = dies if cards is None else cards * other.dies_per_package
    if cards is not None and wanted % other.dies_per_server:
        each = other.dies_per_server // other.dies_per_package
        raise ScenarioError("cards", f"{cards} are no whole servers of {other.name}, which have {each}")
    if cards is not None and wanted > other.dies:
        raise ScenarioError("cards", f"{cards} is more than the {other.packages} of {other.name}")
    return max(1, min(wanted // other.dies_per_server, other.servers))


def _use_its_stack(asked: dict[str, Any], here: Scenario, other: Profile, changed: list[str]) -> None:
    """Put in the other machine's stack and 8-bit format where the scenario has those of its own; ``here`` says them."""
    stack = default_stack(other) if here.stack in TUNED_STACKS else str(here.stack)
    asked["stack"] = stack
    if stack != here.stack:
        changed.append(f"stack {stack}")
    plan = parse_inference(here.workload_spec()) if here.inference is not None else None
    if plan is None or isinstance(plan, Problem):
        return
    precision = plan.precision
    formats: dict[str, str] = {"weights": precision.weights, "activations": precision.activations}
    formats |= {name: own for name in ("attention", "experts") if (own := getattr(precision, name)) is not None}
    for name, kind in formats.items():
        if kind in {"int8", "fp8"} and kind != default_format(other):
            formats[name] = default_format(other)
            changed.append(f"{name} {formats[name]}")
    inference = asked["inference"]
    asked["inference"] = {**inference, "precision": {**(inference.get("precision") or {}), **formats}}


def _words(found: Evaluation) -> str:
    spec = found.workload["spec"]
    if "training" in spec:
        parsed = parse_training(spec)
        if isinstance(parsed, Problem):
            return ""
        data = found.result.dies // (parsed.tensor * parsed.pipeline * parsed.context)
        context = f" CP{parsed.context}" if parsed.context > 1 else ""
        words = f"TP{parsed.tensor} PP{parsed.pipeline} DP{data}{context}"
        words += f" VPP{parsed.virtual_pipeline}" if parsed.virtual_pipeline > 1 else ""
        return words + (f" EP{parsed.expert}" if parsed.expert > 1 else "")
    return inference_words(found)
