"""The programs that the distribution installs: `supernode`, and the same as `kubectl supernode`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from support.apiserver import ApiServer

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent  # not resolved: the environment's, beside which pip puts what it installs
EXAMPLE = "examples/llama-3.1-405b-training.yaml"
NAMES = ("supernode", "kubectl-supernode")


def run(*command: str, path: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **more}
    if path:
        environment["PATH"] = path
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def installed(name: str) -> str:
    return str(PROGRAMS / name)


def test_both_names_are_one_program() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert set(scripts) == set(NAMES)
    assert scripts["supernode"] == scripts["kubectl-supernode"]
    for name in NAMES:
        assert os.access(installed(name), os.X_OK), f"{name} is not installed beside {sys.executable}"


def test_both_names_answer_the_same_to_the_digit() -> None:
    answers = [run(installed(name), "simulate", "-f", EXAMPLE, "-o", "json") for name in NAMES]
    for answer in answers:
        assert (answer.returncode, answer.stderr) == (0, "")
    assert answers[0].stdout == answers[1].stdout
    assert json.loads(answers[0].stdout)["workloads"]


def test_each_calls_itself_what_the_user_typed() -> None:
    helps = {name: run(installed(name), "--help") for name in NAMES}
    first = {name: answer.stdout.splitlines()[0] for name, answer in helps.items()}
    assert first == {
        "supernode": "Usage: supernode [OPTIONS] COMMAND [ARGS]...",
        "kubectl-supernode": "Usage: kubectl supernode [OPTIONS] COMMAND [ARGS]...",
    }
    rest = {"\n".join(answer.stdout.splitlines()[1:]) for answer in helps.values()}
    assert len(rest) == 1
    for command in ("get", "simulate", "plan", "compare", "claims", "validate", "sweep", "serve-sim"):
        assert f"\n  {command} " in rest.copy().pop()


def test_bad_input_to_the_plugin_is_one_message_and_exit_status_2() -> None:
    nowhere = run(installed("kubectl-supernode"), "simulate", "-f", "nowhere.yaml")
    assert nowhere.returncode == 2
    assert "nowhere.yaml" in nowhere.stderr
    wrong = run(installed("kubectl-supernode"), "simulat")
    assert wrong.returncode == 2
    assert "Usage: kubectl supernode" in wrong.stderr
    assert "Traceback" not in nowhere.stderr + wrong.stderr


def test_kubectl_finds_the_plugin_and_hands_it_its_arguments(api_server: ApiServer, tmp_path: Path) -> None:
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    kubectl = str(api_server.program)
    asked = run(kubectl, "supernode", "simulate", "-f", EXAMPLE, "-o", "json", path=path, HOME=str(tmp_path))
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout == run(installed("supernode"), "simulate", "-f", EXAMPLE, "-o", "json").stdout
    wrong = run(kubectl, "supernode", "simulate", "-f", "nowhere.yaml", path=path, HOME=str(tmp_path))
    assert wrong.returncode == 2
    assert "nowhere.yaml" in wrong.stderr
