"""What a sweep file says: scenarios, as a grid around a base or one by one.

    base: {model: {name: deepseek-r1}, inference: {...}}       a scenario
    grid:                                                      a point for each combination, the last key fastest
      inference.inputTokens: [1024, 4096]
      machine.nodes: [10, 20, 40, null]                      null: without the field

or a file of scenarios: YAML documents, or JSON lines. A SuperNodeWorkload may stand for a scenario, as it may with
`simulate`: its managed nodes are the machine's, and the paths of a grid are those of a scenario. Points are made when
they are asked for, by their number: a grid of millions costs nothing until it runs, and any process can make any
point of it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from supernode_cli.errors import CliError, ScenarioError
from supernode_cli.manifests import WORKLOAD, as_scenario, is_manifest, unwrapped
from supernode_cli.yaml_documents import DuplicateKeyError, read_yaml

__all__ = [
    "KERNEL",
    "WORKLOADS",
    "Grid",
    "Listed",
    "Points",
    "column_kinds",
    "leaves",
    "parse_points",
    "put",
    "sweep_digest",
]

MOST_POINTS: Final = 10_000_000
_KEYS: Final = frozenset({"base", "grid"})
KERNEL: Final = "kernel"
"""The part of a scenario, and the family of points that have it."""
WORKLOADS: Final = "workload"
_PARTS: Final = {KERNEL: KERNEL, "training": WORKLOADS, "inference": WORKLOADS}


class Points(Protocol):
    """The points of a sweep, by number."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Dotted paths of the fields in which points differ."""
        ...

    @property
    def families(self) -> frozenset[str]:
        """Whether points have a ``kernel``, a ``workload`` (training or inference), or some one and some the other."""
        ...

    def __len__(self) -> int:
        """Return how many points there are."""
        ...

    def document(self, number: int) -> Any:
        """Return the scenario of a point as a document of its own."""
        ...

    def values(self, number: int) -> tuple[Any, ...]:
        """Return what the columns are at a point; None where it lacks the field."""
        ...


@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination of the values of some fields, around a base."""

    base: Mapping[str, Any]
    axes: tuple[tuple[str, tuple[Any, ...]], ...]
    families: frozenset[str] = field(init=False)
    """What the base and the axes say; kept, as every row asks for it."""

    def __post_init__(self) -> None:
        """Look at what the points are."""
        said = {path.partition(".")[0]: True for path, _ in self.axes}
        object.__setattr__(self, "families", _families([self.base, said]))

    @property
    def columns(self) -> tuple[str, ...]:
        """Dotted paths of the axes."""
        return tuple(path for path, _ in self.axes)

    def __len__(self) -> int:
        """Return the product of the axes' lengths."""
        return math.prod(len(values) for _, values in self.axes)

    def values(self, number: int) -> tuple[Any, ...]:
        """Return the value of each axis at a point; the last axis is the fastest."""
        chosen = []
        for _, values in reversed(self.axes):
            number, place = divmod(number, len(values))
            chosen.append(values[place])
        return tuple(reversed(chosen))

    def document(self, number: int) -> Any:
        """Return the base with the values of a point; without a field whose value is null."""
        document = copy.deepcopy(dict(self.base))
        for path, value in zip(self.columns, self.values(number), strict=True):
            if value is None:
                _leave_out(document, path)
            else:
                put(document, path, copy.deepcopy(value))
        return document


@dataclass(frozen=True, slots=True)
class Listed:
    """Scenarios one by one; the columns are the fields that are not the same in all of them."""

    documents: tuple[Any, ...]
    columns: tuple[str, ...]
    families: frozenset[str] = frozenset({WORKLOADS})

    @classmethod
    def of(cls, documents: Sequence[Any]) -> Listed:
        """Return them with their columns, in the order in which fields first occur."""
        seen: dict[str, str] = {}
        counts: dict[str, int] = {}
        different: set[str] = set()
        for document in documents:
            for path, value in leaves(document):
                text = json.dumps(value, sort_keys=True)
                if seen.setdefault(path, text) != text:
                    different.add(path)
                counts[path] = counts.get(path, 0) + 1
        columns = tuple(path for path in seen if path in different or counts[path] < len(documents))
        return cls(tuple(documents), columns, _families(documents))

    def __len__(self) -> int:
        """Return the number of scenarios."""
        return len(self.documents)

    def document(self, number: int) -> Any:
        """Return a scenario, as the caller's own."""
        return deepcopy(self.documents[number])

    def values(self, number: int) -> tuple[Any, ...]:
        """Return the columns of a scenario."""
        found = dict(leaves(self.documents[number]))
        return tuple(found.get(path) for path in self.columns)


def parse_points(path: str, text: str) -> Points:
    """Return the points of a sweep file; JSON lines where its name ends in .jsonl, else YAML.

    :raises CliError: what cannot be read, with its line or field, and what to do.
    """
    documents = unwrapped(_json_lines(path, text) if path.endswith(".jsonl") else _yaml(path, text))
    if not documents:
        raise CliError(f"{path}: has no scenario; give base and grid, or at least one scenario")
    if len(documents) > MOST_POINTS:
        raise CliError(f"{path}: has {len(documents)} scenarios; a sweep takes {MOST_POINTS:,}: split the file")
    first = documents[0]
    if len(documents) == 1 and isinstance(first, dict) and _KEYS & first.keys():
        return _grid(path, first)
    return Listed.of([_scenario(path, document) for document in _without_others(documents)])


