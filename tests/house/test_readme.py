"""The README's capture of the demo is one run, and the times that it states are those of that run and others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_capture_of_the_demo_is_one_run_within_the_stated_range() -> None:
    capture = README.split("```console\n$ make demo\n", 1)[1].split("```", 1)[0]
    steps = [float(seconds) for seconds in re.findall(r"\.\.\. ([\d.]+) s$", capture, re.MULTILINE)]
    (took,) = (float(seconds) for seconds in re.findall(r"^It took (\d+) s", capture, re.MULTILINE))
    assert len(steps) == 5
    # What is between the steps, and the table, takes a little.
    assert sum(steps) == pytest.approx(took, rel=0.1)
    least, most = re.findall(r"the demo with everything cached takes (\d+) to (\d+) s", README)[0]
    assert float(least) <= took <= float(most)
