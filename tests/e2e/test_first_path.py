"""The path of the demo: one apply, a whole supernode, 48 pods, tokens per second; the same figures everywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from support.product import MACHINE, NAMESPACE, Product

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
WORKLOAD = "llama-3-1-405b"


@pytest.fixture(scope="module")
def training(installed: Product) -> Iterator[Product]:
    """The demo's workload, running; started once, because 48 pods take their time."""
    installed.wait_machine_ready()
    installed.kubectl("apply", "-f", "examples/llama-3.1-405b-training.yaml")
    installed.wait(lambda: installed.rate(WORKLOAD) > 0, "48 pods to train", 300)
    yield installed
    installed.clean()


def test_one_apply_gives_a_whole_machine(installed: Product) -> None:
    product = installed
    machine = product.machine()
    assert product.allocatable() == (768, 5376)
    assert len(product.get("computenodes")["items"]) == 48
    pods = product.get("pods", "-n", NAMESPACE, "-l", f"supernode.io/supernode={MACHINE}")["items"]
    names = {pod["metadata"]["name"] for pod in pods}
    assert names == {f"{MACHINE}-compute-{i}" for i in range(12)} | {f"{MACHINE}-bus-{i}" for i in range(4)}
    capacity = machine["status"]["capacity"]
    assert (capacity["dies"], capacity["busLinks"], capacity["packages"]) == (768, 5376, 384)
    assert machine["status"]["observedGeneration"] == machine["metadata"]["generation"]


def test_48_pods_land_on_48_whole_servers_and_train(training: Product) -> None:
    status = training.workload(WORKLOAD)["status"]
    assert status["placement"]["nodes"] == 48
    assert status["placement"]["dies"] == 768
    assert status["placement"]["cabinets"] == 12
    servers = [[part["server"] for part in rank["parts"]] for rank in status["placement"]["ranks"]]
    assert sorted(server for parts in servers for server in parts) == list(range(48))
    assert all(part["dies"] == "0-15" for rank in status["placement"]["ranks"] for part in rank["parts"])
    per_card = float(status["performance"]["tokensPerSecondPerCard"])
    assert 132 * 0.85 <= per_card <= 132 * 1.15
    assert len(training.holders()) == 768


@dataclass
class Surfaces:
    """What each surface shows, and of which inputs."""

    status: dict[str, Any]
    page: dict[str, Any]
    cli: dict[str, Any]
    metrics: list[str]
    digests: set[str]


def read_surfaces(product: Product) -> Surfaces:
    status = product.workload(WORKLOAD)["status"]
    page = json.loads(product.cabinet(f"/v1/workloads/default/{WORKLOAD}"))
    cli = json.loads(product.supernode("get", "-o", "json"))
    metrics = [product.cabinet_pod(f"{MACHINE}-compute-{cabinet}", "/metrics") for cabinet in range(12)]
    digests = {re.findall(r'digest="(\w+)"', text)[0] for text in metrics}
    models = (status["model"], product.machine()["status"]["model"], cli["model"])
    return Surfaces(status, page, cli, metrics, digests | {page["digest"], *(model["digest"] for model in models)})


def test_status_metrics_pods_and_cli_show_the_same_figures_at_the_same_digest(training: Product) -> None:
    # Each is read at a moment of its own: until one reading finds all at the same inputs, nothing is compared.
    found: Surfaces | None = None

    def agree() -> bool:
        nonlocal found
        found = read_surfaces(training)
        return len(found.digests) == 1

    training.wait(agree, "all surfaces to see the same inputs", 60)
    assert found is not None
    performance = found.status["performance"]
    assert found.page["tokensPerSecond"] == performance["tokensPerSecond"]
    figures = found.cli["workloads"][0]["figures"]
    for name in ("tokensPerSecond", "tokensPerSecondPerCard", "mfu", "stepTimeSeconds", "powerKilowatts"):
        assert figures[name]["value"] == performance[name]
    rate = sum(
        float(line.rsplit(" ", 1)[1])
        for text in found.metrics
        for line in text.splitlines()
        if line.startswith("supernode_die_tokens_per_second{")
    )
    assert rate == pytest.approx(float(performance["tokensPerSecond"]), rel=1e-3)


def test_managed_pods_log_as_a_training_run_does(training: Product) -> None:
    pods = training.get("pods", "-n", "default", "-l", f"supernode.io/workload={WORKLOAD}")["items"]
    assert len(pods) == 48
    first = next(p for p in pods if p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "0")
    name = first["metadata"]["name"]

    def logged() -> bool:
        text = training.kubectl("logs", name)
        return "Ascend910-" in text and "rank 0" in text.replace("=", " ") and "tokens/s" in text

    training.wait(logged, "rank 0 to print its devices and progress", 30)


def test_a_deleted_rank_stops_the_run_until_it_is_back(training: Product) -> None:
    before = training.rate(WORKLOAD)
    pods = training.get("pods", "-n", "default", "-l", f"supernode.io/workload={WORKLOAD}")["items"]
    victim = next(
        p["metadata"]["name"]
        for p in pods
        if p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "7"
    )
    training.kubectl("delete", "pod", victim, "--wait=false")
    training.wait(lambda: training.rate(WORKLOAD) == 0, "the rate to be 0 while rank 7 is away", 30)
    training.wait(lambda: training.rate(WORKLOAD) == before, "the rate to be as before", 180)
    placement = training.workload(WORKLOAD)["status"]["placement"]
    rank = next(r for r in placement["ranks"] if r["rank"] == 7)
    assert rank["pod"] != victim
    assert len(training.holders()) == 768


def test_a_broken_die_leaves_allocatable_and_returns_and_no_pod_is_disturbed(training: Product) -> None:
    before = {p["metadata"]["uid"] for p in training.get("pods", "-n", "default")["items"]}
    fault = json.dumps({"spec": {"faults": [{"name": "t", "die": 3, "level": "SeparateNPU", "code": "80E18402"}]}})
    training.kubectl("patch", "cn", f"{MACHINE}-05", "--type=merge", "-p", fault)
    training.wait(lambda: training.allocatable()[0] == 767, "the die to leave allocatable", 30)
    training.wait(
        lambda: training.condition(training.machine(), "Degraded")["status"] == "True", "Degraded with a reason", 10
    )
    degraded = training.condition(training.machine(), "Degraded")
    assert degraded["reason"] == "FaultsInForce"
    assert f"{MACHINE}-05" in degraded["message"]
    pods = training.get("pods", "-n", "default")["items"]
    assert {p["metadata"]["uid"] for p in pods} == before
    assert {p["status"]["phase"] for p in pods} == {"Running"}
    training.clear_faults()
    training.wait(lambda: training.allocatable() == (768, 5376), "everything to return", 30)
    training.wait(
        lambda: training.condition(training.machine(), "Degraded")["status"] == "False", "Degraded to clear", 10
    )


def test_cordoning_changes_nothing(training: Product) -> None:
    before = training.rate(WORKLOAD)
    training.kubectl("cordon", training.node())
    try:
        with pytest.raises(AssertionError, match="not within"):
            training.wait(lambda: training.rate(WORKLOAD) != before, "a change", 4)
    finally:
        training.kubectl("uncordon", training.node())
