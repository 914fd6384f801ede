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
