"""What the CLI says, as plain values: computed from API objects or from a scenario by the same functions.

`get` and `simulate` both end in a :class:`Report`; tables and JSON are two ways to print it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from supernode_cli.completion import time_words
from supernode_cli.defaults import stack_words
from supernode_cli.evaluation import Evaluation
from supernode_cli.goodput import Assumption, TrainingGoodput, training_goodput
from supernode_cli.idle_figures import idle_figures
from supernode_cli.published import published
from supernode_cli.remaining import remaining
from supernode_cli.sources import sources_of
from supernode_cli.steps import Part, memory_parts, step_parts
from supernode_dataplane.baseline import ratio_to_baseline
from supernode_dataplane.changed_profile import changes
from supernode_dataplane.figures import decimal, machine_performance, workload_performance
from supernode_dataplane.inputs import machine_inputs, solve_inputs
from supernode_dataplane.profile import Profile, load_profile
from supernode_dataplane.stacks import stack_names
from supernode_dataplane.state import MachineState, WorkloadResult

__all__ = ["Figure", "MachineReport", "Report", "WorkloadReport", "report_evaluation", "report_machine"]

_MACHINE_FIGURES = (
    ("ratedPetaflops", "FP16 dense, rated", "PFLOPS"),
    ("bf16Petaflops", "BF16 dense, usable", "PFLOPS"),
    ("hbmTebibytes", "HBM", "TiB"),
    ("hbmBandwidthTerabytesPerSecond", "HBM bandwidth", "TB/s"),
    ("busBandwidthTerabytesPerSecond", "bus bandwidth, one way", "TB/s"),
    ("powerKilowatts", "power now", "kW"),
)
_WORKLOAD_FIGURES = (
    ("tokensPerSecondPerCard", "tokens/s per card", ""),
    ("tokensPerSecond", "tokens/s", ""),
    ("ratioToTraditional", "ratio to the traditional Ascend cluster", "x"),
    ("promptTokensPerSecond", "prompt tokens/s", ""),
    ("tpotSeconds", "time per output token (TPOT)", "s"),
    ("ttftSeconds", "time to first token (TTFT), no queue", "s"),
    ("mfu", "MFU", ""),
    ("stepTimeSeconds", "step time", "s"),
    ("bound", "bound by", ""),
    ("powerKilowatts", "power of its dies", "kW"),
    ("hbmGibibytesPerDie", "HBM in use per die", "GiB"),
    ("linkUtilisationPercent", "link utilisation", "%"),
    ("recomputePercent", "activations recomputed", "%"),
    ("expectedErrorPercent", "expected error of the rate", "%"),
    ("goodputTokensPerSecondPerCard", "goodput with failures, tokens/s per card", ""),
    ("availabilityPercent", "availability", "%"),
    ("wastePercent", "lost to checkpoints, restarts, work done again", "%"),
    ("checkpointIntervalSeconds", "work between checkpoints", "s"),
)

_LEFT_OUT: Mapping[str, frozenset[str]] = {
    "Training": frozenset(),
    "Prefill": frozenset({"tpotSeconds", "recomputePercent", "promptTokensPerSecond"}),
    "Decode": frozenset({"ttftSeconds", "recomputePercent", "promptTokensPerSecond"}),
    "Colocated": frozenset({"recomputePercent"}),
    "Disaggregated": frozenset({"recomputePercent"}),
}
"""Figures that say nothing in a mode."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table: our value and, where one exists, the published one."""

    key: str
    label: str
    value: str
    unit: str = ""
    published: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadReport:
    """A workload on the machine."""

    key: str
    model: str
    state: str
    message: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]
    stack: str = ""
    """Software stack and, of inference, formats; in words."""
    steps: tuple[Part, ...] = ()
    """The step's time by cause; of inference each phase."""
    memory: tuple[Part, ...] = ()
    """HBM of the fullest die by use; inference only."""
    reliability: tuple[Assumption, ...] = ()
    """What the goodput rests on; of a simulated training run."""
    whole: str = "a step"
    """What :attr:`steps` are the parts of, for people."""


