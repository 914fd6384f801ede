"""How far an answer may be off: the uncertainty of the constants, and what the form of the model misses.

    half width = 1.64 sqrt(sum over constants (d log value / d log constant x relative error)^2 + leave-one-out^2)

The first part is propagated with each constant's standard error (or half of its thinkable range where it is assumed).
The second is the root mean square error on calibration rows of a class when each is left out of its own fit, in
``data/leave_one_out.yaml``. 1.64 makes it an interval of 90 % for a normal error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Final

from supernode_dataplane.stacks import Stack, stack_figures
from supernode_dataplane.suite.fitting import with_constants

__all__ = ["Z", "half_width", "leave_one_out"]

Z: Final = 1.64


@cache
def leave_one_out() -> dict[str, float]:
    """Return the root mean square leave-one-out error by class of rows, as a share."""
    import yaml  # late: only who asks for an error bar pays for the reader

    text = files("supernode_dataplane").joinpath("data", "leave_one_out.yaml").read_text(encoding="utf-8")
    classes: dict[str, float] = yaml.safe_load(text)["classes"]
    return classes


def half_width(
    value_of: Callable[[Mapping[str, Stack]], float], stacks: Mapping[str, Stack], used: str, letter: str
) -> float:
    """Return the half width of the interval around ``value_of(stacks)``, as a share of it.

    ``used`` names the stack that it depends on, ``letter`` the class of rows that it is like.
    """
    centre = value_of(stacks)
    if not centre or not math.isfinite(centre):
        return 0.0
    variance = leave_one_out().get(letter, max(leave_one_out().values())) ** 2
    for figure in stack_figures(used):
        before = getattr(stacks[used], figure.name)
        if not figure.error or not before:
            continue
        changed = dict(stacks)
        changed.update(with_constants({used: stacks[used]}, {(used, figure.name): before + figure.error}))
        moved = value_of(changed)
        if moved > 0 and math.isfinite(moved):
            variance += math.log(moved / centre) ** 2
    return Z * math.sqrt(variance)
