"""Child processes of tests: none outlives the run, however that ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["child", "kill_containers", "spawn"]


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


def kill_containers(uid: str) -> int:
    """Send SIGKILL to every process of a pod's containers on this machine; return how many there were.

    They are found by their cgroup, which has the pod's uid in its path. The pause container, which holds the pod's
    namespaces, is left.
    """
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"pod{uid}" in (process / "cgroup").read_text() and (process / "comm").read_text().strip() != "pause":
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
    return killed
