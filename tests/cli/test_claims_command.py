"""`supernode claims`: a table for people, the same values as JSON."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner

from supernode_cli.main import cli


def test_the_table_has_ours_the_published_value_and_a_verdict() -> None:
    result = CliRunner().invoke(cli, ["claims"])
    assert result.exit_code == 0, result.output
    row = next(line for line in result.stdout.splitlines() if "compute of the machine" in line)
    assert "288.8" in row
    assert "300" in row
    assert "holds" in row
    assert "does not hold" in result.stdout.splitlines()[-1]


def test_the_table_says_the_tolerance_behind_each_verdict_and_the_rule() -> None:
    claims = json.loads(CliRunner().invoke(cli, ["claims", "-o", "json"]).stdout)["claims"]
    table = CliRunner().invoke(cli, ["claims"]).stdout
    for claim, row in zip(claims, table.split("├")[1:], strict=True):
        share = claim["tolerancePercent"]
        assert claim["id"].split()[0] in row
        assert (f" within {share:g} % " if share else " exactly ") in row
    footer = " ".join(table[table.rindex("╯") :].split())
    assert footer.count("verdict: a claim holds when ") == 1
    assert "holds by another definition when another value on its row does, and else does not hold" in footer


def test_the_best_layouts_of_claims_are_those_of_plan() -> None:
    claims = {c["id"]: c for c in json.loads(CliRunner().invoke(cli, ["claims", "-o", "json"]).stdout)["claims"]}
    planned = {}
    for name in ("qwen2.5-72b", "deepseek-v3", "qwen3-235b-a22b"):
        result = CliRunner().invoke(cli, ["plan", "training", "--model", name, "--top", "1", "-o", "json"])
        planned[name] = json.loads(result.stdout)["layouts"][0]
    for claim, count in (("7.7", 3), ("H-T3", 2), ("HC25 training", 3)):
        readings, rows = claims[claim]["readings"], list(planned.values())[:count]
        for reading, row in zip(readings, rows, strict=True):
            assert reading["value"] == pytest.approx(row["tokensPerSecondPerCard"], rel=1e-5)
            assert reading["expectedErrorPercent"] == row["expectedErrorPercent"]
    decode = claims["7.8"]["ours"]
    over = [decode / planned[name]["tokensPerSecondPerCard"] for name in ("deepseek-v3", "qwen2.5-72b")]
    assert [reading["value"] for reading in claims["7.9"]["readings"]] == pytest.approx(over, rel=1e-5)


def test_json_and_yaml_have_every_reading_with_its_definition() -> None:
    as_json = CliRunner().invoke(cli, ["claims", "-o", "json"])
    as_yaml = CliRunner().invoke(cli, ["claims", "-o", "yaml"])
    document = json.loads(as_json.stdout)
    assert document == yaml.safe_load(as_yaml.stdout)
    claims = {claim["id"]: claim for claim in document["claims"]}
    assert claims["7.1"]["ours"] == 288.768
    assert claims["7.7"]["published"] == [600.0, 750.0]
    assert all(claim["readings"][0]["value"] == claim["ours"] for claim in claims.values())


def test_what_is_modelled_has_an_expected_error_and_arithmetic_has_none() -> None:
    document = json.loads(CliRunner().invoke(cli, ["claims", "-o", "json"]).stdout)
    errors = {claim["id"]: claim["expectedErrorPercent"] for claim in document["claims"]}
    modelled = {"7.4", "7.5", "7.6", "7.7", "7.8", "7.9", "H-T3", "H-D3", "H-S6", "HC25 training", "HC25 inference"}
    assert {name for name, error in errors.items() if error is not None} == modelled
    assert all(1 < errors[name] < 60 for name in modelled)
    assert errors["7.9"] > errors["7.8"], "a ratio of two answers is less certain than either"
    assert "+-" in CliRunner().invoke(cli, ["claims"]).stdout
