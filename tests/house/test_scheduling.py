"""Where there are several processes, a file's tests share one, and so do all that need a cluster."""

from __future__ import annotations

import re
from pathlib import Path

from support.scheduling import is_stray, scope_of

TESTS = Path(__file__).resolve().parents[1]


def test_tests_of_a_file_run_together_and_those_of_a_cluster_all_together() -> None:
    assert scope_of("tests/api/test_rules.py::test_a[x::y]") == scope_of("tests/api/test_rules.py::test_b")
    assert scope_of("tests/api/test_rules.py::test_a") != scope_of("tests/api/test_schema.py::test_a")
    assert scope_of("tests/e2e/test_first_path.py::test_a") == scope_of("tests/devcluster/test_network.py::test_b")


def test_every_file_that_starts_a_cluster_is_named_as_one() -> None:
    marked = re.compile(r"^pytestmark = .*pytest\.mark\.(node|e2e)\b", re.MULTILINE)
    files = [path for path in TESTS.rglob("test_*.py") if marked.search(path.read_text(encoding="utf-8"))]
    assert len(files) > 5
    assert [path.name for path in files if is_stray(path.relative_to(TESTS.parent).as_posix(), "e2e")] == []
    assert is_stray("tests/api/test_rules.py", "node")
    assert not is_stray("tests/api/test_rules.py", "api")
