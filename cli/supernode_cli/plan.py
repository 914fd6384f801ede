"""`supernode plan`: the best parallelism and batch for a model on a machine, and what was rejected and why."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import click

from supernode_cli.errors import CliError
from supernode_cli.machines import print_document

if TYPE_CHECKING:
    from supernode_cli.plan_rows import Planned

__all__ = ["plan"]

_PHASES = ("decode", "prefill", "disaggregated", "training")
_DECODING, _SERVING = ("decode", "disaggregated"), ("decode", "prefill", "disaggregated")
_ONLY = (
    ("tpot_ms", _DECODING),
    ("ttft_ms", ("prefill", "disaggregated")),
    ("batch", _SERVING),
    ("memory_fraction", _SERVING),
    ("weights", _SERVING),
    ("input_tokens", _SERVING),
    ("output_tokens", _DECODING),
    ("drafts", _DECODING),
    ("accepted", _DECODING),
    ("sequence_length", ("training",)),
    ("global_batch_size", ("training",)),
)
"""Options that not every phase has."""
_NUMBERS = ("tpot_ms", "ttft_ms", "tokens_per_second", "batch", "memory_fraction", "accepted")


class _Plan(click.Command):
    """With the catalogue in its help, which is read then."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from supernode_dataplane.catalogue import model_names

        with formatter.section("Models of the catalogue"):
            formatter.write_text(", ".join(model_names()))


@click.command(cls=_Plan)
@click.argument("phase", type=click.Choice(_PHASES))
@click.option("--model", required=True, help="Name in the catalogue, see below.")
@click.option("--machine", default="cloudmatrix-384", show_default=True, help="Hardware profile.")
@click.option("--failed", help="What has failed, as machine.failed of a scenario: '{planes: [0]}'.")
@click.option("--stack", help="Software stack; else the machine's.")
@click.option("--cards", type=click.IntRange(1, 65536), help="Packages; else the whole machine.")
@click.option(
    "--objective",
    type=click.Choice(["throughput", "latency", "cards"]),
    default="throughput",
    show_default=True,
    help="Most tokens/s of the cards; least TPOT (prefill: TTFT); or fewest cards.",
)
@click.option("--tokens-per-second", type=click.FloatRange(0, min_open=True), help="What the fewest cards must make.")
@click.option("--input", "input_tokens", type=click.IntRange(1, 10_000_000), default=4096, show_default=True)
@click.option("--output-tokens", type=click.IntRange(1, 10_000_000), default=256, show_default=True)
@click.option(
    "--batch",
    type=click.FloatRange(0, 65536, min_open=True),
    help="Sequences on a card; else the best that caches hold: up to 16,777,216 in all, prefill 4,096 of a group.",
)
@click.option("--tpot-ms", type=click.FloatRange(0, min_open=True), help="Limit of the time per output token.")
@click.option("--ttft-ms", type=click.FloatRange(0, min_open=True), help="Limit for a prompt in an idle pool.")
@click.option(
    "--memory-fraction",
    type=click.FloatRange(0, 0.95, min_open=True),
    help="Share of HBM that weights, buffers and caches may fill; else 0.9.",
)
@click.option("--drafts", type=click.IntRange(0, 16), default=0, show_default=True, help="Draft tokens of a step.")
@click.option(
    "--accepted", type=click.FloatRange(0, 16), default=0.0, show_default=True, help="Accepted of them, mean."
)
@click.option("--weights", type=click.Choice(["int8", "bf16", "fp8", "int4"]), help="Format; else the machine's.")
@click.option("--sequence-length", type=click.IntRange(1, 16_777_216), default=4096, show_default=True)
@click.option("--global-batch-size", type=click.IntRange(1, 1_048_576), default=1536, show_default=True)
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="Layouts to show.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "scenario"]),
    default="table",
    show_default=True,
    help="How to print it; scenario: the best layout, for simulate and compare.",
)
def plan(phase: str, output: str, top: int, **wanted: Any) -> None:
    """Find the best legal layout of PHASE, with the memory arithmetic of what does not fit."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    _check(phase, wanted, {name for name in wanted if context.get_parameter_source(name) is not default})
    from supernode_cli.plan_rows import planned
    from supernode_dataplane.errors import DataplaneError

    try:
        found = planned(phase, wanted, top)
    except DataplaneError as error:
        raise CliError(f"plan: {error}") from None
    if not found.rows:
        raise CliError(f"plan: no layout is possible; {_why(found.rejected)}")
    if output == "scenario":
        _print_scenario(found)
    elif output != "table":
        print_document(found.to_json(), output)
    else:
        _print(phase, wanted, found)


def _check(phase: str, wanted: dict[str, Any], given: set[str]) -> None:
    """Refuse what is no number, and options given that the phase does not have."""
    for name in _NUMBERS:
        limit = wanted[name]
        if limit is not None and not math.isfinite(limit):
            raise CliError(f"plan: {_flag(name)} must be a number, not {limit}")
    for name, phases in _ONLY:
        if name in given and phase not in phases:
            said = " and ".join(phases)
            raise CliError(f"plan: {_flag(name)} is an option of {said}, not of {phase}: leave it out")
    if wanted["objective"] == "latency" and phase == "training":
        raise CliError("plan: --objective latency is of inference; training is planned for throughput or cards")
    if wanted["tokens_per_second"] is not None and wanted["objective"] != "cards":
        raise CliError("plan: --tokens-per-second is what the fewest cards must make: give --objective cards too")
    if wanted["accepted"] > wanted["drafts"]:
        raise CliError(f"plan: --accepted {wanted['accepted']:g} is more than --drafts {wanted['drafts']}")


def _flag(name: str) -> str:
    return "--input" if name == "input_tokens" else f"--{name.replace('_', '-')}"


def _why(rejected: list[dict[str, Any]]) -> str:
    if not rejected:
        return "no split of the lattice divides these cards and this batch; change --cards or --global-batch-size"
    last = rejected[-1]
    return f"the largest one, {last['layout']}: {last['why']}; give more cards, fewer tokens or a looser limit"


def _print_scenario(found: Planned) -> None:
    import yaml

    if isinstance(found.scenario, str):
        raise CliError(f"plan: {found.scenario}")
    click.echo(yaml.safe_dump(found.scenario, sort_keys=False), nl=False)


def _print(phase: str, wanted: dict[str, Any], found: Planned) -> None:
    from rich.console import Console
    from rich.table import Table

    from supernode_cli.sources import source_words
    from supernode_dataplane.figures import counted

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    legal = counted(found.legal, "layout")
    title = f"{phase} of {wanted['model']} on {wanted['machine']}, {found.words}: {legal}, {found.order}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for name in found.rows[0]:
        table.add_column(name, justify="left" if name in ("layout", "prefill", "decode") else "right")
    for row in found.rows:
        table.add_row(*(_cell(name, value) for name, value in row.items()))
    console.print(table)
    for reason, one, many in (
        ("memory", "does not fit into HBM", "do not fit into HBM"),
        ("limit", "misses the limit", "miss the limit"),
    ):
        members = [entry for entry in found.rejected if entry["reason"] == reason]
        if members:
            said = f"1 more {one}:" if len(members) == 1 else f"{len(members)} more {many}; the last of them:"
            console.print(f"\n{said}\n  {members[-1]['layout']}: {members[-1]['why']}")
    for note in found.notes:
        console.print(f"\n{note}")
    console.print(f"\n{source_words(found.sources)}", style="dim")


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "n/a"
    if name == "expectedErrorPercent":
        return f"+-{value:.0f} %"
    return f"{value:g}" if isinstance(value, float) else str(value)
