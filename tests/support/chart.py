"""The chart as Helm renders it, with the same binary that installs it."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

import binaries
from support.apiserver import ApiServer

__all__ = [
    "AGENT_NAMESPACE",
    "CHART",
    "NAMESPACE",
    "RELEASE",
    "ROOT",
    "HelmError",
    "find",
    "helm",
    "missing_helm",
    "pod_specs",
    "remove_namespace",
    "render",
]

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "helm" / "supernode"
RELEASE: Final = "supernode"
NAMESPACE: Final = "supernode-system"
AGENT_NAMESPACE: Final = f"{RELEASE}-agent"
KUBE_VERSION: Final = "1.34.0"

Json = dict[str, Any]


class HelmError(Exception):
    """Helm refused; the message is what it printed."""


def missing_helm() -> str:
    """Say why Helm cannot be called; empty if it can."""
    return "" if _binary() else "helm is missing; run: python3 devcluster/cluster.py prepare"


def helm(*arguments: str | Path, kubeconfig: Path | None = None) -> str:
    """Run helm; return what it printed on stdout, raise :class:`HelmError` with all of it."""
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig or os.devnull)}
    argv = [_binary(), *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise HelmError(done.stderr + done.stdout)
    return done.stdout


def render(
    values: Mapping[str, Any] | None = None, *, release: str = RELEASE, kube_version: str = KUBE_VERSION
) -> list[Json]:
    """Return the objects of the chart, hooks and tests included, with these values over the defaults."""
    return json.loads(_render(json.dumps(values or {}), release, kube_version))  # type: ignore[no-any-return]


def find(objects: list[Json], kind: str, name: str) -> Json:
    """Return the one object of that kind whose name is the release's with this suffix."""
    full = f"{RELEASE}-{name}"
    found = [obj for obj in objects if obj["kind"] == kind and obj["metadata"]["name"] == full]
    assert len(found) == 1, f"{kind} {full}: {len(found)} of {sorted({obj['kind'] for obj in objects})}"
    return found[0]


def pod_specs(objects: list[Json]) -> Iterator[tuple[str, Json]]:
    """Yield (kind/name, pod spec) of everything that makes pods."""
    for obj in objects:
        spec = obj.get("spec") or {}
        if obj["kind"] == "Pod":
            yield f"Pod/{obj['metadata']['name']}", spec
        elif "template" in spec:
            yield f"{obj['kind']}/{obj['metadata']['name']}", spec["template"]["spec"]


def remove_namespace(server: ApiServer, name: str) -> None:
    """Delete a namespace of a server in which no controller finishes that."""
    server.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    server.request("PUT", f"/api/v1/namespaces/{name}/finalize", body)


@functools.cache
def _binary() -> str:
    (helm_binary,) = (one for one in binaries.BINARIES if one.name == "helm")
    return str(binaries.locate(helm_binary) or "")


@functools.cache
def _render(values: str, release: str, kube_version: str) -> str:
    options = ["--namespace", NAMESPACE, "--kube-version", kube_version]
    for key, value in json.loads(values).items():
        options += ["--set-json", f"{key}={json.dumps(value)}"]
    text = helm("template", release, CHART, *options)
    return json.dumps([obj for obj in yaml.load_all(text, _loader()) if obj])


def _loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)
