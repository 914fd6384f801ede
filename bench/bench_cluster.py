"""Budgets that need a real cluster: readiness, starts, faults, memory, writes at rest."""

from __future__ import annotations

import json
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from rows import Row, resident_mebibytes
from support.objects import workload
from support.processes import spawn
from support.product import AGENT_NAMESPACE, MACHINE, NAMESPACE, Product

WORKLOAD = "llama-3-1-405b"
_WATCHED = "kubectl get --watch"
_RUNS = 3
"""Of what is measured once each: other work on the machine moves a single one by a third."""
_SETTLE_SECONDS = 10


def measure(rest_seconds: int) -> Iterator[Row]:
    """Start an instance of its own, measure, and take it down, also after a failure; watch it rest that long."""
    product = Product("bench")
    try:
        product.start(machine=False)
        time.sleep(5)  # the chart's pods have just started: let them settle
        yield from _machine(product)
        yield from _pods(product)
        yield from _fault(product)
        yield from _change(product)
        yield from _memory(product)
        yield _rest(product, rest_seconds)
    finally:
        product.stop()


def _machine(product: Product) -> Iterator[Row]:
    devices = "{.status.allocatable.huawei\\.com/Ascend910} {.status.allocatable.supernode\\.io/bus-link}"
    wanted = ("NodesReady", "DevicesReady", "Ready")
    conditions = " ".join(f'{{.status.conditions[?(@.type=="{name}")].status}}' for name in wanted)
    allocatable, ready = [], []
    for run in range(_RUNS):
        if run:
            product.kubectl("delete", "supernode", MACHINE, "--timeout=120s")
            product.wait(lambda: not product.get("pods", "-n", AGENT_NAMESPACE)["items"], "the agent to go", 90)
            time.sleep(_SETTLE_SECONDS)
        with _Watched(product, "nodes", devices) as nodes, _Watched(product, "supernodes", conditions) as machines:
            start = time.monotonic()
            product.kubectl("apply", "-f", "examples/supernode-384.yaml")
            nodes.until(lambda line: line == "768 5376")
            machines.until(lambda line: line.startswith("True True"))
            allocatable.append(time.monotonic() - start)
            machines.until(lambda line: line == "True True True")
            ready.append(time.monotonic() - start)
    yield _median("SuperNode applied -> NodesReady, DevicesReady, 768 dies allocatable", allocatable, 5)
    yield _median("SuperNode applied -> Ready with 16 cabinet pods", ready, 30)


def _pods(product: Product) -> Iterator[Row]:
    running, rated = [], []
    for run in range(_RUNS):
        if run:
            _clear(product)
        pods = _Watched(product, "pods", f"-l=supernode.io/workload={WORKLOAD}", "{.metadata.name} {.status.phase}")
        rates = _Watched(
            product, "snw", f"--field-selector=metadata.name={WORKLOAD}", "{.status.performance.tokensPerSecond}"
        )
        with pods, rates:
            start = time.monotonic()
            product.kubectl("apply", "-f", "examples/llama-3.1-405b-training.yaml")
            _all_run(pods)
            running.append(time.monotonic() - start)
            rates.until(lambda line: float(line or 0) > 0)
            rated.append(time.monotonic() - start)
    yield _median("48 pods of 16 dies and 112 links applied -> all Running", running, 15)
    yield _median("the same -> tokens per second in status", rated, 17)


def _clear(product: Product) -> None:
    """Delete the workload and wait until its pods have gone: taking 48 down is as much work as starting them."""
    product.kubectl("delete", "snw", WORKLOAD)
    product.wait(lambda: not product.get("pods", "-n", "default")["items"], "the pods to go", 120)
    product.wait(lambda: not product.holders(), "the dies to be free", 90)
    time.sleep(_SETTLE_SECONDS)


