"""Kubernetes manifests among scenarios: which kind one is, what is taken of it, and what to give instead. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from supernode_api.names import API_VERSION
from supernode_cli.errors import ScenarioError
from supernode_dataplane import wording

__all__ = ["WORKLOAD", "as_scenario", "is_manifest", "kinds_of", "unwrapped", "workload_key", "workload_name"]

WORKLOAD: Final = "SuperNodeWorkload"
"""The kind of manifest that is taken as a scenario."""
_OTHERS: Final[Mapping[str, str]] = {
    "SuperNode": "a SuperNode is a machine: give the SuperNodeWorkload that runs on it, or a scenario with "
    "machine.profile and what runs there",
    "ComputeNode": "a ComputeNode is one server of a machine: give a SuperNodeWorkload, or a scenario whose "
    "machine.failed says what is broken",
}
_WANTED: Final = f"give a {WORKLOAD} ({API_VERSION}), or a scenario: a mapping with training, inference or kernel"
_NOT_OF_THE_SCENARIO: Final = frozenset({"superNode", "pods"})
_NOT_OF_A_WORKLOAD: Final = frozenset({"machine", "reliability", "kernel"})


def is_manifest(document: Any) -> bool:
    """Whether a document is a Kubernetes object: no scenario has kind or apiVersion."""
    return isinstance(document, Mapping) and bool({"apiVersion", "kind"} & document.keys())


def unwrapped(documents: list[Any]) -> list[Any]:
    """Return documents with what lists (kind: List, as kubectl prints several objects) have in them."""
    found: list[Any] = []
    for document in documents:
        items = document.get("items") if is_manifest(document) else None
        found += items if isinstance(items, list) and str(document.get("kind")).endswith("List") else [document]
    return found


def as_scenario(document: Any) -> Any:
    """Return a SuperNodeWorkload as a scenario, and what is no manifest as it is.

    ScenarioError for another kind, or another version of it; what is wrong in a workload's spec is found there.
    """
    if not is_manifest(document):
        return document
    kind, version = document.get("kind"), document.get("apiVersion", API_VERSION)
    if kind != WORKLOAD:
        raise ScenarioError("", _other_kind(kind, version))
    if version != API_VERSION:
        raise ScenarioError("apiVersion", wording.must_be(API_VERSION, version))
    return _from_workload(document)


def workload_name(document: Mapping[str, Any]) -> str:
    """Return the name of a workload, for people."""
    metadata = document.get("metadata")
    return str(metadata.get("name")) if isinstance(metadata, dict) else "one without a name"


def workload_key(document: Any) -> str | None:
    """Return namespace and name of a workload (``default/llama``); None without a name that can be printed."""
    metadata = document.get("metadata") if is_manifest(document) else None
    if not isinstance(metadata, Mapping):
        return None
    name, namespace = metadata.get("name"), metadata.get("namespace")
    return f"{namespace if _printable(namespace) else 'default'}/{name}" if _printable(name) else None


def kinds_of(documents: list[Any]) -> str:
    """Return what documents are, in words: ``a Pod, 2 scenarios``."""
    counts = Counter(str(d.get("kind")) if is_manifest(d) else "scenario" for d in documents)
    words = [f"a {kind}" if count == 1 else f"{count} {kind}s" for kind, count in counts.items()]
    return ", ".join(words) or "nothing"


def _printable(name: Any) -> bool:
    return isinstance(name, str) and name.isprintable() and bool(name.strip())


def _other_kind(kind: Any, version: Any) -> str:
    if kind is None:
        return f"has an apiVersion and no kind: {_WANTED}"
    near = wording.nearest(str(kind), [WORKLOAD]) if kind not in _OTHERS else ""
    remedy = f"did you mean {near}?" if near else _OTHERS.get(str(kind), _WANTED)
    return f"is of kind {str(kind)[:64]} ({str(version)[:64]}): {remedy}"


def _from_workload(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a workload's spec; its managed nodes are the machine's."""
    spec = document.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    pods = spec.get("pods")
    managed = pods.get("managed") if isinstance(pods, dict) else None
    nodes = managed.get("nodes") if isinstance(managed, dict) else None
    machine = {} if nodes is None else {"nodes": nodes}
    more = sorted(_NOT_OF_A_WORKLOAD & spec.keys())
    if more:
        raise ScenarioError(f"spec.{more[0]}", f"is no field of a {WORKLOAD}: write a scenario, which has {more[0]}")
    return {"machine": machine, **{key: value for key, value in spec.items() if key not in _NOT_OF_THE_SCENARIO}}
