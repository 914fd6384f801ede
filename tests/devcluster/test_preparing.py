"""The build behind the tests: who waits for how much of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.preparing import Preparation
from support.processes import spawn


@contextmanager
def build(folder: Path, script: str) -> Iterator[tuple[Preparation, Path]]:
    """Yield a build that runs ``script``, and the file that the script makes."""
    made, log = folder / "made", folder / "log"
    with log.open("wb") as output:
        process = spawn([sys.executable, "-c", script, str(made)], stdout=output, stderr=output, start_new_session=True)
    preparation = Preparation(process, log)
    try:
        yield preparation, made
    finally:
        preparation.stop()


def test_a_test_waits_only_for_the_programs_that_it_needs(tmp_path: Path) -> None:
    script = "import pathlib, sys, time; time.sleep(0.3); pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
    with build(tmp_path, script) as (preparation, made):
        assert preparation.wait_until(made.exists), "the build goes on, and what is needed is there"


def test_a_build_that_ends_without_what_is_needed_says_how_it_ended(tmp_path: Path) -> None:
    with build(tmp_path, "print('no compiler'); raise SystemExit(3)") as (preparation, made):
        assert not preparation.wait_until(made.exists)
        assert preparation.wait() == "preparing failed: no compiler\n"


def test_a_build_that_nobody_waits_for_is_ended(tmp_path: Path) -> None:
    with build(tmp_path, "import time; time.sleep(600)") as (preparation, _):
        preparation.stop()
        assert not preparation.wait_until(lambda: True), "it has ended"
