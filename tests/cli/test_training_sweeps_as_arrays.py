"""A sweep evaluates training points that differ in numbers only as arrays: each as if it were alone, errors too."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from supernode_cli import sweep_rows
from supernode_cli.evaluation import ScenarioError, evaluate, prepare
from supernode_cli.sweep_groups import NUMBERS, group_points, group_rows
from supernode_cli.sweep_points import Grid, parse_points, put
from supernode_cli.sweep_rows import _grouped, row_of, rows_of
from supernode_dataplane.training_sweeping import TRAINING_NUMBERS, SweptTraining, sweep_training
from support.machines import SMALL_MOE
from support.scenarios import bounds_are_a_scenarios, changed

FIGURES = [name for name in SweptTraining.__slots__ if name not in ("runs", "problems", "cards")]
PATHS = {known.name: path for path, known in NUMBERS.items() if path.startswith("training.") and known.name}


def scenario(model: str, nodes: int, parallelism: dict[str, int], **training: Any) -> dict[str, Any]:
    return {
        "machine": {"nodes": nodes},
        "model": {"name": model},
        "training": {
            "sequenceLength": 4096,
            "globalBatchSize": 256,
            "microBatchSize": 1,
            "parallelism": parallelism,
            **training,
        },
    }


DENSE = scenario("llama-3.1-70b", 8, {"tensor": 8, "pipeline": 4, "virtualPipeline": 2})
EXPERTS = scenario(
    "deepseek-v3", 32, {"tensor": 2, "pipeline": 8, "virtualPipeline": 2, "expert": 16}, expertImbalance=1.2
)
FAILED = {
    "dies": [{"server": 1, "die": 3}],
    "l1": [{"server": 2, "plane": 1}],
    "uplinks": [{"server": 0, "plane": 2, "port": 1}],
}
BASES: dict[str, dict[str, Any]] = {
    "dense": DENSE,
    "dense, all recomputed": changed(DENSE, training__recompute="full", training__gradientType="bf16"),
    "dense, nothing recomputed": changed(DENSE, training__recompute="none", machine__nodes=16),
    "dense, stages as given": changed(DENSE, training__stageLayers=[18, 22, 22, 18]),
    "one stage, zero3": scenario("llama-3.1-70b", 8, {"tensor": 8}, optimizerSharding="zero3"),
    "context ring": scenario("llama-3.1-70b", 12, {"tensor": 4, "context": 4, "pipeline": 4}),
    "no sharding": scenario("llama-2-7b", 3, {"tensor": 8, "pipeline": 2}, optimizerSharding="none"),
    "broken": changed(
        DENSE,
        machine__failed=FAILED,
        machine__figures={"cpuGigabytesPerSecond": 100},
        training__parallelism={"tensor": 4, "pipeline": 8},
    ),
    "experts": EXPERTS,
    "experts, overlapped": changed(
        EXPERTS,
        training__overlapExchange=True,
        training__mtpLayers=1,
        training__recompute="full",
        training__parallelism__expert=32,
        training__gradientType="bf16",
    ),
    "experts, split over dies": scenario(
        "qwen3-235b-a22b",
        16,
        {"tensor": 4, "expert": 8, "expertTensor": 2, "context": 2, "pipeline": 4},
        expertImbalance=1.0,
    ),
    "experts, broken": changed(EXPERTS, machine__failed=FAILED),
    "experts, zero3": changed(EXPERTS, training__optimizerSharding="zero3", stack="open-source"),
    "sparse attention": changed(EXPERTS, model__name="deepseek-v3.2"),
    "experts, groups that packages do not divide": {
        **scenario("", 1, {"expert": 3}, expertImbalance=1.0),
        "machine": {"dies": 12},
        "model": {"config": {**json.loads(SMALL_MOE["model"]["config"]), "n_routed_experts": 48}},
    },
    "gpus": changed(DENSE, machine={"profile": "h100-cluster", "nodes": 16}, training__recompute="auto"),
    "part of a server": changed(
        scenario("llama-2-7b", 1, {"tensor": 4}), machine={"dies": 12}, training__optimizerSharding="zero1"
    ),
}
POINTS = 40


def random_values(name: str, dice: random.Random, count: int) -> list[Any]:
    """Values of which some divide and fit, and some do not."""
    if name == "expert_imbalance":
        return [dice.choice((1, 1.0, 1 + dice.random(), 3 * dice.random() + 1, 40.5)) for _ in range(count)]
    if name == "micro_batch_size":
        return [dice.choice((1, 1, 1, 2, 3, 4)) for _ in range(count)]
    if name == "sequence_length":
        lengths = (64, 512, 1024, 2048, 4096, 8192, 262_144)
        return [dice.choice(lengths) + dice.choice((0, 0, 0, 0, 1, 64)) for _ in range(count)]
    return [dice.choice((96, 192, 384, 768, 1536, 3840, 100)) for _ in range(count)]


def listed(base: dict[str, Any], seed: int, count: int) -> Any:
    """Scenarios that differ in every number that the base says."""
    dice = random.Random(seed)
    documents = [deepcopy(base) for _ in range(count)]
    for name, path in PATHS.items():
        if path.partition(".")[2] in base["training"]:
            for document, value in zip(documents, random_values(name, dice, count), strict=True):
                put(document, path, value)
    return parse_points("t.jsonl", "\n".join(map(json.dumps, documents)))


def swept_of(points: Any) -> SweptTraining:
    """All points at once, as the library has them."""
    (group,) = group_points(points, range(len(points)))
    names = {path: name for name, path in PATHS.items()}
    arrays = {names[path]: np.array(values, dtype=np.float64) for path, values in group.values.items()}
    inputs = prepare(points.document(0)).inputs
    swept = sweep_training(inputs.profile, inputs.compute_nodes, inputs.workloads[0], arrays, len(points))
    assert swept is not None
    return swept


def alone(document: Any) -> tuple[Any, str]:
    """The result of a point, or its error."""
    try:
        return evaluate(document).result, ""
    except ScenarioError as error:
        return None, str(error)


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_each_training_point_of_arrays_is_what_it_is_alone_to_1e_9(name: str, seed: int) -> None:
    points = listed(BASES[name], seed, POINTS)
    swept = swept_of(points)
    ran = refused = 0
    for point in range(POINTS):
        result, error = alone(points.document(point))
        assert (result is not None) == swept.runs[point] == (point not in swept.problems)
        if result is None:
            refused += 1
            problem = swept.problems[point]
            assert error.removeprefix(problem.field.removeprefix("spec.") + ": ") in problem.message
            continue
        ran += 1
        assert result.cards == swept.cards
        for field in FIGURES:
            found, wanted = getattr(swept, field)[point], getattr(result, field)
            assert found == (wanted if field == "bound" else pytest.approx(wanted, rel=1e-9, abs=1e-15)), field
    assert ran >= 4, "too few points run: this compares nothing"
    assert refused >= 4, "too few points are refused: this compares no errors"


def test_every_number_of_the_library_is_a_field_of_a_scenario() -> None:
    assert set(PATHS) == set(TRAINING_NUMBERS)


@pytest.mark.parametrize("name", BASES)
def test_rows_of_a_group_of_training_are_the_rows_of_its_points_to_the_letter(name: str) -> None:
    points = listed(BASES[name], 7, 24)
    (group,) = group_points(points, range(24))
    assert group_rows(points, group) is not None, "the group is not evaluated as arrays"
    rows = list(rows_of(points, range(24), 1))
    assert rows == [row_of(points, number) for number in range(24)]
    assert {row["error"] is None for row in rows} == {True, False}


def test_how_long_a_run_is_and_what_interrupts_it_are_numbers_of_a_group() -> None:
    axes: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("training.steps", (100, 10_000)),
        ("reliability.mtbfHours", (0.02, 5, 13.8)),
        ("reliability.checkpointSeconds", (1, 60.0, 900)),
        ("reliability.restartSeconds", (0, 600)),
        ("reliability.mttrMinutes", (0.5, 75)),
    )
    points = Grid(DENSE, axes)
    (group,) = group_points(points, range(len(points)))
    assert group_rows(points, group) is not None
    rows = list(rows_of(points, range(len(points)), 1))
    assert rows == [row_of(points, number) for number in range(len(points))]
    assert len({row["goodputTokensPerSecondPerCard"] for row in rows}) > 10


def test_training_values_that_no_number_can_be_are_looked_at_alone_and_have_the_same_errors() -> None:
    axes: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("training.globalBatchSize", (96, 192, 384, 768, 0, -1, "x", 1.5, True, 1 << 21)),
        ("training.expertImbalance", (1, 1.5, 0.5, "2", None, 1001)),
        ("reliability.mtbfHours", (1, 1e-9, 0)),
    )
    points = Grid(EXPERTS, axes)
    rows = list(rows_of(points, range(len(points)), 1))
    assert rows == [row_of(points, number) for number in range(len(points))]
    assert sum(row["error"] is None for row in rows) >= 4 * 3


LAYOUTS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"training__parallelism__tensor": 7}, "does not divide"),
    ({"training__parallelism__pipeline": 16, "training__parallelism__virtualPipeline": 8}, "more than the 5 layers"),
    ({"training__stageLayers": [80]}, "stageLayers has 1 entries"),
    ({"training__parallelism__data": 3}, "is not 8 x 16 = 128 dies"),
    ({"machine__dies": 6, "machine__nodes": ...}, "does not divide 6 dies"),
    ({"machine__nodes": 2, "model__name": "llama-3.1-405b"}, "even with full recompute"),
)
REASONS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"training__expertImbalance": 2.0}, "has no experts"),
    ({"training__overlapExchange": True}, "has no experts"),
    ({"training__recompute": "some"}, "training.recompute"),
    ({"machine__failed": {"servers": [0, 1, 2, 3, 4, 5, 6, 7]}}, "replica is whole"),
    ({"machine__failed": {"l1": [{"server": 0, "plane": plane} for plane in range(7)]}}, "no working bus link"),
)
"""What is wrong with a scenario whatever its numbers are: by its layout, and for other reasons."""


@pytest.mark.parametrize(("change", "error"), [*LAYOUTS, *REASONS])
def test_what_is_wrong_at_every_point_is_said_of_each_as_of_one(change: dict[str, Any], error: str) -> None:
    lengths = (4096, 4097, 8192, 1 << 20)
    axes = (("training.globalBatchSize", tuple(range(32, 352, 32))), ("training.sequenceLength", lengths))
    points = Grid(changed(DENSE, **change), axes)
    (group,) = group_points(points, range(40))
    assert (group_rows(points, group) is None) == ((change, error) in REASONS)
    rows = list(rows_of(points, range(40), 1))
    assert rows == [row_of(points, number) for number in range(40)]
    assert all(row["error"] for row in rows)
    assert any(error in row["error"] for row in rows)


def test_an_imbalance_is_refused_where_it_can_have_no_effect_and_passes_as_one_where_there_is_none() -> None:
    batches = tuple(range(96, 1056, 96))
    points = Grid(DENSE, (("training.globalBatchSize", batches), ("training.expertImbalance", (1, 1.0, 1.5, 2))))
    rows = list(rows_of(points, range(40), 1))
    assert rows == [row_of(points, number) for number in range(40)]
    assert [row["error"] is None for row in rows] == [True, True, False, False] * 10


def test_several_supernodes_are_looked_at_one_by_one_in_parts_that_all_cores_share() -> None:
    base = changed(DENSE, machine__supernodes=2)
    points = Grid(base, (("training.globalBatchSize", tuple(range(96, 96 * 41, 96))),))
    (group,) = group_points(points, range(len(points)))
    assert group_rows(points, group) is None
    assert not _grouped(points, range(len(points)))
    assert _grouped(Grid(DENSE, points.axes), range(len(points)))
    rows = list(rows_of(points, range(len(points)), 2))
    assert rows[3] == row_of(points, 3)
    assert all(row["error"] is None for row in rows)


@pytest.mark.parametrize("path", [path for path in NUMBERS if not path.startswith("inference.")])
def test_the_bounds_of_a_number_of_training_are_those_of_a_scenario(path: str) -> None:
    bounds_are_a_scenarios(path, EXPERTS)


def test_no_point_of_a_large_grid_of_training_is_looked_at_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    axes: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("training.globalBatchSize", tuple(range(96, 96 * 61, 96))),
        ("training.sequenceLength", tuple(range(128, 128 * 41, 128))),
    )
    points = Grid(EXPERTS, axes)
    monkeypatch.setattr(sweep_rows, "row_of", lambda points, number: pytest.fail(f"point {number} is looked at alone"))
    rows = list(rows_of(points, range(len(points)), 1))
    assert len(rows) == 2400
    assert all(row["expectedErrorPercent"] or row["error"] for row in rows)