def _all_run(pods: _Watched) -> None:
    found: set[str] = set()

    def all_run(line: str) -> bool:
        if line.endswith(" Running"):
            found.add(line)
        return len(found) == 48

    pods.until(all_run)


def _median(what: str, seconds: list[float], budget: float) -> Row:
    each = ", ".join(f"{one:.1f}" for one in sorted(seconds))
    return Row(what, statistics.median(seconds), "s", budget, f"{_WATCHED}; median of {each}")


class _Watched:
    """What ``kubectl get --watch`` prints: looking ten times a second would take a fifth of what is measured."""

    def __init__(self, product: Product, *arguments: str) -> None:
        *which, path = arguments
        argv = ["kubectl", "get", *which, "--watch", "-o", f'jsonpath={path}{{"\\n"}}']
        self._process = spawn(argv, env=product.environment, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def until(self, done: Callable[[str], object], seconds: float = 120) -> None:
        """Read lines until one is the last that is wanted; TimeoutError when it does not come."""
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            for line in self._process.stdout or ():
                if done(line.rstrip()):
                    return
        finally:
            timer.cancel()
        raise TimeoutError(f"kubectl get --watch did not show it in {seconds:.0f} s")


def _fault(product: Product) -> Iterator[Row]:
    times = []
    for number in range(5):
        fault = json.dumps({"spec": {"faults": [{"name": "bench", "die": number}]}})
        product.kubectl("patch", "cn", f"{MACHINE}-05", "--type=merge", "-p", fault)
        times.append(product.wait(lambda: product.allocatable()[0] == 767, "the die to leave", 20))
        product.clear_faults()
        product.wait(lambda: product.allocatable()[0] == 768, "the die to return", 20)
    yield Row("fault applied -> allocatable changed on the node", sorted(times)[2], "s", 2, "median of 5, kubectl")


def _change(product: Product) -> Iterator[Row]:
    _clear(product)
    product.apply(workload("bench", 2))
    product.wait(lambda: product.rate("bench") > 0, "a rate", 60)
    rates = _Watched(product, "snw", "--field-selector=metadata.name=bench", "{.status.performance.tokensPerSecond}")
    times = []
    with rates:
        for _ in range(_RUNS):
            rates.until(lambda line: float(line or 0) > 0)
            pods = product.get("pods", "-l", "supernode.io/workload=bench")["items"]
            start = time.monotonic()
            product.kubectl("delete", "pod", pods[0]["metadata"]["name"], "--wait=false")
            rates.until(lambda line: float(line or 0) == 0)
            times.append(time.monotonic() - start)
        rates.until(lambda line: float(line or 0) > 0)
    row = _median("workload change seen by the API server -> performance in status", times, 2)
    yield replace(row, how=f"{row.how}; a rank's pod deleted, kubectl's own time included")


def _memory(product: Product) -> Iterator[Row]:
    limits = {
        "supernode_operator": ("operator RSS at 1 SuperNode", 160.0),
        "supernode_deviceplugin": ("node agent RSS, 768 dies and 5,376 links", 60.0),
        "supernode_cabinet": ("cabinet RSS", 80.0),
    }
    found = _resident_mebibytes(tuple(limits))
    for module, (what, budget) in limits.items():
        yield Row(what, max(found[module]), "MiB", budget, f"largest of {len(found[module])}, VmRSS")


def _resident_mebibytes(modules: tuple[str, ...]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {module: [] for module in modules}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        module = command[command.index("-m") + 1] if "-m" in command[:-1] else ""
        if module in found and (size := resident_mebibytes(folder)):
            found[module].append(size)
    return found


def _rest(product: Product, seconds: int) -> Row:
    time.sleep(10)
    before = len(product.writes())
    time.sleep(seconds)
    written = len(product.writes()) - before
    how = f"audit log over {seconds} s, {NAMESPACE} and {AGENT_NAMESPACE}, a workload running"
    return Row("API writes at rest, leases apart", written, "", 0, how)
