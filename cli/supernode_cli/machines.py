"""`supernode claims`: what is published about the machine beside what we compute."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from supernode_dataplane.claims import Claim

__all__ = ["claims"]

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


def table_console() -> Console:
    """Return a console as wide as the terminal, 120 columns where there is none."""
    from rich.console import Console

    return Console(soft_wrap=False, width=None if sys.stdout.isatty() else 120, highlight=False)


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
        table.add_row(subject, figure(claim.value), said, verdict, words)
    console.print(table)
    counts = {verdict: sum(claim.verdict == verdict for claim in found) for verdict in colours}
    console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()), style="dim")


def figure(value: float) -> str:
    """Return a number for people: four significant digits, thousands grouped."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
