"""Scenario files and workload manifests, read into plain documents; every error names the file and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from supernode_cli.errors import CliError

__all__ = ["read_document"]

MAX_FILE_BYTES: Final = 1 << 20


def read_document(path: str) -> dict[str, Any]:
    """Return the one scenario of a file (``-`` is standard input), or the one SuperNodeWorkload as a scenario."""
    document = _one(path, _parse(path))
    return _from_workload(document) if document.get("kind") == "SuperNodeWorkload" else document


def _parse(path: str) -> list[Any]:
    import yaml

    try:
        text = _read_input() if path == "-" else _read_file(path)
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return [document for document in yaml.load_all(text, Loader=loader) if document is not None]
    except OSError as error:
        raise CliError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CliError(f"{path}: is not UTF-8 text") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise CliError(f"{path}: is not YAML: {problem[:200]}") from None


def _one(path: str, documents: list[Any]) -> dict[str, Any]:
    workloads = [d for d in documents if isinstance(d, dict) and d.get("kind") == "SuperNodeWorkload"]
    chosen = workloads if len(documents) > 1 else documents
    if len(chosen) != 1:
        raise CliError(f"{path}: needs one scenario or one SuperNodeWorkload, has {len(chosen)}")
    (document,) = chosen
    if not isinstance(document, dict):
        what = type(document).__name__
        raise CliError(f"{path}: a scenario is a mapping with model and training or inference, this is {what}")
    return document


def _read_file(path: str) -> str:
    file = Path(path)
    if file.stat().st_size > MAX_FILE_BYTES:
        raise CliError(f"{path}: is larger than 1 MiB; a scenario is a few lines")
    return file.read_text(encoding="utf-8")


def _read_input() -> str:
    import sys

    return sys.stdin.read(MAX_FILE_BYTES)


def _from_workload(document: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest as a scenario: its managed nodes are the machine's. What is wrong in it is found there."""
    spec = document.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    pods = spec.get("pods")
    managed = pods.get("managed") if isinstance(pods, dict) else None
    nodes = managed.get("nodes") if isinstance(managed, dict) else None
    machine = {} if nodes is None else {"nodes": nodes}
    taken = {key: spec[key] for key in ("model", "stack", "training", "inference") if key in spec}
    return {"machine": machine, **taken}
