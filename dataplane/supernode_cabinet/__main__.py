"""``python3 -m supernode_cabinet``: one cabinet pod."""

from __future__ import annotations

import contextlib
import os
import sys

# One small solve at a time needs no pool of threads; each would cost memory in every one of 16 pods.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


_M_ARENA_MAX = -8  # malloc.h


def _limit_arenas() -> None:
    """Have glibc keep one heap for all threads: one for each is memory that is never given back."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def main() -> int:
    """Run until SIGTERM; 0 then, 2 for a wrong environment."""
    from supernode_cabinet.settings import SettingsError, read_settings

    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"supernode_cabinet: {error}\n")
        return 2

    _limit_arenas()
    import asyncio

    from lightkube.core.exceptions import ConfigError

    from supernode_cabinet.app import run
    from supernode_cabinet.logs import configure_logs

    configure_logs(settings.log_level, settings.log_format)
    try:
        asyncio.run(run(settings))
    except ConfigError as error:
        sys.stderr.write(f"supernode_cabinet: no API server is configured: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"supernode_cabinet: cannot listen on port {settings.port}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
