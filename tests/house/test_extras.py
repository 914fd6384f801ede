"""Each part runs on what its extra installs, and no more: node agent and cabinets without kopf and kubernetes.

An extra is installed here without a network: what it requires, and what that requires, is linked from this environment
into a folder of its own, where a Python that sees nothing else imports the part.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = {Path(path).name: ROOT / path for path in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
HEAVY = {"kopf", "kubernetes"}
"""126 MB: for the operator and the command line only."""
PARTS = {
    "agent": ("supernode_deviceplugin", "supernode_api"),
    "cabinet": ("supernode_cabinet", "supernode_dataplane", "supernode_api"),
    "dataplane": ("supernode_dataplane", "supernode_api"),
    "workload": ("supernode_workload",),
    "operator": ("supernode_operator", "supernode_dataplane", "supernode_api"),
    "sweep": ("supernode_cli", "supernode_dataplane", "supernode_api"),
}
"""Extra (none of this name: what every part needs) -> the packages that run on it."""
FOR_DEVELOPERS = {"supernode_api.generate", "supernode_deviceplugin.generate"}
"""`make gen` only."""


def requirements(extra: str) -> list[Requirement]:
    """What pyproject.toml asks for, with its own extras resolved."""
    found = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    for text in PROJECT["project"]["optional-dependencies"].get(extra, ()):
        one = Requirement(text)
        found += [more for inner in one.extras for more in requirements(inner)] if one.name == "supernode" else [one]
    return found


def closure(wanted: Iterable[Requirement]) -> dict[str, Distribution]:
    """Every distribution that these need, by name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    left = list(wanted)
    while left:
        one = left.pop()
        name = canonicalize_name(one.name)
        if (name, frozenset(one.extras)) in seen:
            continue
        seen.add((name, frozenset(one.extras)))
        found[name] = distribution(name)
        for text in found[name].requires or ():
            inner = Requirement(text)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                left.append(inner)
    return found


def install(distributions: Iterable[Distribution], folder: Path) -> None:
    for one in distributions:
        for file in one.files or ():
            if file.parts[0] == "..":  # programs
                continue
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():  # packages of one namespace may share a file
                target.symlink_to(Path(str(one.locate_file(file))))


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGES[package].rglob("*.py")):
        name = ".".join((package, *path.relative_to(PACKAGES[package]).with_suffix("").parts))
        if name not in FOR_DEVELOPERS:
            yield name.removesuffix(".__init__"), path


def imported(path: Path) -> set[str]:
    """The modules of others that a file imports anywhere, also inside of functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] not in sys.stdlib_module_names | PACKAGES.keys()}


def alone(folder: Path, code: str) -> str:
    """What a Python prints that sees the standard library, this folder and our sources; else what went wrong."""
    roots = {str(path.parent) for path in PACKAGES.values()}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), *sorted(roots)))}
    argv = [sys.executable, "-S", "-B", "-c", code]
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr[-2000:]


@pytest.mark.parametrize("extra", ["agent", "cabinet", "dataplane", "workload"])
def test_an_extra_of_a_small_part_needs_neither_kopf_nor_kubernetes(extra: str) -> None:
    needed = closure(requirements(extra))
    assert "pydantic" in needed
    assert not needed.keys() & HEAVY
    assert closure(requirements("operator")).keys() >= HEAVY


@pytest.mark.parametrize("extra", PARTS)
def test_a_part_imports_with_what_its_extra_installs_and_no_more(extra: str, tmp_path: Path) -> None:
    needed = closure(requirements(extra))
    install(needed.values(), tmp_path)
    ours = {name: path for package in PARTS[extra] for name, path in modules(package)}
    names = sorted({*ours, *(name for path in ours.values() for name in imported(path))})
    code = f"from importlib import import_module\nfor name in {names!r}: import_module(name)\nprint('all of it')"
    assert alone(tmp_path, code) == "all of it"
    for absent in HEAVY - needed.keys():
        assert f"No module named '{absent}'" in alone(tmp_path, f"import {absent}")


def test_managed_pods_need_no_package_at_all() -> None:
    assert [name for _, path in modules("supernode_workload") for name in imported(path)] == []


@pytest.mark.parametrize(("lock", "extra"), [("requirements-image.lock", "image"), ("requirements-dev.lock", "dev")])
def test_a_lock_file_has_all_that_its_extra_needs(lock: str, extra: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    locked = {canonicalize_name(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}
    assert closure(requirements(extra)).keys() - locked == set()
