"""Every figure of a status is the same wherever it is shown: status, `/metrics`, OTLP and `supernode get -o json`.

One machine of training and of inference in every mode, with faults, is solved by each surface's own code from the
same API objects. The tables here say for each figure of the status of a SuperNode and of its workloads which metric
shows it, or why none does; a figure that is in neither table fails the test.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from pydantic.alias_generators import to_camel

from cabinet.collector import histograms, messages, points
from cabinet.machines import deployed, nodes, settings, super_node, workload
from supernode_api.names import API_VERSION, PLURALS
from supernode_api.supernode import MachinePerformance
from supernode_api.workload import WorkloadPerformance
from supernode_cabinet.board import Board
from supernode_cabinet.engine import build_snapshot
from supernode_cabinet.health import HealthMetrics
from supernode_cabinet.otlp_layout import Layout
from supernode_cabinet.web import answer
from supernode_cli.main import cli
from supernode_dataplane.figures import decimal, machine_performance
from supernode_operator.domain.progressing import ProgressPlan
from supernode_operator.domain.workload_status import WorkloadView, build_workload_status
from supernode_operator.reconcilers.solver import Solver
from support.apiserver import ApiServer
from support.applying import apply
from support.deployments import QWEN_COLOCATED, R1_DECODE, R1_DISAGGREGATED, R1_PREFILL
from support.machines import SMALL

SECOND: Final = 1_000_000_000


@dataclass(frozen=True)
class Metric:
    """What shows a figure, and what it is multiplied with to be in that metric's unit."""

    prometheus: str
    otel: str
    factor: float = 1.0


MACHINE: Final = {
    "busBandwidthTerabytesPerSecond": Metric(
        "supernode_machine_bus_bandwidth_bytes_per_second", "supernode.machine.bus.bandwidth", 1e12
    ),
    "powerKilowatts": Metric("supernode_machine_power_watts", "supernode.machine.power", 1e3),
    "tokensPerSecond": Metric("supernode_machine_tokens_per_second", "supernode.machine.token.rate"),
}
_OF_THE_PROFILE: Final = "a constant of the profile, whose name supernode_model_info carries; nothing can change it"
MACHINE_WITHOUT: Final = {
    "ratedPetaflops": _OF_THE_PROFILE,
    "bf16Petaflops": _OF_THE_PROFILE,
    "hbmTebibytes": f"{_OF_THE_PROFILE}; the dies' own capacities are supernode_die_hbm_capacity_bytes",
    "hbmBandwidthTerabytesPerSecond": _OF_THE_PROFILE,
}
WORKLOAD: Final = {
    "tokensPerSecond": Metric("supernode_workload_tokens_per_second", "supernode.workload.token.rate"),
    "tokensPerSecondPerCard": Metric(
        "supernode_workload_tokens_per_second_per_card", "supernode.workload.token.rate_per_card"
    ),
    "mfu": Metric("supernode_workload_mfu_ratio", "supernode.workload.mfu"),
    "stepTimeSeconds": Metric("supernode_workload_step_time_seconds", "supernode.workload.step.duration"),
    "ttftSeconds": Metric("supernode_workload_time_to_first_token_seconds", "supernode.workload.time_to_first_token"),
    "tpotSeconds": Metric(
        "supernode_workload_time_per_output_token_seconds", "supernode.workload.time_per_output_token"
    ),
    "promptTokensPerSecond": Metric(
        "supernode_workload_prompt_tokens_per_second", "supernode.workload.prompt_token.rate"
    ),
    "hbmGibibytesPerDie": Metric("supernode_workload_hbm_bytes_per_die", "supernode.workload.hbm.usage", 2.0**30),
    "linkUtilisationPercent": Metric(
        "supernode_workload_link_utilisation_ratio", "supernode.workload.link.utilization", 0.01
    ),
    "powerKilowatts": Metric("supernode_workload_power_watts", "supernode.workload.power", 1e3),
}
WORKLOAD_WITHOUT: Final = {
    "bound": "a word, not a number",
    "expectedErrorPercent": "says how far to trust the model, not what the machine does; it follows from the spec",
    "recomputePercent": "follows from spec and placement, is the same as long as the workload runs",
}
HISTOGRAM: Final = {
    "ttftSeconds": "gen_ai.server.time_to_first_token",
    "tpotSeconds": "gen_ai.server.time_per_output_token",
}
NOT_IN_CLI: Final = {
    "machine": {"tokensPerSecond"},  # workloads are listed one by one, no sum
    "Training": set(),
    "Decode": {"ttftSeconds", "promptTokensPerSecond"},  # no prompts are read
    "Prefill": {"tpotSeconds", "promptTokensPerSecond"},  # nothing is generated; the rate is that of prompts
    "Colocated": set(),
    "Disaggregated": set(),
}

