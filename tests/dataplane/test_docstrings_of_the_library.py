"""The functions that docs/commands.md names for use as a library say units, shapes, errors and sources."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
SAYS = {
    "units": r"\b(seconds|bytes|tokens|dies|cards|percent|FLOPs)\b",
    "shapes": r"\b([Aa]rrays?|shapes?|[Tt]uples?|lists?|one number)\b|\bStep\b|\bseconds with their causes\b",
    "errors": r"\b[Rr]aise[sd]?\b|\b[A-Z]\w+Error\b|\bno error\b",
    "sources": r"\b[Ss]ources?\b|arXiv|docs/\w+\.md|data/\w+\.yaml",
}


TABLE = PAGE.read_text(encoding="utf-8").split("| question | function |")[1].split("\n\n")[0]


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for row in TABLE.splitlines()[2:]:
        home = "supernode_dataplane"
        for name in re.findall(r"`([\w.]+)`", row.split("|")[2]):
            path = name if name.startswith("supernode_dataplane") else f"supernode_dataplane.{name}"
            found = _found(path) or _found(f"{home}.{name}")
            assert found is not None, name
            if isinstance(found, ModuleType):
                public = ((each, getattr(found, each)) for each in found.__all__)
                yield from ((f"{path}.{each}", value) for each, value in public if inspect.isroutine(value))
            else:
                home = path.rpartition(".")[0]
                yield path, found


def _found(path: str) -> Any:
    parent, _, name = path.rpartition(".")
    try:
        return getattr(import_module(parent), name)
    except (ImportError, AttributeError):
        try:
            return import_module(path)
        except ImportError:
            return None


FUNCTIONS = dict(functions())


def test_the_table_names_functions_that_there_are() -> None:
    assert len(FUNCTIONS) > 20
    assert {"plan_training", "validate", "all_claims", "ring_seconds"} <= {
        name.rpartition(".")[2] for name in FUNCTIONS
    }


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize("what", sorted(SAYS))
def test_a_function_of_the_library_says(name: str, what: str) -> None:
    home = name.rpartition(".")[0].removeprefix("supernode_dataplane.")
    # Of a module that is named as a whole, what holds for all of its functions stands at its head.
    shared = inspect.getdoc(inspect.getmodule(FUNCTIONS[name])) if f"`supernode_dataplane.{home}`" in TABLE else ""
    text = f"{inspect.getdoc(FUNCTIONS[name])} {shared}"
    assert re.search(SAYS[what], text), f"{name} says no {what}: {text}"
