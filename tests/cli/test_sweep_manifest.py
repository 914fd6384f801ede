"""`supernode sweep --manifest`: an Indexed Job whose pods make the table."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.main import cli

SWEEP: dict[str, Any] = {
    "base": {
        "machine": {"nodes": 2},
        "model": {"name": "deepseek-r1"},
        "inference": {"mode": "Decode", "inputTokens": 1024, "outputTokens": 64, "batch": {"sequencesPerCard": 8}},
    },
    "grid": {"inference.inputTokens": [1024, 2048, 4096]},
}


def sweep_file(tmp_path: Path, tokens: tuple[int, ...] = (1024, 2048, 4096)) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, "grid": {"inference.inputTokens": list(tokens)}}))
    return path


def manifest(path: Path, *flags: str) -> list[dict[str, Any]]:
    arguments = ["-f", str(path), "-o", "t.csv", "--manifest", "--claim", "results", *flags]
    result = CliRunner().invoke(cli, ["sweep", *arguments])
    assert (result.exit_code, result.stderr) == (0, "")
    return list(yaml.safe_load_all(result.stdout))


def test_the_manifest_is_an_indexed_job_that_the_restricted_standard_admits(tmp_path: Path) -> None:
    path = sweep_file(tmp_path)
    config, job = manifest(path, "--shards", "3", "-n", "team", "--image", "example.org/supernode:1", "--jobs", "4")
    assert config["data"] == {"sweep.yaml": path.read_text()}
    assert (config["metadata"]["namespace"], job["metadata"]["namespace"]) == ("team", "team")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["image"] == "example.org/supernode:1"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"]["cpu"] == "4"
    assert [volume["name"] for volume in pod["volumes"]] == [mount["name"] for mount in container["volumeMounts"]]
    assert pod["volumes"][1]["persistentVolumeClaim"] == {"claimName": "results"}


def unknown_fields(value: Any, kind: str) -> list[str]:
    """Return the keys that a kind of the Kubernetes API does not have."""
    from kubernetes import client

    listed = kind.lower().startswith("list[")
    inner = kind[5:-1] if listed else kind
    model = getattr(client, inner, None)
    if model is None:
        return []
    unknown = []
    for entry in value if listed else [value]:
        fields = {model.attribute_map[name]: type_ for name, type_ in model.openapi_types.items()}
        for key, item in entry.items():
            unknown += unknown_fields(item, fields[key]) if key in fields else [f"{inner}.{key}"]
    return unknown


def test_the_manifest_has_only_fields_that_kubernetes_knows(tmp_path: Path) -> None:
    config, job = manifest(sweep_file(tmp_path), "-n", "team")
    assert unknown_fields(config, "V1ConfigMap") == []
    assert unknown_fields(job, "V1Job") == []
    job["spec"]["template"]["spec"]["containers"][0]["arg"] = []
    assert unknown_fields(job, "V1Job") == ["V1Container.arg"]


def test_another_sweep_is_another_job_and_the_same_one_the_same(tmp_path: Path) -> None:
    first = manifest(sweep_file(tmp_path))
    assert manifest(sweep_file(tmp_path)) == first
    other = manifest(sweep_file(tmp_path, (64,)))
    assert other[1]["metadata"]["name"] != first[1]["metadata"]["name"]


def test_the_command_of_the_pods_makes_the_table(tmp_path: Path) -> None:
    config, job = manifest(sweep_file(tmp_path), "--shards", "2")
    (tmp_path / "sweep.yaml").write_text(config["data"]["sweep.yaml"])
    (container,) = job["spec"]["template"]["spec"]["containers"]
    command = [*container["command"], *container["args"]]
    command = [part.replace("/sweep/", f"{tmp_path}/").replace("/results/", f"{tmp_path}/") for part in command]
    # The image has no rich.
    without = f"import sys, runpy; sys.modules['rich'] = None; sys.argv = {command[2:]!r}; "
    code = without + f"runpy.run_module({command[2]!r}, run_name='__main__')"
    for index in ("0", "1"):
        environment = {**os.environ, "JOB_COMPLETION_INDEX": index}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["inference.inputTokens"] for row in rows] == ["1024", "2048", "4096"]
    assert all(float(row["tokensPerSecond"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--claim", "results"], "--claim: is about the Job; give --manifest too"),
        (["--name", "sweep"], "--name: is about the Job"),
        (["--shards", "4"], "--shards: is about the Job"),
        (["--manifest", "--claim", "results", "-o", "../decode.csv"], "--output: '../decode.csv': the pods write into"),
    ],
)
def test_flags_of_the_job_are_given_with_it_and_the_table_is_in_the_claim(
    tmp_path: Path, flags: list[str], said: str
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("base: {}\ngrid: {}\n", encoding="utf-8")
    result = CliRunner().invoke(cli, ["sweep", "-f", str(file), "-o", "decode.csv", *flags])
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
