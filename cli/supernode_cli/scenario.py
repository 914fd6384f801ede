"""Scenario files: one operating point that needs no cluster.

A scenario is the training part of a workload with a machine::

    machine: {profile: cloudmatrix-384, nodes: 48}    # nodes absent = all
    model: {name: llama-3.1-405b}
    stack: vendor-tuned
    training: {sequenceLength: 8192, globalBatchSize: 192, parallelism: {tensor: 16, pipeline: 8, virtualPipeline: 4}}

A SuperNodeWorkload manifest is taken as well: its managed nodes are the machine's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

from supernode_api.common import ApiModel
from supernode_api.workload import ModelRef, Stack, SuperNodeWorkload, Training
from supernode_cli.errors import CliError

__all__ = ["Machine", "Scenario", "load_scenario"]

MAX_FILE_BYTES = 1 << 20


class Machine(ApiModel):
    """Which machine, and how many of its servers the workload gets."""

    profile: str = Field(default="cloudmatrix-384", min_length=1, max_length=63, description="Hardware profile.")
    nodes: int | None = Field(default=None, ge=1, le=1024, description="Servers in use; absent: all.")


class Scenario(ApiModel):
    """One operating point."""

    machine: Machine = Field(default_factory=Machine, description="The machine.")
    model: ModelRef = Field(description="What is trained.")
    stack: Stack = Field(default=Stack.VENDOR_TUNED, description="Software stack.")
    training: Training = Field(description="The training run.")


def load_scenario(path: str) -> Scenario:
    """Read a scenario file (``-`` is standard input); CliError names the field and the remedy."""
    document = _read(path)
    if document.get("kind") == "SuperNodeWorkload":
        document = _from_workload(document, path)
    unknown = _unknown_keys(Scenario, document)
    if unknown:
        raise CliError(f"{path}: unknown field {unknown[0]}: {_known(Scenario, unknown[0])}")
    try:
        scenario = Scenario.model_validate(document)
    except ValidationError as error:
        raise CliError(f"{path}: {_explain(error)}") from None
    if (scenario.model.name is None) == (scenario.model.config is None):
        raise CliError(f"{path}: model: give exactly one of name and config")
    if scenario.training.tokens is not None and scenario.training.steps is not None:
        raise CliError(f"{path}: training: give tokens or steps, not both")
    return scenario


def _read(path: str) -> dict[str, Any]:
    try:
        text = click_stdin() if path == "-" else _read_file(path)
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        documents = [d for d in yaml.load_all(text, Loader=loader) if d is not None]
    except OSError as error:
        raise CliError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CliError(f"{path}: is not UTF-8 text") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise CliError(f"{path}: is not YAML: {problem[:200]}") from None
    workloads = [d for d in documents if isinstance(d, dict) and d.get("kind") == "SuperNodeWorkload"]
    chosen = workloads if len(documents) > 1 else documents
    if len(chosen) != 1:
        raise CliError(f"{path}: needs one scenario or one SuperNodeWorkload, has {len(chosen)}")
    (document,) = chosen
    if not isinstance(document, dict):
        raise CliError(f"{path}: a scenario is a mapping with model and training, this is {type(document).__name__}")
    return document


def _read_file(path: str) -> str:
    file = Path(path)
    if file.stat().st_size > MAX_FILE_BYTES:
        raise CliError(f"{path}: is larger than 1 MiB; a scenario is a few lines")
    return file.read_text(encoding="utf-8")


def click_stdin() -> str:
    """Read standard input, at most what a scenario may have."""
    import sys

    return sys.stdin.read(MAX_FILE_BYTES)


def _from_workload(document: dict[str, Any], path: str) -> dict[str, Any]:
    try:
        workload = SuperNodeWorkload.model_validate(document)
    except ValidationError as error:
        raise CliError(f"{path}: {_explain(error)}") from None
    spec = document["spec"]
    machine = {"nodes": workload.spec.pods.managed.nodes} if workload.spec.pods.managed else {}
    return {"machine": machine, **{key: spec[key] for key in ("model", "stack", "training") if key in spec}}


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    got = first.get("input")
    shown = f", got {got!r}"[:80] if not isinstance(got, dict | list) and first["type"] != "missing" else ""
    return f"{field}: {first['msg']}{shown}"


def _unknown_keys(model: type[BaseModel], data: Any, prefix: str = "") -> list[str]:
    if not isinstance(data, dict):
        return []
    fields = {(info.alias or name): info.annotation for name, info in model.model_fields.items()}
    unknown: list[str] = []
    for key, value in data.items():
        if key not in fields:
            unknown.append(f"{prefix}{key}")
            continue
        for kind in (fields[key], *get_args(fields[key])):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                unknown += _unknown_keys(kind, value, f"{prefix}{key}.")
    return unknown


def _known(model: type[BaseModel], dotted: str) -> str:
    current: Any = model
    for part in dotted.split(".")[:-1]:
        info = next(i for n, i in current.model_fields.items() if (i.alias or n) == part)
        kinds = (info.annotation, *get_args(info.annotation))
        current = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
    names = ", ".join(sorted(info.alias or name for name, info in current.model_fields.items()))
    return f"known here are {names}"
