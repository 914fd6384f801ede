"""Each condition type and reason can be found: said in docs/conditions.md, made where the architecture page leads."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from supernode_api.conditions import ConditionType, Reason

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
CONDITIONS = ROOT / "docs" / "conditions.md"
API_ROOMS = ("operator/supernode_operator", "deviceplugin/supernode_deviceplugin")
PLAIN_ROOM = "dataplane/supernode_dataplane"
"""It knows nothing of the API: reasons are strings there."""
VALUES = {"Reason": Reason, "ConditionType": ConditionType}
ASKING = {"find_condition", "condition_is", "frozenset"}
"""Calls that ask for a type or a reason, and make none."""


def linked() -> set[Path]:
    """Files and folders to which the table "Where is …?" leads."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    table = text.partition("\n## Where is …?\n")[2].partition("\n## ")[0]
    return {(ARCHITECTURE.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)\)", table)}


def made(node: ast.AST, plain: bool) -> Iterator[str]:
    """The types and reasons that code makes; what it only compares, looks up or annotates is not made there."""
    if isinstance(node, ast.Compare | ast.Set | ast.Subscript):
        return
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ASKING:
            return
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in VALUES:
        yield str(VALUES[node.value.id][node.attr])
    if plain and isinstance(node, ast.Constant) and node.value in set(Reason):
        yield str(node.value)
    below = node.values if isinstance(node, ast.Dict) else ast.iter_child_nodes(node)  # a key is looked up
    for child in below:
        yield from made(child, plain)


def makers() -> dict[str, set[Path]]:
    """Which files make each type and each reason."""
    found: dict[str, set[Path]] = {str(value): set() for kind in VALUES.values() for value in kind}
    for room in (*API_ROOMS, PLAIN_ROOM):
        for path in sorted((ROOT / room).rglob("*.py")):
            for value in made(ast.parse(path.read_text(encoding="utf-8")), plain=room == PLAIN_ROOM):
                found[value].add(path)
    return found


def test_every_type_and_reason_is_made_somewhere_in_the_code() -> None:
    assert [value for value, paths in makers().items() if not paths] == []


def test_every_file_that_makes_a_type_or_a_reason_is_named_in_the_table_of_the_architecture() -> None:
    known = linked()
    unnamed = {
        f"{value}: {path.relative_to(ROOT)}"
        for value, paths in makers().items()
        for path in paths
        if not known & {path, *path.parents}
    }
    assert sorted(unnamed) == [], 'add them to a row of "Where is …?" in docs/architecture.md'


def test_every_type_and_reason_is_said_on_the_page_of_conditions() -> None:
    said = set(re.findall(r"^\| `(\w+)` \|", CONDITIONS.read_text(encoding="utf-8"), re.MULTILINE))
    assert {str(value) for kind in VALUES.values() for value in kind} == said
