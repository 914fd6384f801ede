"""`supernode get` against what is not there: one sentence, exit status 2."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.main import cli


def kubeconfig(folder: Path, server: str) -> Path:
    path = folder / "config"
    cluster = {"name": "c", "cluster": {"server": server}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [cluster],
        "contexts": [context],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.mark.parametrize("flags", [["--kubeconfig", "/nonexistent/config"], ["--context", "nowhere"]])
def test_no_usable_kubeconfig_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, "https://127.0.0.1:1")))
    result = CliRunner().invoke(cli, ["get", *flags])
    assert result.exit_code == 2
    assert "kubeconfig" in result.stderr


def test_a_cluster_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        config = kubeconfig(tmp_path, f"https://127.0.0.1:{taken.getsockname()[1]}")
        result = CliRunner().invoke(cli, ["get", "--kubeconfig", str(config)])
    assert result.exit_code == 2, result.output
    assert "does not answer" in result.stderr
    assert "HTTPSConnection" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """A server that answers every request alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, "{}", "does not know supernodes.supernode.io: install the chart"),
        (403, "{}", "not allowed to list supernodes.supernode.io (403 Forbidden): ask for the verb list"),
        (401, "{}", "does not know who asks (401 Unauthorized): log in again"),
        (503, "{}", "listing supernodes.supernode.io failed: 503"),
        (200, "<html>a proxy</html>", "is no Kubernetes API server"),
        (200, "[]", "is no Kubernetes API server"),
        (200, json.dumps({"items": []}), "no SuperNode: none; kubectl apply one of examples/"),
    ],
)
def test_what_a_cluster_refuses_is_one_line_with_the_remedy(tmp_path: Path, status: int, body: str, says: str) -> None:
    with answering(status, body) as address:
        result = CliRunner().invoke(cli, ["get", "--kubeconfig", str(kubeconfig(tmp_path, address))])
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["{", "- a list", "clusters: 7", "\0"])
def test_a_kubeconfig_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["get", "--kubeconfig", str(path)])
    assert result.exit_code == 2, result.output
    assert "no usable kubeconfig" in result.stderr
    assert len(result.stderr.splitlines()) == 1
