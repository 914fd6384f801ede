"""`supernode get` against what is not there: one sentence, exit status 2."""

from __future__ import annotations

import socket
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
