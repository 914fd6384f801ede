"""How fast this machine is just now: tests keep the product's promises on machines that others use too.

What a test waits for has a generous limit; what is promised is measured from moments that the product or the API
server wrote down, and compared with the promise times :func:`crowding`, which is bounded: however busy the machine, a
promise of 2 s that takes more than 6 s is broken.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["MOST_CROWDED", "crowding"]

MOST_CROWDED: Final = 3.0


def crowding() -> float:
    """How many processes want each core, over the last minute: a promise takes so much longer; 1 where none waits.

    At most :data:`MOST_CROWDED`.
    """
    return min(MOST_CROWDED, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
