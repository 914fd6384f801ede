"""How much longer than promised something may take where tests run: on machines that others use too.

What a test waits for has a generous limit. What is promised in seconds is measured from moments that the product or the
API server wrote down, and compared with the promise times :data:`NOISE`; the promise itself is held in bench/, on a
machine at rest. Nothing else in a test is compared with a time.
"""

from __future__ import annotations

from typing import Final

__all__ = ["NOISE"]

NOISE: Final = 3.0
"""A machine that is shared stops for a second now and then, and no load average tells of it."""
