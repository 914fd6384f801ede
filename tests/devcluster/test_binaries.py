"""Programs are found in the promised order, and their versions come from the pinned modules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from binaries import API_ONLY, BINARIES, Binary, fits, locate, search_path

KUBECTL = next(binary for binary in BINARIES if binary.name == "kubectl")
BRIDGE = next(binary for binary in BINARIES if binary.name == "bridge")


def program(folder: Path, binary: Binary, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / binary.name
    path.write_text(f"#!/bin/sh\necho Client Version: v{version}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SUPERNODE_DEVCLUSTER_BIN", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path") + ":/bin")
    return tmp_path


@pytest.mark.parametrize(
    ("printed", "fitting"),
    [
        ("Kubernetes v1.37.0", True),
        ("Client Version: v1.37.9\nKustomize Version: v5.5.0", True),
        ("Client Version: v1.32.4-dispatcher", False),
        ("containerd github.com/containerd/containerd/v2 2.2.9+unknown", False),
        ("Kubernetes v1.3.7", False),
        ("", False),
    ],
)
def test_a_program_fits_if_its_minor_version_is_ours(printed: str, fitting: bool) -> None:
    assert fits(printed, "1.37.1") is fitting


def test_every_version_is_pinned_in_a_module() -> None:
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", binary.version) for binary in BINARIES)
    for binary in BINARIES:
        folder = binary.folder
        assert (folder / "go.sum").exists(), f"{binary.module} has no go.sum"


def test_what_an_api_server_needs_is_built_first() -> None:
    assert tuple(binary.name for binary in BINARIES[: len(API_ONLY)]) == API_ONLY


def test_nothing_is_found_where_nothing_is(surroundings: Path) -> None:
    assert locate(KUBECTL) is None


def test_the_cache_comes_after_path_and_path_after_the_chosen_folder(
    surroundings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = program(KUBECTL.cached.parent, KUBECTL, KUBECTL.version)
    assert locate(KUBECTL) == cached
    on_path = program(surroundings / "path", KUBECTL, KUBECTL.version)
    assert locate(KUBECTL) == on_path
    chosen = program(surroundings / "chosen", KUBECTL, "0.1.0")
    monkeypatch.setenv("SUPERNODE_DEVCLUSTER_BIN", str(surroundings / "chosen"))
    assert locate(KUBECTL) == chosen


def test_another_minor_version_on_path_is_passed_over(surroundings: Path) -> None:
    program(surroundings / "path", KUBECTL, "1.32.4")
    assert locate(KUBECTL) is None


def test_a_program_that_does_not_tell_its_version_is_never_taken_from_path(surroundings: Path) -> None:
    program(surroundings / "path", BRIDGE, BRIDGE.version)
    assert locate(BRIDGE) is None


def test_the_cache_is_keyed_by_version(surroundings: Path) -> None:
    assert KUBECTL.cached == surroundings / f"cache/supernode/devcluster/kubectl-{KUBECTL.version}/kubectl"


def test_found_programs_come_before_the_system_s() -> None:
    assert search_path({"a": Path("/x/a"), "b": Path("/y/b")}).startswith("/x:/y:/usr/local/sbin:")
