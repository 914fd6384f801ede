"""Generated files are what the models say, and the check notices when they are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from supernode_api.generate import build_files, main

ROOT = Path(__file__).resolve().parents[2]


def test_generated_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--dir", str(ROOT / "crds")]) == 0, capsys.readouterr().err


def test_the_check_names_what_is_out_of_date_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crds = tmp_path / "crds"
    assert main(["--dir", str(crds)]) == 0
    assert main(["--dir", str(crds), "--check"]) == 0
    victim = crds / "supernode.io_supernodes.yaml"
    victim.write_text(victim.read_text(encoding="utf-8").replace("maximum: 3600", "maximum: 3601"), encoding="utf-8")
    capsys.readouterr()
    assert main(["--dir", str(crds), "--check"]) == 1
    said = capsys.readouterr().err
    assert f"out of date: {victim}" in said
    assert "make gen" in said
    assert "3601" in victim.read_text(encoding="utf-8")
    assert main(["--dir", str(crds)]) == 0
    assert main(["--dir", str(crds), "--check"]) == 0


def test_chart_and_folder_have_the_same_crds(tmp_path: Path) -> None:
    files = build_files(tmp_path / "crds")
    for path, text in files.items():
        if path.parent.name == "crds" and path.parent.parent == tmp_path:
            assert files[tmp_path / "helm" / "supernode" / "files" / "crds" / path.name] == text
    assert len(files) == 7


def test_the_command_works_from_anywhere_and_needs_yaml_only_then(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "supernode_api.generate", "--check", "--dir", str(ROOT / "crds")]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    program = "import sys, supernode_api.generate; print([m for m in ('yaml', 'numpy', 'kopf') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
