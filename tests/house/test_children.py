"""What tests start ends with them: when they fail, and when the whole run is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.processes import child

TESTS = Path(__file__).resolve().parents[1]
SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
ELSEWHERE = {"support/processes.py", "support/preparing.py"}
"""The one starts all children; the other a build with children of its own, which it ends as a group."""


def test_a_child_ends_when_the_test_around_it_fails() -> None:
    with pytest.raises(ZeroDivisionError), child(SLEEP, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"up\n"
        raise ZeroDivisionError
    assert process.returncode == -9


def test_a_child_ends_when_the_run_is_killed() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
        "import subprocess; from support.processes import spawn\n"
        f"made = spawn({SLEEP!r}, stdout=subprocess.PIPE)\n"
        "made.stdout.readline(); print(made.pid, flush=True); made.wait()\n"
    )
    with child([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as run:
        grandchild = Path("/proc", run.stdout.readline().strip())
        assert (grandchild / "cmdline").read_bytes()
    deadline = time.monotonic() + 20
    while grandchild.exists() and (grandchild / "cmdline").read_bytes():  # nothing: it only waits to be collected
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_test_starts_a_child_in_another_way() -> None:
    found = [
        name
        for path in sorted(TESTS.rglob("*.py"))
        if "subprocess.Popen" + "(" in path.read_text(encoding="utf-8")
        and (name := path.relative_to(TESTS).as_posix()) not in ELSEWHERE
    ]
    assert found == []
