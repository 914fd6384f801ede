"""What the chart prints after an installation: commands that somebody without this repository can paste."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from support.apiserver import ApiServer
from support.chart import CHART, NAMESPACE, RELEASE, ROOT, helm

API = "/apis/supernode.io/v1alpha1"
MERGE = "application/merge-patch+json"


def notes(**values: Any) -> str:
    options = [f"--set-json={key.replace('__', '.')}={json.dumps(value)}" for key, value in values.items()]
    printed = helm(
        "install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client", "--hide-notes=false", *options
    )
    return printed.partition("NOTES:")[2]


def commands(text: str) -> list[str]:
    """The commands among the notes, each with its here-document, as somebody would paste them."""
    return re.findall(
        r"^(?:kubectl|helm) [^\n]*<<EOF\n.*?^EOF$|^(?:kubectl|helm) [^\n]*", text, re.DOTALL | re.MULTILINE
    )


def documents(text: str) -> list[dict[str, Any]]:
    found = [command.partition("\n")[2].removesuffix("EOF") for command in commands(text) if "<<EOF" in command]
    return [yaml.safe_load(document) for document in found]


@pytest.fixture
def server(api_server: ApiServer) -> Iterator[ApiServer]:
    api_server.remove_objects()
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker"}}
    assert api_server.request("POST", "/api/v1/nodes", body)[0] == 201
    yield api_server
    api_server.remove_objects()
    api_server.request("DELETE", "/api/v1/nodes/worker")


def pasted(server: ApiServer, command: str) -> str:
    """Run a command in a shell in which kubectl is in PATH and knows the cluster."""
    environment = {
        **os.environ,
        "PATH": f"{server.program.parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(server.kubeconfig),
        "HOME": str(server.folder),
    }
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def test_every_command_of_the_notes_can_be_pasted_and_makes_what_the_examples_make(server: ApiServer) -> None:
    test, *others = commands(notes())
    assert test == f"helm test {RELEASE} --namespace {NAMESPACE}"
    assert [command.split()[1] for command in others] == ["label", "apply", "wait", "apply", "get"]
    label, machine, wait, workload, look = others
    assert pasted(server, label.replace("NODE", "worker")) == "node/worker labeled\n"
    assert pasted(server, machine) == "supernode.supernode.io/cm384 created\n"
    moment = "2026-01-01T00:00:00Z"
    ready = {"type": "Ready", "status": "True", "reason": "AsExpected", "message": "", "lastTransitionTime": moment}
    path, status = f"{API}/supernodes/cm384", {"status": {"conditions": [ready]}}
    assert server.request("PATCH", f"{path}/status", status, content_type=MERGE)[0] == 200  # no operator is here
    assert pasted(server, wait) == "supernode.supernode.io/cm384 condition met\n"
    assert pasted(server, workload) == "supernodeworkload.supernode.io/llama-3-1-405b created\n"
    seen = pasted(server, look)
    assert "supernode.supernode.io/cm384" in seen
    assert "supernodeworkload.supernode.io/llama-3-1-405b" in seen
    made = {
        "supernode-384.yaml": server.request("GET", path)[1],
        "llama-3.1-405b-training.yaml": server.request(
            "GET", f"{API}/namespaces/default/supernodeworkloads/llama-3-1-405b"
        )[1],
    }
    for example, live in made.items():
        dry = ("apply", "--dry-run=server", "-o", "json", "-f", ROOT / "examples" / example)
        assert live["spec"] == json.loads(server.kubectl(*dry))["spec"], example


def test_notes_name_no_file_and_no_program_that_the_chart_does_not_bring() -> None:
    text = notes()
    assert "examples/" not in text
    assert "supernode get" not in text
    assert {command.split()[0] for command in commands(text)} == {"kubectl", "helm"}
    assert "good for demos and\ntelemetry, not for tests of topology" in text


@pytest.mark.parametrize(
    ("values", "where", "said"),
    [
        ({}, "default", "Managed Jobs may be created in: default."),
        ({"workloads__namespaces": ["team-a", "team-b"]}, "team-a", "Managed Jobs may be created in: team-a, team-b."),
        ({"workloads__clusterWide": True}, "default", "Managed Jobs may be created in every namespace."),
        ({"workloads__namespaces": []}, None, "no namespace (workloads.namespaces is empty)"),
    ],
    ids=["default", "teams", "everywhere", "nowhere"],
)
def test_the_workload_of_the_notes_is_where_jobs_may_be(values: dict[str, Any], where: str | None, said: str) -> None:
    text = notes(**values)
    found = [one["metadata"]["namespace"] for one in documents(text) if one["kind"] == "SuperNodeWorkload"]
    assert found == ([] if where is None else [where])
    assert ("\n4. " in text) is (where is not None)
    assert said in text


@pytest.mark.parametrize(("replicas", "warned"), [(0, True), (1, False), (2, False)])
def test_an_operator_of_no_replicas_is_rendered_and_warned_of(replicas: int, warned: bool) -> None:
    text = notes(operator__replicas=replicas)
    assert text.count("WARNING: operator.replicas is 0, so nothing is reconciled") == int(warned)
    assert ("--set operator.replicas=2" in text) is warned