TRAINING: Final = "default/llama"
MODES: Final = {
    "default/decode": "Decode",
    "default/prefill": "Prefill",
    "default/chat": "Colocated",
    "default/apart": "Disaggregated",
    TRAINING: "Training",
}


@dataclass(frozen=True)
class Shown:
    """What one surface shows: figures by name of the machine and of each workload, and the digest."""

    digest: str
    machine: Mapping[str, Any]
    workloads: Mapping[str, Mapping[str, Any]]


@cache
def objects() -> dict[str, list[dict[str, Any]]]:
    """API objects: a machine of 48 servers, broken in some places, and five workloads on 45 of them."""
    small = workload(4, first=41)
    small["spec"] |= {"model": SMALL["model"], "training": SMALL["training"]}
    jobs = [
        deployed(R1_DECODE, 20, name="decode"),
        deployed(R1_PREFILL, 4, name="prefill", first=20),
        deployed(QWEN_COLOCATED, 3, name="chat", first=24),
        deployed(R1_DISAGGREGATED, 14, name="apart", first=27),
        small,
    ]
    faults = {
        2: [{"name": "u", "uplink": {"plane": 1, "port": 4}}],
        30: [{"name": "p", "diePort": {"die": 5, "plane": 2}}],
        46: [{"name": "l", "l1": {"plane": 6}}],
        47: [{"name": "d", "die": 3}],
    }
    return {"SuperNode": [super_node()], "ComputeNode": nodes(faults), "SuperNodeWorkload": jobs}


@cache
def in_status() -> Shown:
    """As the operator writes it."""
    return status_of(objects())


def status_of(found: Mapping[str, list[dict[str, Any]]]) -> Shown:
    (machine,) = found["SuperNode"]
    state = Solver().solve(machine, found["ComputeNode"], found["SuperNodeWorkload"])
    stamp = {"digest": state.digest, "version": state.version}
    performance = {}
    for job in found["SuperNodeWorkload"]:
        key = f"{job['metadata']['namespace']}/{job['metadata']['name']}"
        view = WorkloadView(
            raw=job, rejection=None, suspended=False, pods=[], contested=[], expected_ranks=0,
            placement={"dies": 0, "nodes": 0, **job["status"]["placement"]},
            result=state.workload(key), stamp=stamp, progress=ProgressPlan(None),
        )  # fmt: skip
        performance[key] = build_workload_status(view, "2026-11-21T04:00:00Z")["performance"]
    return Shown(state.digest, machine_performance(state), performance)


@cache
def published() -> tuple[str, list[Any]]:
    """The page of the first cabinet, and what it exports, 100 s after it began."""
    now = [0]
    board = Board(clock=lambda: now[0])
    found = objects()
    jobs = {f"{job['metadata']['namespace']}/{job['metadata']['name']}": job for job in found["SuperNodeWorkload"]}
    seen = build_snapshot(settings("compute"), found["SuperNode"][0], found["ComputeNode"], jobs, None)
    board.publish(seen)
    layout = Layout({}, seen, 1, 0, board.served)
    now[0] = 100 * SECOND
    text = answer(board, HealthMetrics(), "/metrics", "", 0)[2]
    requests = layout.requests(1 + now[0], now[0])
    return text, [messages.ExportMetricsServiceRequest.FromString(raw) for raw in requests]


