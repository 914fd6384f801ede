"""`supernode claims` and `supernode compare`: the machine beside what is published, and beside other machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from supernode_cli.errors import CliError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from supernode_cli.comparison import Comparison, OperatingPoint
    from supernode_dataplane.claims import Claim

__all__ = ["OUTPUT", "claims", "compare", "figure", "print_document", "print_table", "table_console"]

OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="How to print it.",
)


@click.command()
@OUTPUT
def claims(output: str) -> None:
    """Compare every published claim about the machine with what is computed here."""
    from supernode_dataplane.claims import all_claims

    found = all_claims()
    if output == "table":
        print_claims(found, table_console())
    else:
        print_document({"claims": [claim.to_json() for claim in found]}, output)


@click.command()
@click.argument("machines", nargs=-1, required=True, metavar="MACHINE...")
@click.option("-f", "--file", "path", required=True, help="Scenario or workload manifest; - is standard input.")
@click.option(
    "--cards",
    type=click.IntRange(min=1),
    help="Cards of each machine; else as many dies as the scenario has, at most all of the machine's.",
)
@click.option("-w", "--workload", help="Which workload of a file that has several.")
@OUTPUT
def compare(machines: tuple[str, ...], path: str, cards: int | None, workload: str | None, output: str) -> None:
    """Compare one workload on several machines: absolute, per card, per PFLOPS and per kW."""
    from supernode_cli.comparison import compare as compare_machines
    from supernode_cli.evaluation import ScenarioError
    from supernode_cli.scenario_files import read_document
    from supernode_dataplane.errors import ProfileNotFoundError

    document = read_document(path, workload)
    try:
        rows = compare_machines(document, list(dict.fromkeys(machines)), cards)
    except ProfileNotFoundError as error:
        raise CliError(f"compare: MACHINE {error.name[:64]}: {error}") from None
    except ScenarioError as error:
        raise CliError(f"{path}: {error}") from None
    if output == "table":
        print_comparison(rows, table_console())
    else:
        print_document({"machines": [row.to_json() for row in rows]}, output)


def table_console() -> Console:
    """Return a console as wide as the terminal, 120 columns where there is none."""
    from rich.console import Console

    return Console(soft_wrap=False, width=None if sys.stdout.isatty() else 120, highlight=False)


def print_table(table: Table, console: Console) -> None:
    """Print a table; into a pipe or a file as wide as it is, because no screen cuts it there."""
    from rich.measure import Measurement

    screen = console.width
    if not sys.stdout.isatty():
        whole = Measurement.get(console, console.options.update(width=1 << 16), table).maximum
        console.width = max(screen, whole)
    console.print(table)
    console.width = screen


def print_document(document: dict[str, Any], output: str) -> None:
    """Print JSON or YAML."""
    if output == "json":
        click.echo(json.dumps(document, indent=2))
        return
    import yaml

    click.echo(yaml.safe_dump(document, sort_keys=False), nl=False)


def print_claims(found: tuple[Claim, ...], console: Console) -> None:
    """Print the claims as a table: our value first, then by which definition it is the published one."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    colours = {"holds": "green", "holds by another definition": "yellow", "does not hold": "red"}
    table = Table(box=box.ROUNDED, header_style="bold", show_lines=True)
    table.add_column("claim", max_width=26)
    table.add_column("here", justify="right")
    table.add_column("published", justify="right", style="cyan")
    table.add_column("verdict", max_width=13)
    table.add_column("what it means", ratio=1)
    for claim in found:
        low, high = claim.published
        said = figure(low) if low == high else f"{figure(low)} to {figure(high)}"
        words = Text(claim.definition)
        for reading in claim.readings if len(claim.readings) > 1 else ():
            style = "" if reading is claim.agreeing else "dim"
            words.append(f"\n{figure(reading.value)}  {reading.definition}", style=style)
        subject = Text(claim.subject).append(f"\n{claim.id}, {claim.unit}", style="dim")
        verdict = Text(claim.verdict, style=colours[claim.verdict])
        verdict.append(f"\n{_within(claim.tolerance)}", style="dim")
        error = claim.readings[0].expected_error_percent
        ours = figure(claim.value) + ("" if error is None else f"\n+-{error:.0f} %")
        table.add_row(subject, ours, said, verdict, words)
    console.print(table)
    counts = {verdict: sum(claim.verdict == verdict for claim in found) for verdict in colours}
    console.print("+-: expected error of what is modelled; the rest is arithmetic on published figures", style="dim")
    console.print(
        "verdict: a claim holds when our value lies within the share below its verdict around what is published, holds "
        "by another definition when another value on its row does, and else does not hold",
        style="dim",
    )
    console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()), style="dim")


