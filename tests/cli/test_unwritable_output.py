"""An answer that cannot be written: one line and exit status 1, and silence where whoever read it has gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from support.scripted_server import answering, kubeconfig

ROOT = Path(__file__).resolve().parents[2]
SUPERNODE = (sys.executable, "-m", "supernode_cli.main")
EXAMPLE = "examples/llama-3.1-405b-training.yaml"
COMMANDS = [
    ("--help",),
    ("simulate", "-f", EXAMPLE),
    ("simulate", "-f", EXAMPLE, "-o", "json"),
    ("claims", "-o", "yaml"),
]
names = pytest.mark.parametrize("command", COMMANDS, ids=lambda words: "-".join(words[:1] + words[3:]))
NO_ROOM = "Error: standard output cannot be written: No space left on device; make room, or write elsewhere\n"
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""As a user's shell: what is left in a buffer is written once more as Python ends."""


def written_to(output: int | IO[str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SUPERNODE, *command], cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True, check=False, env=BUFFERED
    )


def without_a_reader(*command: str, env: dict[str, str]) -> tuple[int, str]:
    """Write into a pipe that is closed at its other end; return the status, and what standard error has."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, env=env
        )
    finally:
        os.close(writer)
    return result.returncode, result.stderr


@names
def test_a_full_disk_is_one_line_and_status_1(command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        result = written_to(full, *command)
    assert (result.returncode, result.stderr) == (1, NO_ROOM)


def test_a_full_disk_is_one_line_for_get_too(tmp_path: Path) -> None:
    machine = '{"items": [{"metadata": {"name": "m"}, "spec": {"profile": "cloudmatrix-384"}}]}'
    with answering(200, machine) as address, Path("/dev/full").open("w", encoding="utf-8") as full:
        result = written_to(full, "get", "--kubeconfig", str(kubeconfig(tmp_path / "config", address, token="t")))
    assert (result.returncode, result.stderr) == (1, NO_ROOM)


@names
def test_a_reader_that_has_gone_is_no_word(command: tuple[str, ...]) -> None:
    assert without_a_reader(*SUPERNODE, *command, env=BUFFERED) == (1, "")


def test_a_reader_that_has_gone_is_no_word_where_nothing_is_buffered() -> None:
    environment = {**BUFFERED, "PYTHONUNBUFFERED": "1"}
    assert without_a_reader(*SUPERNODE, *COMMANDS[1], env=environment) == (1, "")


def test_what_a_command_leaves_in_the_buffer_is_written_before_the_program_says_that_all_is_well() -> None:
    program = "from supernode_cli import main; main.cli = lambda **_: print('an answer'); main.main()"
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [sys.executable, "-c", program]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=BUFFERED)
    assert (result.returncode, result.stderr) == (1, NO_ROOM)
    assert without_a_reader(sys.executable, "-c", program, env=BUFFERED) == (1, "")


def test_an_output_that_is_closed_is_one_line() -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *SUPERNODE, "simulate", "-f", EXAMPLE]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=BUFFERED)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: standard output cannot be written: Bad file descriptor;")
    assert len(result.stderr.splitlines()) == 1


def test_an_error_that_cannot_be_written_either_is_a_status() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [*SUPERNODE, "simulate", "-f", EXAMPLE]
        result = subprocess.run(command, cwd=ROOT, stdout=full, stderr=full, check=False, env=BUFFERED)
    assert result.returncode == 1


def test_an_error_of_another_kind_is_not_blamed_on_the_output() -> None:
    program = (
        "from supernode_cli import main\n"
        "import sys\n"
        "def fork(**_):\n"
        "    raise OSError(12, 'Cannot allocate memory')\n"
        "main.cli = fork\n"
        "main.main()\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=BUFFERED)
    assert "OSError: [Errno 12] Cannot allocate memory" in result.stderr
    assert "standard output" not in result.stderr
