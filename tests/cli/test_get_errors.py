"""`supernode get` against what is not there: one sentence, exit status 2."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.main import cli
from support.apiserver import ApiServer
from support.scripted_server import answering, kubeconfig

NOBODY = "https://127.0.0.1:1"
CREDENTIAL = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}


def logging_in(program: str, *arguments: str) -> dict[str, Any]:
    """A user as those of managed clusters are, whose token a program prints."""
    return {"exec": {"apiVersion": CREDENTIAL["apiVersion"], "command": program, "args": list(arguments)}}


def get_as_a_program(config: Path) -> subprocess.CompletedProcess[str]:
    """Run it on its own: in a test's process what libraries log is caught, here it would be on standard error."""
    command = [sys.executable, "-m", "supernode_cli.main", "get", "--kubeconfig", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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


@pytest.mark.parametrize(
    ("user", "says"),
    [
        (logging_in("nonexist-cmd"), "login program 'nonexist-cmd' failed: No such file or directory"),
        (
            logging_in("sh", "-c", "echo your token >&2; echo expired. >&2; exit 3"),
            "login program 'sh' failed: exit status 3: your token expired; install it or log in again",
        ),
        (logging_in("false"), "login program 'false' failed: exit status 1; install it or log in again"),
        (logging_in("echo", json.dumps({**CREDENTIAL, "status": {}})), "login program 'echo' failed: missing token"),
        ({"exec": "gke"}, "login program (exec) failed: malformed request"),
        ({"token": "t"}, f"the cluster at {NOBODY} does not answer"),
    ],
    ids=["absent", "expired", "silent", "no-token", "no-program", "a-cluster-that-is-down"],
)
def test_a_login_that_fails_is_one_line_with_the_program_what_it_said_and_the_remedy(
    tmp_path: Path, user: dict[str, Any], says: str
) -> None:
    result = get_as_a_program(kubeconfig(tmp_path / "config", NOBODY, **user))
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr
    assert "--context" in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr


def test_a_login_program_that_gives_a_token_is_believed(tmp_path: Path) -> None:
    user = logging_in("echo", json.dumps({**CREDENTIAL, "status": {"token": "t"}}))
    with answering(200, '{"items": []}') as address:
        result = get_as_a_program(kubeconfig(tmp_path / "config", address, **user))
    assert result.stderr == "Error: no SuperNode: none; kubectl apply one of examples/\n"


@pytest.mark.parametrize("server", ["", "nothing.invalid:1"])
def test_an_address_that_is_none_is_one_line(tmp_path: Path, server: str) -> None:
    result = get_as_a_program(kubeconfig(tmp_path / "config", server, token="t"))
    assert (result.returncode, result.stdout) == (2, "")
    assert ("does not answer" if server else "the cluster of this context has no server") in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr


@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        "7",
        "- a list",
        "clusters: 7",
        yaml.safe_dump({"current-context": "c", "contexts": [{"name": "c", "context": "x"}]}),
        "[" * 5000,
    ],
    ids=["text", "number", "list", "no-list", "no-context", "deep"],
)
def test_what_is_wrong_with_a_kubeconfig_is_said_in_words_about_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["get", "--kubeconfig", str(path)])
    assert result.exit_code == 2, result.output
    assert "a mapping with the lists clusters, contexts and users" in result.stderr
    assert "object" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["{", "- a list", "clusters: 7", "\0"])
def test_a_kubeconfig_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["get", "--kubeconfig", str(path)])
    assert result.exit_code == 2, result.output
    assert "no usable kubeconfig" in result.stderr
    assert len(result.stderr.splitlines()) == 1
