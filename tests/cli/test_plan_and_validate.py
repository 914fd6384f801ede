"""`supernode plan` finds the best layout of a lattice and says why others cannot be; `validate` prints the suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from supernode_cli.main import cli
from supernode_dataplane.catalogue import model_names

ROW_TYPES: dict[str, set[type]] = {
    "id": {str},
    "set": {str},
    "informative": {bool},
    "class": {str, type(None)},
    "source": {str},
    "published": {dict},
    "computed": {dict},
    "errorPercent": {float, type(None)},
    "gatePercent": {float, type(None)},
    "passed": {bool, type(None)},
    "interval": {list, type(None)},
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def layouts(*arguments: str) -> dict:
    result = run("plan", *arguments, "-o", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_the_best_decode_layout_of_deepseek_r1_meets_the_limit_and_is_listed_first() -> None:
    found = layouts("decode", "--model", "deepseek-r1", "--tpot-ms", "50", "--drafts", "1", "--accepted", "0.7")
    rates = [layout["tokensPerSecond"] for layout in found["layouts"]]
    assert rates == sorted(rates, reverse=True)
    assert all(layout["tpotMilliseconds"] <= 50 for layout in found["layouts"])
    assert all(layout["hbmGibibytesPerDie"] <= 64 for layout in found["layouts"])
    assert any("EP" in layout["layout"] for layout in found["layouts"])


def test_a_tighter_limit_never_gives_more_tokens() -> None:
    loose = layouts("decode", "--model", "qwen3-32b", "--cards", "8", "--tpot-ms", "60")
    tight = layouts("decode", "--model", "qwen3-32b", "--cards", "8", "--tpot-ms", "20")
    assert tight["layouts"][0]["tokensPerSecondPerCard"] <= loose["layouts"][0]["tokensPerSecondPerCard"]


def test_what_does_not_fit_is_listed_with_its_memory_arithmetic() -> None:
    found = layouts("decode", "--model", "deepseek-r1", "--cards", "16")
    reasons = [entry["why"] for entry in found["rejected"] if entry["reason"] == "memory"]
    assert reasons
    assert all("weights" in reason and "GiB" in reason for reason in reasons)


@pytest.mark.parametrize("phase", ["prefill", "training"])
def test_prefill_and_training_have_plans_too(phase: str) -> None:
    found = layouts(phase, "--model", "deepseek-v3", "--cards", "256")
    assert found["layouts"][0]["tokensPerSecondPerCard"] > 0
    assert found["legal"] >= len(found["layouts"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("decode", "--model", "deepseek-r2"), "deepseek-r1"),
        (("decode", "--model", "deepseek-r1", "--machine", "cm385"), "cloudmatrix-384"),
        (("decode", "--model", "deepseek-r1", "--stack", "best"), "vendor-tuned"),
        (("decode", "--model", "deepseek-r1", "--cards", "385"), "--cards"),
        (("decode", "--model", "deepseek-r1", "--accepted", "1"), "--drafts"),
        (("decode", "--model", "deepseek-r1", "--tpot-ms", "1"), "limit"),
        (("decode", "--model", "deepseek-r1", "--tpot-ms", "nan"), "--tpot-ms"),
        (("training", "--model", "llama-3.1-8b", "--tpot-ms", "5"), "an option of decode"),
        (
            ("training", "--model", "llama-3.1-8b", "--global-batch-size", "7", "--sequence-length", "4097"),
            "--global-batch-size",
        ),
        (("decode", "--model", "deepseek-r1", "--cards", "1"), "GiB"),
        (("decode", "--model", "deepseek-r1", "--tokens-per-second", "9"), "--objective cards"),
        (
            ("decode", "--model", "deepseek-r1", "--objective", "cards", "--tokens-per-second", "1e12"),
            "1,000,000,000,000",
        ),
        (("training", "--model", "llama-3.1-8b", "--objective", "latency"), "of inference"),
        (("training", "--model", "llama-3.1-8b", "--batch", "4"), "--batch is an option of decode, prefill"),
        (("decode", "--model", "deepseek-r1", "--batch", "400"), "GiB"),
    ],
)
def test_what_cannot_be_planned_gets_one_sentence_and_status_2(arguments: tuple[str, ...], said: str) -> None:
    result = run("plan", *arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output
    assert "layouts" not in result.output


def test_a_model_that_is_unknown_is_answered_with_the_few_near_ones_and_with_what_a_plan_can_take() -> None:
    near = run("plan", "decode", "--model", "deepseek-r2").output
    assert "near: deepseek-r1" in near
    assert near.count(", ") <= 3
    assert "config" not in near
    assert "near" not in run("plan", "decode", "--model", "foo").output
    names = " ".join(run("plan", "--help").output.split())
    assert all(name in names for name in model_names())


def test_training_on_the_whole_machine_has_a_plan_without_more_flags() -> None:
    found = layouts("training", "--model", "llama-3.1-405b", "--sequence-length", "8192")
    assert found["layouts"][0]["tokensPerSecondPerCard"] > 100


def test_validate_prints_rows_with_their_errors_and_json_has_every_field() -> None:
    table = run("validate", "C-D1", "H-K3")
    assert table.exit_code == 0
    assert "C-D1" in table.output
    assert "passed" in table.output
    document = json.loads(run("validate", "C-D1", "H-K1", "-o", "json").output)
    for name in ("fittedConstants", "measuredConstants"):
        assert document[name]["count"] == len(document[name]["constants"]) > 0
        assert all(constant["rows"] or constant["source"] for constant in document[name]["constants"])


def test_rows_of_every_set_have_one_schema_in_json_and_the_docs_name_its_fields() -> None:
    document = json.loads(run("validate", "C-K1", "C-D1", "H-D13", "H-R1", "H-D3", "HC25", "-o", "json").output)
    rows = {row["id"]: row for row in document["rows"]}
    assert list(rows) == ["C-K1", "C-D1", "H-D13", "H-R1", "HC25 training", "H-D3", "HC25 inference"]
    assert [row["set"] for row in rows.values()] == ["calibration", "calibration", "test", *4 * ["definition"]]
    docs = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    for row in rows.values():
        assert ROW_TYPES.keys() <= rows["C-D1"].keys() <= row.keys()
        for name, kinds in ROW_TYPES.items():
            assert type(row[name]) in kinds, (row["id"], name)
        assert set(row["published"]) == set(row["computed"])
        assert row["worst"] in row["published"]
        for name in row:
            assert f"`{name}`" in docs, name
    assert (rows["C-K1"]["passed"], rows["C-K1"]["errorPercent"]) == (None, None)
    assert rows["H-D13"]["gatePercent"] is None
    assert rows["H-R1"]["published"] == {"%": 91.6}
    assert (rows["HC25 training"]["class"], rows["HC25 training"]["passed"]) == (None, False)


def test_validate_names_the_rows_that_there_are_or_the_one_that_was_meant() -> None:
    result = run("validate", "C-D99")
    assert result.exit_code == 2
    assert "C-D1" in result.output
    meant = run("validate", "h-t4")
    assert meant.exit_code == 2
    assert meant.output.strip() == "Error: no row 'h-t4' in the suite; did you mean H-T4?"


def test_validate_says_one_row_and_how_an_interval_is_meant() -> None:
    output = run("validate", "H-K1").output
    assert "1 informative test row:" in output
    assert "20 % up, 16 % down" in output
    assert "informative" not in run("validate", "C-K4").output


def test_validate_prints_figures_of_rows_by_definition_and_marks_what_is_read_back() -> None:
    defined = run("validate", "H-X1")
    lines = [line for line in defined.output.splitlines() if line.startswith(" H-X1")]
    assert len(lines) == 6
    assert "3.855" in defined.output
    assert "3.86" in defined.output
    read_back = run("validate", "C-K5").output
    assert "read back" in read_back
    assert "passed" not in read_back
