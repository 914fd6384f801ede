"""Budgets of serving: 12,000 requests through the deployments of `supernode serve-sim`, and ten times the output.

A row is what the command does for its figures, without their error bars: step times of the pools from nothing, the
loop, the distributions. One row, without a budget, is the whole command: reading the trace, and the error bars, for
which the first thousand requests are served again with each constant moved. Seconds are CPU time of one process that
has imported everything.
"""

from __future__ import annotations

import gzip
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rows import Row
from supernode_cli.serving_deployment import ServedScenario, served_scenario
from supernode_cli.serving_engine import EngineFlags, engine_of, serve
from supernode_cli.serving_errors import MOST_REQUESTS, serving_errors
from supernode_dataplane.serving import (
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
ROOT = Path(__file__).resolve().parent.parent
TRACES = ROOT.parent / "shared" / "data" / "traces"
_MOONCAKE = "mooncake_conversation.jsonl.gz"
EXAMPLE = ROOT / "examples" / "serving" / "deepseek-r1-disaggregated.yaml"


@dataclass(frozen=True)
class Linear:
    """Step times of the right size for a large model on a few dies, at no cost: what is measured is the loop."""

    def decode(self, batch: int) -> tuple[float, float]:
        return 0.012 + 1e-5 * batch, 4e-8

    def prefill(self, tokens: int) -> tuple[float, float]:
        return 0.01 + tokens / 20_000, 1e-10

    def mixed(self, batch: int, tokens: int) -> tuple[float, float, float]:
        return 0.015 + 1e-5 * batch + tokens / 20_000, 4e-8, 1e-10

    def transfer(self, tokens: int) -> float:
        return 1e-6 * tokens


def measure(traces: Path = TRACES) -> Iterator[Row]:
    """Serve each load by the deployments of the command; the machine's other load is part of what is seen."""
    azure, mooncake = _loads(traces)
    example = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    for name, load in (azure, mooncake):
        for what, machine in (("1 instance", {"dies": 4}), ("8 instances", {"nodes": 2})):
            for chunk in (None, 2048):
                how = "unchunked" if chunk is None else f"chunks of {chunk}"
                yield _deployed(f"qwen3-32b TP4, {what}, {how}, {name}", _qwen(machine), load, chunk)
    yield _deployed(f"deepseek-r1 disaggregated, the example, {mooncake[0]}", example, mooncake[1], None)
    if (file := traces / _MOONCAKE).exists():
        yield _whole_command(example, file)
    group, kept = _group(8, "chunked"), Acceptance((0.7, 0.5))
    yield _row(f"the loop alone, linear step times, 8 x chunked, drafts, {mooncake[0]}", mooncake[1],
               lambda: simulate(mooncake[1], group, acceptance=kept))  # fmt: skip
    yield from _longer_outputs()


def _qwen(machine: dict[str, int]) -> dict[str, Any]:
    """Return a dense model on four dies an instance."""
    return {
        "machine": {"profile": "cloudmatrix-384", **machine},
        "model": {"name": "qwen3-32b"},
        "inference": {
            "mode": "Colocated",
            "inputTokens": 3500,
            "outputTokens": 1500,
            "load": {"concurrency": 100},
            "decode": {"parallelism": {"tensor": 4}},
            "speculation": {"drafts": 3, "tokensPerStep": 2.05},
        },
    }


def _deployed(what: str, scenario: dict[str, Any], load: Requests, chunk: int | None) -> Row:
    served = served_scenario(scenario)
    engine = engine_of(EngineFlags(chunk=chunk), served)
    return _row(what, load, lambda: serve(served, load, engine))


def _whole_command(scenario: dict[str, Any], trace: Path) -> Row:
    """Return what the example takes as the command does it: the trace read, served, and served again for errors."""
    served = served_scenario(scenario)
    engine = engine_of(EngineFlags(), served)
    loops = 0

    def serve_counted(moved: ServedScenario, requests: Requests) -> ServingResult:
        nonlocal loops
        loops += 1
        return serve(moved, requests, engine)

    times = []
    for _ in range(3):
        loops = 0
        start = time.process_time()
        requests = read_mooncake(gzip.decompress(trace.read_bytes()).splitlines()[:COUNT])
        serve_counted(served, requests).distributions()
        serving_errors(served, requests, serve_counted)
        times.append(time.process_time() - start)
    how = (
        f"CPU, median of 3, least {min(times):.2f} s: the trace read, one loop over all of it and {loops - 1} over its "
        f"first {MOST_REQUESTS} requests"
    )
    what = "the same with its error bars and reading the trace"
    return Row(f"serving {len(requests)} requests: {what}", statistics.median(times), "s", None, how)


def _loads(traces: Path) -> Iterator[tuple[str, Requests]]:
    """Yield 12,000 requests of each trace, or loads with their statistics where the files are not there."""
    for name, file, reader in (
        ("azure-conversation", "azure_conv.csv.gz", read_azure),
        ("mooncake-conversation", _MOONCAKE, read_mooncake),
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


def _timed(once: Callable[[], ServingResult], runs: int = 5) -> tuple[float, float, ServingResult]:
    """Return the median and the least CPU seconds, distributions included, and the result."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        result = once()
        result.distributions()
        times.append(time.process_time() - start)
    return statistics.median(times), min(times), result


def _row(what: str, load: Requests, once: Callable[[], ServingResult]) -> Row:
    median, least, result = _timed(once)
    if result.completed.min() <= 0 or len(result.completed) != len(load):
        raise SystemExit(f"bench: {what}: not every request was served, so this would measure nothing")
    how = (
        f"CPU, median of 5, least {least:.2f} s; {sum(group.runs for group in result.groups)} runs for "
        f"{int(result.decode_steps.sum())} steps of requests, {int(result.preemptions.sum())} preemptions"
    )
    return Row(f"serving {len(load)} requests: {what}", median, "s", 1.0, how)


def _longer_outputs() -> Iterator[Row]:
    """Compare 1x and 10x output lengths at a load that either can carry: the ratio of times, and of runs."""
    load = preset_load("azure-conversation", COUNT)
    longer = replace(load, outputs=10 * load.outputs, arrivals=10 * load.arrivals)
    short = replace(load, arrivals=10 * load.arrivals)
    # Room for all, so that neither load waits: what is compared is the length of the outputs alone.
    group = Group(model=Linear(), engine=Engine(blocks=200_000, max_running=2000))
    # In turn, so that a machine that is slower for a while is so for both.
    turns = [[_timed(lambda each=each: simulate(each, group), 1) for each in (short, longer)] for _ in range(9)]  # type: ignore[misc]
    one, ten = (min(seconds for _median, seconds, _result in column) for column in zip(*turns, strict=True))
    (_, _, first), (_, _, second) = turns[-1]
    ratio = second.groups[0].runs / first.groups[0].runs
    how = f"{ten:.2f} s over {one:.2f} s (least of 9, in turn); {ratio:.2f} times the runs; " + (
        f"decode steps of requests x{np.sum(second.decode_steps) / np.sum(first.decode_steps):.1f}"
    )
    yield Row("serving: time with ten times the output tokens", ten / one, "x", 1.25, how)


if __name__ == "__main__":
    for row in measure():
        budget = "none" if row.budget is None else f"{row.budget:g}"
        print(f"{row.what:110} {row.value:8.3f} {row.unit} budget {budget}  {row.how}", flush=True)
