"""The cluster's programs, built while tests run that do not need them: an empty cache costs a quarter of an hour else.

`make test` asks for it with SUPERNODE_PREPARE. The build is devcluster's own, in a process of its own; it says what it
does in a file, of which the end is shown when it fails.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["Preparation"]

_CLUSTER: Final = Path(__file__).resolve().parents[2] / "devcluster" / "cluster.py"
_SHOWN_CHARACTERS: Final = 2000
_LOOK_SECONDS: Final = 1.0


class Preparation:
    """One running build."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @staticmethod
    def wanted() -> bool:
        """Whether the run may build what is missing."""
        return os.environ.get("SUPERNODE_PREPARE", "") == "1"

    @classmethod
    def start(cls) -> Preparation:
        """Start building what the levels need, behind the tests."""
        descriptor, name = tempfile.mkstemp(prefix="supernode-prepare-", suffix=".log")
        # The tests beside it go first: theirs are the time limits.
        command = ["nice", "-n", "19", sys.executable, str(_CLUSTER), "prepare"]
        with os.fdopen(descriptor, "wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        sys.stderr.write(f"building the cluster's programs behind the tests; it says how far in {name}\n")
        return cls(process, Path(name))

    def wait_until(self, ready: Callable[[], bool]) -> bool:
        """Wait until what is built so far is enough; False when the build has ended before."""
        while self._process.poll() is None:
            if ready():
                return True
            time.sleep(_LOOK_SECONDS)
        return False

    def wait(self) -> str:
        """Wait for the end; return the end of what it said if it failed, else nothing."""
        code = self._process.wait()
        text = self._log.read_text(encoding="utf-8", errors="replace")
        self._log.unlink(missing_ok=True)
        return "" if code == 0 else f"preparing failed: {text[-_SHOWN_CHARACTERS:]}"

    def stop(self) -> None:
        """End it with all of its children; what is built so far stays in the cache."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(30)
        self._log.unlink(missing_ok=True)
