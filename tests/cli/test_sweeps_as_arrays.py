"""A sweep evaluates points that differ in numbers only as arrays: each as if it were alone, and many a second."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supernode_cli import sweep_rows
from supernode_cli.evaluation import ScenarioError, evaluate
from supernode_cli.sweep_groups import NUMBERS, group_points, group_rows
from supernode_cli.sweep_points import Grid, parse_points, put
from supernode_cli.sweep_rows import row_of, rows_of
from supernode_dataplane.sweeping import SweptFigures, sweep_deployment
from support.scenarios import SMALL_DECODE, bounds_are_a_scenarios, changed

ROOT = Path(__file__).resolve().parents[2]
FIELDS = [name for name in SweptFigures.__slots__ if name not in ("fits", "problems")]
OF_INFERENCE = [path for path in NUMBERS if path.startswith("inference.")]
R1 = {"name": "deepseek-r1"}
DECODE = changed(SMALL_DECODE, inference__speculation={"drafts": 2, "acceptancePercent": [70, 40]})
COLOCATED: dict[str, Any] = {
    "machine": {"nodes": 4, "failed": {"planes": [2], "dies": [{"server": 1, "die": 3}]}},
    "model": {"name": "llama-3.1-70b"},
    "stack": "open-source",
    "inference": {
        "mode": "Colocated",
        "inputTokens": 1024,
        "outputTokens": 64,
        "load": {"concurrency": 64},
        "promptsPerBatch": 2,
        "cache": {"reusePercent": 20, "memoryFractionPercent": 80},
        "decode": {"parallelism": {"tensor": 8}},
    },
}
PREFILL: dict[str, Any] = {
    "machine": {"nodes": 4},
    "model": R1,
    "inference": {
        "mode": "Prefill",
        "inputTokens": 1024,
        "promptsPerBatch": 2,
        "cache": {"reusePercent": 20},
        "prefill": {"parallelism": {"tensor": 2, "expert": 32}, "experts": {"imbalancePercent": 120}},
    },
}
DISAGGREGATED: dict[str, Any] = {
    "machine": {"nodes": 12, "failed": {"l1": [{"server": 1, "plane": 3}]}},
    "model": R1,
    "inference": {
        "mode": "Disaggregated",
        "inputTokens": 1024,
        "outputTokens": 64,
        "load": {"concurrency": 64},
        "prefill": {"nodes": 2, "parallelism": {"expert": 32}},
        "decode": {"parallelism": {"expert": 32}, "experts": {"imbalancePercent": 120}},
    },
}
ON_GPUS: dict[str, Any] = {**copy.deepcopy(COLOCATED), "machine": {"profile": "h100-cluster", "nodes": 2}}
SPARSE: dict[str, Any] = {**copy.deepcopy(DECODE), "model": {"name": "deepseek-v3.2"}}
BASES = {
    "decode": DECODE,
    "colocated": COLOCATED,
    "prefill": PREFILL,
    "disaggregated": DISAGGREGATED,
    "gpus": ON_GPUS,
    "sparse": SPARSE,
}
LENGTHS = (16, 300, 1024, 4000, 20_000, 200_000)
POINTS = 24


def random_values(path: str, dice: random.Random, count: int) -> list[Any]:
    known = NUMBERS.get(path)
    if known is None:
        return [sorted(dice.sample(range(101), 2), reverse=True) for _ in range(count)]
    if "Tokens" in path:
        return [dice.choice(LENGTHS) + dice.randrange(16) for _ in range(count)]
    most = {"inference.load.concurrency": 800, "inference.promptsPerBatch": 8}.get(path, 150)
    least = 50 if path.endswith("memoryFractionPercent") else int(known.least)
    return [dice.randint(least, min(int(known.most), most)) for _ in range(count)]


def numbers_of(base: dict[str, Any]) -> list[str]:
    """Return the numbers that a base says."""
    found = []
    for path in (*OF_INFERENCE, "inference.speculation.acceptancePercent"):
        node: Any = base
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if node is not None:
            found.append(path)
    return found


def listed(base: dict[str, Any], seed: int, count: int) -> Any:
    """Return scenarios that differ in every number that the base says."""
    import json

    dice = random.Random(seed)
    documents = [copy.deepcopy(base) for _ in range(count)]
    for path in numbers_of(base):
        for document, value in zip(documents, random_values(path, dice, count), strict=True):
            put(document, path, value)
    return parse_points("t.jsonl", "\n".join(map(json.dumps, documents)))


def result_of(document: Any) -> Any:
    try:
        return evaluate(document).result
    except ScenarioError:
        return None


def arrays_of(points: Any, group: Any) -> dict[str, Any]:
    from supernode_cli.sweep_groups import _name, _plain

    return {_name(path): np.array([_plain(path, v) for v in values]) for path, values in group.values.items()}


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_each_point_of_arrays_is_what_it_is_alone_to_1e_9(name: str, seed: int) -> None:
    points = listed(BASES[name], seed, POINTS)
    (group,) = group_points(points, range(POINTS))
    assert set(group.values) == set(numbers_of(BASES[name]))
    inputs = evaluate(BASES[name]).inputs
    swept = sweep_deployment(inputs.profile, inputs.compute_nodes, inputs.workloads[0], arrays_of(points, group))
    assert swept is not None
    compared = 0
    for point in range(POINTS):
        alone = result_of(points.document(point))
        assert (alone is None) == (point in swept.problems) == (not swept.fits[point])
        if alone is None:
            continue
        compared += 1
        for field in FIELDS:
            found, wanted = getattr(swept, field)[point], getattr(alone, field)
            assert found == (wanted if field == "bound" else pytest.approx(wanted, rel=1e-9, abs=1e-15)), field
    assert compared >= 6, "too few points fit: this compares nothing"


@pytest.mark.parametrize("name", BASES)
def test_rows_of_a_group_are_the_rows_of_its_points(name: str) -> None:
    points = listed(BASES[name], 7, 12)
    (group,) = group_points(points, range(12))
    assert group_rows(points, group) is not None, "the group is not evaluated as arrays"
    assert list(rows_of(points, range(12), 1)) == [row_of(points, number) for number in range(12)]


def test_values_that_no_number_can_be_are_looked_at_alone_and_have_the_same_errors() -> None:
    axes: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("inference.inputTokens", (512, 1024, 0, -1, "x", 1.5, None, 1 << 30)),
        ("inference.batch.sequencesPerCard", (4, 8, 12, 16, 20, 10**6)),
        ("inference.speculation.acceptancePercent", ([70, 40], [70], [101, 1], "y")),
    )
    points = Grid(DECODE, axes)
    rows = list(rows_of(points, range(len(points)), 1))
    assert rows == [row_of(points, number) for number in range(len(points))]
    assert sum(row["error"] is None for row in rows) == 2 * 5


def test_a_mapping_as_an_axis_has_its_numbers_in_one_group() -> None:
    points = Grid(DECODE, (("inference.batch", tuple({"sequencesPerCard": n} for n in range(1, 9))),))
    (group,) = group_points(points, range(8))
    assert group.values == {"inference.batch.sequencesPerCard": list(range(1, 9))}


def test_layouts_models_and_machines_are_groups_of_their_own() -> None:
    axes: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("machine.nodes", (2, 4)),
        ("inference.decode.parallelism.expert", (32, 16)),
        ("inference.outputTokens", (1, 2, 3)),
    )
    points = Grid(DECODE, axes)
    assert [group.points for group in group_points(points, range(12))] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]


@pytest.mark.parametrize("path", OF_INFERENCE)
def test_the_bounds_of_a_number_are_those_of_a_scenario(path: str) -> None:
    bounds_are_a_scenarios(path, next(base for base in BASES.values() if path in numbers_of(base)))


def test_no_point_of_a_large_grid_is_looked_at_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    axes: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("inference.inputTokens", tuple(range(256, 256 + 64 * 50, 64))),
        ("inference.batch.sequencesPerCard", tuple(range(1, 61))),
    )
    points = Grid(DECODE, axes)
    monkeypatch.setattr(sweep_rows, "row_of", lambda points, number: pytest.fail(f"point {number} is looked at alone"))
    rows = list(rows_of(points, range(len(points)), 1))
    assert len(rows) == 3000
    assert all(row["expectedErrorPercent"] or row["error"] for row in rows)