def _shown(name: str, samples: Sequence[tuple[Mapping[str, Any], float]], metric: Metric, labels: list[str]) -> Any:
    """Return a figure by workload, or of the machine, in the unit of the status."""
    values = {"/".join(str(place[label]) for label in labels): value / metric.factor for place, value in samples}
    assert len(values) == len(samples), name
    return {key: decimal(value) for key, value in values.items()}


@cache
def in_prometheus() -> Shown:
    """As Prometheus reads it."""
    samples: dict[str, list[tuple[Mapping[str, Any], float]]] = {}
    for family in text_string_to_metric_families("".join(_totals(published()[0]))):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    ((stamp, _),) = samples["supernode_model_info"]
    machine = {key: _shown(key, samples[m.prometheus], m, [])[""] for key, m in MACHINE.items()}
    figures = {key: _shown(key, samples[m.prometheus], m, ["namespace", "workload"]) for key, m in WORKLOAD.items()}
    return Shown(stamp["digest"], machine, _by_workload(figures))


def _totals(page: str) -> Iterator[str]:
    """Leave what is there once per machine: the parser takes its time."""
    stems = ("supernode_workload_", "supernode_machine_", "supernode_model_")
    return (line for line in page.splitlines(keepends=True) if line.removeprefix("# HELP ").startswith(stems))


@cache
def in_otlp() -> Shown:
    """As a collector gets it."""
    requests = published()[1]

    def every(name: str) -> list[tuple[dict[str, Any], float]]:
        return [point for request in requests for point in points(request, name)]

    ((stamp, _),) = every("supernode.model.info")
    machine = {key: _shown(key, every(m.otel), m, [])[""] for key, m in MACHINE.items()}
    labels = ["k8s.namespace.name", "supernode.workload"]
    figures = {key: _shown(key, every(m.otel), m, labels) for key, m in WORKLOAD.items()}
    return Shown(stamp["supernode.model.digest"], machine, _by_workload(figures))


