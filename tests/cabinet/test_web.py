"""The cabinet's HTTP over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cabinet.machines import AT_EPOCH, nodes, snapshot
from supernode_cabinet.board import Board
from supernode_cabinet.health import HealthMetrics
from supernode_cabinet.web import WebServer, answer


@pytest.fixture
def board() -> Board:
    made = Board()
    made.publish(snapshot())
    return made


@pytest.fixture
def server(board: Board) -> Iterator[WebServer]:
    made = WebServer(board, HealthMetrics(), "127.0.0.1", 0)
    made.start()
    yield made
    made.stop()


def request(server: WebServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        found = connection.getresponse()
        return found.status, found.headers.get("Content-Type", ""), found.read().decode()
    finally:
        connection.close()


def raw(server: WebServer, data: bytes) -> bytes:
    found = b""
    # A server that has heard enough closes before the rest is sent.
    with socket.create_connection(("127.0.0.1", server.port), 10) as one, contextlib.suppress(OSError):
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)
        while part := one.recv(65536):
            found += part
    return found


def test_every_page_answers(server: WebServer) -> None:
    status, kind, text = request(server, "/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert "supernode_die_power_watts" in text
    assert "supernode_cabinet_updates_total 0" in text
    assert request(server, "/metrics/npu/3")[0] == 200
    assert json.loads(request(server, "/v1/machine")[2])["servers"] == [0, 1, 2, 3]
    assert json.loads(request(server, "/v1/workloads/default/llama")[2])["name"] == "llama"
    assert request(server, "/healthz")[0] == request(server, "/readyz")[0] == 200


def test_openmetrics_is_for_those_who_ask(server: WebServer) -> None:
    _, kind, text = request(server, "/metrics", Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/", "there is nothing at /"),
        ("/metrics/npu/4", "[0, 1, 2, 3]"),
        ("/metrics/npu/-1", "is not in this cabinet"),
        ("/metrics/npu/" + "9" * 30, "is not in this cabinet"),
        ("/metrics/npu/%00", "is not in this cabinet"),
        ("/v1/workloads/default/none", "no SuperNodeWorkload default/none"),
        ("/v1/workloads/default", "there is nothing at"),
        ("/v1/workloads/../../etc/passwd/x/y", "there is nothing at"),
        ("//", "there is nothing at"),
        ("/metrics?x=../..", ""),
    ],
)
def test_what_is_not_there_is_json_that_says_so(server: WebServer, path: str, says: str) -> None:
    status, kind, text = request(server, path)
    if says:
        assert (status, kind) == (404, "application/json")
        assert says in json.loads(text)["error"]
    else:
        assert status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_is_read_only(server: WebServer, method: str) -> None:
    status, kind, _ = request(server, "/v1/machine", method)
    assert (status, kind) == (405, "application/json")


def test_head_has_no_body(server: WebServer) -> None:
    assert request(server, "/v1/machine", "HEAD")[2] == ""


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET " + b"/x" * 40000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n",
    ],
)
def test_garbage_is_refused_without_a_traceback(
    server: WebServer, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    found = raw(server, data)
    assert b"Traceback" not in found
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert request(server, "/healthz")[0] == 200


def test_a_body_that_nobody_reads_does_not_become_a_request(server: WebServer) -> None:
    found = raw(server, b"GET /healthz HTTP/1.1\r\nContent-Length: 40\r\n\r\nGET /v1/machine HTTP/1.1\r\n\r\n")
    assert found.count(b"HTTP/1.1 ") == 1


def test_48_pods_that_ask_at_once_are_all_answered(server: WebServer) -> None:
    found: list[int] = []

    def ask() -> None:
        found.append(request(server, "/v1/workloads/default/llama")[0])

    threads = [threading.Thread(target=ask) for _ in range(48)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 48


def test_a_silent_client_holds_up_nobody(server: WebServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as one:
        one.sendall(b"GET /healthz")
        assert request(server, "/healthz")[0] == 200


def test_one_connection_serves_many_requests(server: WebServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(3):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status":"ok"}\n'
    connection.close()


def test_pages_follow_the_snapshot_and_are_rendered_once() -> None:
    board = Board()
    assert board.metrics_text() == ""
    board.publish(snapshot())
    first = board.metrics_text()
    assert board.metrics_text() is first
    assert board.metrics_text(openmetrics=True) != first
    board.publish(snapshot(compute_nodes=nodes({0: [{"name": "x", "die": 1}]})))
    assert board.metrics_text() != first


def test_npu_pages_have_the_time_of_the_scrape(board: Board) -> None:
    first, second = board.npu_text(1, 1000), board.npu_text(1, 2000)
    assert first is not None
    assert second is not None
    assert first.splitlines()[2].endswith(" 1000")
    assert second == first.replace(" 1000\n", " 2000\n")


def test_without_a_machine_everything_says_why() -> None:
    board, health = Board(), HealthMetrics()

    def ask(path: str) -> tuple[int, Any]:
        status, _, text = answer(board, health, path, "", AT_EPOCH)
        return status, json.loads(text)

    assert ask("/readyz") == (503, {"status": "not ready", "message": "nothing is solved yet"})
    board.publish(snapshot())
    board.withdraw("SuperNode cm384 does not exist")
    assert ask("/readyz")[0] == 200
    for path in ("/v1/machine", "/v1/workloads/default/llama", "/metrics/npu/0"):
        assert ask(path) == (404, {"error": "SuperNode cm384 does not exist"})
