"""The packaged data files, ``data/**.yaml``, and parts of them."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

__all__ = ["data_names", "data_text", "parse_data", "read_data"]


def read_data(*path: str) -> Any:
    """Return the values of a file by its path below ``data``."""
    return parse_data(data_text(*path))


def data_text(*path: str) -> str:
    """Return the text of a file by its path below ``data``."""
    return files("supernode_dataplane").joinpath("data", *path).read_text(encoding="utf-8")


def data_names(folder: str) -> tuple[str, ...]:
    """Return the names of the files in a folder of ``data``, without their suffix, sorted."""
    found = files("supernode_dataplane").joinpath("data", folder).iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in found if file.name.endswith(".yaml")))


def parse_data(text: str) -> Any:
    """Return the values of a YAML text."""
    import yaml  # late: a process that has its values from caches never pays for the reader

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader, in C where there is one
