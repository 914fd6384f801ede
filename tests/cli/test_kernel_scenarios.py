"""Scenarios of one communication kernel: the suite's figures, what they are made of, sweeps, and errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernode_cli.kernel_evaluation import KERNEL_FIGURES, KernelEvaluation, evaluate_kernel
from supernode_cli.main import cli
from supernode_dataplane import load_profile, profile_names
from supernode_dataplane.exchange import all_reduce_seconds
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.kernels import KernelKind, KernelSpec, kernel_figures
from supernode_dataplane.stacks import load_stack, stack_names
from supernode_dataplane.suite import load_rows, validate
from supernode_dataplane.suite.evaluate import evaluate_row
from supernode_dataplane.suite.rows import Row
from support.scenarios import run_on_file
from support.schema_leaves import changes_of, fields_of, obeys, with_changes

ROWS = {row.id: row for row in load_rows()}
STACKS = {name: load_stack(name) for name in stack_names()}
DISPATCH: dict[str, Any] = {
    "model": {"name": "deepseek-r1"},
    "kernel": {"kind": "Dispatch", "ranks": 256, "tokens": 128, "form": "LowLatency"},
}
REDUCE: dict[str, Any] = {"kernel": {"kind": "AllReduce", "ranks": 16, "bytes": 65536}}
COPY: dict[str, Any] = {"kernel": {"kind": "PointToPoint", "bytes": 9_000_000, "cores": 48}}


def answered(tmp_path: Path, scenario: Any) -> dict[str, Any]:
    status, out, error = run_on_file(tmp_path, "simulate", scenario, "-o", "json")
    assert (status, error) == (0, "")
    document: dict[str, Any] = json.loads(out)
    return document


def figures(tmp_path: Path, scenario: Any) -> dict[str, float]:
    found = answered(tmp_path, scenario)["workloads"][0]["figures"]
    return {key: float(entry["value"]) for key, entry in found.items() if key not in ("algorithm", "bound")}


def changed(scenario: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a scenario whose kernel has other fields; None leaves one out."""
    kernel = {key: value for key, value in {**scenario["kernel"], **fields}.items() if value is not None}
    return {**scenario, "kernel": kernel}


def scenario_of(row: Row, name: str) -> dict[str, Any]:
    """Return a component of a row, such as ``dispatch EP8``, as a scenario."""
    kind, ranks = name.split(" EP")
    low = row.given["unit"] == "microseconds"
    kernel = {"kind": kind.capitalize(), "ranks": int(ranks), "tokens": row.given["tokens"]}
    kernel |= {"form": "LowLatency" if low else "Normal"}
    kernel |= {"format": row.given["format"]} if kind == "dispatch" else {}
    machine, stack = {"profile": row.given["machine"]}, row.given["stack"]
    return {"machine": machine, "model": {"name": "deepseek-r1"}, "stack": stack, "kernel": kernel}


@pytest.mark.parametrize("name", ["C-K2", "C-K3", "H-K1", "C-X1"])
def test_exchanges_of_tokens_are_the_suites(tmp_path: Path, name: str) -> None:
    row = ROWS[name]
    computed = evaluate_row(row, STACKS)
    (report,) = validate([name]).rows
    for component in row.published:
        scenario = scenario_of(row, component)
        found = figures(tmp_path, scenario)
        low = row.given["unit"] == "microseconds"
        value = found["timeSeconds"] * 1e6 if low else found["gigabytesPerSecond"]
        assert value == pytest.approx(computed[component], rel=1e-3)
        exact = evaluate_kernel(scenario).figures
        assert (exact.seconds * 1e6 if low else exact.bytes_per_second / 1e9) == pytest.approx(computed[component])
        if component == report.worst:
            assert found["expectedErrorPercent"] == pytest.approx(report.interval_percent, rel=1e-3)


def test_what_is_published_stands_beside_ours_where_it_is_about_the_same_kernel(tmp_path: Path) -> None:
    for name in ("C-K2", "C-K3", "H-K1", "C-X1"):
        for component, value in ROWS[name].published.items():
            found = answered(tmp_path, scenario_of(ROWS[name], component))["workloads"][0]["figures"]
            beside = [entry["published"] for entry in found.values() if "published" in entry]
            assert [float(text.split()[0]) for text in beside] == [value]
    for other in (
        changed(DISPATCH, tokens=127),
        changed(DISPATCH, format="bf16"),
        {**DISPATCH, "stack": "open-source"},
        {**DISPATCH, "machine": {"figures": {"hbmGigabytesPerDie": 60}}},
        {**DISPATCH, "model": {"name": "qwen3-235b-a22b"}},
    ):
        found = answered(tmp_path, other)["workloads"][0]["figures"]
        assert not any("published" in entry for entry in found.values())


