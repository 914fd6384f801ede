"""`supernode sweep`: grids and files of scenarios into tables, in shards too; every error one sentence, status 2."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernode_cli.main import cli
from supernode_cli.sweep_points import parse_points
from supernode_cli.sweep_rows import FIGURES, rows_of
from support.processes import child
from support.scenarios import SMALL_DECODE

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples" / "sweep").iterdir())
GRID: dict[str, Any] = {"inference.inputTokens": [1024, 2048], "inference.batch.sequencesPerCard": [8, 16, 50_000]}


def run(*flags: object, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["sweep", *map(str, flags)], env={"JOB_COMPLETION_INDEX": None, **(env or {})})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def grid_file(tmp_path: Path, axes: Any = None, base: Any = None, **more: Any) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(
        yaml.safe_dump({"base": base or SMALL_DECODE, "grid": GRID if axes is None else axes, **more}, sort_keys=False)
    )
    return path


def table(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def simulated(tmp_path: Path, scenario: Any) -> dict[str, Any]:
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump(scenario))
    said = CliRunner().invoke(cli, ["simulate", "-f", str(path), "-o", "json"])
    figures: dict[str, Any] = json.loads(said.stdout)["workloads"][0]["figures"]
    return figures


def test_a_grid_is_every_combination_in_order_the_last_key_fastest(tmp_path: Path) -> None:
    status, out, said = run("-f", grid_file(tmp_path), "-o", tmp_path / "t.csv")
    assert (status, out) == (0, "")
    rows = table(tmp_path / "t.csv")
    assert list(rows[0]) == ["index", *GRID, *FIGURES, "error"]
    assert [(row["inference.inputTokens"], row["inference.batch.sequencesPerCard"]) for row in rows] == [
        (tokens, batch) for tokens in ("1024", "2048") for batch in ("8", "16", "50000")
    ]
    assert [row["index"] for row in rows] == list("012345")
    assert "t.csv: 6 rows" in said


def test_a_row_has_the_figures_that_simulate_prints(tmp_path: Path) -> None:
    run("-f", grid_file(tmp_path), "-o", tmp_path / "t.jsonl")
    row = table(tmp_path / "t.jsonl")[4]
    inference = {**SMALL_DECODE["inference"], "inputTokens": 2048, "batch": {"sequencesPerCard": 16}}
    figures = simulated(tmp_path, {**SMALL_DECODE, "inference": inference})
    compared = {name: figures[name]["value"] for name in FIGURES if name in figures}
    assert len(compared) >= 7
    assert {name: row[name] if name == "bound" else float(row[name]) for name in compared} == {
        name: value if name == "bound" else float(value) for name, value in compared.items()
    }
    assert {name for name in FIGURES if row[name] is None} == set(FIGURES) - set(figures)


def test_a_point_that_cannot_run_is_a_row_with_its_error(tmp_path: Path) -> None:
    status, _, said = run("-f", grid_file(tmp_path), "-o", tmp_path / "t.csv")
    rows = table(tmp_path / "t.csv")
    assert status == 0
    assert [row["index"] for row in rows if row["error"]] == ["2", "5"]
    assert "ask for fewer" in rows[2]["error"]
    assert rows[2]["tokensPerSecond"] == ""
    assert "t.csv: 6 rows, " in said
    assert re.search(r" rows, [\d,]+ points/s\n", said)
    assert "2 of 6 points cannot run, as their column error says; the first is point 2: inference.decode: " in said


def test_a_table_of_which_no_point_runs_is_none(tmp_path: Path) -> None:
    axes = {"inference.batch.sequencesPerCard": [40_000, 50_000]}
    status, out, error = run("-f", grid_file(tmp_path, axes), "-o", tmp_path / "t.csv")
    assert (status, out) == (2, "")
    assert "Error: none of 2 points can run, so nothing is written; the first is point 0: inference.decode: " in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.yaml"]


def test_a_shard_of_which_no_point_runs_is_a_shard_and_a_table_of_such_is_none(tmp_path: Path) -> None:
    axes = {"inference.batch.sequencesPerCard": [40_000, 8]}
    path, target = grid_file(tmp_path, axes), tmp_path / "t.csv"
    status, _, said = run("-f", path, "-o", target, "--shard", "0/2", "--collect")
    assert status == 0
    assert "1 of 1 points cannot run" in said
    status, _, said = run("-f", path, "-o", target, "--shard", "1/2", "--collect")
    assert status == 0
    assert "1 of 2 points cannot run" in said
    path, target = grid_file(tmp_path, {"inference.batch.sequencesPerCard": [40_000]}), tmp_path / "u.csv"
    status, _, error = run("-f", path, "-o", target, "--shard", "0/1", "--collect")
    assert status == 2
    assert "none of 1 points can run" in error
    assert not target.exists()


def test_strict_stops_at_the_first_and_writes_nothing(tmp_path: Path) -> None:
    status, out, error = run("-f", grid_file(tmp_path), "-o", tmp_path / "t.csv", "--strict")
    assert (status, out) == (2, "")
    assert "Error: point 2: inference.decode: " in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.yaml"]


def test_other_processes_give_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    axes = {"inference.inputTokens": list(range(1000, 1040)), "inference.batch.sequencesPerCard": [8, 50_000]}
    points = parse_points("grid.yaml", yaml.safe_dump({"base": SMALL_DECODE, "grid": axes}))
    assert list(rows_of(points, range(80), 2)) == list(rows_of(points, range(80), 1))


@pytest.mark.parametrize("name", ["list.yaml", "list.jsonl"])
def test_scenarios_one_by_one_have_the_fields_that_differ_as_columns(tmp_path: Path, name: str) -> None:
    training = {
        "machine": {"nodes": 24},
        "model": {"name": "llama-3.1-405b"},
        "training": {"sequenceLength": 8192, "globalBatchSize": 192, "parallelism": {"tensor": 16, "pipeline": 8}},
    }
    documents = [SMALL_DECODE, training, "neither"]
    path = tmp_path / name
    as_lines = name.endswith("jsonl")
    path.write_text("\n".join(map(json.dumps, documents)) if as_lines else yaml.safe_dump_all(documents))
    assert run("-f", path, "-o", tmp_path / "t.jsonl")[0] == 0
    rows = table(tmp_path / "t.jsonl")
    assert [row["machine.nodes"] for row in rows] == [2, 24, None]
    assert [row["training.globalBatchSize"] for row in rows] == [None, 192, None]
    assert rows[1]["recomputePercent"] is not None
    assert rows[1]["ttftSeconds"] is None
    assert "a scenario is a mapping" in rows[2]["error"]


def test_lists_and_mappings_are_json_text_in_csv(tmp_path: Path) -> None:
    axes = {"machine.failed.planes": [[], [0, 1]], "inference.speculation": [None, {"drafts": 0}]}
    assert run("-f", grid_file(tmp_path, axes), "-o", tmp_path / "t.csv")[0] == 0
    rows = table(tmp_path / "t.csv")
    assert [row["machine.failed.planes"] for row in rows] == ["[]", "[]", "[0, 1]", "[0, 1]"]
    assert [row["inference.speculation"] for row in rows] == ["", '{"drafts": 0}'] * 2


def test_parquet_has_numbers_as_numbers(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    axes = {"inference.inputTokens": [1024, 2048], "machine.failed.planes": [[], [0]], "stack": ["vendor-tuned"]}
    assert run("-f", grid_file(tmp_path, axes), "-o", tmp_path / "t.parquet")[0] == 0
    found = parquet.read_table(tmp_path / "t.parquet")
    kinds = {name: str(found.schema.field(name).type) for name in found.column_names}
    assert kinds["index"] == kinds["inference.inputTokens"] == "int64"
    assert kinds["tokensPerSecond"] == "double"
    assert kinds["machine.failed.planes"] == kinds["stack"] == kinds["error"] == "string"
    run("-f", grid_file(tmp_path, axes), "-o", tmp_path / "t.jsonl")
    flat = [
        {**row, "machine.failed.planes": json.dumps(row["machine.failed.planes"])}
        for row in table(tmp_path / "t.jsonl")
    ]
    assert found.to_pylist() == flat


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, out, error = run("-f", grid_file(tmp_path), "-o", tmp_path / "t.parquet")
    assert (status, out) == (2, "")
    assert "pip install '.[sweep]'" in error


def test_shards_join_to_what_one_run_gives(tmp_path: Path) -> None:
    path = grid_file(tmp_path)
    run("-f", path, "-o", tmp_path / "whole.csv")
    target = tmp_path / "t.csv"
    for index in ("3", "0", "1"):
        assert run("-f", path, "-o", target, "--shard", "4", "--collect", env={"JOB_COMPLETION_INDEX": index})[0] == 0
        assert not target.exists()
    status, _, error = run("-f", path, "-o", target, "--collect")
    assert status == 2
    assert "1 of 4 shards are missing" in error
    assert error.rstrip().endswith(": 2; run --shard i/4 for each")
    assert run("-f", path, "-o", target, "--shard", "2/4", "--collect")[0] == 0
    assert target.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_complete_shard_is_not_computed_again_and_another_sweep_is_not_mixed_in(tmp_path: Path) -> None:
    path, target = grid_file(tmp_path), tmp_path / "t.csv"
    run("-f", path, "-o", target, "--shard", "0/1")
    (shard,) = (tmp_path / "t.csv.shards").iterdir()
    before = shard.stat().st_mtime_ns
    status, _, said = run("-f", path, "-o", target, "--shard", "0/1")
    assert status == 0
    assert "is complete" in said
    assert shard.stat().st_mtime_ns == before
    grid_file(tmp_path, {"inference.inputTokens": [64]})
    assert run("-f", path, "-o", target, "--collect")[0] == 2


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    path, target = grid_file(tmp_path), tmp_path / "t.csv"
    run("-f", path, "-o", target, "--shard", "0/1")
    (shard,) = (tmp_path / "t.csv.shards").iterdir()
    whole = shard.read_text(encoding="utf-8")
    for broken in (whole[: len(whole) // 2], whole.split("\n", 1)[1], "", "[]\n", whole + whole):
        shard.write_text(broken, encoding="utf-8")
        status, _, error = run("-f", path, "-o", target, "--collect")
        assert status == 2
        assert f"{shard}: is damaged; delete it and run --shard 0/1 again" in error
        assert not target.exists()


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    axes = {"inference.inputTokens": list(range(1000, 1060)), "machine.nodes": [2, 4]}
    path, target = grid_file(tmp_path, axes), tmp_path / "t.jsonl"
    command = [sys.executable, "-m", "supernode_cli.main", "sweep", "-f", str(path), "-o", str(target), "--jobs", "1"]
    subprocess.run([*command, "--shard", "0/6"], check=True, capture_output=True)
    folder = tmp_path / "t.jsonl.shards"
    (first,) = folder.iterdir()
    before = first.stat().st_mtime_ns
    with child([*command, "--shard", "0/1"], stderr=subprocess.DEVNULL) as process:
        for _ in range(4000):
            if list(folder.glob(".*.part")):
                break
            time.sleep(0.005)
    assert process.returncode == -signal.SIGKILL
    assert len(list(folder.glob(".*.part"))) == 1
    assert [shard for shard in folder.iterdir() if not shard.name.startswith(".")] == [first]
    for number in range(6):
        assert run("-f", path, "-o", target, "--shard", f"{number}/6", "--collect", "--jobs", 1)[0] == 0
    assert first.stat().st_mtime_ns == before
    assert [row["index"] for row in table(target)] == list(range(120))
    assert list(folder.glob(".*.part")) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_runs(tmp_path: Path, path: Path) -> None:
    assert run("-f", path, "-o", tmp_path / "t.csv", "--jobs", 1)[0] == 0
    assert any(row["tokensPerSecond"] for row in table(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"base": SMALL_DECODE}, "grid: must map dotted paths to lists"),
        ({"grid": GRID}, "base: must be a scenario"),
        ({"base": SMALL_DECODE, "grid": GRID, "more": 1}, "unknown field more: a grid has base and grid"),
        ({"base": SMALL_DECODE, "grid": {"inference.inputTokens": 3}}, "grid.inference.inputTokens: must be a list"),
        ({"base": SMALL_DECODE, "grid": {"inference.inputTokens": []}}, "grid.inference.inputTokens: must be a list"),
        ({"base": SMALL_DECODE, "grid": {"inference..x": [1]}}, "'inference..x' is not a dotted path"),
        ({"base": SMALL_DECODE, "grid": {"model.name.x": [1]}}, "grid.model.name.x: model.name is no mapping in base"),
        ({"base": SMALL_DECODE, "grid": {"model": [{}], "model.name": ["x"]}}, "grid.model.name: is a part of model"),
        (
            {"base": SMALL_DECODE, "grid": {"inference.inputToken": [3]}},
            "unknown field inference.inputToken: did you mean inputTokens? Known here are",
        ),
        ({"base": SMALL_DECODE, "grid": {f"x{i}": list(range(100)) for i in range(4)}}, "100,000,000 points"),
        ("", "has no scenario"),
        ("a: [", "is not YAML"),
        ("a: .nan", "is not YAML"),
        ("a: 2026-01-01", "JSON does not know"),
    ],
)
def test_a_file_that_is_no_sweep_is_one_sentence(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    status, out, error = run("-f", path, "-o", tmp_path / "t.csv")
    assert (status, out) == (2, "")
    assert error.startswith(f"Error: {path}: ")
    assert said in error
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["-o", "table.txt"], "--output: 'table.txt' has no known format; end it in .csv, .jsonl, .parquet"),
        (["-o", "absent/table.csv"], "--output: there is no folder absent"),
        (["-o", "t.csv", "--shard", "x"], "--shard: 'x' is no part of a whole; give i/n"),
        (["-o", "t.csv", "--shard", "4/4"], "--shard: there is no part 4 of 4"),
        (["-o", "t.csv", "--shard", "4"], "--shard: which of 4 is not said; give i/4, or set JOB_COMPLETION_INDEX"),
        (["-o", "t.csv", "--jobs", "0"], "--jobs: 0 is out of range"),
        (["-o", "t.csv", "--collect"], "there is no shard of this sweep"),
        (["-o", "t.csv", "--manifest"], "--claim: name a PersistentVolumeClaim"),
        (["-o", "t.csv", "--manifest", "--claim", "A_B"], "--claim: 'A_B' is no name"),
        (["-o", "t.csv", "--manifest", "--claim", "a", "--shards", "0"], "--shards: 0 is out of range"),
        (["-o", "t.csv", "--manifest", "--claim", "a", "--parallelism", "0"], "--parallelism: 0 is out of range"),
        (["-o", "t.csv", "--manifest", "--claim", "a", "--shard", "0/1"], "leave out --shard and --collect"),
        (["-o", "t.parquet", "--manifest", "--claim", "a"], "--output: the chart's image has no pyarrow"),
    ],
)
def test_a_flag_that_cannot_be_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], said: str
) -> None:
    path = grid_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    status, out, error = run("-f", path, *flags)
    assert (status, out) == (2, "")
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    (tmp_path / "lines.jsonl").write_text('{"model": {}}\n{"model": NaN}\n')
    (tmp_path / "t.csv").mkdir()
    for name, said in (
        ("absent.yaml", "absent.yaml: cannot be read: No such file or directory"),
        ("latin.yaml", "latin.yaml: is not UTF-8 text"),
        ("lines.jsonl", "lines.jsonl: line 2 is not JSON; write one scenario on each line"),
    ):
        status, out, error = run("-f", tmp_path / name, "-o", tmp_path / "u.csv")
        assert (status, out) == (2, "")
        assert said in error
    assert "is a folder; name a file" in run("-f", grid_file(tmp_path), "-o", tmp_path / "t.csv")[2]


WORKLOAD: dict[str, Any] = {
    "apiVersion": "supernode.io/v1alpha1",
    "kind": "SuperNodeWorkload",
    "metadata": {"name": "w", "namespace": "team"},
    "spec": {
        "superNode": "cm384",
        "model": SMALL_DECODE["model"],
        "inference": SMALL_DECODE["inference"],
        "pods": {"managed": {"nodes": 2}},
    },
}


def test_a_workload_is_a_base_and_a_scenario_as_for_simulate(tmp_path: Path) -> None:
    run("-f", grid_file(tmp_path), "-o", tmp_path / "scenario.csv")
    assert run("-f", grid_file(tmp_path, base=WORKLOAD), "-o", tmp_path / "workload.csv")[0] == 0
    assert (tmp_path / "workload.csv").read_bytes() == (tmp_path / "scenario.csv").read_bytes()
    machine = {"apiVersion": "supernode.io/v1alpha1", "kind": "SuperNode", "metadata": {"name": "cm384"}, "spec": {}}
    path = tmp_path / "manifests.yaml"
    path.write_text(yaml.safe_dump_all([machine, WORKLOAD, SMALL_DECODE]))
    assert run("-f", path, "-o", tmp_path / "t.jsonl")[0] == 0
    rows = table(tmp_path / "t.jsonl")
    assert len(rows) == 2
    assert rows[0]["tokensPerSecond"] == rows[1]["tokensPerSecond"] > 0


def test_a_sweep_is_read_from_standard_input(tmp_path: Path) -> None:
    text = yaml.safe_dump({"base": SMALL_DECODE, "grid": {"inference.inputTokens": [64]}})
    result = CliRunner().invoke(cli, ["sweep", "-f", "-", "-o", str(tmp_path / "t.csv")], input=text)
    assert result.exit_code == 0
    assert len(table(tmp_path / "t.csv")) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
paths = st.sampled_from(
    ["machine.nodes", "machine", "model.name", "inference.inputTokens", "inference.batch", "stack", "x", "inference.x"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    axes=st.dictionaries(paths, st.lists(json_values, max_size=2), max_size=2) | json_values,
    base=st.just(SMALL_DECODE) | json_values,
)
def test_no_sweep_makes_a_traceback(tmp_path: Path, axes: Any, base: Any) -> None:
    path, target = tmp_path / "sweep.yaml", tmp_path / "t.csv"
    target.unlink(missing_ok=True)
    path.write_text(json.dumps({"base": base, "grid": axes}))
    status, out, error = run("-f", path, "-o", target, "--jobs", 1)
    assert status in (0, 2), error
    assert out == ""
    assert target.exists() == (status == 0)
    if target.exists():
        assert not [row for row in table(target) if row["error"].startswith("defect")]
