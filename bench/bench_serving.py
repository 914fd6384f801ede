"""Budgets of the serving loop: 12,000 requests of real traces, and ten times the output for the same price."""

from __future__ import annotations

import gzip
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rows import Row
from supernode_dataplane.serving import (
    NO_DRAFTS,
    Acceptance,
    Engine,
    Group,
    Requests,
    ServingResult,
    preset_load,
    read_azure,
    read_mooncake,
    simulate,
)

COUNT = 12_000
TRACES = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "traces"


@dataclass(frozen=True)
class Linear:
    """Step times of the right size for a large model on a few dies; what is measured is the loop, not these."""

    def decode(self, batch: int) -> tuple[float, float]:
        return 0.012 + 1e-5 * batch, 4e-8

    def prefill(self, tokens: int) -> tuple[float, float]:
        return 0.01 + tokens / 20_000, 1e-10

    def mixed(self, batch: int, tokens: int) -> tuple[float, float, float]:
        return 0.015 + 1e-5 * batch + tokens / 20_000, 4e-8, 1e-10

    def transfer(self, tokens: int) -> float:
        return 1e-6 * tokens


def measure(traces: Path = TRACES) -> Iterator[Row]:
    """Serve each load on eight instances and on one; the machine's other load is part of what is seen."""
    loads = list(_loads(traces))
    for name, load in loads:
        for instances, prefill in ((1, "unchunked"), (8, "chunked")):
            yield _row(f"{name}, {instances} x {prefill}", load, instances, prefill)
    yield _row(f"{loads[-1][0]}, 8 x chunked, drafts", loads[-1][1], 8, "chunked", Acceptance((0.7, 0.5)))
    yield from _longer_outputs()


def _loads(traces: Path) -> Iterator[tuple[str, Requests]]:
    """Yield 12,000 requests of each trace, or loads with their statistics where the files are not there."""
    for name, file, reader in (
        ("azure-conversation", "azure_conv.csv.gz", read_azure),
        ("mooncake-conversation", "mooncake_conversation.jsonl.gz", read_mooncake),
    ):
        if (traces / file).exists():
            header = 1 if reader is read_azure else 0
            lines = gzip.decompress((traces / file).read_bytes()).splitlines()[: COUNT + header]
            yield f"{name} trace", reader(lines)
        else:
            yield f"{name} preset", preset_load(name, COUNT)


def _group(instances: int, prefill: str) -> Group:
    engine = Engine(blocks=8000, max_running=128, prefill=prefill)  # type: ignore[arg-type]
    return Group(model=Linear(), engine=engine, instances=instances, routing="least-loaded")


def _serve(load: Requests, group: Group, acceptance: Acceptance, runs: int = 5) -> tuple[float, float, ServingResult]:
    """Return the median and the least seconds, distributions included, and the result."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        result = simulate(load, group, acceptance=acceptance)
        result.distributions()
        times.append(time.perf_counter() - start)
    return statistics.median(times), min(times), result


def _row(what: str, load: Requests, instances: int, prefill: str, acceptance: Acceptance = NO_DRAFTS) -> Row:
    median, least, result = _serve(load, _group(instances, prefill), acceptance)
    if result.completed.min() <= 0 or len(result.completed) != len(load):
        raise SystemExit(f"bench: {what}: not every request was served, so this would measure nothing")
    how = (
        f"median of 5, least {least:.2f} s; {result.groups[0].runs} runs for {int(result.decode_steps.sum())} steps of "
        f"requests, {int(result.preemptions.sum())} preemptions"
    )
    return Row(f"serving {len(load)} requests: {what}", median, "s", 1.0, how)


def _longer_outputs() -> Iterator[Row]:
    """Compare 1x and 10x output lengths at a load that either can carry: the ratio of times, and of runs."""
    load = preset_load("azure-conversation", COUNT)
    longer = replace(load, outputs=10 * load.outputs, arrivals=10 * load.arrivals)
    short = replace(load, arrivals=10 * load.arrivals)
    # Room for all, so that neither load waits: what is compared is the length of the outputs alone.
    group = Group(model=Linear(), engine=Engine(blocks=200_000, max_running=2000))
    one, ten = (_serve(each, group, NO_DRAFTS) for each in (short, longer))
    ratio = ten[2].groups[0].runs / one[2].groups[0].runs
    how = f"{ten[1]:.2f} s over {one[1]:.2f} s (least of 5); {ratio:.2f} times the runs; " + (
        f"decode steps of requests x{np.sum(ten[2].decode_steps) / np.sum(one[2].decode_steps):.1f}"
    )
    yield Row("serving: time with ten times the output tokens", ten[1] / one[1], "x", 1.25, how)


if __name__ == "__main__":
    for row in measure():
        print(f"{row.what:78} {row.value:8.3f} {row.unit} budget {row.budget:g}  {row.how}", flush=True)
