"""`supernode plan`: the best parallelism and batch for a model on a machine, and what was rejected and why."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from supernode_cli.errors import CliError
from supernode_cli.machines import figure, print_document, print_table, table_console

if TYPE_CHECKING:
    from supernode_cli.plan_request import PlanRequest
    from supernode_cli.plan_rows import Planned

__all__ = ["plan"]

_PHASES = ("decode", "prefill", "colocated", "disaggregated", "training")
_DECODING = ("decode", "colocated", "disaggregated")
_READING = ("prefill", "colocated", "disaggregated")
_SERVING = ("decode", *_READING)
_ONLY = (
    ("tpot_ms", _DECODING),
    ("ttft_ms", _READING),
    ("batch", _SERVING),
    ("memory_fraction", _SERVING),
    ("weights", _SERVING),
    ("activations", _SERVING),
    ("kv_cache", _SERVING),
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
@click.option(
    "-f", "--file", "path", help="Scenario with model, machine, stack, formats, lengths, drafts; options go before it."
)
@click.option("-w", "--workload", help="Which workload of a file that has several.")
@click.option("--model", help="Name in the catalogue, see below.")
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
@click.option("--activations", type=click.Choice(["int8", "bf16", "fp8"]), help="Format; else that of weights.")
@click.option("--kv-cache", type=click.Choice(["int8", "bf16", "fp8"]), help="Format of caches; else bf16.")
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
    given = {name for name in wanted if context.get_parameter_source(name) is not default}
    _check(phase, wanted, given)
    from supernode_cli.plan_request import plan_request
    from supernode_cli.plan_rows import planned
    from supernode_dataplane.errors import DataplaneError

    try:
        request = plan_request(phase, wanted, given)
        found = planned(request, top)
    except DataplaneError as error:
        raise CliError(f"plan: {error}") from None
    if not found.rows:
        raise CliError(f"plan: no layout is possible; {_why(found.rejected, request)}")
    if output == "scenario":
        _print_scenario(found)
    elif output != "table":
        print_document(found.to_json(), output)
    else:
        _print(request, found)


def _check(phase: str, wanted: dict[str, Any], given: set[str]) -> None:
    """Refuse what is no number, and options given that the phase does not have."""
    for name in _NUMBERS:
        limit = wanted[name]
        if limit is not None and not math.isfinite(limit):
            raise CliError(f"plan: {_flag(name)} must be a number, not {limit}")
    for name, phases in _ONLY:
        if name in given and phase not in phases:
            said = " and ".join(filter(None, (", ".join(phases[:-1]), phases[-1])))
            raise CliError(f"plan: {_flag(name)} is an option of {said}, not of {phase}: leave it out")
    if wanted["objective"] == "latency" and phase == "training":
        raise CliError("plan: --objective latency is of inference; training is planned for throughput or cards")
    if wanted["tokens_per_second"] is not None and wanted["objective"] != "cards":
        raise CliError("plan: --tokens-per-second is what the fewest cards must make: give --objective cards too")
    if wanted["accepted"] > wanted["drafts"]:
        raise CliError(f"plan: --accepted {wanted['accepted']:g} is more than --drafts {wanted['drafts']}")


def _flag(name: str) -> str:
    return "--input" if name == "input_tokens" else f"--{name.replace('_', '-')}"


def _why(rejected: list[dict[str, Any]], request: PlanRequest) -> str:
    if not rejected:
        return "no split of the lattice divides these cards and this batch; change --cards or --global-batch-size"
    last = rejected[-1]
    more = "give more cards, " if request.dies < request.profile.dies else "this is the whole machine: give "
    return f"the largest one, {last['layout']}: {last['why']}; {more}fewer tokens or a looser limit"


def _print_scenario(found: Planned) -> None:
    import yaml

    if isinstance(found.scenario, str):
        raise CliError(f"plan: {found.scenario}")
    click.echo(yaml.safe_dump(found.scenario, sort_keys=False), nl=False)


_HEADINGS = {
    "batchPerCard": "batch\na card",
    "tokensPerSecond": "tokens/s",
    "tokensPerSecondPerCard": "tokens/s\na card",
    "expectedErrorPercent": "expected\nerror",
    "requestsPerSecond": "requests/s",
    "tpotMilliseconds": "TPOT\nms",
    "ttftMilliseconds": "TTFT\nms",
    "hbmGibibytesPerDie": "HBM GiB\na die",
    "stepSeconds": "step\ns",
    "recomputePercent": "recompute\n%",
}
"""What the fields of a row are called in a table."""
_SHOWN = 5
"""Rejected layouts with their arithmetic, of each reason; -o json has all."""


def _print(request: PlanRequest, found: Planned) -> None:
    from rich import box
    from rich.table import Table

    from supernode_cli.sources import source_words
    from supernode_dataplane.figures import counted

    console = table_console()
    legal = counted(found.legal, "layout")
    console.print(f"{request.phase} of {request.model.name} on {request.words}, {found.words}: {legal}, {found.order}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in found.rows[0]:
        left = name in ("layout", "prefill", "decode")
        table.add_column(_HEADINGS.get(name, name), justify="left" if left else "right", overflow="fold")
    for row in found.rows:
        table.add_row(*(_cell(name, value) for name, value in row.items()))
    print_table(table, console)
    for reason, one, many in (
        ("memory", "does not fit into HBM", "do not fit into HBM"),
        ("limit", "misses the limit", "miss the limit"),
    ):
        members = [entry for entry in found.rejected if entry["reason"] == reason]
        if members:
            rest = f", the last {_SHOWN} of them" if len(members) > _SHOWN else ""
            said = f"1 more {one}:" if len(members) == 1 else f"{len(members)} more {many}{rest}:"
            console.print(f"\n{said}")
            for entry in members[-_SHOWN:]:
                console.print(f"  {entry['layout']}: {entry['why']}")
    if len(found.rejected) > _SHOWN:
        console.print("\n-o json has all that were rejected")
    for note in found.notes:
        console.print(f"\n{note}")
    console.print(f"\n{source_words(found.sources)}", style="dim")


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "n/a"
    if name == "expectedErrorPercent":
        return f"+-{value:.0f} %"
    return figure(value) if isinstance(value, float) else str(value)
