"""Child processes of tests: none outlives the run, however that ends."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["child", "spawn"]


def spawn(argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a child that the kernel kills when this process ends (where there is util-linux's setpriv)."""
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    return subprocess.Popen([*guard, *argv], **options)


@contextmanager
def child(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Have a child for a while; it is killed at the end if it still runs, also when the test fails."""
    with spawn(argv, **options) as process:
        try:
            yield process
        finally:
            process.kill()
