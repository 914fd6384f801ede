"""Decisions of the operator are pure."""

from __future__ import annotations

import ast
from pathlib import Path

import supernode_operator.domain


def test_decisions_know_no_clock_no_input_and_no_client() -> None:
    forbidden = {"kopf", "kubernetes", "aiohttp", "asyncio", "time", "datetime", "structlog", "logging", "os", "random"}
    for path in Path(supernode_operator.domain.__path__[0]).glob("*.py"):
        for statement in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in statement.names] if isinstance(statement, ast.Import) else []
            names += [statement.module or ""] if isinstance(statement, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & forbidden, path.name
            assert not any(n.startswith(("supernode_operator.engine", "supernode_operator.rec")) for n in names), path
