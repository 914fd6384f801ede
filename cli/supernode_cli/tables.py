"""Print a report as tables that a person reads: ours beside the published figure."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from supernode_cli.report import Figure, Report, WorkloadReport
from supernode_cli.sources import source_words
from supernode_cli.steps import Part

__all__ = ["print_report"]


def print_report(report: Report, console: Console, *, wide: bool = False) -> None:
    """Print the machine, then each workload; ``wide`` adds the notes on published figures."""
    machine = report.machine
    console.print(Text.assemble((machine.name, "bold"), f"  {machine.profile}  ", _state(machine.state)))
    if machine.message:
        console.print(Text(f"  {machine.message}", style="yellow"))
    table = _table(report, wide)
    for label, value in machine.counts.items():
        table.add_row(label, value, "", *([""] if wide else []))
    table.add_section()
    _add(table, machine.figures, wide)
    notes: list[str] = []
    for workload in report.workloads:
        table.add_section()
        _add_workload(table, workload, wide)
        notes += [f"{workload.key}: {note}" for note in workload.notes]
    console.print(table)
    if report.remark:
        console.print(Text(report.remark, style="yellow"))
    for workload in report.workloads if report.machine.state == "simulated" or wide else ():
        _print_parts(console, f"{workload.key}: {workload.whole}", workload.steps)
        _print_parts(console, f"{workload.key}: the fullest die", workload.memory)
    _print_notes(console, notes)
    lag = "" if report.published_digest in (None, report.digest) else "; the cluster's status is being updated"
    console.print(Text(f"figures: model {report.version}, inputs {report.digest}{lag}", style="dim"))
    if report.sources is not None:
        console.print(Text(source_words(report.sources), style="dim"))


def _table(report: Report, wide: bool) -> Table:
    table = Table(box=box.ROUNDED, show_edge=True, pad_edge=True, header_style="bold")
    table.add_column("")
    table.add_column("simulated" if report.machine.state == "simulated" else "this machine", justify="right")
    table.add_column("published", justify="right", style="cyan")
    if wide:
        table.add_column("note", style="dim")
    return table


def _add_workload(table: Table, workload: WorkloadReport, wide: bool) -> None:
    words = f"  {workload.model}" + "".join(f"\n  {part}" for part in workload.stack.split(", ") if part)
    head = Group(Text(workload.key, style="bold"), Text(words, style="dim"))
    table.add_row(head, _state(workload.state), "", *([""] if wide else []))
    if workload.message:
        table.add_row("", Text(workload.message, style="yellow", overflow="fold"), "", *([""] if wide else []))
    _add(table, workload.figures, wide)


def _add(table: Table, figures: Iterable[Figure], wide: bool) -> None:
    for figure in figures:
        value = _readable(figure.value, figure.unit)
        table.add_row(figure.label, value, figure.published, *([figure.note] if wide else []))


def _print_parts(console: Console, title: str, parts: tuple[Part, ...]) -> None:
    """Print what a sum is made of, the largest addend first."""
    if not parts:
        return
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, title=title, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right", style="dim")
    phase = ""
    for part in sorted(parts, key=lambda part: (part.label.startswith("prefill: "), -float(part.value))):
        if phase != part.label.partition(": ")[1]:
            table.add_section()
        phase = part.label.partition(": ")[1]
        table.add_row(part.label, _readable(part.value, part.unit), f"{float(part.percent):.1f} %")
    console.print(table)


def _readable(value: str, unit: str) -> str:
    """Return a value with its unit; short times in milliseconds."""
    if unit == "s" and 0 < abs(float(value)) < 1:
        return f"{float(value) * 1e3:.4g} ms"
    return f"{value} {unit}".rstrip()


def _print_notes(console: Console, notes: list[str]) -> None:
    for note in notes:
        console.print(Text(f"  {note}", style="dim"))


def _state(state: str) -> Text:
    good = state in ("Ready", "Running", "Complete", "simulated")
    return Text(state, style="green" if good else "yellow")
