"""`supernode get` against what is not there: one sentence, exit status 2."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from supernode_cli.main import cli
from support.apiserver import ApiServer
from support.scripted_server import answering, kubeconfig


@pytest.mark.parametrize("flags", [["--kubeconfig", "/nonexistent/config"], ["--context", "nowhere"]])
def test_no_usable_kubeconfig_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", "https://127.0.0.1:1", token="t")))
    result = CliRunner().invoke(cli, ["get", *flags])
    assert result.exit_code == 2
    assert "kubeconfig" in result.stderr


def test_a_cluster_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        config = kubeconfig(tmp_path / "config", f"https://127.0.0.1:{taken.getsockname()[1]}", token="t")
        result = CliRunner().invoke(cli, ["get", "--kubeconfig", str(config)])
    assert result.exit_code == 2, result.output
    assert "does not answer" in result.stderr
    assert "HTTPSConnection" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, "{}", "does not know supernodes.supernode.io: install the chart"),
        (403, "{}", "not allowed to list supernodes.supernode.io (403 Forbidden): ask for the verb list"),
        (401, "{}", "does not know who asks (401 Unauthorized): log in again"),
        (503, "{}", "listing supernodes.supernode.io failed: 503"),
        (200, "<html>a proxy</html>", "is no Kubernetes API server"),
        (200, "[]", "is no Kubernetes API server"),
    ],
)
def test_what_a_cluster_refuses_is_one_line_with_the_remedy(tmp_path: Path, status: int, body: str, says: str) -> None:
    with answering(status, body) as address:
        result = CliRunner().invoke(
            cli, ["get", "--kubeconfig", str(kubeconfig(tmp_path / "config", address, token="t"))]
        )
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_cluster_without_a_machine_is_one_line_with_the_remedy(api_server: ApiServer) -> None:
    result = CliRunner().invoke(cli, ["get", "--kubeconfig", str(api_server.kubeconfig)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no SuperNode: none; kubectl apply one of examples/" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["{", "- a list", "clusters: 7", "\0"])
def test_a_kubeconfig_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["get", "--kubeconfig", str(path)])
    assert result.exit_code == 2, result.output
    assert "no usable kubeconfig" in result.stderr
    assert len(result.stderr.splitlines()) == 1
