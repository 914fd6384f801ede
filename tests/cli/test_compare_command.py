"""`supernode compare`: one workload on several machines by one rule, n/a where no source has a figure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from supernode_cli.comparison import compare, operating_point, scenario_on
from supernode_cli.evaluation import ScenarioError, evaluate
from support.machines import LLAMA
from support.scenarios import r1_scenario, run_on_file

DECODE = r1_scenario(4, "Decode", 2048, 512, batch={"sequencesPerCard": 16})
ALL = ["cloudmatrix-384", "atlas-a2-cluster", "gb200-nvl72", "h800-cluster", "h100-cluster"]


def run(tmp_path: Path, document: Any, *arguments: str) -> tuple[int, str, str]:
    return run_on_file(tmp_path, "compare", document, *arguments)


def test_its_own_machine_has_the_answer_of_simulate() -> None:
    point = operating_point(LLAMA, "cloudmatrix-384")
    assert point.tokens_per_second == evaluate(LLAMA).result.tokens_per_second
    assert point.changed == ()
    assert point.layout == "TP16 PP8 DP6 VPP4"
    assert point.per_card == pytest.approx(point.tokens_per_second / 384)
    assert point.per_petaflops == pytest.approx(point.tokens_per_second / 271.7952)
    assert point.per_kilowatt == pytest.approx(point.tokens_per_second / 559)


def test_every_machine_gets_as_many_dies_as_it_has_and_a_layout_that_fits_its_servers() -> None:
    rows = {row.machine: row.point for row in compare(LLAMA, ALL)}
    assert [point.dies for point in rows.values() if point] == [768, 768, 72, 768, 384]
    for name in ALL[1:]:
        point = rows[name]
        assert point is not None
        tuned = () if name == "atlas-a2-cluster" else ("stack gpu-tuned",)
        fewer = () if point.dies == 768 else (f"{point.dies} dies instead of 768",)
        assert point.changed == (*fewer, *tuned, "layout")
        assert point.layout.startswith(("TP8 ", "TP4 "))
        assert 0.25 < point.mfu < 0.55


def test_power_without_a_source_is_not_available() -> None:
    rows = {row.machine: row.to_json() for row in compare(LLAMA, ALL)}
    unknown = [name for name, row in rows.items() if row["tokensPerSecondPerKilowatt"] is None]
    assert unknown == ["atlas-a2-cluster", "h800-cluster"]
    assert rows["gb200-nvl72"]["ratedKilowatts"] == 145
    assert rows["h100-cluster"]["ratedSource"].startswith("vendor data sheet: 10.2 kW")


def test_a_number_of_cards_can_be_given_for_all() -> None:
    points = [row.point for row in compare(LLAMA, ["cloudmatrix-384", "h100-cluster"], cards=256)]
    assert [point.cards for point in points if point] == [256, 256]
    share = next(point.rated_watts for point in points if point)
    assert share == pytest.approx(559e3 * 256 / 384)


def test_formats_and_stack_of_a_deployment_are_those_of_the_machine() -> None:
    asked, changed = scenario_on(DECODE, "h100-cluster")
    assert changed == ("stack gpu-tuned", "weights fp8", "activations fp8")
    assert asked["machine"] == {"profile": "h100-cluster", "nodes": 8}
    assert "precision" not in DECODE["inference"], "the scenario itself stays as it is"
    here, there = (operating_point(DECODE, name) for name in ("cloudmatrix-384", "h100-cluster"))
    assert (here.peak_format, there.peak_format) == ("int8", "fp8")
    assert there.peak_flops == pytest.approx(64 * 1979e12)
    assert here.tokens_per_second > 0
    back, _ = scenario_on(asked, "cloudmatrix-384")
    assert back["inference"]["precision"] == {"weights": "int8", "activations": "int8"}


def test_failures_and_changed_figures_stay_with_their_machine() -> None:
    document = {**LLAMA, "machine": {"failed": {"planes": [0]}, "figures": {"rdmaGigabytesPerSecond": 10}}}
    asked, _ = scenario_on(document, "h100-cluster")
    assert asked["machine"] == {"profile": "h100-cluster", "nodes": 48}
    own, _ = scenario_on(document, "cloudmatrix-384", cards=192)
    assert own["machine"]["failed"] == {"planes": [0]}
    assert own["machine"]["nodes"] == 24


def test_a_machine_where_the_layout_is_illegal_gets_the_best_one_at_as_many_dies(tmp_path: Path) -> None:
    status, out, _ = run(tmp_path, DECODE, *ALL, "-o", "json")
    assert status == 0
    rows = {row["machine"]: row for row in json.loads(out)["machines"]}
    assert all(row["tokensPerSecond"] > 0 and row["expectedErrorPercent"] > 1 for row in rows.values())
    assert {row["sequences"] for row in rows.values()} == {512}, "the load is the same everywhere"
    rack = rows["gb200-nvl72"]
    assert rack["dies"] == 72
    assert "layout" in rack["changed"]
    assert "EP" in rack["layout"]
    assert "layout" not in rows["h100-cluster"]["changed"], "a legal layout stays"
    assert rows["h100-cluster"]["sources"]["stacks"]["gpu-tuned"]["gemmEfficiency"]["source"]
    status, out, _ = run(tmp_path, DECODE, *ALL)
    assert (
        f"changed: 72 dies instead of {rows[ALL[0]]['dies']}, stack gpu-tuned, weights fp8, activations fp8, layout, "
        "7.111 sequences a card instead of 16" in " ".join(out.split())
    )


def test_the_planners_layout_is_not_slower_than_legal_ones() -> None:
    best = operating_point(DECODE, "gb200-nvl72")
    legal, _ = scenario_on(DECODE, "gb200-nvl72")
    for experts in (72, 36, 24):
        spread = {"redundant": -256 % experts}
        legal["inference"]["decode"] = {"parallelism": {"expert": experts}, "experts": spread}
        assert evaluate(legal).result.tokens_per_second <= best.tokens_per_second * (1 + 1e-9)


def test_a_load_is_as_many_sequences_on_every_machine_whatever_a_card_is() -> None:
    rows = compare(DECODE, ALL)
    assert [row.point.sequences for row in rows if row.point] == [512] * 5
    said = {row.machine: row.point.changed for row in rows if row.point}
    assert said["cloudmatrix-384"] == ()
    assert said["atlas-a2-cluster"] == ("8 sequences a card instead of 16",), "a card of one die, and no less of them"
    by_cards = [operating_point(DECODE, name, cards=24) for name in ("cloudmatrix-384", "atlas-a2-cluster")]
    assert [point.sequences for point in by_cards] == [384, 384], "so many cards of each, 16 on each"
    assert all("sequences" not in words for point in by_cards for words in point.changed)


def test_one_sequence_on_one_die_is_one_on_a_die_of_another_machine() -> None:
    inference = {"mode": "Decode", "inputTokens": 128, "outputTokens": 128, "batch": {"sequencesPerCard": 2}}
    precision = {"weights": "bf16", "activations": "bf16"}
    document = {
        "machine": {"dies": 1},
        "model": {"name": "qwen3-8b"},
        "stack": "open-source",
        "inference": {**inference, "precision": precision},
    }
    here, there = (operating_point(document, name) for name in ("cloudmatrix-384", "atlas-a2-cluster"))
    assert (here.sequences, there.sequences) == (1, 1)
    assert there.tokens_per_second == pytest.approx(here.tokens_per_second, rel=0.02), "both dies have 1.6 TB/s of HBM"
    assert there.changed == ("1 sequence a card instead of 2",)
    assert here.rated_watts == pytest.approx(559e3 / 384), "a card of which one die is in use is a card throughout"
    assert here.per_petaflops == pytest.approx(here.per_card / 0.70780, rel=1e-4)


def test_a_pool_that_reads_prompts_keeps_its_dies_and_what_is_different_is_said() -> None:
    document = r1_scenario(4, "Disaggregated", 2048, 512, load={"concurrency": 256}, prefill={"nodes": 2})
    asked, _ = scenario_on(document, "h100-cluster")
    assert asked["inference"]["prefill"] == {"nodes": 4}
    rack = operating_point(document, "gb200-nvl72")
    reading = next(words for words in rack.changed if "read prompts" in words)
    instances, _, layout = rack.layout.removeprefix("prefill ").partition("; ")[0].partition(" x ")
    tensor, data = re.findall(r"TP(\d+) DP(\d+)", layout)[0]
    dies = int(instances) * int(tensor) * int(data)
    assert reading == f"{dies} dies that read prompts instead of 32", "what the row's layout has"
    assert rack.sequences == 256


def test_a_row_has_the_times_of_a_token_that_its_mode_has(tmp_path: Path) -> None:
    found = evaluate(DECODE).result
    (row,) = (row.to_json() for row in compare(DECODE, ["cloudmatrix-384"]))
    assert row["tpotSeconds"] == found.tpot_seconds
    assert row["ttftSeconds"] is None
    prefill = {"mode": "Prefill", "inputTokens": 2048}
    reads = operating_point({**DECODE, "inference": prefill}, "cloudmatrix-384")
    assert reads.ttft_seconds
    assert (reads.tpot_seconds, reads.sequences) == (None, None)
    _, out, _ = run(tmp_path, DECODE, "cloudmatrix-384")
    assert f"{found.tpot_seconds * 1e3:.4g}" in out
    assert "TPOT ms" in out
    assert "TTFT ms" not in out
    _, out, _ = run(tmp_path, LLAMA, "cloudmatrix-384")
    assert not {"TPOT ms", "TTFT ms", "sequences"} & set(out.split("│"))


def test_products_are_named_by_the_format_that_they_run_in() -> None:
    precision = {"weights": "fp8", "activations": "fp8"}
    here = operating_point({**DECODE, "inference": {**DECODE["inference"], "precision": precision}}, "cloudmatrix-384")
    assert here.peak_format == "bf16", "the 910C has no FP8"
    assert here.peak_flops == pytest.approx(64 * 353.9e12)


def test_one_error_of_the_scenario_is_said_once_for_all_machines(tmp_path: Path) -> None:
    status, _, err = run(tmp_path, {**LLAMA, "model": {"name": "llama-9"}}, *ALL)
    assert status == 2
    assert err.count("llama-9") == 1


@pytest.mark.parametrize("mode", ["Prefill", "Colocated", "Disaggregated"])
def test_every_mode_finds_a_layout_in_a_rack_of_72(mode: str) -> None:
    inference: dict[str, Any] = {"mode": mode, "inputTokens": 2048}
    if mode != "Prefill":
        inference |= {"outputTokens": 512, "load": {"concurrency": 256}}
    if mode == "Disaggregated":
        inference["prefill"] = {"nodes": 2}
    document = {**DECODE, "inference": inference}
    point = operating_point(document, "gb200-nvl72")
    assert point.dies == 72
    assert "layout" in point.changed
    assert point.tokens_per_second > 0
    assert ("prefill" in point.layout) == (mode in {"Prefill", "Disaggregated"})


def test_a_batch_that_no_layout_holds_becomes_the_best_one_and_the_row_says_so() -> None:
    document = {**DECODE, "machine": {"nodes": 1}, "model": {"name": "qwen3-32b"}}
    document["inference"] = {**DECODE["inference"]}
    document["inference"]["batch"] = {"sequencesPerCard": 120}
    document["inference"]["decode"] = {"parallelism": {"tensor": 2}}
    assert operating_point(document, "cloudmatrix-384").changed == ()
    changed = operating_point(document, "h100-cluster", cards=8).changed
    assert changed[-2] == "layout"
    assert re.fullmatch(r"[\d.]+ sequences a card instead of 120", changed[-1])


def test_a_machine_on_which_nothing_fits_says_why_and_the_others_answer(tmp_path: Path) -> None:
    document = {**DECODE, "machine": {"nodes": 1}, "model": {"name": "llama-3.1-405b"}}
    document["inference"] = {**DECODE["inference"], "batch": {"sequencesPerCard": 1}, "inputTokens": 1_000_000}
    status, out, _ = run(tmp_path, document, "gb200-nvl72", "cloudmatrix-384", "-o", "json")
    assert status == 0
    rows = {row["machine"]: row for row in json.loads(out)["machines"]}
    assert rows["gb200-nvl72"]["tokensPerSecond"] > 0
    assert "GiB" in rows["cloudmatrix-384"]["problem"]


def test_the_table_has_a_line_for_each_machine_with_ratios_to_the_first(tmp_path: Path) -> None:
    status, out, _ = run(tmp_path, LLAMA, *ALL)
    assert status == 0
    line = next(line for line in out.splitlines() if "atlas-a2-cluster" in line)
    assert "n/a" in line
    assert "x0.45" in out
    assert "559" not in line


@pytest.mark.parametrize(
    ("document", "arguments", "says"),
    [
        (LLAMA, ["h100-cluster", "h900-cluster"], "compare: MACHINE h900-cluster: there is no hardware profile"),
        ({**LLAMA, "machine": {"profile": "h900"}}, ["h100-cluster"], "yaml: machine.profile: there is no hardware"),
        (LLAMA, ["h100-cluster", "--cards", "100"], "cards: 100 are no whole servers of h100-cluster, which have 8"),
        (LLAMA, ["gb200-nvl72", "--cards", "144"], "cards: 144 is more than the 72 of gb200-nvl72"),
        ({"model": {"name": "llama-3.1-405b"}}, ["h100-cluster"], "exactly one of training and inference"),
        ({**LLAMA, "model": {"name": "llama-9"}}, ["h100-cluster"], "llama-9"),
        ({**LLAMA, "trainig": 1}, ["h100-cluster"], "unknown field trainig"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_status_2(
    tmp_path: Path, document: Any, arguments: list[str], says: str
) -> None:
    status, out, err = run(tmp_path, document, *arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


def test_no_layout_at_all_is_said_with_the_remedy() -> None:
    with pytest.raises(ScenarioError, match=r"training\.parallelism: no layout of 8 dies .* other cards"):
        operating_point(LLAMA, "h100-cluster", cards=8)
