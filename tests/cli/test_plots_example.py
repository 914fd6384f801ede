"""The example of the library draws its three pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_the_example_draws_three_pictures(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(ROOT / "examples" / "plots" / "plots.py"), str(tmp_path)], check=True, cwd=tmp_path
    )
    drawn = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert drawn == ["machines.svg", "tpot-against-batch.svg", "training-breakdown.svg"]
    assert all("</svg>" in path.read_text(encoding="utf-8") for path in tmp_path.glob("*.svg"))


def test_its_help_makes_no_folder_and_a_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "examples" / "plots" / "plots.py")]
    told = subprocess.run([*program, "--help"], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert "folder" in told.stdout
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("", encoding="utf-8")
    refused = subprocess.run([*program, "file/x"], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "folder: file/x cannot be made" in refused.stderr
    assert "Traceback" not in refused.stderr
