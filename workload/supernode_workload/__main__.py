"""``python3 -m supernode_workload``: the process of one rank.

It computes nothing: the machine's model decides how far the workload is, and this prints it. It ends with 0 only when
the workload is complete, so that a Job's completion means what it says.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from supernode_workload.lines import banner, completed_line, progress_line, waiting_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["main"]

_SHORTEST_SECONDS = 2.0
_LONGEST_SECONDS = 5.0
_TIMEOUT_SECONDS = 5.0
_RANK_ZERO_ALWAYS = 1
_OTHERS_EVERY = 12
"""Ranks beyond 0 print every twelfth of their looks: their lines would all be the same."""
_OTHERS_FIRST_SECONDS = 10.0
"""Before they look for the first time, and up to as much again: 48 that start at once have better to do."""


def main() -> int:
    """Print and wait until the workload is complete; 2 without an address to ask."""
    signal.signal(signal.SIGTERM, _terminate)
    url = os.environ.get("SUPERNODE_WORKLOAD_URL", "")
    if not url:
        sys.stderr.write(
            "supernode_workload: SUPERNODE_WORKLOAD_URL is not set. The operator sets it in the pods of managed "
            "workloads; in a pod of your own, run a program of your own.\n"
        )
        return 2
    rank = _rank()
    for line in banner(os.environ, rank):
        _say(line)
    return _Log(rank).follow(url)


class _Log:
    """What was printed last, so that each change is printed once."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.every = _RANK_ZERO_ALWAYS if rank == 0 else _OTHERS_EVERY
        self.looks = 0
        self.steps = -1
        self.waiting: str | None = None
        self.available = True

    def follow(self, url: str) -> int:
        """Look and print until the workload is complete."""
        scale = float(os.environ.get("SUPERNODE_WORKLOAD_POLL_SCALE", "1") or 1)
        if self.rank:
            time.sleep(scale * _OTHERS_FIRST_SECONDS * (1.0 + _random()))
        from supernode_workload.source import Unavailable, read_view  # twice as long to import as all before it

        while True:
            try:
                view = read_view(url, _TIMEOUT_SECONDS)
            except Unavailable as error:
                self._lost(str(error))
            else:
                self._found()
                self._show(view)
                if view["state"] == "Complete":
                    _say(completed_line(view, self.rank, _now()))
                    return 0
            time.sleep(scale * (_SHORTEST_SECONDS + (_LONGEST_SECONDS - _SHORTEST_SECONDS) * _random()))

    def _show(self, view: dict[str, Any]) -> None:
        if view["state"] == "Waiting":
            reason = str(view.get("reason"))
            if reason != self.waiting:
                _say(waiting_line(view, _now()))
            self.waiting = reason
            return
        self.waiting = None
        steps = view.get("steps")
        if isinstance(steps, int) and steps != self.steps:
            if self.looks % self.every == 0 or view["state"] == "Complete":
                _say(progress_line(view, self.rank, _now()))
            self.steps = steps
            self.looks += 1

    def _lost(self, why: str) -> None:
        if self.available:
            _say(f" [{_now()}] progress is not available, trying again: {why}")
        self.available = False

    def _found(self) -> None:
        if not self.available:
            _say(f" [{_now()}] progress is available again")
        self.available = True


def _rank() -> int:
    text = os.environ.get("JOB_COMPLETION_INDEX", "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def _random() -> float:
    return int.from_bytes(os.urandom(2), "big") / 65536


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _terminate(*_: object) -> NoReturn:
    # Nothing to clean up; leaving here, without the interpreter's shutdown, is what makes 48 of them leave at once.
    os._exit(143)


if __name__ == "__main__":
    sys.exit(main())
