"""Every example of docs/scenarios.md runs, and says what the page says of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from supernode_cli.main import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scenarios.md"
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
SCENARIOS = [text for text in EXAMPLES if not text.startswith("base:")]


@pytest.mark.parametrize("text", SCENARIOS, ids=[text.partition("\n")[0][2:50] for text in SCENARIOS])
def test_an_example_of_the_page_is_answered(tmp_path: Path, text: str) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["simulate", "-f", str(file), "-o", "json"])
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout)["workloads"][0]["figures"]
    assert float(figures["expectedErrorPercent"]["value"]) > 0
    assert set(figures) & {"timeSeconds", "tokensPerSecond"}


def test_the_sweep_of_the_page_runs(tmp_path: Path) -> None:
    (text,) = [text for text in EXAMPLES if text not in SCENARIOS]
    file, table = tmp_path / "sweep.yaml", tmp_path / "table.jsonl"
    file.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["sweep", "-f", str(file), "-o", str(table)])
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 10
    assert all(row["error"] is None and row["gigabytesPerSecond"] > 0 for row in rows)


def test_the_page_is_found_from_the_readme() -> None:
    readme = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    assert "(docs/scenarios.md)" in readme