def column_kinds(points: Points) -> dict[str, type]:
    """Return what each column holds at every point that has it: bool, int, float, or else str."""
    if isinstance(points, Grid):
        return {path: _kind(values) for path, values in points.axes}
    rows = [points.values(number) for number in range(len(points))]
    return {path: _kind(column) for path, column in zip(points.columns, zip(*rows, strict=True), strict=True)}


def sweep_digest(points: Points, version: str) -> str:
    """Return what tells sweeps apart: of all that their rows depend on, the model's version too."""
    said = [points.base, points.axes] if isinstance(points, Grid) else [getattr(points, "documents", ())]
    text = json.dumps([version, *said], separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _json_lines(path: str, text: str) -> list[Any]:
    documents = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            documents.append(json.loads(line, parse_constant=_no_constant, object_pairs_hook=_no_twice))
        except DuplicateKeyError as error:
            raise CliError(f"{path}: line {number}: {error}") from None
        except (ValueError, RecursionError):
            raise CliError(f"{path}: line {number} is not JSON; write one scenario on each line") from None
    return documents


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DuplicateKeyError(f"key {twice[:64]!r} stands twice; leave one out")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _yaml(path: str, text: str) -> list[Any]:
    import yaml

    try:
        documents = read_yaml(text)
        # What JSON cannot say (dates, sets, loops) no scenario can.
        json.dumps(documents, allow_nan=False)
    except DuplicateKeyError as error:
        raise CliError(f"{path}: {error}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise CliError(f"{path}: is not YAML: {' '.join(str(error).split())[:200]}") from None
    except TypeError as error:
        raise CliError(f"{path}: has a value that JSON does not know ({error}); write it in quotes") from None
    return documents


def _scenario(path: str, document: Any) -> Any:
    """Return a SuperNodeWorkload as a scenario; what is no manifest as it is."""
    try:
        return as_scenario(document)
    except ScenarioError as error:
        raise CliError(f"{path}: {error}") from None


def _without_others(documents: list[Any]) -> list[Any]:
    """Leave out the manifests of other kinds that a file has beside its workloads."""
    kept = [document for document in documents if not is_manifest(document) or document.get("kind") == WORKLOAD]
    return kept or documents


def _grid(path: str, document: dict[str, Any]) -> Grid:
    unknown = sorted(str(key) for key in document.keys() - _KEYS)
    if unknown:
        raise CliError(f"{path}: unknown field {unknown[0]}: a grid has base and grid")
    base, axes = _scenario(f"{path}: base", document.get("base")), document.get("grid")
    if not isinstance(base, dict):
        raise CliError(f"{path}: base: must be a scenario: a mapping with training, inference or kernel")
    if not isinstance(axes, dict) or not axes:
        raise CliError(f"{path}: grid: must map dotted paths to lists, such as inference.inputTokens: [1024, 4096]")
    for key, values in axes.items():
        if not isinstance(key, str) or not all(key.split(".")):
            raise CliError(f"{path}: grid: {key!r} is not a dotted path, such as inference.inputTokens")
        if not isinstance(values, list) or not values:
            raise CliError(f"{path}: grid.{key}: must be a list of at least one value")
        try:
            put(copy.deepcopy(base), key, values[0])
        except _NotAMapping as error:
            raise CliError(
                f"{path}: grid.{key}: {error.path} is no mapping in base; change base, or the path"
            ) from None
    for key in axes:
        above = next((other for other in axes if key.startswith(f"{other}.")), None)
        if above is not None:
            raise CliError(f"{path}: grid.{key}: is a part of {above}, which the grid sets too; leave out one of both")
    grid = Grid(base, tuple((key, tuple(values)) for key, values in axes.items()))
    if len(grid) > MOST_POINTS:
        raise CliError(f"{path}: grid: has {len(grid):,} points; a sweep takes {MOST_POINTS:,}: split it")
    return grid


class _NotAMapping(Exception):
    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)


def put(document: dict[str, Any], path: str, value: Any) -> None:
    """Set what a document has at a dotted path; mappings that lack are made."""
    node, (*parents, last) = document, path.split(".")
    for depth, parent in enumerate(parents, 1):
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            raise _NotAMapping(".".join(parents[:depth]))
    node[last] = value


def _families(documents: Iterable[Any]) -> frozenset[str]:
    found: set[str] = set()
    for document in documents:
        if isinstance(document, Mapping):
            found |= {family for part, family in _PARTS.items() if document.get(part) is not None}
    return frozenset(found or {WORKLOADS})


def _leave_out(document: dict[str, Any], path: str) -> None:
    node: Any = document
    *parents, last = path.split(".")
    for parent in parents:
        node = node.get(parent)
        if not isinstance(node, dict):
            return
    node.pop(last, None)


def _kind(values: Sequence[Any]) -> type:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return bool
    if kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):
        return int
    return float if kinds and kinds <= {int, float} else str


def leaves(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return (dotted path, value) of everything in a document that is no mapping with keys."""
    if not isinstance(value, dict) or not value:
        return [(prefix, value)]
    return [leaf for key, inner in value.items() for leaf in leaves(inner, f"{prefix}.{key}" if prefix else str(key))]
