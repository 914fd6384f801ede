"""docs/commands.md and the README name only commands and options that there are."""

from __future__ import annotations

import inspect
import pkgutil
import re
from pathlib import Path

import click
import pytest

from supernode_cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([\w, -]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def options(name: str) -> set[str]:
    assert isinstance(cli, click.Group)
    return {flag for parameter in cli.commands[name].params for flag in parameter.opts} | {"--help"}


def test_each_command_has_a_place_on_the_page_or_in_the_readme() -> None:
    assert isinstance(cli, click.Group)
    documented = {name for title in SECTIONS for name in title.split(", ")} | {"get"}  # get needs a cluster
    assert documented >= set(cli.commands)


@pytest.mark.parametrize("name", ["plan", "serve-sim", "sweep"])
def test_the_page_names_only_options_of_the_command(name: str) -> None:
    named = set(re.findall(r"--[a-z][a-z-]+", SECTIONS[name]))
    assert named
    assert named <= options(name)


def test_the_readme_names_only_commands_and_options_that_there_are() -> None:
    calls = re.findall(r"supernode (simulate|compare|plan|serve-sim|sweep|claims|validate|get)\b([^|#\n]*)", README)
    assert len(calls) > 8
    for name, words in calls:
        assert set(re.findall(r"--[a-z][a-z-]+", words)) <= options(name), (name, words)


def test_the_functions_of_the_page_exist_with_docstrings() -> None:
    table = re.findall(r"^\| [^|]+ \| (.*) \|$", SECTIONS["As a library"], re.MULTILINE)
    names = [name for row in table for name in re.findall(r"`([\w.]+)`", row)]
    assert len(names) > 12
    for row in table:
        module = "supernode_dataplane"
        for name in re.findall(r"`([\w.]+)`", row):
            path = name if name.startswith("supernode_dataplane") else f"{module}.{name}"
            if path != name and "." in name:
                path = f"supernode_dataplane.{name}"
            found = pkgutil.resolve_name(path)
            assert found.__doc__, path
            module = path if inspect.ismodule(found) else path.rpartition(".")[0]


def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(code, "docs/commands.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    times = [float(line.split()[4]) for line in lines]
    assert [line.split()[0] for line in lines] == ["8", "96", "128"]
    assert times == sorted(times)
    assert times[1] == pytest.approx(49.4, rel=0.15)  # 96 sequences a card at EP320: 49.4 ms published


def test_the_readme_leads_to_the_page() -> None:
    assert "(docs/commands.md)" in README