def test_copies_between_servers_are_the_suites(tmp_path: Path) -> None:
    computed = evaluate_row(ROWS["C-K4"], STACKS)
    slow, fast, small = (
        figures(tmp_path, changed(COPY, cores=cores, bytes=size))["timeSeconds"]
        for cores, size in ((2, 9_000_000), (48, 9_000_000), (2, 1_000_000))
    )
    assert slow / fast == pytest.approx(computed["ratio"], rel=2e-3)
    assert small * 1e6 == pytest.approx(computed["microseconds"], rel=1e-3)
    bounds = [evaluate_kernel(changed(COPY, cores=cores)).figures.bound for cores in (2, 48)]
    assert bounds == ["cores", "wire"]


def test_a_mesh_is_faster_than_a_ring_for_little_and_slower_for_much(tmp_path: Path) -> None:
    computed = evaluate_row(ROWS["H-K3"], STACKS)
    for size, name, best in (
        (65536, "mesh over ring at 64 KiB", "OneShot"),
        (67108864, "ring over mesh at 64 MiB", "Ring"),
    ):
        found = answered(tmp_path, changed(REDUCE, bytes=size, algorithms=["Ring", "OneShot"]))
        entries = found["workloads"][0]["figures"]
        assert entries["algorithm"]["value"] == best
        ring, mesh = (float(entries[key]["value"]) for key in ("ringSeconds", "oneShotSeconds"))
        assert (mesh < ring) == (best == "OneShot")
        assert computed[name] > 1.0
        assert float(entries["timeSeconds"]["value"]) == min(ring, mesh)
        assert "halvingDoublingSeconds" not in entries


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("ranks", [2, 8, 13, 64])
def test_an_all_reduce_takes_the_time_that_workloads_wait_for_it(profile: str, ranks: int) -> None:
    hardware = hardware_of(load_profile(profile))
    for stack in STACKS.values():
        for size in (1, 65536, 1 << 30):
            found = kernel_figures(hardware, stack, KernelSpec(kind="AllReduce", ranks=ranks, size_bytes=size))
            assert found.seconds == pytest.approx(all_reduce_seconds(hardware, float(size), float(ranks), stack))
            assert found.bus_bytes_per_second == pytest.approx(found.bytes_per_second * 2 * (ranks - 1) / ranks)


@pytest.mark.parametrize("scenario", [DISPATCH, changed(DISPATCH, kind="Combine"), REDUCE, COPY])
def test_parts_sum_to_the_time_and_ways_to_the_bytes(tmp_path: Path, scenario: dict[str, Any]) -> None:
    document = answered(tmp_path, scenario)
    (workload,) = document["workloads"]
    found = workload["figures"]
    time = float(found["timeSeconds"]["value"])
    assert sum(float(part["value"]) for part in workload["steps"].values()) == pytest.approx(time, rel=2e-3)
    bandwidth = float(found["payloadBytes"]["value"]) / time / 1e9
    assert float(found["gigabytesPerSecond"]["value"]) == pytest.approx(bandwidth, rel=2e-3)
    assert "time" in found["gigabytesPerSecond"]["note"]
    ways = [
        float(found[key]["value"]) for key in ("packageBytes", "serverBytes", "busBytes", "rdmaBytes") if key in found
    ]
    assert not ways or sum(ways) == pytest.approx(float(found["sentBytes"]["value"]))
    assert found["expectedErrorPercent"]["unit"] == "%"
    assert set(document["sources"]["stacks"]) == {"vendor-tuned"}
    assert list(found) == [key for key in KERNEL_FIGURES if key in found]


def test_the_table_says_kernel_time_algorithm_and_what_the_bandwidth_counts(tmp_path: Path) -> None:
    status, out, _ = run_on_file(tmp_path, "simulate", DISPATCH)
    assert status == 0
    for words in (
        "Dispatch EP256, 128 tokens",
        "16 of 48",
        "256 of 768",
        "152 us",
        "one kernel",
        "scan of tokens",
        "tokens x experts of a token",
        "int8 (the machine's)",
    ):
        assert words in out


def test_equal_kernels_have_equal_digests_however_they_are_written(tmp_path: Path) -> None:
    said = {**changed(DISPATCH, format="int8"), "stack": "vendor-tuned", "machine": {"profile": "cloudmatrix-384"}}
    digests = [answered(tmp_path, scenario)["model"]["digest"] for scenario in (DISPATCH, said)]
    assert digests[0] == digests[1]
    others = [changed(DISPATCH, tokens=127), {**DISPATCH, "machine": {"figures": {"rdmaGigabytesPerSecond": 50}}}]
    assert len({digests[0], *(answered(tmp_path, other)["model"]["digest"] for other in others)}) == 3


