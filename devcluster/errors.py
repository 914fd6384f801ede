"""The errors of the development cluster, and running a command so that its failure becomes one.

DevclusterError            exit 1: a message that says what to do
  MissingPackagesError     exit 2: the system lacks something that only its owner can install
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["SYSTEM_PATH", "DevclusterError", "MissingPackagesError", "run", "tail"]

# A user's PATH often lacks the folders where nft, ip and runc live.
SYSTEM_PATH: Final = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class DevclusterError(Exception):
    """Something that a user can act on; shown without a traceback."""

    exit_code = 1


class MissingPackagesError(DevclusterError):
    """Something has to be installed that this program must not install here."""

    exit_code = 2


def run(
    *argv: str | Path,
    check: bool = True,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> str:
    """Run a command, return what it printed; a failure is an error with its output."""
    words = [str(word) for word in argv]
    path = os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_PATH))
    try:
        done = subprocess.run(
            words,
            check=False,
            input=stdin,
            cwd=cwd,
            env={**(env or os.environ), "PATH": path} if env is None or "PATH" not in env else env,
            pass_fds=pass_fds,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except FileNotFoundError as error:
        raise DevclusterError(f"{words[0]} is not installed; run: cluster.py prepare") from error
    if check and done.returncode:
        raise DevclusterError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout.strip()}")
    return done.stdout


def tail(path: Path, lines: int = 5) -> str:
    """Return the last lines of a log, for a message."""
    try:
        return "\n".join("  " + line for line in path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "  (no log)"
