"""The read-only HTTP of a cabinet, on the standard library's threading server.

GET /metrics                        labelled metrics; OpenMetrics where the client asks for it
GET /metrics/npu/<server>           one compute server as npu-exporter shows it
GET /v1/machine                     digest, version, figures
GET /v1/workloads/<namespace>/<name>
GET /healthz, /readyz
Everything else is a 404 with JSON, every other method a 405; nothing that a client sends is executed or stored.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from supernode_cabinet.board import Board
from supernode_cabinet.health import HealthMetrics
from supernode_cabinet.prometheus import CONTENT_TYPE, OPENMETRICS_TYPE
from supernode_cabinet.workload_view import machine_view, workload_view

__all__ = ["Answer", "WebServer", "answer"]

_log = logging.getLogger(__name__)

_IDLE_SECONDS: Final = 30
_JSON: Final = "application/json"

Answer = tuple[int, str, str]
"""Status, content type, body."""


def answer(board: Board, health: HealthMetrics, target: str, accept: str, now_epoch_seconds: float) -> Answer:
    """Return the answer to GET of a target at a moment."""
    path = urlsplit(target).path
    parts = [unquote(part) for part in path.split("/")[1:]]
    match parts:
        case ["metrics"]:
            return _metrics(board, health, "application/openmetrics-text" in accept)
        case ["metrics", "npu", server]:
            return _npu(board, server, now_epoch_seconds)
        case ["v1", "machine"]:
            snapshot = board.snapshot
            return _missing(board.why) if snapshot is None else _json(200, machine_view(snapshot))
        case ["v1", "workloads", namespace, name]:
            return _workload(board, namespace, name, now_epoch_seconds)
        case ["healthz"]:
            return _json(200, {"status": "ok"})
        case ["readyz"]:
            return (
                _json(200, {"status": "ok"})
                if board.ready
                else _json(503, {"status": "not ready", "message": board.why})
            )
    known = "/metrics, /metrics/npu/<server>, /v1/machine, /v1/workloads/<namespace>/<name>"
    return _missing(f"there is nothing at {path[:200]}; see {known}")


def _metrics(board: Board, health: HealthMetrics, openmetrics: bool) -> Answer:
    text = board.metrics_text(openmetrics=openmetrics) + health.render(openmetrics=openmetrics)
    return (200, OPENMETRICS_TYPE, text + "# EOF\n") if openmetrics else (200, CONTENT_TYPE, text)


def _npu(board: Board, server: str, now: float) -> Answer:
    snapshot = board.snapshot
    if snapshot is None:
        return _missing(board.why)
    index = int(server) if server.isascii() and server.isdigit() and len(server) <= 6 else -1
    text = board.npu_text(index, int(now * 1000))
    if text is None:
        return _missing(f"server {server[:20]!r} is not in this cabinet, which has {list(snapshot.shard.servers)}")
    return 200, CONTENT_TYPE, text


def _workload(board: Board, namespace: str, name: str, now: float) -> Answer:
    snapshot = board.snapshot
    if snapshot is None:
        return _missing(board.why)
    view = workload_view(snapshot, namespace, name, now)
    if view is None:
        return _missing(f"SuperNode {snapshot.super_node} has no SuperNodeWorkload {namespace[:63]}/{name[:63]}")
    return _json(200, view)


def _missing(message: str) -> Answer:
    return _json(404, {"error": message})


def _json(status: int, value: Any) -> Answer:
    return status, _JSON, json.dumps(value, separators=(",", ":")) + "\n"


class WebServer:
    """Serves a board on a port, in threads of its own."""

    def __init__(self, board: Board, health: HealthMetrics, host: str, port: int) -> None:
        handler = type("Handler", (_Handler,), {"board": board, "health": health})
        self._server = _Server((host, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    @property
    def port(self) -> int:
        """Return the port, also when 0 was asked for."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving; idempotent."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        # Pods may have IPv4, IPv6 or both: no host means all of them.
        both = not address[0] and socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if both or ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # HTTPServer.server_bind would look the host's name up, which can take seconds where DNS is slow.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "cabinet", int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that hang up are their own business.
        _log.debug("connection from %s ended", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "supernode-cabinet"
    sys_version = ""
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    board: Board
    health: HealthMetrics

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body that nobody reads must not become the next request
        try:
            result = answer(self.board, self.health, self.path, self.headers.get("Accept", ""), time.time())
        except Exception:  # the loop's edge: a client gets an answer, the log gets the reason
            _log.exception("cannot answer %s", self.path[:200])
            result = _json(500, {"error": "internal error; see the cabinet's log"})
        self._send(result, with_body=with_body)

    def _send(self, result: Answer, *, with_body: bool) -> None:
        status, content_type, text = result
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what the standard library refuses (methods, malformed requests) in JSON as well."""
        status = 405 if code == HTTPStatus.NOT_IMPLEMENTED else code
        self.close_connection = True
        self._send(_json(status, {"error": message or HTTPStatus(status).phrase}), with_body=self.command != "HEAD")

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)
