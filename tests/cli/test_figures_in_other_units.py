"""A figure of a machine that is given in another unit is an error; one that is only far off is a note."""

from __future__ import annotations

from typing import Any

import pytest

from supernode_cli.evaluation import evaluate
from supernode_dataplane import load_profile, profile_names
from supernode_dataplane.changed_profile import changed_profile, far_figures, in_camel_case
from supernode_dataplane.errors import InvalidFigureError
from supernode_dataplane.profile import profile_figures
from support.refusals import decode, refused


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("hbmTerabytesPerSecondPerDie", 1600, "is 1600 (TB/s), 1,000 times the 1.6 of cloudmatrix-384"),
        ("hbmGibibytesPerDie", 64000, "is 64000 (GiB), 1,000 times the 64 of cloudmatrix-384"),
        ("hbmGigabytesPerDie", 64000, "is 64000 (GB), 931.3 times the 68.72 of cloudmatrix-384"),
        ("portGigabytesPerSecond", 1e6, "is 1e+06 (GB/s one way), 3.571e+04 times the 28 of cloudmatrix-384"),
        ("podLatencyMicroseconds", 0.0000021, "is 2.1e-06 (us), 1/1e+06 of the 2.1 of cloudmatrix-384"),
        ("rdmaMeasuredGigabytesPerSecond", 25000, "1,000 times the 25 of cloudmatrix-384"),
    ],
)
def test_a_figure_in_another_unit_is_refused_with_its_unit_and_the_machines_own(
    name: str, value: float, says: str
) -> None:
    error = refused(decode(**{name: value}))
    assert error.startswith(f"machine.figures.{name}: ")
    assert says in error
    assert "in the unit of its name" in error


def test_a_figure_far_off_runs_with_a_note() -> None:
    notes = evaluate(decode(hbmTerabytesPerSecondPerDie=200)).notes
    assert "machine.figures.hbmTerabytesPerSecondPerDie is 200 (TB/s), 125 times the 1.6 of cloudmatrix-384" in notes
    near: Any = evaluate(decode(hbmTerabytesPerSecondPerDie=150)).notes
    assert not any("hbmTerabytesPerSecondPerDie" in note for note in near)


@pytest.mark.parametrize("machine", profile_names())
def test_every_figure_with_a_unit_of_every_machine_is_held_to_its_own(machine: str) -> None:
    for key, figure in profile_figures(machine).items():
        value = figure["value"]
        field = in_camel_case(key)
        counted = isinstance(value, float) and any(unit in key for unit in ("_per_second", "seconds", "flops", "bytes"))
        if not counted or not value:
            continue
        for wrong in (value * 1000, value / 1000):
            with pytest.raises(InvalidFigureError):
                changed_profile(machine, {field: wrong})
        assert changed_profile(machine, {field: value}) == load_profile(machine)
        assert far_figures(machine, {field: value * 1.5}) == ()


def test_what_a_machine_lacks_and_what_is_counted_is_held_to_nothing() -> None:
    assert changed_profile("cloudmatrix-384", {"fp8TeraflopsPerDie": 1e6}).fp8_flops_per_die == 1e18
    assert changed_profile("gb200-nvl72", {"servers": 1024}).servers == 1024
