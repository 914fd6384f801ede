"""The cabinet as a process beside a real API server."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cabinet.collector import collector, histograms, points
from cabinet.machines import (
    NAME,
    CabinetProcess,
    cabinet_process,
    compute_node,
    deployed,
    eventually,
    super_node,
    workload,
)
from cabinet.proxy import proxied
from support.apiserver import ApiServer
from support.applying import apply, path_of

pytestmark = pytest.mark.api

_ROOT = "/apis/supernode.io/v1alpha1"


@pytest.fixture
def machine(api_server: ApiServer) -> Iterator[ApiServer]:
    """A machine of 48 servers in the API server, with one workload that runs on all of them."""
    apply(api_server, super_node())
    for index in range(48):
        holder = {"namespace": "default", "pod": f"llama-{index}", "container": "main", "dies": "0-15", "links": ""}
        apply(api_server, compute_node(index, allocations=[holder]))
    apply(api_server, workload())
    yield api_server
    api_server.remove_objects()


@pytest.fixture
def cabinet(machine: ApiServer, tmp_path: Path) -> Iterator[CabinetProcess]:
    with cabinet_process(machine.kubeconfig, tmp_path / "cabinet.log") as process:
        process.wait_ready()
        yield process


def _rates(cabinet: CabinetProcess) -> dict[str, float]:
    families = text_string_to_metric_families(cabinet.get("/metrics")[1])
    return {
        s.name: s.value for family in families for s in family.samples if family.name.startswith("supernode_workload")
    }


def test_a_cabinet_serves_the_machine_that_the_api_server_has(cabinet: CabinetProcess) -> None:
    machine = cabinet.json("/v1/machine")
    assert machine["name"] == NAME
    assert float(machine["workloads"]["default/llama"]["tokensPerSecond"]) > 0
    assert _rates(cabinet)["supernode_workload_tokens_per_second"] == float(machine["performance"]["tokensPerSecond"])
    view = cabinet.json("/v1/workloads/default/llama")
    assert (view["state"], view["digest"], len(view["ranks"])) == ("Running", machine["digest"], 48)


def test_a_change_is_published(machine: ApiServer, cabinet: CabinetProcess) -> None:
    digest = cabinet.json("/v1/machine")["digest"]
    apply(machine, compute_node(0, faults=[{"name": "broken", "die": 3, "code": "80E18402"}]))
    eventually(lambda: cabinet.json("/v1/machine")["digest"] != digest, "a new digest")
    page = cabinet.get("/metrics")[1]
    assert f'supernode_die_healthy{{supernode="{NAME}",cabinet="0",server="0",die="3"}} 0' in page
    assert 'npu_chip_info_error_code{id="3"' in cabinet.get("/metrics/npu/0")[1]


def test_a_deleted_super_node_leaves_an_idle_process_that_goes_on_when_it_is_back(
    machine: ApiServer, cabinet: CabinetProcess
) -> None:
    machine.request("DELETE", f"{_ROOT}/supernodes/{NAME}")
    eventually(lambda: cabinet.get("/v1/machine")[0] == 404, "idleness")
    assert "does not exist" in cabinet.json("/v1/machine")["error"]
    assert cabinet.get("/readyz")[0] == 200
    assert "supernode_die" not in cabinet.get("/metrics")[1]
    apply(machine, super_node())
    eventually(lambda: cabinet.get("/v1/machine")[0] == 200, "the machine again")


def test_an_unknown_profile_is_said_and_not_ready(api_server: ApiServer, tmp_path: Path) -> None:
    item = super_node("other")
    item["spec"]["profile"] = "cloudmatrix-385"
    apply(api_server, item)
    try:
        with cabinet_process(api_server.kubeconfig, tmp_path / "log", SUPERNODE_NAME="other") as cabinet:
            eventually(lambda: "cloudmatrix-385" in cabinet.get("/readyz")[1], "the reason")
            assert cabinet.get("/readyz")[0] == 503
            assert cabinet.get("/healthz")[0] == 200
            assert "Traceback" not in cabinet.log.read_text()
    finally:
        api_server.remove_objects()


def test_without_an_api_server_it_waits_and_says_so_once(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    user = {"name": "u", "user": {}}
    document = {"apiVersion": "v1", "kind": "Config", "current-context": "c"}
    kubeconfig.write_text(json.dumps({**document, "clusters": [cluster], "contexts": [context], "users": [user]}))
    with cabinet_process(kubeconfig, tmp_path / "log") as cabinet:
        eventually(lambda: cabinet.get("/healthz")[0] == 200, "health")
        time.sleep(1.5)
        assert cabinet.get("/readyz")[0] == 503
        assert cabinet.get("/v1/machine")[0] == 404
        log = cabinet.log.read_text()
        assert log.count("cannot read SuperNode,") == 1
        assert "Traceback" not in log


def test_it_ends_in_order_on_sigterm(cabinet: CabinetProcess) -> None:
    cabinet.process.send_signal(signal.SIGTERM)
    assert cabinet.process.wait(30) == 0
    assert "Traceback" not in cabinet.log.read_text()


def test_another_machines_objects_are_not_read(machine: ApiServer, cabinet: CabinetProcess) -> None:
    digest = cabinet.json("/v1/machine")["digest"]
    apply(machine, compute_node(0, faults=[{"name": "broken", "die": 0}], name="other"))
    apply(machine, workload(2, name="foreign", super_node="other"))
    time.sleep(0.5)
    assert cabinet.json("/v1/machine")["digest"] == digest
    assert cabinet.get("/v1/workloads/default/foreign")[0] == 404


def test_a_lost_api_server_keeps_figures_and_readiness_and_changes_arrive_afterwards(
    machine: ApiServer, tmp_path: Path
) -> None:
    copy = tmp_path / "kubeconfig"
    with (
        proxied(machine.url, machine.kubeconfig, copy) as proxy,
        cabinet_process(copy, tmp_path / "log") as cabinet,
    ):
        cabinet.wait_ready()
        digest = cabinet.json("/v1/machine")["digest"]
        proxy.cut()
        eventually(lambda: "supernode_cabinet_api_connected 0" in cabinet.get("/metrics")[1], "the loss")
        apply(machine, compute_node(0, faults=[{"name": "broken", "die": 3}]))
        machine.request("DELETE", f"{_ROOT}/computenodes/{NAME}-47")
        time.sleep(1)
        assert cabinet.get("/readyz")[0] == 200
        assert cabinet.json("/v1/machine")["digest"] == digest
        proxy.open()
        eventually(lambda: "supernode_cabinet_api_connected 1" in cabinet.get("/metrics")[1], "the return")
        eventually(lambda: cabinet.json("/v1/machine")["digest"] != digest, "what was missed")
        log = cabinet.log.read_text()
        assert log.count("cannot read ComputeNode,") == 1
        assert "Traceback" not in log


def test_metrics_arrive_over_otlp_with_the_digest_that_http_shows(machine: ApiServer, tmp_path: Path) -> None:
    with collector() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_SERVICE_NAME": "mine"}
        with cabinet_process(machine.kubeconfig, tmp_path / "log", **environment) as cabinet:
            cabinet.wait_ready()
            digest = cabinet.json("/v1/machine")["digest"]
            cabinet.process.send_signal(signal.SIGTERM)
            assert cabinet.process.wait(5) == 0, "the last export is made on the way out"
        stamps = [points(request, "supernode.model.info") for request in receiver.requests]
        assert {stamp[0][0]["supernode.model.digest"] for stamp in stamps if stamp} == {digest}
        (resource,) = receiver.requests[0].resource_metrics
        named = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
        assert named["service.name"] == "mine"
        assert named["k8s.pod.name"] == f"{NAME}-compute-0"


def test_requests_of_a_deployment_are_counted_on_the_page_and_over_otlp(machine: ApiServer, tmp_path: Path) -> None:
    machine.request("DELETE", path_of(workload()))
    job = deployed()
    apply(machine, job)
    name = "gen_ai_server_request_duration_seconds_count"

    def counted() -> int:
        found = re.findall(rf'^{name}{{.*workload="chat".*}} (\d+)$', process.get("/metrics")[1], re.M)
        return int(found[0]) if found else 0

    with collector() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        with cabinet_process(machine.kubeconfig, tmp_path / "log", **environment) as process:
            process.wait_ready()
            eventually(counted, "requests")
            first = counted()
            eventually(lambda: counted() > first, "more requests")
            last = counted()
            process.process.send_signal(signal.SIGTERM)
            assert process.process.wait(30) == 0
        exported = [
            point
            for request in receiver.requests
            for place, point in histograms(request, "gen_ai.server.request.duration")
            if place["supernode.workload"] == "chat"
        ]
    assert exported[-1].count >= last, "the last export is made on the way out"
    assert len({point.start_time_unix_nano for point in exported}) == 1


def test_an_otlp_setting_that_cannot_be_used_is_said_and_the_machine_goes_on(
    machine: ApiServer, tmp_path: Path
) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://nowhere"}
    with cabinet_process(machine.kubeconfig, tmp_path / "log", **environment) as cabinet:
        cabinet.wait_ready()
        eventually(lambda: "OTEL_EXPORTER_OTLP_ENDPOINT" in cabinet.log.read_text(), "the reason")
        assert cabinet.get("/v1/machine")[0] == 200


@pytest.mark.parametrize(("role", "servers"), [("compute", 4), ("bus", 0)])
def test_a_cabinet_stays_within_its_memory(machine: ApiServer, tmp_path: Path, role: str, servers: int) -> None:
    with collector() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "SUPERNODE_CABINET_ROLE": role}
        environment["POD_NAME"] = f"{NAME}-{role}-0"
        with cabinet_process(machine.kubeconfig, tmp_path / "log", **environment) as cabinet:
            cabinet.wait_ready()
            for page in ("/metrics", *(f"/metrics/npu/{server}" for server in range(servers))):
                assert cabinet.get(page)[0] == 200
            eventually(lambda: receiver.requests, "an export")
            (line,) = re.findall(r"^process_resident_memory_bytes (\d+)", cabinet.get("/metrics")[1], re.M)
            assert int(line) / 2**20 < 84, "the budget is 80 MiB; page sizes and allocators differ a little"
