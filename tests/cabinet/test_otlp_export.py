"""Sending to a real OTLP receiver: there, away, slow, back again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cabinet.collector import collector, points
from cabinet.machines import NAME, eventually, free_port, snapshot
from supernode_api.otlp import OtlpConfig, OtlpConfigError, read_otlp_config
from supernode_cabinet.otlp import Telemetry


@contextmanager
def telemetry(endpoint: str, results: list[bool] | None = None, **more: str) -> Iterator[Telemetry]:
    config = read_otlp_config({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **more})
    made = Telemetry(config, {"service.name": "test"}, (results if results is not None else []).append)
    try:
        yield made
    finally:
        made.stop()


def test_metrics_arrive_every_interval() -> None:
    with collector() as receiver, telemetry(receiver.endpoint) as made:
        seen = snapshot("compute", intervalSeconds=1)
        made.update(seen)
        eventually(
            lambda: len([r for r in receiver.requests if points(r, "supernode.model.info")]) >= 2, "two exports", 10
        )
        assert "hw.gpu.utilization" in receiver.names()


def test_an_endpoint_that_is_away_is_said_once_and_found_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="supernode_cabinet")
    port = free_port()
    results: list[bool] = []
    with telemetry(f"http://127.0.0.1:{port}", results, OTEL_EXPORTER_OTLP_TIMEOUT="500") as made:
        made.update(snapshot("compute", intervalSeconds=1, detail="SuperNode"))
        eventually(lambda: len(results) >= 3, "three failures", 15)
        assert not any(results)
        assert len([r for r in caplog.records if "does not take metrics" in r.message]) == 1
        with collector(port=port) as receiver:
            eventually(lambda: receiver.requests, "the first export", 30)
        assert len([r for r in caplog.records if "takes metrics" in r.message]) == 1


def test_a_slow_endpoint_delays_nobody_but_its_own_thread() -> None:
    results: list[bool] = []
    with collector(delay_seconds=60) as receiver:
        with telemetry(receiver.endpoint, results, OTEL_EXPORTER_OTLP_TIMEOUT="10000") as made:
            seen, idle = snapshot("compute", intervalSeconds=1), snapshot("compute", workloads=[], intervalSeconds=1)
            made.update(seen)
            eventually(lambda: results, "the first failure", 30)
            took = []
            for one in (idle, seen) * 5:
                began = time.monotonic()
                made.update(one)
                took.append(time.monotonic() - began)
            assert max(took) < 5, "waiting for the endpoint would take 10 s"
            began = time.monotonic()
        assert time.monotonic() - began < 5, "stopping waits for a moment only, not for the endpoint's 10 s"
        assert not any(results)


def test_a_change_of_interval_and_detail_is_followed_at_once() -> None:
    with collector() as receiver, telemetry(receiver.endpoint) as made:
        made.update(snapshot("compute", intervalSeconds=3600))
        time.sleep(0.3)
        assert not receiver.requests
        made.update(snapshot("compute", intervalSeconds=1, detail="Node"))
        eventually(lambda: "supernode.server.utilization" in receiver.names(), "node metrics", 3.5)
        assert "hw.gpu.utilization" not in receiver.names()


def test_nothing_is_sent_without_a_machine() -> None:
    with collector() as receiver, telemetry(receiver.endpoint) as made:
        made.update(snapshot("compute", intervalSeconds=1, detail="SuperNode"))
        eventually(lambda: receiver.requests, "an export", 5)
        made.update(None)
        time.sleep(0.2)
        before = len(receiver.requests)
        time.sleep(1.3)
        assert len(receiver.requests) == before


def test_what_there_is_at_the_end_is_still_sent() -> None:
    with collector() as receiver:
        with telemetry(receiver.endpoint) as made:
            made.update(snapshot("compute", intervalSeconds=3600, detail="SuperNode"))
        assert len(receiver.requests) == 1
        assert points(receiver.requests[0], "supernode.machine.power")[0][0] == {"supernode.name": NAME}


def test_a_certificate_that_is_not_there_is_named() -> None:
    with pytest.raises(OtlpConfigError, match="/nowhere/ca"):
        Telemetry(OtlpConfig("host:4317", secure=True, ca_file="/nowhere/ca.crt"), {})