def _by_workload(figures: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    return {key: {figure: values[key] for figure, values in figures.items()} for key in MODES}


@pytest.fixture(scope="module")
def taken(api_server: ApiServer) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """The same objects as a real API server has taken them: with uids, versions and defaults."""
    for item in itertools.chain(*objects().values()):
        apply(api_server, item)
    yield {kind: api_server.request("GET", f"/apis/{API_VERSION}/{PLURALS[kind]}")[1]["items"] for kind in objects()}
    api_server.remove_objects()


@pytest.fixture(scope="module")
def in_cli(api_server: ApiServer, taken: object) -> Shown:
    """As `supernode get -o json` says it of that API server."""
    result = CliRunner().invoke(cli, ["get", "-o", "json", "--kubeconfig", str(api_server.kubeconfig)])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    return Shown(document["model"]["digest"], _values(document["machine"]), _workloads(document))


def _values(entry: Mapping[str, Any]) -> dict[str, str]:
    return {name: figure["value"] for name, figure in entry["figures"].items()}


def _workloads(document: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {entry["key"]: _values(entry) for entry in document["workloads"]}


def test_every_figure_of_a_status_has_a_metric_or_a_reason_why_not() -> None:
    for model, shown, without in (
        (MachinePerformance, MACHINE, MACHINE_WITHOUT),
        (WorkloadPerformance, WORKLOAD, WORKLOAD_WITHOUT),
    ):
        names = {to_camel(name) for name in model.model_fields}
        assert not set(shown) & set(without)
        assert names == set(shown) | set(without)
    status = in_status()
    MachinePerformance.model_validate(status.machine)
    for figures in status.workloads.values():
        WorkloadPerformance.model_validate(figures)


def test_the_machine_is_one_in_which_figures_differ() -> None:
    status = in_status()
    assert set(status.workloads) == set(MODES)
    for key, figures in status.workloads.items():
        assert float(figures["tokensPerSecond"]) > 0, key
    assert float(status.machine["busBandwidthTerabytesPerSecond"]) < 150.5, "faults take bandwidth"
    for name in WORKLOAD:
        assert len({figures.get(name) for figures in status.workloads.values()}) >= 3, name


def test_all_surfaces_have_the_digest_of_the_same_inputs() -> None:
    assert in_status().digest == in_prometheus().digest == in_otlp().digest


def test_the_cli_has_the_digest_and_the_figures_of_what_the_operator_reads(
    taken: dict[str, list[dict[str, Any]]], in_cli: Shown
) -> None:
    read = status_of(taken)
    assert read.digest == in_cli.digest
    assert (read.machine, read.workloads) == (in_status().machine, in_status().workloads), "defaults change no figure"


@pytest.mark.parametrize("surface", [in_prometheus, in_otlp])
def test_metrics_show_the_figures_of_the_statuses(surface: Any) -> None:
    status, shown = in_status(), surface()
    assert shown.machine == {name: status.machine[name] for name in MACHINE}
    for key, figures in status.workloads.items():
        # A training run has no latency of requests; its gauges are there and read 0.
        assert shown.workloads[key] == {name: figures.get(name, "0") for name in WORKLOAD}, key


def test_the_cli_shows_the_figures_of_the_statuses(in_cli: Shown) -> None:
    status = in_status()
    without = NOT_IN_CLI["machine"]
    assert in_cli.machine == {name: value for name, value in status.machine.items() if name not in without}
    assert set(in_cli.workloads) == set(MODES)
    for key, figures in status.workloads.items():
        missing = {"recomputePercent"} if MODES[key] != "Training" else set()
        expected = {n: v for n, v in figures.items() if n not in NOT_IN_CLI[MODES[key]] | missing}
        # What the CLI adds to a status: a comparison with another machine.
        assert {n: v for n, v in in_cli.workloads[key].items() if n != "ratioToTraditional"} == expected, key


def test_histograms_have_the_means_of_the_statuses() -> None:
    status, found = in_status(), 0
    for request in published()[1]:
        for name, otel in HISTOGRAM.items():
            for place, point in histograms(request, otel):
                key = f"{place['k8s.namespace.name']}/{place['supernode.workload']}"
                assert point.count > 0
                assert decimal(point.sum / point.count) == status.workloads[key][name]
                found += 1
    assert found == 6, "three modes of four have each"


def test_rates_of_servers_add_up_to_those_of_the_status() -> None:
    status, total = in_status(), 0.0
    found = objects()
    jobs = {f"{job['metadata']['namespace']}/{job['metadata']['name']}": job for job in found["SuperNodeWorkload"]}
    seen = build_snapshot(settings("all", per_pod=16), super_node(detail="Node"), found["ComputeNode"], jobs, None)
    rates: dict[str, float] = {}
    for raw in Layout({}, seen, 1, 0).requests(2, 0):
        request = messages.ExportMetricsServiceRequest.FromString(raw)
        for place, value in points(request, "supernode.server.token.rate"):
            total += value
            owner = next((key for key, job in jobs.items() if place["supernode.server"] in _servers(job)), "")
            rates[owner] = rates.get(owner, 0.0) + value
    assert decimal(total) == status.machine["tokensPerSecond"]
    assert {key: decimal(rate) for key, rate in rates.items() if key} == {
        key: figures["tokensPerSecond"] for key, figures in status.workloads.items()
    }


def _servers(job: Mapping[str, Any]) -> set[int]:
    return {part["server"] for rank in job["status"]["placement"]["ranks"] for part in rank["parts"]}
