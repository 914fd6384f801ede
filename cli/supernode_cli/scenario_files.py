"""Scenario files and workload manifests, read into plain documents; every error names the file and the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from supernode_cli.errors import CliError
from supernode_cli.yaml_documents import DuplicateKeyError, read_yaml

__all__ = ["WORKLOAD", "from_workload", "read_document"]

MAX_FILE_BYTES: Final = 1 << 20
WORKLOAD: Final = "SuperNodeWorkload"
"""The kind of manifest that is taken as a scenario."""


def read_document(path: str, name: str | None = None) -> dict[str, Any]:
    """Return the one scenario of a file (``-`` is standard input), or the one SuperNodeWorkload as a scenario.

    Of several workloads ``name`` chooses one.
    """
    document = _one(path, _parse(path), name)
    return from_workload(document) if document.get("kind") == WORKLOAD else document


def _parse(path: str) -> list[Any]:
    import yaml

    try:
        text = _read_input() if path == "-" else _read_file(path)
        return read_yaml(text)
    except DuplicateKeyError as error:
        raise CliError(f"{path}: {error}") from None
    except OSError as error:
        raise CliError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CliError(f"{path}: is not UTF-8 text") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise CliError(f"{path}: is not YAML: {problem[:200]}") from None


def _one(path: str, documents: list[Any], name: str | None) -> dict[str, Any]:
    workloads = [d for d in documents if isinstance(d, dict) and d.get("kind") == WORKLOAD]
    chosen = workloads if len(documents) > 1 or name is not None else documents
    names = [_name(workload) for workload in workloads]
    if name is not None:
        chosen = [workload for workload, known in zip(workloads, names, strict=True) if known == name]
        if not chosen:
            raise CliError(f"{path}: has no SuperNodeWorkload {name!r}; there are {', '.join(names) or 'none'}")
    if len(chosen) != 1:
        which = f": choose with --workload one of {', '.join(names)}" if len(names) > 1 else ""
        raise CliError(f"{path}: needs one scenario or one SuperNodeWorkload, has {len(chosen)}{which}")
    (document,) = chosen
    if not isinstance(document, dict):
        what = type(document).__name__
        raise CliError(f"{path}: a scenario is a mapping with training, inference or kernel, this is {what}")
    return document


def _name(workload: dict[str, Any]) -> str:
    metadata = workload.get("metadata")
    return str(metadata.get("name")) if isinstance(metadata, dict) else "one without a name"


def _read_file(path: str) -> str:
    file = Path(path)
    if file.stat().st_size > MAX_FILE_BYTES:
        raise CliError(f"{path}: is larger than 1 MiB; a scenario is a few lines")
    return file.read_text(encoding="utf-8")


def _read_input() -> str:
    import sys

    return sys.stdin.read(MAX_FILE_BYTES)


def from_workload(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest as a scenario: its managed nodes are the machine's. What is wrong in it is found there."""
    spec = document.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    pods = spec.get("pods")
    managed = pods.get("managed") if isinstance(pods, dict) else None
    nodes = managed.get("nodes") if isinstance(managed, dict) else None
    machine = {} if nodes is None else {"nodes": nodes}
    taken = {key: spec[key] for key in ("model", "stack", "training", "inference") if key in spec}
    return {"machine": machine, **taken}
