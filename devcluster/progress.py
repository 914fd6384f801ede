"""Progress of long steps, on a terminal and in a log alike. It knows nothing of what it shows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from errors import DevclusterError

__all__ = ["duration", "say", "watch"]

_PLAIN_EVERY_SECONDS: Final = 30


def say(text: str) -> None:
    """Print one line at once; on stderr, so that stdout stays what a command answers."""
    print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return `75` as `1 min 15 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def watch(
    title: str, expected_seconds: int, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path
) -> None:
    """Run a command that takes long, saying what runs, how long it usually takes and how long it has taken."""
    terminal = sys.stderr.isatty()
    usual = f"usually {duration(expected_seconds)} on 2 cores"
    started = shown = time.monotonic()
    if not terminal:
        say(f"{title}: {usual}")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(argv, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                now = time.monotonic()
                if terminal:
                    print(f"\r\033[K{title}: {duration(now - started)} ({usual})", end="", file=sys.stderr, flush=True)
                elif now - shown >= _PLAIN_EVERY_SECONDS:
                    shown = now
                    say(f"{title}: {duration(now - started)} so far")
                time.sleep(0.2)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    end = "\r\033[K" if terminal else ""
    say(f"{end}{title}: {'done' if process.returncode == 0 else 'failed'} after {duration(time.monotonic() - started)}")
    if process.returncode:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise DevclusterError(f"{title}: exit {process.returncode}; the whole output is in {log}\n{last}")
