"""Budgets that need a real cluster: readiness, starts, faults, memory, writes at rest."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

from rows import Row
from support.objects import workload
from support.product import AGENT_NAMESPACE, MACHINE, NAMESPACE, Product

WORKLOAD = "llama-3-1-405b"


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
    start = time.monotonic()
    product.kubectl("apply", "-f", "examples/supernode-384.yaml")

    def devices() -> bool:
        machine = product.machine()
        types = ("NodesReady", "DevicesReady")
        return all(product.condition(machine, t)["status"] == "True" for t in types)

    product.wait(lambda: devices() and product.allocatable() == (768, 5376), "devices", 120)
    yield Row(
        "SuperNode applied -> NodesReady, DevicesReady, 768 dies allocatable",
        time.monotonic() - start,
        "s",
        5,
        "kubectl",
    )
    product.wait_machine_ready(120)
    yield Row("SuperNode applied -> Ready with 16 cabinet pods", time.monotonic() - start, "s", 30, "kubectl")


def _pods(product: Product) -> Iterator[Row]:
    start = time.monotonic()
    product.kubectl("apply", "-f", "examples/llama-3.1-405b-training.yaml")

    def running() -> bool:
        pods = product.get("pods", "-l", f"supernode.io/workload={WORKLOAD}")["items"]
        return [p["status"]["phase"] for p in pods] == ["Running"] * 48

    product.wait(running, "48 pods", 120)
    yield Row("48 pods of 16 dies and 112 links applied -> all Running", time.monotonic() - start, "s", 15, "kubectl")
    product.wait(lambda: product.rate(WORKLOAD) > 0, "a rate", 60)
    yield Row("the same -> tokens per second in status", time.monotonic() - start, "s", 17, "kubectl")


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
    product.kubectl("delete", "snw", WORKLOAD)
    product.wait(lambda: not product.holders(), "the dies to be free", 90)
    product.apply(workload("bench", 2))
    product.wait(lambda: product.rate("bench") > 0, "a rate", 60)
    pods = product.get("pods", "-l", "supernode.io/workload=bench")["items"]
    product.kubectl("delete", "pod", pods[0]["metadata"]["name"], "--wait=false")
    took = product.wait(lambda: product.rate("bench") == 0, "the rate to be 0", 20)
    yield Row("workload change seen by the API server -> performance in status", took, "s", 2, "a rank's pod deleted")
    product.wait(lambda: product.rate("bench") > 0, "a rate", 60)


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
            status = (folder / "status").read_text(encoding="utf-8")
        except OSError:
            continue
        module = command[command.index("-m") + 1] if "-m" in command[:-1] else ""
        resident = re.search(r"VmRSS:\s+(\d+) kB", status)
        if module in found and resident:
            found[module].append(int(resident[1]) / 1024)
    return found


def _rest(product: Product, seconds: int) -> Row:
    time.sleep(10)
    before = len(product.writes())
    time.sleep(seconds)
    written = len(product.writes()) - before
    how = f"audit log over {seconds} s, {NAMESPACE} and {AGENT_NAMESPACE}, a workload running"
    return Row("API writes at rest, leases apart", written, "", 0, how)
