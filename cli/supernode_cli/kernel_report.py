"""A kernel's answer as a report: the same tables and JSON as of a workload."""

from __future__ import annotations

from typing import Any, Final

from supernode_cli.defaults import stack_words
from supernode_cli.kernel_evaluation import KernelEvaluation
from supernode_cli.published import published
from supernode_cli.report import Figure, MachineReport, Report, WorkloadReport
from supernode_cli.sources import sources_of
from supernode_cli.steps import Part
from supernode_dataplane.figures import decimal

__all__ = ["report_kernel"]

_EXCHANGE: Final = "tokens x experts of a token x hidden size x bytes of a value, over the time; scales not counted"
_DEFINITIONS: Final = {
    "Dispatch": _EXCHANGE,
    "Combine": _EXCHANGE,
    "AllReduce": "bytes of a rank over the time",
    "PointToPoint": "bytes over the time",
}
_ALGORITHMS: Final = {
    "Ring": "2 (n - 1) steps around a ring",
    "OneShot": "every rank sends all to every other one, a mesh",
    "HalvingDoubling": "2 log2(n) steps of recursive halving and doubling",
    "Direct": "each copy takes its own way to its expert's rank",
    "DirectOverRdma": "each copy takes its own way, over RDMA inside a server too",
    "ByServer": "a token crosses RDMA once for each server and is copied on inside it",
    "Copy": "vector cores copy, not zero-copy",
}
_FIGURES: Final = (
    ("timeSeconds", "time", "s"),
    ("gigabytesPerSecond", "bandwidth of a rank", "GB/s"),
    ("busGigabytesPerSecond", "bus bandwidth", "GB/s"),
    ("algorithm", "algorithm", ""),
    ("ringSeconds", "ring", "s"),
    ("oneShotSeconds", "one-shot mesh", "s"),
    ("halvingDoublingSeconds", "halving and doubling", "s"),
    ("bound", "mostly", ""),
    ("payloadBytes", "bytes that the bandwidth counts", "B"),
    ("sentBytes", "bytes that a rank sends", "B"),
    ("packageBytes", "inside its package", "B"),
    ("serverBytes", "inside its server", "B"),
    ("busBytes", "over the bus between servers", "B"),
    ("rdmaBytes", "over RDMA", "B"),
    ("expectedErrorPercent", "expected error of the time", "%"),
)
_PARTS: Final = {
    "launch": "launch",
    "latency": "latency",
    "wire": "wire",
    "staging": "copies in HBM",
    "scan": "scan of tokens against ranks",
    "cores": "vector cores",
}


def report_kernel(evaluation: KernelEvaluation) -> Report:
    """Return the report of a scenario's kernel on the first dies of its machine."""
    profile, spec = evaluation.profile, evaluation.spec
    servers = 2 if spec.kind == "PointToPoint" else -(-spec.ranks // profile.dies_per_server)
    machine = MachineReport(
        name="scenario",
        profile=profile.name,
        state="simulated",
        message="",
        counts={"servers in use": f"{servers} of {profile.servers}", "dies in use": f"{spec.ranks} of {profile.dies}"},
        figures=(),
    )
    stack = str(evaluation.scenario.stack)
    workload = WorkloadReport(
        key="default/scenario",
        model=" ".join(word for word in (evaluation.model, _words(evaluation)) if word),
        state="Running",
        message="",
        figures=_figures(evaluation),
        notes=_notes(evaluation),
        stack=_stack_words(evaluation),
        steps=_parts(evaluation),
        whole="one kernel",
    )
    sources = sources_of(profile.name, [stack], evaluation.scenario.machine.figures)
    return Report(machine, (workload,), evaluation.digest, evaluation.version, sources=sources)


def _words(evaluation: KernelEvaluation) -> str:
    spec = evaluation.spec
    if spec.kind == "PointToPoint":
        return f"PointToPoint {spec.size_bytes:,} B with {spec.cores} cores"
    if spec.kind == "AllReduce":
        return f"AllReduce of {spec.ranks} ranks, {spec.size_bytes:,} B each"
    return f"{spec.kind} EP{spec.ranks}, {spec.tokens} tokens a rank"


def _stack_words(evaluation: KernelEvaluation) -> str:
    words, spec, kernel = stack_words(evaluation.scenario, evaluation.given), evaluation.spec, evaluation.given.kernel
    if spec.kind not in ("Dispatch", "Combine") or kernel is None:
        return words
    whose = " (the machine's)" if spec.kind == "Dispatch" and kernel.format is None else ""
    return f"{words}, {spec.form}, tokens {spec.format}{whose}"


def _figures(evaluation: KernelEvaluation) -> tuple[Figure, ...]:
    spec, values = evaluation.spec, evaluation.performance
    notes = {
        "gigabytesPerSecond": _DEFINITIONS[spec.kind],
        "busGigabytesPerSecond": "2 (n - 1) / n of the bandwidth",
        "algorithm": _ALGORITHMS[evaluation.figures.algorithm],
    }
    found = []
    for key, label, unit in _FIGURES:
        if key not in values:
            continue
        other = published(evaluation.profile.name, key, spec.kind, _published_spec(evaluation))
        note = "; ".join(text for text in (notes.get(key, ""), other.source if other else "") if text)
        found.append(Figure(key, label, values[key], unit, other.value if other else "", note))
    return tuple(found)


def _published_spec(evaluation: KernelEvaluation) -> dict[str, Any]:
    """Return what published figures are compared with: the machine as it is built, the stack, and the kernel."""
    spec, scenario = evaluation.spec, evaluation.scenario
    names = ("ranks", "tokens", "copies", "hidden", "form", "format")
    kernel = {name: getattr(spec, name) for name in names}
    return {"stack": scenario.stack, "changed": bool(scenario.machine.figures), "kernel": kernel}


def _notes(evaluation: KernelEvaluation) -> tuple[str, ...]:
    notes = [f"bandwidth: {_DEFINITIONS[evaluation.spec.kind]}"]
    if evaluation.spec.kind in ("Dispatch", "Combine"):
        notes.append("alone: nothing hides its launch, and no rank waits for a slower one")
        if evaluation.hardware.pod_bytes_per_second:
            notes.append("on a bus between servers both forms are one formula: what differs is the stack's kernels")
    return tuple(notes)


def _parts(evaluation: KernelEvaluation) -> tuple[Part, ...]:
    figures = evaluation.figures
    return tuple(
        Part(cause, _PARTS[cause], decimal(seconds), "s", decimal(100.0 * seconds / figures.seconds))
        for cause, seconds in figures.parts.items()
        if seconds > 0
    )
