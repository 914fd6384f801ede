"""What a file's identity and age say: a new socket means a new kubelet, a new checkpoint a container further."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["Identity", "identity_of", "socket_age_seconds"]

Identity = tuple[int, int, int]
"""Device, inode, and the time of its last change in nanoseconds."""


def identity_of(path: Path) -> Identity | None:
    """Identity of a file, None while there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def socket_age_seconds(path: Path) -> float:
    """Seconds since a socket was created; 0 while there is none."""
    identity = identity_of(path)
    return max(0.0, time.time() - identity[2] / 1e9) if identity else 0.0
