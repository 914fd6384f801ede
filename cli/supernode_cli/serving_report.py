"""What `supernode serve-sim` says: one document, printed as JSON, YAML or tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from supernode_cli.context_limit import long_context
from supernode_cli.machines import figure
from supernode_cli.serving_deployment import ServedScenario
from supernode_cli.serving_load import ServingLoad
from supernode_cli.sources import source_words, sources_of
from supernode_dataplane.figures import counted
from supernode_dataplane.serving import GroupUse, ServingResult
from supernode_dataplane.solving import MODEL_VERSION

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["print_serving", "serving_document"]

_NAMES: Final = {"ttft": "ttftSeconds", "tpot": "tpotSeconds", "itl": "itlSeconds", "e2e": "e2eSeconds"}
_LABELS: Final = {
    "ttftSeconds": "time to first token (TTFT)",
    "tpotSeconds": "time per output token (TPOT)",
    "itlSeconds": "between stream events (ITL)",
    "e2eSeconds": "end to end (E2E)",
}
_SHARES: Final = ("mean", "p50", "p90", "p95", "p99")


def serving_document(
    served: ServedScenario,
    load: ServingLoad,
    result: ServingResult,
    *,
    errors: Mapping[str, float | None],
    slo_ttft_seconds: float | None,
    slo_tpot_seconds: float | None,
) -> dict[str, Any]:
    """Return the figures of a served load: seconds, tokens, and shares from 0 to 1; None where nothing was measured.

    ``errors`` are the expected ones of the means and of the rate, in percent.
    """
    requests, cards = load.requests, served.cards
    longest = int((requests.inputs + requests.outputs).max())
    document: dict[str, Any] = {
        "deployment": {
            "profile": served.profile.name,
            "model": served.model.name or "own config",
            "stack": served.stack,
            "mode": served.plan.mode,
            "cards": cards,
        },
        "load": {
            "source": load.source,
            "requests": len(requests),
            "inputTokensMean": requests.total_inputs / len(requests),
            "outputTokensMean": requests.total_outputs / len(requests),
        },
        "latency": {_NAMES[name]: _finite(asdict(found)) for name, found in result.distributions().items()},
        "throughput": {
            "seconds": result.seconds,
            "requestsPerSecond": result.requests_per_second,
            "inputTokensPerSecond": requests.total_inputs / result.seconds,
            "tokensPerSecond": result.tokens_per_second,
            "tokensPerSecondPerCard": result.tokens_per_second / cards,
            "requestsInSystemMean": result.in_system,
        },
        "prefixHitShare": result.prefix_hit_share,
        "preemptions": int(result.preemptions.sum()),
        "pools": [_pool(served, use) for use in result.groups],
        "expectedErrorPercent": dict(errors),
        "notes": [*served.notes, *load.notes, *long_context("the longest requests", longest, served.model)],
        "model": {"version": MODEL_VERSION},
        "sources": sources_of(served.profile.name, [served.stack]),
    }
    if slo_ttft_seconds is not None or slo_tpot_seconds is not None:
        document["goodput"] = _goodput(result, cards, slo_ttft_seconds, slo_tpot_seconds)
    return document


def print_serving(document: dict[str, Any], console: Console) -> None:
    """Print the document as tables."""
    from rich.text import Text

    deployment, load = document["deployment"], document["load"]
    cards = counted(deployment["cards"], "package")
    head = f"  {deployment['mode']}, {cards} of {deployment['profile']}, {deployment['stack']}"
    console.print(Text.assemble((deployment["model"], "bold"), head))
    lengths = f"{load['inputTokensMean']:,.0f} tokens in and {load['outputTokensMean']:,.0f} out on average"
    count = "1 request" if load["requests"] == 1 else f"{load['requests']:,} requests"
    console.print(Text(f"  {count}, {lengths}: {load['source']}", style="dim"))
    latency = _table("", *_SHARES)
    for key, label in _LABELS.items():
        mean, *shares = (_seconds(document["latency"][key][share]) for share in _SHARES)
        latency.add_row(label, mean + _error(document, key), *shares)
    console.print(latency)
    console.print(_figures(document))
    dies = [counted(use["diesPerInstance"], "die") for use in document["pools"]]
    names = [f"{use['name']} ({use['instances']} x {size})" for use, size in zip(document["pools"], dies, strict=True)]
    pools = _table("pools", *names)
    for label, key in (
        ("time in prefill", "prefillShare"),
        ("time in steps of both", "mixedShare"),
        ("time in decode", "decodeShare"),
        ("KV memory in use, mean", "kvMeanShare"),
        ("KV memory in use, peak", "kvPeakShare"),
    ):
        pools.add_row(label, *(f"{use[key]:.1%}" for use in document["pools"]))
    pools.add_row("sequences per instance, mean", *(f"{use['runningMean']:.4g}" for use in document["pools"]))
    pools.add_row("decode step, mean", *(_seconds(use["decodeStepSeconds"]) for use in document["pools"]))
    console.print(pools)
    for note in document["notes"]:
        console.print(Text(f"  {note}", style="dim"))
    console.print(Text("+-: expected error of a mean; a rate without one is that of the arrivals", style="dim"))
    console.print(Text(f"figures: model {document['model']['version']}", style="dim"))
    console.print(Text(source_words(document["sources"]), style="dim"))


def _error(document: dict[str, Any], key: str) -> str:
    error = document["expectedErrorPercent"].get(key)
    return "" if error is None else f" +-{error:.0f} %"


def _figures(document: dict[str, Any]) -> Table:
    throughput, table = document["throughput"], _table("", "")
    error = _error(document, "tokensPerSecond")
    table.add_row("tokens/s per card", figure(throughput["tokensPerSecondPerCard"]) + error)
    table.add_row("tokens/s", figure(throughput["tokensPerSecond"]))
    table.add_row("prompt tokens/s", figure(throughput["inputTokensPerSecond"]))
    table.add_row("requests/s", figure(throughput["requestsPerSecond"]))
    table.add_row("requests in the system, mean", figure(throughput["requestsInSystemMean"]))
    table.add_row("from first request to last token", _seconds(throughput["seconds"]))
    table.add_row("prompt tokens found in the prefix cache", f"{document['prefixHitShare']:.1%}")
    table.add_row("preemptions", f"{document['preemptions']:,}")
    good = document.get("goodput")
    if good is not None:
        limits = [f"{k.upper()} {_seconds(v)}" for k, v in zip(("ttft", "tpot"), good["limits"].values(), strict=True)]
        given = " and ".join(t for t, v in zip(limits, good["limits"].values(), strict=True) if v is not None)
        table.add_section()
        table.add_row(f"requests within {given}", f"{good['requestShare']:.1%}")
        table.add_row("  requests/s of these", figure(good["requestsPerSecond"]))
        table.add_row("  tokens/s per card of these", figure(good["tokensPerSecondPerCard"]))
    return table


def _goodput(result: ServingResult, cards: float, ttft: float | None, tpot: float | None) -> dict[str, Any]:
    good = result.goodput(
        ttft_seconds=math.inf if ttft is None else ttft, tpot_seconds=math.inf if tpot is None else tpot
    )
    return {
        "limits": {"ttftSeconds": ttft, "tpotSeconds": tpot},
        "requestShare": good.share,
        "requestsPerSecond": good.requests_per_second,
        "tokensPerSecondPerCard": good.tokens_per_second / cards,
    }


def _pool(served: ServedScenario, use: GroupUse) -> dict[str, Any]:
    role = "prefill" if use.name == "prefill" else "decode"
    found = next(pool for pool in served.deployment.pools if pool.role == role)
    return {
        "name": use.name,
        "instances": use.instances,
        "diesPerInstance": int(found.pool.dies),
        **_finite(
            {
                "prefillShare": use.prefill_share,
                "mixedShare": use.mixed_share,
                "decodeShare": use.decode_share,
                "kvMeanShare": use.kv_mean,
                "kvPeakShare": use.kv_peak,
                "runningMean": use.running,
                "decodingMean": use.decoding,
                "decodeStepSeconds": use.decode_step_seconds,
            }
        ),
        "decodeSteps": use.decode_steps,
    }


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """Return the values, None for those that are not numbers: JSON has no NaN."""
    return {key: value if math.isfinite(value) else None for key, value in values.items()}


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.ROUNDED, header_style="bold", show_header=any(columns))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _seconds(value: float | None) -> str:
    """Return seconds for people; short times in milliseconds."""
    if value is None:
        return "n/a"
    return f"{value:,.4g} s" if value >= 1 or value == 0 else f"{value * 1e3:.4g} ms"
