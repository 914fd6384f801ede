"""Published claims: each is computed, says by which definition, and a verdict follows from the numbers."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from supernode_dataplane.claims import Claim, Reading, all_claims
from supernode_dataplane.profile import load_profile

CLAIMS = {claim.id: claim for claim in all_claims()}


def test_every_row_of_both_lists_is_there_once():
    rows = {f"7.{n}" for n in range(1, 17)}
    definitions = {"H-D3", "H-T3", "H-R1", "H-S6", "HC25 training", "HC25 inference"}
    ratios = {f"H-X1 {what}" for what in ("compute", "HBM", "HBM bandwidth", "scale-up", "power", "power per FLOP")}
    assert set(CLAIMS) == rows | definitions | ratios | {"7.12b"}
    assert len(all_claims()) == len(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.id)
def test_a_claim_says_where_it_is_from_and_what_it_means_in_one_sentence(claim: Claim):
    assert len(claim.source) > 10
    assert claim.definition.endswith(".")
    assert len(re.findall(r"[.!?] [A-Z]", claim.definition)) == 0, claim.definition
    assert all(reading.value > 0 for reading in claim.readings)
    assert claim.published[0] <= claim.published[1]


@pytest.mark.parametrize(
    ("claim", "ours", "verdict"),
    [
        ("7.1", 288.768, "holds"),
        ("7.2", 48.0, "holds"),
        ("7.3", 384.0, "holds"),
        ("7.10", 15.68, "holds"),
        ("7.11", 2.1, "holds by another definition"),
        ("7.12", 559.0, "holds"),
        ("7.12b", 3.855, "holds by another definition"),
        ("7.15", 15.7, "does not hold"),
        ("7.16", 301.056, "holds by another definition"),
        ("H-X1 HBM", 3.556, "holds"),
        ("H-X1 scale-up", 2.323, "holds by another definition"),
        ("H-X1 power per FLOP", 2.403, "holds by another definition"),
        ("H-R1", 91.69, "holds"),
    ],
)
def test_figures_of_the_machine_come_out_as_their_arithmetic_says(claim: str, ours: float, verdict: str):
    assert CLAIMS[claim].value == pytest.approx(ours, rel=1e-3)
    assert CLAIMS[claim].verdict == verdict


def test_both_definitions_of_a_ratio_are_shown():
    values = [reading.value for reading in CLAIMS["H-X1 compute"].readings]
    assert values == pytest.approx([1.604, 1.667], rel=1e-3)
    assert [r.value for r in CLAIMS["7.16"].readings] == pytest.approx([301.056, 268.8])


def test_a_value_follows_its_profile():
    from dataclasses import replace

    from supernode_dataplane.claims import machine

    half = replace(load_profile("cloudmatrix-384"), hbm_bytes_per_die=32 * 2**30, rated_watts=280e3)
    totals = {claim.id: claim for claim in machine._totals(half)}
    assert totals["7.2"].value == 24.0
    assert totals["7.2"].verdict == "does not hold"
    energy = machine._energy(half, load_profile("gb200-nvl72"))
    assert energy[1].value == pytest.approx(280 / 145)


def test_training_and_decode_are_those_of_the_model():
    assert CLAIMS["7.4"].value == pytest.approx(132, rel=0.15)
    assert CLAIMS["7.5"].readings[0].value < 2.5 < CLAIMS["7.5"].readings[1].value
    assert "47.3%" in CLAIMS["7.4"].definition
    assert CLAIMS["7.8"].value == CLAIMS["H-D3"].value == pytest.approx(1943, rel=0.1)


def test_the_verdict_names_the_first_reading_that_agrees():
    one, other = Reading("one way", 10.0), Reading("another", 20.0)
    parts: dict[str, Any] = {
        "id": "x",
        "subject": "s",
        "unit": "x",
        "source": "nobody",
        "definition": "So.",
        "tolerance": 0.1,
    }
    for published, verdict in ((10.5, "holds"), (19.0, "holds by another definition"), (30.0, "does not hold")):
        claim = Claim(readings=(one, other), published=(published, published), **parts)
        assert claim.verdict == verdict
    assert claim.to_json()["readings"][1] == {"definition": "another", "value": 20.0, "expectedErrorPercent": None}


def test_no_value_of_ours_is_typed_in():
    from supernode_dataplane.claims import machine, workloads

    for module in (machine, workloads):
        assert not re.search(r'Reading\([^"]*"[^"]*",\s*-?[0-9.]+\)', inspect.getsource(module))
