"""The image's recipe and the way to kind, as far as they can be proven on a machine without Docker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import configs
import images
from instance import Instance
from support.chart import NAMESPACE, RELEASE, ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
SCRIPTS = sorted((ROOT / "devcluster").glob("*.sh"))


# ------------------------------------------------------------ image


def test_the_image_holds_every_package_where_the_path_looks() -> None:
    copied = re.findall(r"^COPY (\S+) /app/(\S+)$", DOCKERFILE, re.MULTILINE)
    assert copied == [(package, package.rpartition("/")[2]) for package in PACKAGES]
    assert re.search(r"^ENV PYTHONPATH=/app:/deps ", DOCKERFILE, re.MULTILINE)


def test_the_context_of_the_build_is_what_the_image_needs_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert let_in == {*PACKAGES, "requirements-image.lock"}
    assert all((ROOT / path).exists() for path in let_in)


def test_dependencies_come_from_the_lock_file_with_hashes_and_from_no_named_index() -> None:
    assert "--require-hashes --no-deps" in DOCKERFILE
    assert "-r /build/requirements-image.lock" in DOCKERFILE
    for text in (DOCKERFILE, (ROOT / "requirements-image.lock").read_text(encoding="utf-8")):
        assert "://" not in text
        assert "index-url" not in text


def test_the_base_can_be_pinned_by_digest_and_is_the_same_in_both_stages() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.11-slim$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]


def test_the_image_runs_as_nobody_in_particular() -> None:
    last_stage = DOCKERFILE.rpartition("FROM ")[2]
    assert re.search(r"^USER 65532:65532$", last_stage, re.MULTILINE)
    assert "RUN" not in re.findall(r"^[A-Z]+", last_stage, re.MULTILINE)


def test_bytecode_of_the_base_and_of_ours_is_made_once_and_found_where_it_was_put() -> None:
    build, _, last = DOCKERFILE.rpartition("FROM ")
    assert re.search(r"^ENV PYTHONPYCACHEPREFIX=(\S+)$", build, re.MULTILINE)[1] == "/pycache"
    assert "PYTHONPYCACHEPREFIX=/pycache" in last
    assert "COPY --from=build /pycache /pycache" in last
    assert 'sysconfig.get_path("stdlib")' in build


def test_the_image_says_what_it_is() -> None:
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in DOCKERFILE
    assert f"ARG VERSION={PROJECT['project']['version']}" in DOCKERFILE


def test_the_image_without_docker_is_made_of_the_same_parts() -> None:
    source = Path(images.__file__).read_text(encoding="utf-8")
    assert '["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]' in source, "the wheel's packages, as here"
    assert '_USER: Final = "65532:65532"' in source
    assert "PYTHONPATH=/app:/deps" in source


# ------------------------------------------------------------ kind


def kind_config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "kind-config.yaml").read_text(encoding="utf-8"))


def test_kind_has_one_worker_that_the_example_selects() -> None:
    config = kind_config()
    assert [node["role"] for node in config["nodes"]] == ["control-plane", "worker"]
    example = yaml.safe_load((ROOT / "examples" / "supernode-384.yaml").read_text(encoding="utf-8"))
    assert config["nodes"][1]["labels"] == example["spec"]["nodes"]["selector"]["matchLabels"]


def test_kinds_kubernetes_is_one_that_the_chart_takes() -> None:
    for node in kind_config()["nodes"]:
        found = re.fullmatch(r"kindest/node:v1\.(\d+)\.\d+(@sha256:[0-9a-f]{64})?", node["image"])
        assert found
        assert int(found[1]) >= 34


def test_kinds_kubelet_publishes_devices_as_fast_as_devclusters(tmp_path: Path) -> None:
    (patch,) = kind_config()["kubeadmConfigPatches"]
    kind = yaml.safe_load(patch)
    assert (kind["apiVersion"], kind["kind"]) == ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration")
    rendered = configs.render(Instance("kindtest", 0, tmp_path), (), "")
    ours = next(text for name, text in rendered.items() if "kubelet" in name and "KubeletConfiguration" in text)
    own = yaml.safe_load(ours)
    for field in ("nodeStatusUpdateFrequency", "nodeStatusReportFrequency"):
        assert kind[field] == own[field]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean_for_shellcheck(script: Path) -> None:
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, env=with_venv(), check=False)
    assert done.returncode == 0, done.stdout
    assert os.access(script, os.X_OK)


def with_venv(*first: Path) -> dict[str, str]:
    path = os.pathsep.join([*map(str, first), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path}


def stub(folder: Path, name: str, body: str = "") -> None:
    """Put a program in place of a real one: it writes its arguments down."""
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "{name} $*" >> "{folder}/calls"\n{body}\n')
    program.chmod(0o755)


def run_kind_up(folder: Path, clusters: str) -> list[str]:
    for name in ("docker", "kubectl", "helm"):
        stub(folder, name)
    stub(folder, "kind", f'[ "$1 $2" = "get clusters" ] && echo "{clusters}" || true')
    script = ROOT / "devcluster" / "kind-up.sh"
    subprocess.run([str(script)], env=with_venv(folder), check=True, capture_output=True, timeout=30)
    return (folder / "calls").read_text(encoding="utf-8").splitlines()


def test_kind_up_builds_loads_installs_and_applies_in_this_order(tmp_path: Path) -> None:
    calls = run_kind_up(tmp_path, "")
    version = PROJECT["project"]["version"]
    order = [
        f"docker build --build-arg VERSION={version} --tag supernode:{version} .",
        "kind create cluster --config kind-config.yaml --wait 2m",
        f"kind load docker-image supernode:{version} --name supernode",
        "kubectl --context kind-supernode apply -f -",
        f"kubectl --context kind-supernode label namespace {NAMESPACE} --overwrite"
        " pod-security.kubernetes.io/enforce=restricted",
        f"helm upgrade --install {RELEASE} helm/supernode --kube-context kind-supernode"
        f" --namespace {NAMESPACE} --wait --timeout 3m",
        "kubectl --context kind-supernode apply -f examples/supernode-384.yaml",
        "kubectl --context kind-supernode wait supernode/cm384 --for=condition=Ready --timeout=3m",
    ]
    assert [call for call in calls if call in order] == order
    assert kind_config()["name"] == "supernode"
    for call in calls:
        for path in re.findall(r"\S+\.yaml|helm/\S+", call):
            assert (ROOT / path).exists()


def test_kind_up_can_be_run_again(tmp_path: Path) -> None:
    assert not [call for call in run_kind_up(tmp_path, "supernode") if call.startswith("kind create")]


def test_kind_up_says_what_is_missing(tmp_path: Path) -> None:
    for name in ("bash", "sed", "dirname", "env"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    script = ROOT / "devcluster" / "kind-up.sh"
    done = subprocess.run([str(script)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "kind-up: docker is not installed" in done.stderr


def test_make_kind_up_is_that_script() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^kind-up:.*\n\tdevcluster/kind-up\.sh$", makefile, re.MULTILINE)
