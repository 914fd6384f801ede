"""A cabinet process at rest, as Prometheus and a collector see it every 5 s: how much of a core and of memory it takes.

The process is the product's own (``python3 -m supernode_cabinet``) with 4 servers of a machine that one workload fills.
What it watches is a script at the protocol's boundary: three lists, and watches that say nothing, so nothing but
telemetry is measured. The collector and the scraper run in this process and do not count.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cabinet import machines
from cabinet.collector import collector
from rows import Row, resident_mebibytes
from support.scripted_server import kubeconfig

__all__ = ["measure"]

_INTERVAL_SECONDS = 5
_SECONDS = 60
_PERCENT = 1.0
_MEBIBYTES = 80.0


def measure() -> Iterator[Row]:
    """Watch a cabinet for a minute; then how much memory it has."""
    with tempfile.TemporaryDirectory() as folder, _lists() as url, collector() as receiver:
        config = kubeconfig(Path(folder) / "kubeconfig", url)
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "PYTHONPYCACHEPREFIX": f"{folder}/compiled"}
        # One goes before it, and compiles the modules as in the image: to do that takes memory which stays.
        with machines.cabinet_process(config, Path(folder) / "first", **environment) as cabinet:
            cabinet.wait_ready()
            cabinet.get("/metrics")
            machines.eventually(lambda: receiver.requests, "a first export")
        receiver.requests.clear()
        with machines.cabinet_process(config, Path(folder) / "log", **environment) as cabinet:
            cabinet.wait_ready()
            scraped = cabinet.get("/metrics")[1]
            machines.eventually(lambda: receiver.requests, "a first export")
            time.sleep(2)  # what starting left to do
            exports, spent, began = len(receiver.requests), _processor_seconds(cabinet.process.pid), time.monotonic()
            scrapes = 0
            while (now := time.monotonic()) < began + _SECONDS:
                if now >= began + scrapes * _INTERVAL_SECONDS:
                    scraped = cabinet.get("/metrics")[1]
                    scrapes += 1
                time.sleep(0.05)
            share = 100.0 * (_processor_seconds(cabinet.process.pid) - spent) / (time.monotonic() - began)
            exports = len(receiver.requests) - exports
            resident = resident_mebibytes(Path("/proc", str(cabinet.process.pid)))
    dies = sum(line.startswith("supernode_die_power_watts{") for line in scraped.splitlines())
    if dies != 64 or exports < _SECONDS / _INTERVAL_SECONDS - 2:
        raise SystemExit(f"bench: the cabinet showed {dies} dies and exported {exports} times: this measures nothing")
    how = f"of one core over {_SECONDS} s, {dies} dies: {scrapes} scrapes and {exports} OTLP requests, nothing changes"
    yield Row(f"cabinet: CPU at a {_INTERVAL_SECONDS} s interval", share, "%", _PERCENT, how)
    yield Row("cabinet RSS with OTLP", resident, "MiB", _MEBIBYTES, f"VmRSS of that process, {dies} dies")


def _processor_seconds(pid: int) -> float:
    """Return what a process has used in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _lists() -> Iterator[str]:
    """Serve what the cabinet lists, and watches that stay open and silent."""
    machine = machines.super_node(intervalSeconds=_INTERVAL_SECONDS)
    objects = {"supernodes": [machine], "computenodes": machines.nodes(), "supernodeworkloads": [machines.workload()]}
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            plural = self.path.partition("?")[0].rpartition("/")[2]
            if "watch=true" in self.path or "watch=1" in self.path:
                self._begin([("Transfer-Encoding", "chunked")])
                stop.wait(2 * _SECONDS)
                return
            body = json.dumps({"metadata": {"resourceVersion": "1"}, "items": objects[plural]}).encode()
            self._begin([("Content-Length", str(len(body)))])
            self.wfile.write(body)

        def _begin(self, headers: list[tuple[str, str]]) -> None:
            self.send_response(200)
            for name, value in [("Content-Type", "application/json"), *headers]:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