def test_a_config_of_ones_own_says_hidden_size_and_experts_of_a_token() -> None:
    config = {
        "model_type": "qwen3_moe", "hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 16,
        "num_key_value_heads": 4, "head_dim": 64, "moe_intermediate_size": 256, "num_experts": 32,
        "num_experts_per_tok": 4, "intermediate_size": 2048, "vocab_size": 32000,
    }  # fmt: skip
    found = evaluate_kernel({**changed(DISPATCH, ranks=16), "model": {"config": config}})
    assert (found.spec.hidden, found.spec.copies, found.model) == (1024, 4, "own config")
    assert found.figures.payload_bytes == 128 * 4 * 1024


def test_tokens_cross_rdma_once_for_each_server_in_the_normal_form() -> None:
    def rdma(form: str) -> KernelEvaluation:
        return evaluate_kernel({**changed(DISPATCH, form=form, tokens=4096), "machine": {"profile": "h800-cluster"}})

    once, each = rdma("Normal"), rdma("LowLatency")
    assert (once.figures.algorithm, each.figures.algorithm) == ("ByServer", "DirectOverRdma")
    assert once.figures.sent_bytes["rdma"] < each.figures.sent_bytes["rdma"]
    bus = [evaluate_kernel(changed(DISPATCH, form=form)).figures.seconds for form in ("Normal", "LowLatency")]
    assert bus[0] == bus[1]


@pytest.mark.parametrize("kind", get_args(KernelKind))
@pytest.mark.parametrize("profile", profile_names())
def test_every_machine_answers_or_says_why_not(tmp_path: Path, profile: str, kind: str) -> None:
    base = {"AllReduce": REDUCE, "PointToPoint": COPY}.get(kind, DISPATCH)
    ranks = None if kind == "PointToPoint" else 24
    status, out, error = run_on_file(
        tmp_path, "simulate", {**changed(base, kind=kind, ranks=ranks), "machine": {"profile": profile}}, "-o", "json"
    )
    if kind == "PointToPoint" and profile != "cloudmatrix-384":
        assert status == 2
        assert f"kernel.kind: PointToPoint copies over a bus between servers, and {profile} has none" in error
    else:
        assert float(json.loads(out)["workloads"][0]["figures"]["timeSeconds"]["value"]) > 0


BAD: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    (changed(DISPATCH, tokens=None), ("kernel.tokens: is missing: Dispatch needs form and ranks and tokens",)),
    (changed(DISPATCH, form=None), ("kernel.form: is missing",)),
    (changed(DISPATCH, bytes=5), ("kernel.bytes: is not for Dispatch: leave it out",)),
    (changed(DISPATCH, kind="Combine", format="int8"), ("kernel.format: is not for Combine",)),
    (changed(DISPATCH, ranks=1), ("kernel.ranks",)),
    (
        changed(DISPATCH, ranks=769),
        ("kernel.ranks: 769 is more than the 768 dies of cloudmatrix-384", "figures.servers"),
    ),
    (changed(DISPATCH, form="Fast"), ("kernel.form", "LowLatency")),
    (changed(DISPATCH, rank=4), ("unknown field kernel.rank", "ranks")),
    (changed(REDUCE, algorithms=[]), ("kernel.algorithms",)),
    (changed(REDUCE, algorithms=["Tree"]), ("kernel.algorithms.0", "HalvingDoubling")),
    (changed(REDUCE, tokens=5), ("kernel.tokens: is not for AllReduce",)),
    (changed(COPY, ranks=2), ("kernel.ranks: is not for PointToPoint",)),
    (changed(COPY, cores=0), ("kernel.cores",)),
    ({**REDUCE, "model": {"name": "deepseek-r1"}}, ("model: is not for AllReduce, whose size is kernel.bytes",)),
    ({"kernel": DISPATCH["kernel"]}, ("model: is missing: Dispatch has its hidden size",)),
    ({**DISPATCH, "model": {"name": "qwen3-8b"}}, ("model: qwen3-8b has no experts",)),
    ({**DISPATCH, "model": {"name": "deepseek-r9"}}, ("model.name", "deepseek-r1")),
    ({**DISPATCH, "model": {}}, ("model", "exactly one of name and config")),
    ({**DISPATCH, "stack": "homegrown"}, ("stack", "vendor-tuned")),
    ({**DISPATCH, "machine": {"nodes": 2}}, ("machine.nodes: a kernel runs on the first dies", "leave it out")),
    ({**DISPATCH, "machine": {"dies": 2}}, ("machine.dies: a kernel runs on the first dies",)),
    ({**DISPATCH, "machine": {"failed": {"planes": [0]}}}, ("machine.failed: a kernel runs on", "healthy")),
    ({**DISPATCH, "machine": {"supernodes": 2}}, ("machine.supernodes", "leave it out")),
    ({**DISPATCH, "reliability": {}}, ("reliability: is about a training run, and this is a kernel",)),
    ({**DISPATCH, "training": {"sequenceLength": 1, "globalBatchSize": 1}}, ("exactly one of training and inference",)),
]


