"""One workload on several machines: absolute, per card, per PFLOPS and per kW. Documents in, values out; no printing.

The rule, the same for all: the scenario runs as it stands on its own machine. Any other machine gives it as many dies
as it has there (``cards`` says another number of cards), in whole servers and at most all, with no changed figures and
no failures. A training layout stays where it is legal and its tensor groups fit into a server, else the fastest legal
one is taken; inference's 8-bit formats become those that the machine multiplies, and its tuned stack the vendor's.
What no source states is None: n/a.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Final

from supernode_cli.evaluation import Evaluation, ScenarioError, evaluate, parse_scenario
from supernode_dataplane.errors import ProfileNotFoundError
from supernode_dataplane.hardware import Format, hardware_of
from supernode_dataplane.layout import check_layout
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.planning import best_training
from supernode_dataplane.profile import Profile, load_profile, profile_figures, sourced
from supernode_dataplane.spec import check_training, parse_training
from supernode_dataplane.state import Problem

__all__ = ["Comparison", "OperatingPoint", "compare", "operating_point", "scenario_on"]

Document = Mapping[str, Any]
_OTHER_FORMAT: Final = {"int8": "fp8", "fp8": "int8"}
_CHUNKS: Final = (1, 2, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """One workload on one machine."""

    machine: str
    tokens_per_second: float
    cards: int
    dies: int
    peak_flops: float
    """Dense, of the dies in use, in the format that products run in."""
    peak_format: str
    rated_watts: float | None
    """All-in at full load, of the cards in use as a share of the machine; None: no source."""
    rated_source: str
    """Where that power is from; empty without one."""
    mfu: float
    bound: str | None
    expected_error_percent: float | None
    layout: str
    changed: tuple[str, ...] = ()
    """What is different from the scenario as written."""

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
            "tokensPerSecond": point.tokens_per_second,
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
            "layout": point.layout,
            "changed": list(point.changed),
        }


def compare(document: Document, machines: Sequence[str], cards: int | None = None) -> tuple[Comparison, ...]:
    """Return a row for each machine.

    Raises ScenarioError when the scenario itself or a machine's name is wrong, or when no machine can run it.
    """
    parse_scenario(document)
    for name in machines:
        _profile(name)
    rows = []
    for name in machines:
        try:
            rows.append(Comparison(name, operating_point(document, name, cards)))
        except ScenarioError as error:
            rows.append(Comparison(name, None, str(error)))
    if rows and all(row.point is None for row in rows):
        raise ScenarioError("", "; ".join(f"{row.machine}: {row.problem}" for row in rows))
    return tuple(rows)


def operating_point(document: Document, machine: str, cards: int | None = None) -> OperatingPoint:
    """Return what a machine makes of a scenario; ScenarioError when it cannot run there."""
    asked, changed = scenario_on(document, machine, cards)
    found = evaluate(asked)
    profile, result = found.profile, found.result
    kind = _format(found)
    watts, source = None, ""
    if sourced(machine, "rated_kilowatts") and profile.rated_watts:
        watts = profile.rated_watts * result.dies / profile.dies
        source = profile_figures(machine)["rated_kilowatts"]["source"]
    return OperatingPoint(
        machine=machine,
        tokens_per_second=result.tokens_per_second,
        cards=result.cards,
        dies=result.dies,
        peak_flops=result.dies * hardware_of(profile).peak(kind),
        peak_format=kind,
        rated_watts=watts,
        rated_source=source,
        mfu=result.mfu,
        bound=result.bound,
        expected_error_percent=result.expected_error_percent,
        layout=_words(found),
        changed=changed,
    )


def scenario_on(document: Document, machine: str, cards: int | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the scenario for another machine, and what was changed in it."""
    scenario, other = parse_scenario(document), _profile(machine)
    own = _profile(scenario.machine.profile)
    asked: dict[str, Any] = deepcopy(dict(document))
    if other is own and cards is None:
        return asked, ()
    nodes = _nodes(other, own.dies_per_server * (scenario.machine.nodes or own.servers), cards)
    changed: list[str] = []
    if other is own:
        asked["machine"] = {**(asked.get("machine") or {}), "nodes": nodes}
    else:
        asked["machine"] = {"profile": machine, "nodes": nodes}
        _use_its_formats(asked, other, changed)
    if "training" in asked:
        _use_its_layout(asked, other, nodes * other.dies_per_server, changed)
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


