"""The house itself: source roots, sizes, lock files, what each role may load, what the pages promise."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("crds", "operator", "deviceplugin", "dataplane", "workload", "cli")
PACKAGES = {
    "supernode_api",
    "supernode_operator",
    "supernode_deviceplugin",
    "supernode_dataplane",
    "supernode_cabinet",
    "supernode_workload",
    "supernode_cli",
}
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 50
GENERATED = (
    "*_pb2.py*",  # gRPC stubs
    "*_pb2_grpc.py*",
    "crds/*.yaml",
    "helm/supernode/files/crds/*.yaml",
    "docs/objects.md",
    "docs/scenario.schema.json",
    "requirements-*.lock",
    "devcluster/gomod/*/go.sum",
)
"""By `make gen`, `make lock` and Go: nobody reads them from top to bottom."""
LONG_FILES = {
    "docs/architecture.md": "most of it are the lists of modules, which are generated",
    "helm/supernode/values.schema.json": "Helm takes one schema, and of it each key with its bounds and its meaning",
}
"""Files over 400 lines, with the reason."""
LONG_FUNCTIONS = {
    ("tests/support/api_samples.py", "workload"): "one object with every field, to be read beside the API's page",
}
"""Functions over 50 lines, with the reason."""


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_a_source_root_is_no_package(root: str) -> None:
    assert (ROOT / root).is_dir()
    assert not (ROOT / root / "__init__.py").exists()


def test_python_works_from_the_repository_root() -> None:
    subprocess.run([sys.executable, "-c", "import collections, operator; operator.itemgetter"], cwd=ROOT, check=True)


def test_the_wheel_holds_every_package_and_only_those(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == PACKAGES
    assert "supernode_dataplane/data/profiles/cloudmatrix-384.yaml" in names


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("supernode_deviceplugin.agent", ("kopf", "kubernetes", "numpy", "opentelemetry")),
        ("supernode_cabinet.__main__", ("kopf", "kubernetes", "grpc_tools")),
        ("supernode_cabinet.app, supernode_cabinet.otlp", ("kopf", "kubernetes", "pydantic", "google")),
        ("supernode_dataplane.inputs", ("kopf", "kubernetes", "lightkube", "grpc", "asyncio", "pydantic")),
        ("supernode_cli.main", ("kubernetes", "rich", "numpy", "yaml")),
        ("supernode_workload.__main__", ("pydantic", "numpy", "supernode_api")),
    ],
)
def test_each_role_loads_only_what_it_needs(module: str, never: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(' '.join(n for n in {never!r} if n in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def written_by_people() -> list[Path]:
    """All text files of the repository that are not generated."""
    return [p for p in tracked() if not any(p.relative_to(ROOT).match(pattern) for pattern in GENERATED)]


def test_no_file_that_people_write_is_longer_than_400_lines_without_a_reason() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in written_by_people()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert set(long) == set(LONG_FILES), long


def test_what_counts_as_generated_is_there() -> None:
    names = [path.relative_to(ROOT) for path in tracked()]
    assert [pattern for pattern in GENERATED if not any(name.match(pattern) for name in names)] == []


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """The name of each function of a file, and its lines from ``def`` on."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_function_is_longer_than_50_lines_without_a_reason() -> None:
    long = {
        (str(path.relative_to(ROOT)), name): lines
        for path in written_by_people()
        if path.suffix == ".py"
        for name, lines in functions(path)
        if lines > MOST_LINES_OF_A_FUNCTION
    }
    assert set(long) == set(LONG_FUNCTIONS), long


@pytest.mark.parametrize("name", ["requirements-dev.lock", "requirements-image.lock"])
def test_lock_files_have_a_hash_for_everything_and_no_index_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(-i|--index-url|--extra-index-url|--find-links)", text, re.MULTILINE)
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert len(blocks) > 30
    assert [block.split("\n")[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_ci_runs_the_test_command_of_the_readme_and_nothing_else() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [line for line in script.splitlines() if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["exec make test"]
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_link_of_the_pages_leads_somewhere() -> None:
    link = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in tracked("*.md")
        for target in link.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_module_lists_of_the_architecture_page_are_up_to_date() -> None:
    from support.regenerate import ARCHITECTURE, architecture

    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert text == architecture(text), "run make gen"
    assert {Path(room).name for room in re.findall(r"<!-- modules (\S+) -->", text)} == {*PACKAGES, "devcluster"}
