"""Scenario files and workload manifests, read into plain documents; every error names the file and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from supernode_cli.errors import CliError, ScenarioError
from supernode_cli.manifests import (
    WORKLOAD,
    as_scenario,
    is_manifest,
    kinds_of,
    unwrapped,
    workload_key,
    workload_name,
)
from supernode_cli.yaml_documents import DuplicateKeyError, read_yaml

__all__ = ["read_document", "read_named_document"]

MAX_FILE_BYTES: Final = 1 << 20


def read_document(path: str, name: str | None = None) -> dict[str, Any]:
    """Return the one scenario of a file (``-`` is standard input), or the one SuperNodeWorkload as a scenario.

    Of several workloads ``name`` chooses one.
    """
    return read_named_document(path, name)[0]


def read_named_document(path: str, name: str | None = None) -> tuple[dict[str, Any], str | None]:
    """Return the same and, of a SuperNodeWorkload that has a name, its namespace and name with a slash between."""
    given = _one(path, unwrapped(_parse(path)), name)
    try:
        document = as_scenario(given)
    except ScenarioError as error:
        raise CliError(f"{path}: {error}") from None
    if not isinstance(document, dict):
        what = type(document).__name__
        raise CliError(f"{path}: a scenario is a mapping with training, inference or kernel, this is {what}")
    return document, workload_key(given)


def _parse(path: str) -> list[Any]:
    import yaml

    if not path:
        raise CliError("--file: names no file; give one, or - for standard input")
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


def _one(path: str, documents: list[Any], name: str | None) -> Any:
    """Return the only document, or of several the only one that can run; of the workloads, the one of a name."""
    workloads = [document for document in documents if is_manifest(document) and document.get("kind") == WORKLOAD]
    names = [workload_name(workload) for workload in workloads]
    chosen = documents
    if name is not None:
        chosen = [workload for workload, known in zip(workloads, names, strict=True) if known == name]
        if not chosen:
            raise CliError(f"{path}: has no SuperNodeWorkload {name!r}; there are {', '.join(names) or 'none'}")
    elif len(documents) > 1:
        chosen = workloads + [document for document in documents if not is_manifest(document)]
    if len(chosen) == 1:
        return chosen[0]
    remedy = f"choose with --workload one of {', '.join(names)}" if len(names) > 1 else "give one"
    if not names and len(chosen) > 1:
        remedy = "give one, or all of them to supernode sweep"
    raise CliError(f"{path}: needs one scenario or one {WORKLOAD}, has {kinds_of(documents)}: {remedy}")


def _read_file(path: str) -> str:
    file = Path(path)
    if file.stat().st_size > MAX_FILE_BYTES:
        raise CliError(f"{path}: is larger than 1 MiB; a scenario is a few lines")
    return file.read_text(encoding="utf-8")


def _read_input() -> str:
    import sys

    return sys.stdin.read(MAX_FILE_BYTES)
