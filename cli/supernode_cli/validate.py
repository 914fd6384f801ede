"""`supernode validate`: the validation suite as a table, or as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from supernode_cli.errors import CliError

if TYPE_CHECKING:
    from rich.table import Table

    from supernode_dataplane.suite import RowReport, SuiteReport

__all__ = ["validate"]

_COLUMNS = ("row", "what", "published", "computed", "error", "gate", "90 % interval", "")
_NUMBERS = ("published", "computed", "error", "gate")


@click.command()
@click.argument("rows", nargs=-1)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def validate(rows: tuple[str, ...], output: str) -> None:
    """Compare the model with 41 published measurements; ROWS restricts it to some (C-D1 H-T4 ...).

    An interval of +-18 % is the computed value times or divided by e^0.18: 20 % up, 16 % down.
    """
    from supernode_dataplane.suite import load_rows
    from supernode_dataplane.suite import validate as run

    known = [row.id for row in load_rows()]
    defined = _definitions() if set(rows) - set(known) or not rows else ()
    _refuse_unknown(rows, [*known, *(found["id"] for found in defined)])
    chosen = [found for found in defined if not rows or _is_named(found["id"], rows)]
    report = run(rows or None)
    if output == "json":
        document = report.to_json()
        document["rows"] += chosen
        click.echo(json.dumps(document, indent=2))
    else:
        _print(report, chosen)


def _refuse_unknown(rows: tuple[str, ...], known: list[str]) -> None:
    from supernode_dataplane.wording import nearest

    for row in rows:
        if not any(_is_named(name, (row,)) for name in known):
            near = nearest(row, known)
            remedy = f"did you mean {near}?" if near else f"known: {', '.join(known)}"
            raise CliError(f"no row {row[:40]!r} in the suite; {remedy}")


def _is_named(name: str, rows: tuple[str, ...]) -> bool:
    # H-X1 is several rows: H-X1 HBM, H-X1 power, ...
    return any(name == row or name.startswith(f"{row} ") for row in rows)


def _definitions() -> tuple[dict[str, Any], ...]:
    """Return the rows that are printed with their arithmetic and never counted: published claims by definition."""
    from supernode_dataplane.claims import all_claims, definition_rows

    return definition_rows(all_claims())


def _print(report: SuiteReport, defined: list[dict[str, Any]]) -> None:
    import sys

    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    for name, title in (("calibration", "Calibration rows: constants are fitted to these"), ("test", "Test rows")):
        members = [row for row in report.rows if row.set == name]
        if members:
            console.print(_table(title, [_cells(row) for row in members]))
            console.print()
    if defined:
        title = "Rows by definition, which count in no statistic (supernode claims has every reading)"
        console.print(_table(title, [_definition_cells(row) for row in defined]))
        console.print()
    for line in _footer(report):
        console.print(line)


def _footer(report: SuiteReport) -> list[str]:
    lines = []
    all_of = report.informative
    if all_of.rows:
        rows = "row" if all_of.rows == 1 else "rows"
        lines.append(
            f"{all_of.rows} informative test {rows}: median error {all_of.median:.1f} %, P90 {all_of.p90:.1f} %; "
            f"intervals cover {all_of.coverage:.0f} %, median half width {all_of.median_half_width:.1f} %"
        )
        lines += [
            f"{found.row} with {found.text}: {found.error_percent:+.1f} %, P90 {found.informative.p90:.1f} %"
            for found in report.variants
        ]
    if any(row.interval_percent is not None for row in report.rows):
        lines.append("an interval of +-18 % is a factor of e^0.18: 20 % up, 16 % down")
    lines.append(
        f"{len(report.fitted)} constants are fitted, {len(report.measured)} are each taken from one measurement; "
        "-o json has them with rows, sources and standard errors"
    )
    return lines


def _table(title: str, rows: list[tuple[str, ...]]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _cells(row: RowReport) -> tuple[str, ...]:
    name = row.worst
    published, computed = f"{row.published[name]:g}", f"{row.computed[name]:.4g}"
    gate = row.gate if row.gate == "sign" or row.gate.endswith("pp") else f"{row.gate} %"
    if not row.computes:
        return row.id, row.text, published, computed, "", gate, "", "read back"
    error = "" if row.gate == "sign" else f"{row.error_percent:+.1f}{' pp' if row.gate.endswith('pp') else ' %'}"
    return (
        row.id,
        f"{row.text}: {name}",
        published,
        computed,
        error,
        gate,
        _width(row.interval_percent),
        _mark(row.passed),
    )


def _definition_cells(row: dict[str, Any]) -> tuple[str, ...]:
    published = " to ".join(f"{value:g}" for value in row["published"].values())
    what = f"{row['text']}, {row['unit']}: {row['readings'][0]['definition']}"
    verdict = _mark(row["passed"]) if row["verdict"] == "holds" else row["verdict"]
    error, gate = f"{row['errorPercent']:+.1f} %", f"{row['gate']} %"
    return row["id"], what, published, f"{row['ours']:.4g}", error, gate, _width(row["intervalPercent"]), verdict


def _width(percent: float | None) -> str:
    return "" if percent is None else f"+-{percent:.0f} %"


def _mark(passed: bool) -> str:
    return "[green]passed[/]" if passed else "[red]missed[/]"