def _within(tolerance: float) -> str:
    return f"within {tolerance * 100:g} %" if tolerance else "exactly"


_COLUMNS: tuple[tuple[str, Callable[[OperatingPoint], float | str | None]], ...] = (
    ("cards", lambda point: float(point.cards)),
    ("layout", lambda point: point.layout),
    ("tokens/s", lambda point: point.tokens_per_second),
    ("+- %", lambda point: point.expected_error_percent),
    ("sequences", lambda point: point.sequences),
    ("TPOT ms", lambda point: None if point.tpot_seconds is None else point.tpot_seconds * 1e3),
    ("TTFT ms", lambda point: None if point.ttft_seconds is None else point.ttft_seconds * 1e3),
    ("per card", lambda point: point.per_card),
    ("per PFLOPS", lambda point: point.per_petaflops),
    ("per kW", lambda point: point.per_kilowatt),
    ("MFU", lambda point: point.mfu or None),
    ("bound by", lambda point: point.bound),
)
_OF_A_MODE = ("sequences", "TPOT ms", "TTFT ms", "MFU")


def print_comparison(rows: tuple[Comparison, ...], console: Console) -> None:
    """Print a line for each machine with ratios to the first one that runs; n/a where no source has a figure."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.ROUNDED, header_style="bold")
    table.add_column("machine", overflow="fold")
    points = [row.point for row in rows if row.point is not None]
    first = points[0]
    # What the mode does not have is no column.
    columns = [
        (name, read)
        for name, read in _COLUMNS
        if name not in _OF_A_MODE or any(read(point) is not None for point in points)
    ]
    for name, _ in columns:
        table.add_column(name, justify="left" if name in ("layout", "bound by") else "right", overflow="fold")
    for row in rows:
        if row.point is None:
            table.add_row(Text(row.machine, style="yellow"), *[Text("n/a", style="dim")] * len(columns))
        else:
            cells = [_cell(name, read(row.point), read(first), row.point is first) for name, read in columns]
            table.add_row(Text(row.machine, style="bold"), *cells)
    print_table(table, console)
    for row in rows:
        if row.point is None:
            console.print(Text(f"{row.machine}: {row.problem}", style="yellow"))
            continue
        changed = f"changed: {', '.join(row.point.changed)}; " if row.point.changed else ""
        power = f"power: {row.point.rated_source}" if row.point.rated_source else "no source for its power"
        stack = f"stack {row.point.stack}, products in {row.point.peak_format}"
        console.print(Text(f"{row.machine}: {changed}{stack}; {power}", style="dim"))
    said = "+- %: expected error of the rate; MFU: of the dies in use, all else of their cards as a whole"
    console.print(Text(f"{said}; -o json has the sources of all figures", style="dim"))


def _cell(name: str, value: float | str | None, ours: float | str | None, is_first: bool) -> Text:
    """Return a value, with its ratio to the first machine's below where that says something."""
    from rich.text import Text

    if value is None:
        return Text("n/a", style="dim")
    if isinstance(value, str):
        return Text(value)
    cell = Text(figure(value))
    if isinstance(ours, float) and not is_first and name not in ("cards", "MFU", "+- %", "sequences"):
        cell.append(f"\nx{value / ours:.2f}", style="dim")
    return cell


def figure(value: float) -> str:
    """Return a number for people: four significant digits, thousands grouped."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