@pytest.mark.parametrize(("scenario", "said"), BAD)
def test_a_kernel_that_cannot_be_is_one_sentence_with_its_field(
    tmp_path: Path, scenario: dict[str, Any], said: tuple[str, ...]
) -> None:
    status, out, error = run_on_file(tmp_path, "simulate", scenario)
    assert (status, out) == (2, "")
    for words in said:
        assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("name", "flags"), [("compare", ["h800-cluster", "h100-cluster"]), ("serve-sim", [])])
def test_commands_about_workloads_say_that_a_kernel_is_none(tmp_path: Path, name: str, flags: list[str]) -> None:
    status, out, error = run_on_file(tmp_path, name, DISPATCH, *flags)
    assert (status, out) == (2, "")
    assert "kernel: " in error
    assert "inference instead" in error
    assert error.count("\n") == 1


def swept(tmp_path: Path, text: str, *, name: str = "sweep.yaml") -> list[dict[str, str]]:
    file, table = tmp_path / name, tmp_path / "table.csv"
    file.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["sweep", "-f", str(file), "-o", str(table)])
    assert result.exit_code == 0, result.stderr
    with table.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_sweep_of_kernels_has_their_figures_and_no_others(tmp_path: Path) -> None:
    axes = {"kernel.kind": ["Dispatch", "Combine"], "kernel.ranks": [8, 64, 1000]}
    rows = swept(tmp_path, yaml.safe_dump({"base": DISPATCH, "grid": axes}))
    assert list(rows[0]) == ["index", *axes, *KERNEL_FIGURES, "error"]
    for row in rows:
        one = changed(DISPATCH, kind=row["kernel.kind"], ranks=int(row["kernel.ranks"]))
        if row["kernel.ranks"] == "1000":
            assert row["error"].startswith("kernel.ranks: 1000 is more than")
            assert row["timeSeconds"] == ""
            continue
        found = evaluate_kernel(one).performance
        assert row["algorithm"] == "Direct"
        assert {key: float(row[key]) for key in found if key not in ("algorithm", "bound")} == {
            key: float(value) for key, value in found.items() if key not in ("algorithm", "bound")
        }


def test_kernels_and_workloads_in_one_sweep_have_both_kinds_of_columns(tmp_path: Path) -> None:
    served = {
        "machine": {"dies": 1},
        "model": {"name": "qwen3-8b"},
        "inference": {"mode": "Prefill", "inputTokens": 1000},
    }
    lines = "\n".join(json.dumps(each) for each in (REDUCE, served, COPY))
    rows = swept(tmp_path, lines, name="points.jsonl")
    assert [bool(row["timeSeconds"]) for row in rows] == [True, False, True]
    assert [bool(row["tokensPerSecond"]) for row in rows] == [False, True, False]
    assert all(row["error"] == "" for row in rows)


def test_parquet_knows_which_figures_of_kernels_are_words(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file, table = tmp_path / "sweep.yaml", tmp_path / "table.parquet"
    file.write_text(yaml.safe_dump({"base": REDUCE, "grid": {"kernel.bytes": [1024, 1 << 30]}}), encoding="utf-8")
    result = CliRunner().invoke(cli, ["sweep", "-f", str(file), "-o", str(table)])
    assert result.exit_code == 0, result.stderr
    rows = parquet.read_table(table).to_pylist()
    assert {row["algorithm"] for row in rows} <= {"Ring", "OneShot", "HalvingDoubling"}
    assert all(isinstance(row["timeSeconds"], float) for row in rows)


@settings(max_examples=80, deadline=None, suppress_health_check=[*HealthCheck])
@given(base=st.sampled_from([DISPATCH, REDUCE, COPY]), changes=changes_of(fields_of("kernel"), most=2))
def test_no_value_in_a_kernel_ends_in_anything_but_an_answer_or_one_error(
    tmp_path: Path, base: dict[str, Any], changes: list[Any]
) -> None:
    obeys(tmp_path, with_changes(base, changes))
