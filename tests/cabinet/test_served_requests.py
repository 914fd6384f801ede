"""Requests that workloads have served, as histograms on both surfaces: counts, buckets, sums, beginnings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from cabinet.collector import collector, histograms, messages, metrics
from cabinet.machines import NAME, deployed, eventually, snapshot, workload
from supernode_api.otlp import read_otlp_config
from supernode_cabinet.board import Board
from supernode_cabinet.health import HealthMetrics
from supernode_cabinet.histograms import HISTOGRAMS
from supernode_cabinet.otlp import Telemetry
from supernode_cabinet.otlp_layout import Layout
from supernode_cabinet.served import Histogram, Served
from supernode_cabinet.snapshot import Snapshot
from supernode_cabinet.web import answer
from supernode_dataplane.state import WorkloadResult
from support.deployments import MODES

START, SECOND = 1_795_233_600_000_000_000, 1_000_000_000
FIRST, EACH, WHOLE = "time_to_first_token", "time_per_output_token", "request.duration"


def follow(*snapshots: tuple[int, Snapshot | None]) -> Served:
    """Show snapshots one after the other, each at so many seconds."""
    made = Served(START, 0)
    for seconds, seen in snapshots:
        made.follow(seen, seconds * SECOND)
    return made


def read(served: Served, seconds: float, workload: str = "chat") -> dict[str, Histogram]:
    found = [one for one in served.read(int(seconds * SECOND)) if f'workload="{workload}"' in one.labels]
    return {one.row.otel.removeprefix("gen_ai.server."): one for one in found}


def result_of(seen: Snapshot, name: str = "chat") -> WorkloadResult:
    found = seen.state.workload(f"default/{name}")
    assert found is not None
    assert found.tokens_per_second > 0, found
    return found


def populated(histogram: Histogram) -> dict[float, int]:
    """Requests by upper bound, where there are any."""
    bounds = (*histogram.row.bounds, float("inf"))
    return {bound: count for bound, count in zip(bounds, histogram.counts, strict=True) if count}


def series(text: str, name: str) -> dict[str, float]:
    """Samples of a family by the rest of their name and their bound."""
    (family,) = [family for family in text_string_to_metric_families(text) if family.name == name]
    return {s.name.removeprefix(name) + s.labels.get("le", ""): s.value for s in family.samples}


def test_names_and_buckets_are_those_of_the_semantic_conventions() -> None:
    # https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai/gen-ai-metrics.md
    assert {row.otel: row.bounds for row in HISTOGRAMS} == {
        "gen_ai.server.time_to_first_token": (
            *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
        ),
        "gen_ai.server.time_per_output_token": (
            *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
        ),
        "gen_ai.server.request.duration": tuple(0.01 * 2**n for n in range(14)),
    }


def test_requests_are_the_modelled_rate_times_time_in_the_bucket_of_the_mean() -> None:
    seen = snapshot(workloads=[deployed()])
    result = result_of(seen)
    served = follow((0, seen))
    found = read(served, 600)
    requests = int(600 * result.tokens_per_second / 1500)
    assert requests > 100
    seconds = {FIRST: result.ttft_seconds, EACH: result.tpot_seconds}
    seconds[WHOLE] = result.ttft_seconds + 1499 * result.tpot_seconds
    for name, mean in seconds.items():
        ((bound, count),) = populated(found[name]).items()
        below = max((one for one in found[name].row.bounds if one < bound), default=0.0)
        assert below < mean <= bound, name
        assert count == found[name].count == requests
        assert found[name].sum_seconds == pytest.approx(requests * mean, rel=1e-12)
        assert found[name].start_nanoseconds == START


def test_a_time_on_a_bound_is_in_the_bucket_below_it() -> None:
    seen = snapshot(workloads=[deployed()])
    result = replace(result_of(seen), tpot_seconds=0.05)
    edge = replace(seen, state=replace(seen.state, workloads=(result,)))
    assert list(populated(read(follow((0, edge)), 100)[EACH])) == [0.05]


def test_counts_do_not_depend_on_who_reads_them_how_often() -> None:
    seen = snapshot(workloads=[deployed()])
    often, once = follow((0, seen)), follow((0, seen))
    before = dict.fromkeys((FIRST, EACH, WHOLE), 0)
    for tenth in range(1, 300):
        now = {name: one.count for name, one in read(often, tenth / 10).items()}
        assert all(now[name] >= before[name] for name in before)
        before = now
    assert [(one.counts, one.sum_seconds) for one in often.read(30 * SECOND)] == [
        (one.counts, one.sum_seconds) for one in once.read(30 * SECOND)
    ]


def test_changes_cost_no_part_of_a_request() -> None:
    calm = snapshot(workloads=[deployed(load__concurrency=3)])
    result = result_of(calm)
    assert result.tokens_per_second < 1500, "less than a request a second"
    changed = replace(calm, state=replace(calm.state, workloads=(replace(result, link_utilisation=0.5),)))
    once, often = follow((0, calm)), follow(*((second, (calm, changed)[second % 2]) for second in range(1000)))
    assert read(often, 1000)[EACH].count == read(once, 1000)[EACH].count > 50
    assert read(often, 1000)[EACH].sum_seconds == pytest.approx(read(once, 1000)[EACH].sum_seconds, rel=1e-9)


def test_another_time_fills_another_bucket_and_keeps_what_was_counted() -> None:
    fast, slow = snapshot(workloads=[deployed(load__concurrency=40)]), snapshot(workloads=[deployed()])
    assert result_of(slow).tpot_seconds > result_of(fast).tpot_seconds
    served = follow((0, fast), (100, slow))
    before, after = read(served, 100)[EACH], read(served, 250)[EACH]
    both = populated(after)
    assert len(both) == 2
    assert populated(before).items() <= both.items()
    expected = {
        100 * result_of(fast).tokens_per_second / 1500: result_of(fast).tpot_seconds,
        150 * result_of(slow).tokens_per_second / 1500: result_of(slow).tpot_seconds,
    }
    assert after.count == pytest.approx(sum(expected), abs=1)
    assert after.sum_seconds == pytest.approx(sum(count * seconds for count, seconds in expected.items()), rel=1e-2)


def test_a_workload_that_waits_keeps_its_counts() -> None:
    job = deployed()
    seen = snapshot(workloads=[job])
    waits = deployed()
    for rank in waits["status"]["placement"]["ranks"]:
        rank["running"] = False
    served = follow((0, seen), (100, snapshot(workloads=[waits])))
    assert read(served, 1000)[EACH].counts == read(served, 100)[EACH].counts
    assert read(served, 100)[EACH].count > 0
    served.follow(seen, 1000 * SECOND)
    assert read(served, 1100)[EACH].count == pytest.approx(2 * read(served, 1000)[EACH].count, abs=1)
    assert read(served, 1100)[EACH].start_nanoseconds == START


def test_one_that_is_gone_is_forgotten_and_begins_anew() -> None:
    seen, other = snapshot(workloads=[deployed()]), snapshot(workloads=[])
    served = follow((0, seen), (100, other))
    assert served.read(200 * SECOND) == []
    served.follow(seen, 300 * SECOND)
    assert read(served, 300)[EACH].count == 0
    assert read(served, 300)[EACH].start_nanoseconds == START + 300 * SECOND
    again = deployed()
    again["metadata"]["uid"] = "another"
    served.follow(snapshot(workloads=[again]), 400 * SECOND)
    assert read(served, 400)[EACH].count == 0, "an object made anew under the same name is another one"
    served.follow(None, 500 * SECOND)
    assert served.read(600 * SECOND) == []


@pytest.mark.parametrize(
    ("mode", "there"),
    [
        ("Decode", {EACH, WHOLE}),
        ("Prefill", {FIRST, WHOLE}),
        ("Colocated", {FIRST, EACH, WHOLE}),
        ("Disaggregated", {FIRST, EACH, WHOLE}),
    ],
)
def test_each_mode_has_the_times_that_its_requests_have(mode: str, there: set[str]) -> None:
    base, servers = MODES[mode]
    seen = snapshot(workloads=[deployed(base, servers)])
    result, found = result_of(seen), read(follow((0, seen)), 100)
    assert set(found) == there
    outputs = base["inference"].get("outputTokens", 0)
    whole = {"Decode": outputs * result.tpot_seconds, "Prefill": result.ttft_seconds}
    mean = whole.get(mode, result.ttft_seconds + (outputs - 1) * result.tpot_seconds)
    assert found[WHOLE].count == int(100 * result.tokens_per_second / (outputs or base["inference"]["inputTokens"])) > 0
    assert found[WHOLE].sum_seconds / found[WHOLE].count == pytest.approx(mean, rel=1e-9)


def test_a_request_of_one_token_has_no_time_per_output_token() -> None:
    seen = snapshot(workloads=[deployed(outputTokens=1)])
    found = read(follow((0, seen)), 100)
    assert (found[EACH].count, found[EACH].sum_seconds) == (0, 0.0)
    assert found[FIRST].sum_seconds == found[WHOLE].sum_seconds > 0


def test_training_and_other_cabinets_have_no_requests() -> None:
    assert follow((0, snapshot(workloads=[workload()]))).read(SECOND) == []
    assert follow((0, snapshot("compute", 1, workloads=[deployed()]))).read(SECOND) == []
    assert follow((0, snapshot("bus", workloads=[deployed()]))).read(SECOND) == []


@pytest.mark.parametrize("garbage", ["x", {}, {"mode": 3}, {"mode": "Decode", "inputTokens": "many"}])
def test_a_garbled_workload_is_left_out(garbage: Any) -> None:
    job = deployed(name="odd", first=8)
    job["spec"]["inference"] = garbage
    found = follow((0, snapshot(workloads=[deployed(), job]))).read(SECOND)
    assert {one.attributes["supernode.workload"] for one in found} == {"chat"}


def test_prometheus_and_otlp_show_the_same_requests() -> None:
    now = [0]
    board = Board(clock=lambda: now[0])
    seen = snapshot(workloads=[deployed(), deployed(name="more", first=8, load__concurrency=40)])
    board.publish(seen)
    now[0] = 77 * SECOND
    text = board.metrics_text()
    (*_, raw) = Layout({}, seen, START, 0, board.served).requests(START + now[0], now[0])
    request = messages.ExportMetricsServiceRequest.FromString(raw)
    assert request.ByteSize() == len(raw), "nothing unknown, nothing twice, no defaults"
    assert [metric.name for metric in metrics(request)] == [row.otel for row in HISTOGRAMS]
    for row in HISTOGRAMS:
        samples = {}
        for family in text_string_to_metric_families(text):
            if family.name == row.prometheus:
                samples = {(s.name, s.labels["workload"], s.labels.get("le", "")): s.value for s in family.samples}
        points = histograms(request, row.otel)
        assert {attributes["supernode.workload"] for attributes, _ in points} == {"chat", "more"}
        for attributes, point in points:
            name = attributes["supernode.workload"]
            assert tuple(point.explicit_bounds) == row.bounds
            assert sum(point.bucket_counts) == point.count == samples[(f"{row.prometheus}_count", name, "")] > 0
            assert point.sum == samples[(f"{row.prometheus}_sum", name, "")]
            cumulative = [samples[(f"{row.prometheus}_bucket", name, str(b))] for b in (*row.bounds, "+Inf")]
            assert cumulative == [sum(point.bucket_counts[: n + 1]) for n in range(len(row.bounds) + 1)]
            assert attributes["supernode.name"] == NAME
            assert attributes["gen_ai.request.model"] == "qwen3-32b"
            assert attributes["gen_ai.operation.name"] == "text_completion"


def test_a_histogram_that_has_counted_nothing_is_there_with_zeros() -> None:
    seen = snapshot(workloads=[deployed()])
    (*_, raw) = Layout({}, seen, START, 0, follow((0, seen))).requests(START + 1, 0)
    request = messages.ExportMetricsServiceRequest.FromString(raw)
    assert request.ByteSize() == len(raw)
    ((_, point),) = histograms(request, "gen_ai.server.time_to_first_token")
    assert (point.count, point.sum, point.HasField("sum"), len(point.bucket_counts)) == (0, 0.0, True, 17)


def test_many_deployments_are_cut_into_messages() -> None:
    ranks = [{"rank": 0, "pod": "p", "running": True, "parts": [{"server": 0, "dies": "0-15", "links": "all"}]}]
    jobs = [deployed(name=f"deployment-with-a-long-name-{n:03}") for n in range(500)]
    for job in jobs[1:]:
        job["status"]["placement"]["ranks"] = ranks
    seen = snapshot(workloads=jobs, detail="SuperNode")
    requests = list(Layout({}, seen, START, 0, follow((0, seen))).requests(START, 0))
    assert max(map(len, requests)) < 1 << 19
    names = [
        point["supernode.workload"]
        for raw in requests
        for point, _ in histograms(
            messages.ExportMetricsServiceRequest.FromString(raw), "gen_ai.server.request.duration"
        )
    ]
    assert len(names) == len(set(names)) == 500


def test_both_text_forms_are_valid_and_alike() -> None:
    now = [0]
    board = Board(clock=lambda: now[0])
    board.publish(snapshot(workloads=[deployed()]))
    now[0] = 9 * SECOND
    plain = answer(board, HealthMetrics(), "/metrics", "", 0)[2]
    other = answer(board, HealthMetrics(), "/metrics", "application/openmetrics-text", 0)[2]
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(other)}
    for row in HISTOGRAMS:
        family = families[row.prometheus]
        assert (family.type, family.unit) == ("histogram", "seconds")
        assert {
            s.name.removeprefix(row.prometheus) + s.labels.get("le", ""): s.value for s in family.samples
        } == series(plain, row.prometheus)


def test_a_page_grows_between_two_requests_although_nothing_changed() -> None:
    now = [0]
    board = Board(clock=lambda: now[0])
    board.publish(snapshot(workloads=[deployed()]))
    counts = []
    for second in (10, 20):
        now[0] = second * SECOND
        counts.append(series(board.metrics_text(), "gen_ai_server_request_duration_seconds")["_count"])
    assert 0 < counts[0] < counts[1]
    board.withdraw("gone")
    assert board.metrics_text() == ""
    board.publish(snapshot(workloads=[deployed()]))
    assert series(board.metrics_text(), "gen_ai_server_request_duration_seconds")["_count"] == 0


def test_a_receiver_gets_the_requests_with_the_other_metrics() -> None:
    board = Board()
    seen = snapshot(workloads=[deployed()], intervalSeconds=1, detail="SuperNode")
    with collector() as receiver:
        made = Telemetry(read_otlp_config({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}), {}, served=board.served)
        try:
            board.publish(seen)
            made.update(seen)
            eventually(lambda: "gen_ai.server.request.duration" in receiver.names(), "histograms", 10)
        finally:
            made.stop()
