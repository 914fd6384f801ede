"""`supernode serve-sim`: requests through an inference deployment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from supernode_cli.errors import CliError
from supernode_cli.machines import OUTPUT, print_document, table_console

__all__ = ["serve_sim"]


@click.command("serve-sim")
@click.option("-f", "--file", "path", required=True, help="Scenario with inference; - is standard input.")
@click.option("-w", "--workload", help="Which workload of a file that has several.")
@click.option("--trace", help="Request trace: Azure 2023 (.csv) or Mooncake (.jsonl), plain or .gz.")
@click.option("--format", "trace_format", type=click.Choice(["azure", "mooncake"]), help="Of the trace; else by name.")
@click.option("--speed", type=float, help="Play the trace so many times as fast.")
@click.option("--preset", help="Generate a load with the statistics of a public trace: azure-conversation, …")
@click.option("--rate", type=float, help="Requests per second.")
@click.option("--burst", type=float, help="Coefficient of variation of the gaps; 1 is Poisson, the default.")
@click.option("--concurrency", type=int, help="Clients, each of which waits for its answer before it asks again.")
@click.option("--at-once", is_flag=True, help="All requests arrive at the start.")
@click.option("--input-tokens", help="Prompt tokens: 4096, or mean:variation[:most]; else the scenario's.")
@click.option("--output-tokens", help="Tokens to generate, written alike; else the scenario's.")
@click.option("--prompts", type=int, help="Requests to generate (1000), or to take from the start of a trace (all).")
@click.option("--seed", type=int, default=0, show_default=True, help="Of arrivals, lengths and accepted drafts.")
@click.option("--chunk", type=int, help="Read prompts in chunks: tokens of a step, times the groups; else whole.")
@click.option("--kv-block", type=int, help="Tokens of a KV block; else the scenario's, else 128.")
@click.option("--max-running", type=int, help="Sequences of an instance at a time; else what its memory holds.")
@click.option(
    "--routing",
    type=click.Choice(["round-robin", "least-loaded"]),
    help="Which instance gets a request; else the scenario's, else round-robin.",
)
@click.option("--no-prefix-cache", is_flag=True, help="Compute every prompt anew.")
@click.option("--slo-ttft", type=float, help="Goodput: seconds to the first token.")
@click.option("--slo-tpot", type=float, help="Goodput: seconds per output token.")
@OUTPUT
def serve_sim(path: str, slo_ttft: float | None, slo_tpot: float | None, output: str, **flags: Any) -> None:
    """Send a request trace, or a generated load, through an inference deployment.

    What flags leave out is the scenario's: inference.load and inference.engine.

    Latencies are distributions over requests: queueing, batching, KV memory and preemption included.
    """
    for name, limit in (("--slo-ttft", slo_ttft), ("--slo-tpot", slo_tpot)):
        if limit is not None and not (math.isfinite(limit) and limit > 0):
            raise CliError(f"{name}: {limit:g} is not a time; give seconds above 0")
    document = _served(path, flags, slo_ttft, slo_tpot)
    if output == "table":
        from supernode_cli.serving_report import print_serving

        print_serving(document, table_console())
    else:
        print_document(document, output)


def _served(path: str, flags: dict[str, Any], slo_ttft: float | None, slo_tpot: float | None) -> dict[str, Any]:
    from supernode_cli.evaluation import ScenarioError
    from supernode_cli.scenario_files import read_document
    from supernode_cli.serving_deployment import served_scenario
    from supernode_cli.serving_engine import EngineFlags, engine_of, serve
    from supernode_cli.serving_errors import serving_errors
    from supernode_cli.serving_load import LoadFlags, read_load, with_scenario
    from supernode_cli.serving_report import serving_document

    scenario = read_document(path, flags.pop("workload"))
    try:
        served = served_scenario(scenario)
    except ScenarioError as error:
        raise CliError(f"{path}: {error}") from None
    given = EngineFlags(
        prefix_cache=not flags.pop("no_prefix_cache"),
        seed=flags["seed"],
        **{name: flags.pop(name) for name in ("chunk", "kv_block", "max_running", "routing")},
    )
    engine = engine_of(given, served)
    folder = Path() if path == "-" else Path(path).parent
    load = read_load(
        with_scenario(LoadFlags(**flags, file=path), served.load, folder),
        input_tokens=served.plan.input_tokens,
        output_tokens=served.plan.output_tokens,
        concurrency=served.clients,
    )
    result = serve(served, load.requests, engine)
    errors = serving_errors(served, load.requests, lambda moved, requests: serve(moved, requests, engine))
    return serving_document(served, load, result, errors=errors, slo_ttft_seconds=slo_ttft, slo_tpot_seconds=slo_tpot)
