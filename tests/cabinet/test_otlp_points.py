"""OTLP requests, read back with the protobuf classes of OpenTelemetry."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cabinet.collector import messages, metrics, points
from cabinet.machines import NAME, deployed, nodes, snapshot, workload
from supernode_cabinet.catalogue import INSTRUMENTS
from supernode_cabinet.metric import Scope
from supernode_cabinet.otlp_layout import REQUEST_BYTES, Layout
from supernode_cabinet.served import Served
from supernode_cabinet.snapshot import Snapshot

START, SECOND = 1_795_233_600_000_000_000, 1_000_000_000
LIMIT = 4 << 20


def layout(seen: Snapshot) -> Layout:
    served = Served(START, 0)
    served.follow(seen, 0)
    return Layout({"service.name": "supernode-cabinet", "supernode.name": NAME}, seen, START, 0, served)


def export(made: Layout, after_seconds: float = 0.0) -> list[Any]:
    later = int(after_seconds * SECOND)
    found = []
    for raw in made.requests(START + later, later):
        assert len(raw) < LIMIT
        request = messages.ExportMetricsServiceRequest.FromString(raw)
        assert request.ByteSize() == len(raw), "nothing unknown, nothing twice, no defaults"
        found.append(request)
    return found


def every(requests: list[Any], name: str) -> list[tuple[dict[str, Any], float]]:
    return [point for request in requests for point in points(request, name)]


def test_names_kinds_and_units_are_those_of_the_catalogue() -> None:
    seen = {}
    for role in ("compute", "bus"):
        for request in export(layout(snapshot(role, workloads=[deployed()]))):
            for metric in metrics(request):
                of_sum = "Counter" if metric.sum.is_monotonic else "UpDownCounter"
                kind = {"gauge": "Gauge", "sum": of_sum, "histogram": "Histogram"}[str(metric.WhichOneof("data"))]
                assert kind == "Gauge" or getattr(metric, str(metric.WhichOneof("data"))).aggregation_temporality == 2
                seen[metric.name] = (kind, metric.unit, metric.description)
    assert seen == {name: (one.kind, one.unit, one.description) for name, one in INSTRUMENTS.items()}


def test_semantic_convention_names_exist_and_have_their_units() -> None:
    from opentelemetry.semconv._incubating.metrics import gen_ai_metrics, hw_metrics

    known = {value for key, value in vars(hw_metrics).items() if key.startswith("HW_")}
    known |= {value for key, value in vars(gen_ai_metrics).items() if key.startswith("GEN_AI_")}
    assert {name for name in INSTRUMENTS if name.startswith(("hw.", "gen_ai."))} <= known
    assert not [name for name in INSTRUMENTS if not name.startswith(("hw.", "gen_ai.", "supernode."))]


def test_values_and_places_are_the_machines() -> None:
    seen = snapshot("compute", 3)
    requests = export(layout(seen))
    found = {point["hw.id"]: (point, value) for point, value in every(requests, "hw.gpu.utilization")}
    assert len(found) == 64
    point, value = found[f"{NAME}/s13/d05"]
    assert value == seen.state.devices.utilisation[13 * 16 + 5]
    assert point == {
        "hw.id": f"{NAME}/s13/d05",
        "hw.parent": f"{NAME}/s13/p2",
        "supernode.name": NAME,
        "supernode.cabinet": 3,
        "supernode.server": 13,
        "supernode.die": 5,
        "hw.gpu.task": "general",
    }


def test_a_metric_is_in_a_request_once_and_an_attribute_set_in_a_metric_once() -> None:
    for role in ("compute", "bus"):
        count = Counter[Any]()
        for request in export(layout(snapshot(role))):
            names = [metric.name for metric in metrics(request)]
            assert len(names) == len(set(names))
            for name in names:
                for point, _ in points(request, name):
                    count[(name, *sorted((key, str(value)) for key, value in point.items()))] += 1
        assert set(count.values()) == {1}


def test_counters_are_rate_times_time_and_say_when_they_began() -> None:
    seen = snapshot("compute")
    made = layout(seen)
    requests = export(made, 10)
    sent = {
        (point["supernode.server"], point["supernode.die"], point["supernode.plane"]): value
        for point, value in every(requests, "hw.network.io")
        if point["network.io.direction"] == "transmit" and "supernode.die" in point
    }
    assert sent[(1, 2, 3)] == pytest.approx(10 * seen.state.devices.port_tx_bytes_per_second[18, 3], rel=1e-6)
    metric = next(m for m in metrics(requests[0]) if m.name == "hw.network.io")
    assert metric.sum.data_points[0].start_time_unix_nano == START
    assert metric.sum.data_points[0].time_unix_nano == START + 10 * SECOND


def test_a_counter_goes_on_when_the_rate_changes() -> None:
    busy, idle = snapshot("compute"), snapshot("compute", workloads=[])
    made = layout(busy)
    made.update(idle, 4 * SECOND)
    rate = busy.state.devices.port_tx_bytes_per_second[0, 0]
    (value,) = [
        value
        for point, value in every(export(made, 60), "hw.network.io")
        if point["hw.id"] == f"{NAME}/s00/d00/u0" and point["network.io.direction"] == "transmit"
    ]
    assert value == pytest.approx(4 * rate, rel=1e-6)


def test_holders_workloads_and_digest_follow_the_snapshot() -> None:
    made = layout(snapshot("compute", workloads=[], compute_nodes=nodes(held=False)))
    assert every(export(made), "supernode.die.holder") == []
    seen = snapshot("compute", workloads=[workload(name="late")])
    made.update(seen, 0)
    requests = export(made)
    assert len(every(requests, "supernode.die.holder")) == 64
    ((point, value),) = every(requests, "supernode.workload.token.rate")
    assert (point["supernode.workload"], point["k8s.namespace.name"]) == ("late", "default")
    assert value > 0
    ((stamp, one),) = every(requests, "supernode.model.info")
    assert (stamp["supernode.model.digest"], stamp["supernode.model.version"], one) == (
        seen.state.digest,
        seen.state.version,
        1,
    )


def test_a_whole_supernode_in_one_pod_is_cut_into_messages_of_bounded_size() -> None:
    requests = list(layout(snapshot("all", per_pod=16)).requests(START, 0))
    assert len(requests) > 20
    assert max(map(len, requests)) < REQUEST_BYTES * 2


@pytest.mark.parametrize("detail", ["SuperNode", "Node", "Device"])
def test_detail_leaves_out_what_is_finer(detail: str) -> None:
    made = layout(snapshot("compute", detail=detail))
    scopes = {row.scope for row in made.rows}
    assert (Scope.DIE in scopes) == (detail == "Device")
    assert (Scope.SERVER in scopes) == (detail != "SuperNode")
    assert not made.takes(snapshot("compute", detail="Node" if detail != "Node" else "Device"))
    export(made)


def test_resource_and_scope_are_in_every_request() -> None:
    for request in export(layout(snapshot("bus"))):
        (resource,) = request.resource_metrics
        assert {pair.key: pair.value.string_value for pair in resource.resource.attributes} == {
            "service.name": "supernode-cabinet",
            "supernode.name": NAME,
        }
        assert resource.scope_metrics[0].scope.name == "supernode.cabinet"