@dataclass(frozen=True, slots=True)
class MachineReport:
    """The machine."""

    name: str
    profile: str
    state: str
    message: str
    counts: Mapping[str, str]
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A machine, its workloads and where the figures come from."""

    machine: MachineReport
    workloads: tuple[WorkloadReport, ...]
    digest: str
    version: str
    published_digest: str | None = None
    """What the cluster's status says; differs for a moment after a change."""
    sources: Mapping[str, Any] | None = None
    """What the figures rest on: of the machine, and of the stacks of its workloads."""
    remark: str = ""
    """What a person is told of workloads that are not here; JSON shows that there are none."""

    def called(self, key: str) -> Report:
        """Return the report with its workloads, of which a simulation has one, under the name of their manifest."""
        return replace(self, workloads=tuple(replace(workload, key=key) for workload in self.workloads))

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values, figures keyed by name."""
        machine = asdict(self.machine)
        machine["figures"] = {f.key: _plain(f) for f in self.machine.figures}
        workloads = []
        for workload in self.workloads:
            entry = asdict(workload)
            entry["figures"] = {f.key: _plain(f) for f in workload.figures}
            for key in ("steps", "memory", "reliability"):
                entry[key] = {part.key: part.to_json() for part in getattr(workload, key)}
            if not workload.reliability:
                del entry["reliability"]
            del entry["whole"]
            workloads.append(entry)
        document = {
            "machine": machine,
            "workloads": workloads,
            "model": {"digest": self.digest, "version": self.version},
        }
        return document if self.sources is None else {**document, "sources": dict(self.sources)}


def report_machine(
    super_node: dict[str, Any], compute_nodes: list[dict[str, Any]], workloads: list[dict[str, Any]]
) -> Report:
    """Compute the report of one SuperNode from its API objects; null there is absence."""
    name = super_node["metadata"]["name"]
    mine = [w for w in workloads if (w.get("spec") or {}).get("superNode") == name]
    profile = load_profile(super_node["spec"]["profile"])
    # As they are: the digest is of what the operator sees.
    state = solve_inputs(machine_inputs(super_node, compute_nodes, mine))
    super_node, mine = _without_null(super_node), [_without_null(w) for w in mine]
    status = super_node.get("status", {})
    ready, message = _condition(super_node, "Ready")
    machine = MachineReport(
        name=name,
        profile=profile.name,
        state="Ready" if ready == "True" else f"not Ready ({_reason(super_node)})",
        message="" if ready == "True" else message,
        counts=_counts(status),
        figures=_machine_figures(profile, state),
    )
    found = [(w, state.workload(_key(w)) or WorkloadResult(key=_key(w))) for w in sorted(mine, key=_key)]
    stacks = [w["spec"].get("stack", "vendor-tuned") for w in mine]
    return Report(
        machine=machine,
        workloads=tuple(_workload(profile, result, w) for w, result in found),
        digest=state.digest,
        version=state.version,
        published_digest=status.get("model", {}).get("digest"),
        sources=sources_of(profile.name, [name for name in stacks if name in stack_names()]),
    )


def report_evaluation(evaluation: Evaluation) -> Report:
    """Return the report of a scenario: its workload on whole servers of an otherwise idle machine."""
    profile, state, nodes = evaluation.profile, evaluation.state, evaluation.nodes
    count = evaluation.scenario.machine.supernodes
    many = {"supernodes, the figures below of one": str(count)} if count > 1 else {}
    machine = MachineReport(
        name="scenario",
        profile=profile.name,
        state="simulated",
        message="",
        counts={
            **many,
            "servers in use": f"{nodes} of {profile.servers}",
            "dies in use": f"{evaluation.dies} of {profile.dies}",
            **remaining(profile, evaluation.inputs, state),
        },
        figures=_machine_figures(profile, state),
    )
    words = stack_words(evaluation.scenario, evaluation.given)
    reliability = evaluation.scenario.reliability
    goodput = training_goodput(evaluation.result, reliability) if evaluation.scenario.training is not None else None
    workload = _workload(profile, evaluation.result, evaluation.workload, stack=words, goodput=goodput)
    workload = replace(workload, notes=(*workload.notes, *evaluation.notes, *idle_figures(evaluation)))
    sources = sources_of(profile.name, [evaluation.workload["spec"]["stack"]], evaluation.scenario.machine.figures)
    return Report(machine, (workload,), state.digest, state.version, sources=sources)


def _workload(
    profile: Profile,
    result: WorkloadResult,
    workload: Mapping[str, Any],
    *,
    stack: str = "",
    goodput: TrainingGoodput | None = None,
) -> WorkloadReport:
    spec = workload["spec"]
    model = spec.get("model", {}).get("name") or "own config"
    status, message = _status(result, workload)
    values: dict[str, str] = workload_performance(result) if result.tokens_per_second > 0 else {}
    values |= goodput.figures if goodput is not None else {}
    notes: list[str] = list(result.notes)
    if result.tokens_per_second > 0:
        baseline = ratio_to_baseline(profile, spec, result)
        if baseline is not None:
            values["ratioToTraditional"] = decimal(baseline[0])
            notes.append(f"traditional cluster: {baseline[1]}")
    if goodput is not None:
        inputs = ", ".join(f"{i.label} {time_words(i.seconds)} ({i.status})" for i in goodput.assumptions)
        notes.append(f"goodput: {inputs}; -o json has the sources")
    mode = spec.get("inference", {}).get("mode", "Training")
    table = tuple(row for row in _WORKLOAD_FIGURES if row[0] not in _LEFT_OUT[mode])
    # What is published is about the machine as it is built and healthy: with notes on what slows it this is another.
    alike = not result.notes and not changes(profile)
    compared = {**spec, "cards": result.cards} if alike else None
    figures = _figures(table, values, profile.name, f"{model} {mode}", compared)
    return WorkloadReport(
        result.key,
        model,
        status,
        message,
        figures,
        tuple(notes),
        stack=stack or f"stack {spec.get('stack', 'vendor-tuned')}",
        steps=step_parts(result),
        memory=memory_parts(result),
        reliability=goodput.assumptions if goodput is not None else (),
    )


def _status(result: WorkloadResult, workload: Mapping[str, Any]) -> tuple[str, str]:
    """Return the state of a workload, and why it is not better."""
    if result.problem is not None:
        return result.problem.reason, f"{result.problem.field}: {result.problem.message}"
    if workload.get("status", {}).get("completionTime"):
        return "Complete", ""
    return ("Waiting", result.waiting) if result.waiting else ("Running", "")


def _machine_figures(profile: Profile, state: MachineState) -> tuple[Figure, ...]:
    figures = _figures(_MACHINE_FIGURES, machine_performance(state, profile), profile.name, None)
    # What is published is about the machine as it is built, its bandwidth about one whose links are up.
    built, whole = not changes(profile), _whole(state)
    return tuple(
        figure
        if not figure.published or (built and (whole or figure.key != "busBandwidthTerabytesPerSecond"))
        else replace(figure, published="", note="")
        for figure in figures
    )


def _whole(state: MachineState) -> bool:
    """Whether all links of a machine are up."""
    return bool(state.devices.port_up.all() and state.fabric.uplink_up.all())


def _figures(
    table: tuple[tuple[str, str, str], ...],
    values: Mapping[str, Any],
    profile: str,
    model: str | None,
    spec: Mapping[str, Any] | None = None,
) -> tuple[Figure, ...]:
    figures = []
    for key, label, unit in table:
        value = values.get(key)
        if value is None and values and key == "powerKilowatts":
            figures.append(Figure(key, label, "n/a", note="the profile has no source for it"))
        if value is None:
            continue
        other = published(profile, key, model, spec)
        figures.append(Figure(key, label, str(value), unit, other.value if other else "", other.note if other else ""))
    return tuple(figures)


def _counts(status: dict[str, Any]) -> dict[str, str]:
    capacity, allocatable, allocated = (status.get(k, {}) for k in ("capacity", "allocatable", "allocated"))
    pods = status.get("readyCabinets", 0)
    cabinets = f"{capacity.get('computeCabinets', 0)} compute, {capacity.get('busCabinets', 0)} bus"
    return {
        "compute nodes": f"{status.get('placedNodes', 0)} of {capacity.get('nodes', 0)} placed",
        "cabinets": f"{cabinets}; {pods} pods ready",
        "dies": f"{allocatable.get('dies', 0)} allocatable, {allocated.get('dies', 0)} allocated",
        "bus links": f"{allocatable.get('busLinks', 0)} allocatable, {allocated.get('busLinks', 0)} allocated",
    }


def _condition(obj: dict[str, Any], type_: str) -> tuple[str, str]:
    for condition in obj.get("status", {}).get("conditions", []):
        if condition.get("type") == type_:
            return condition.get("status", "Unknown"), condition.get("message", "")
    return "Unknown", "the operator has not reported yet"


def _reason(obj: dict[str, Any]) -> str:
    found = [c.get("reason", "") for c in obj.get("status", {}).get("conditions", []) if c.get("type") == "Ready"]
    return found[0] if found else "Unknown"


def _without_null(value: Any) -> Any:
    """Return a value without the fields of its mappings that are null, at any depth."""
    if isinstance(value, Mapping):
        return {key: _without_null(inner) for key, inner in value.items() if inner is not None}
    return [_without_null(inner) for inner in value] if isinstance(value, list) else value


def _key(workload: Mapping[str, Any]) -> str:
    metadata = workload["metadata"]
    return f"{metadata.get('namespace', 'default')}/{metadata['name']}"


def _plain(figure: Figure) -> dict[str, str]:
    return {k: v for k, v in asdict(figure).items() if v and k not in ("key", "label")}
