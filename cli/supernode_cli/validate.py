"""`supernode validate`: the validation suite as a table, or as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from supernode_cli.errors import CliError

if TYPE_CHECKING:
    from supernode_dataplane.suite import RowReport, SuiteReport

__all__ = ["validate"]


@click.command()
@click.argument("rows", nargs=-1)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def validate(rows: tuple[str, ...], output: str) -> None:
    """Compare the model with every published measurement there is; ROWS restricts it to some (C-D1 H-T4 ...)."""
    from supernode_dataplane.suite import load_rows
    from supernode_dataplane.suite import validate as run

    known = [row.id for row in load_rows()]
    defined = _definitions() if set(rows) - set(known) or (output == "json" and not rows) else []
    for row in rows:
        if row not in known and row not in [found["id"] for found in defined]:
            names = ", ".join([*known, *(found["id"] for found in defined)])
            raise CliError(f"no row {row[:40]!r} in the suite; known: {names}")
    defined = [found for found in defined if not rows or found["id"] in rows]
    report = run(rows or None)
    if output == "json":
        document = report.to_json()
        document["rows"] += defined
        click.echo(json.dumps(document, indent=2))
    else:
        _print(report)
        for found in defined:
            click.echo(f"{found['id']} is a row by definition and counts in no statistic: supernode claims explains it")


def _definitions() -> list[dict[str, Any]]:
    """Return the rows that are printed with their arithmetic and never counted: published claims by definition."""
    from supernode_dataplane.claims import all_claims

    named = [claim.to_json() for claim in all_claims() if claim.id.startswith(("H-", "HC25"))]
    return [{**claim, "set": "definition", "informative": False} for claim in named]


def _print(report: SuiteReport) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    for name, title in (("calibration", "Calibration rows: constants are fitted to these"), ("test", "Test rows")):
        members = [row for row in report.rows if row.set == name]
        if not members:
            continue
        table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
        for column in ("row", "what", "published", "computed", "error", "gate", "90 % interval", ""):
            table.add_column(
                column, justify="right" if column in ("published", "computed", "error", "gate") else "left"
            )
        for row in members:
            table.add_row(*_cells(row))
        console.print(table)
        console.print()
    if report.informative.rows:
        all_of = report.informative
        console.print(
            f"{all_of.rows} informative test rows: median error {all_of.median:.1f} %, P90 {all_of.p90:.1f} %; "
            f"intervals cover {all_of.coverage:.0f} %, median half width {all_of.median_half_width:.1f} %"
        )
    console.print(f"{len(report.fitted)} fitted constants; -o json has them with their rows and standard errors")


def _cells(row: RowReport) -> tuple[str, ...]:
    name = row.worst
    error = "" if row.gate == "sign" else f"{row.error_percent:+.1f}{' pp' if row.gate.endswith('pp') else ' %'}"
    width = "" if row.interval_percent is None else f"+-{row.interval_percent:.0f} %"
    mark = "[green]passed[/]" if row.passed else "[red]missed[/]"
    what = f"{row.text}: {name}"
    gate = row.gate if row.gate == "sign" or row.gate.endswith("pp") else f"{row.gate} %"
    return row.id, what, f"{row.published[name]:g}", f"{row.computed[name]:.4g}", error, gate, width, mark
