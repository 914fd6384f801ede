"""How fast this machine is just now: tests keep the product's promises on machines that others use too.

What a test waits for has a generous limit; what is promised is measured from moments that the product or the API
server wrote down, and compared with the promise times :func:`crowding`.
"""

from __future__ import annotations

import os

__all__ = ["crowding"]


def crowding() -> float:
    """How many processes want each core, over the last minute: a promise takes so much longer; 1 where none waits."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
