"""`supernode get` on what a cluster has: machines without the workloads that were asked for, and objects with nulls."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from supernode_api.names import API_VERSION
from supernode_cli.main import cli
from supernode_cli.report import report_machine
from supernode_dataplane.inputs import machine_inputs
from support.machines import LLAMA
from support.scripted_server import answering, kubeconfig

MACHINE: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "metadata": {"name": "cm384"},
    "spec": {"profile": "cloudmatrix-384", "superPodID": 0},
    "status": {
        "capacity": {"nodes": 48, "computeCabinets": 12, "busCabinets": 4},
        "conditions": [{"type": "Ready", "status": "True", "message": ""}],
    },
}
WORKLOAD: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "metadata": {"name": "llama", "namespace": "research"},
    "spec": {"superNode": "cm384", **LLAMA, "pods": {"managed": {"nodes": 48}}},
    "status": {},
}


def get(folder: Path, objects: list[dict[str, Any]], *flags: str) -> str:
    """Ask a server that has these objects, whichever are asked for; return what is printed."""
    with answering(200, json.dumps({"items": objects})) as address:
        config = kubeconfig(folder / "config", address, token="t")
        result = CliRunner().invoke(cli, ["get", "cm384", "--kubeconfig", str(config), *flags])
    assert (result.exit_code, result.stderr) == (0, ""), result.exception
    return result.stdout


@pytest.mark.parametrize("output", ["table", "wide"])
def test_a_namespace_without_a_workload_is_said_with_those_that_have_one(tmp_path: Path, output: str) -> None:
    said = get(tmp_path, [MACHINE, WORKLOAD], "-n", "nosuch", "-o", output)
    assert "no workload of cm384 in namespace nosuch; there are some in research" in said.splitlines()
    assert "research/llama" not in said
    alone = get(tmp_path, [MACHINE], "-n", "nosuch", "-o", output)
    assert "no workload of cm384 in namespace nosuch; nor in any other" in alone.splitlines()


def test_nothing_is_said_of_a_namespace_that_has_one_or_that_was_not_asked_for(tmp_path: Path) -> None:
    for objects, flags in (([MACHINE, WORKLOAD], ["-n", "research"]), ([MACHINE, WORKLOAD], []), ([MACHINE], [])):
        said = get(tmp_path, objects, *flags)
        assert "no workload" not in said
        assert ("research/llama" in said) == (WORKLOAD in objects)


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_a_document_of_a_namespace_without_a_workload_is_that_of_a_machine_without_any(
    tmp_path: Path, output: str
) -> None:
    everything = json.loads(get(tmp_path, [MACHINE, WORKLOAD], "-o", "json"))
    nothing = get(tmp_path, [MACHINE, WORKLOAD], "-n", "nosuch", "-o", output)
    assert "nosuch" not in nothing
    if output == "json":
        assert json.loads(nothing) == {**everything, "workloads": []}


@pytest.mark.parametrize(
    "fields", [{"status": None}, {"status": {"capacity": None, "conditions": None}}, {"status": {}}]
)
def test_an_object_whose_status_is_null_is_one_without_a_status(tmp_path: Path, fields: dict[str, Any]) -> None:
    bare = [{k: v for k, v in raw.items() if k != "status"} for raw in (MACHINE, WORKLOAD)]
    given = [{**raw, **fields} for raw in bare]
    for flags in ([], ["-o", "json"]):
        assert get(tmp_path, given, *flags) == get(tmp_path, bare, *flags)
    assert "the operator has not reported yet" in get(tmp_path, given)


def test_null_in_a_spec_is_in_the_digest_as_the_operator_has_it_and_ends_in_no_traceback() -> None:
    odd = deepcopy(WORKLOAD)
    odd["spec"] |= {"inference": None, "stack": None, "model": None}
    report = report_machine(MACHINE, [], [odd])
    assert report.digest == machine_inputs(MACHINE, [], [odd]).digest
    assert report.workloads[0].state == "InvalidObject"
    nobodys = {"metadata": {"name": "empty"}, "spec": None, "status": None}
    assert report_machine(MACHINE, [], [WORKLOAD, nobodys]) == report_machine(MACHINE, [], [WORKLOAD])