def _use_its_formats(asked: dict[str, Any], other: Profile, changed: list[str]) -> None:
    inference = asked.get("inference")
    if inference is None:
        return
    gpus = other.fp8_flops_per_die > 0
    stacks = ("vendor-tuned", "gpu-tuned") if gpus else ("gpu-tuned", "vendor-tuned")
    if asked.get("stack", "vendor-tuned") == stacks[0]:
        asked["stack"] = stacks[1]
        changed.append(f"stack {stacks[1]}")
    lacking = "int8" if gpus else "fp8"
    precision = dict(inference.get("precision") or {})
    for key in ("weights", "activations"):
        if precision.get(key, "int8") == lacking:
            precision[key] = _OTHER_FORMAT[lacking]
            changed.append(f"{key} {precision[key]}")
    asked["inference"] = {**inference, "precision": precision}


def _use_its_layout(asked: dict[str, Any], other: Profile, dies: int, changed: list[str]) -> None:
    """Put in the fastest layout where the given one cannot be."""
    wanted = parse_training(parse_scenario(asked).workload_spec())
    if isinstance(wanted, Problem):
        raise ScenarioError(wanted.field.removeprefix("spec."), wanted.message.removeprefix("spec."))
    if wanted.tensor <= other.dies_per_server and check_training(other, wanted, dies, f"{dies} dies") is None:
        return
    free = replace(wanted, stage_layers=None, expert_tensor=1, context=1)
    found = best_training(other, free, dies)
    best = found.spec if found.tokens_per_second > 0 else _fastest(asked, _odd_layouts(free, other, dies), other, dies)
    if best is None:
        why = f"no layout of {dies} dies divides a batch of {wanted.global_batch_size} and fits into HBM"
        raise ScenarioError("training.parallelism", f"{why}; give another batch, or other cards")
    _put(asked, best)
    changed.append("layout")


def _odd_layouts(wanted: TrainingSpec, other: Profile, dies: int) -> Iterator[TrainingSpec]:
    """Yield legal layouts whose stages are no power of two: 72 dies have no other."""
    for tensor in (t for t in (8, 4, 2, 1) if t <= other.dies_per_server and dies % t == 0):
        for pipeline in (p for p in range(1, wanted.model.layers + 1) if dies // tensor % p == 0):
            for chunks in _CHUNKS if pipeline > 1 else (1,):
                spec = replace(
                    wanted, tensor=tensor, pipeline=pipeline, virtual_pipeline=chunks, micro_batch_size=1, data=None
                )
                if check_layout(spec, dies, "the dies") is None and not check_training(other, spec, dies, "the dies"):
                    yield spec


def _fastest(asked: dict[str, Any], layouts: Iterator[TrainingSpec], other: Profile, dies: int) -> TrainingSpec | None:
    best: tuple[float, TrainingSpec] | None = None
    for spec in layouts:
        trial = deepcopy(asked)
        _put(trial, spec)
        rate = evaluate(trial).result.tokens_per_second
        if best is None or rate > best[0]:
            best = rate, spec
    return best[1] if best is not None else None


def _put(asked: dict[str, Any], spec: TrainingSpec) -> None:
    training = {key: value for key, value in asked["training"].items() if key != "stageLayers"}
    training["microBatchSize"] = spec.micro_batch_size
    training["parallelism"] = {
        "tensor": spec.tensor,
        "pipeline": spec.pipeline,
        "virtualPipeline": spec.virtual_pipeline,
        **({"expert": spec.expert} if spec.expert > 1 else {}),
    }
    asked["training"] = training


def _format(found: Evaluation) -> Format:
    if found.scenario.inference is None:
        return "bf16"
    kind: Format = found.workload["spec"]["inference"].get("precision", {}).get("activations", "int8")
    return kind


def _words(found: Evaluation) -> str:
    spec = found.workload["spec"]
    if "training" in spec:
        parsed = parse_training(spec)
        if isinstance(parsed, Problem):
            return ""
        data = found.result.dies // (parsed.tensor * parsed.pipeline * parsed.context)
        words = f"TP{parsed.tensor} PP{parsed.pipeline} DP{data}"
        words += f" VPP{parsed.virtual_pipeline}" if parsed.virtual_pipeline > 1 else ""
        return words + (f" EP{parsed.expert}" if parsed.expert > 1 else "")
    return str(spec["inference"].get("mode", ""))
