"""How far an answer may be off: the uncertainty of the constants, and what the form of the model misses.

    half width^2 = (1.64)^2 sum over constants (d log value / d log constant x relative error)^2 + (t x leave-one-out)^2

The first part is propagated with each constant's standard error (or half of its thinkable range where it is assumed).
The second is the root mean square error on calibration rows of a class when each is left out of its own fit, in
``data/leave_one_out.yaml``. 1.64 makes it an interval of 90 % for a normal error; t is Student's, for the few rows that
a class has.
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

Z: Final = 1.645
_STUDENT: Final = (6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83, 1.81, 1.80, 1.78, 1.77, 1.76, 1.75)
"""Two-sided 90 % quantiles for 1, 2, ... degrees of freedom."""


@cache
def leave_one_out() -> dict[str, tuple[int, float]]:
    """Return how many components a class has, and their root mean square leave-one-out error, as a share."""
    import yaml  # late: only who asks for an error bar pays for the reader

    text = files("supernode_dataplane").joinpath("data", "leave_one_out.yaml").read_text(encoding="utf-8")
    return {name: (entry["components"], entry["error"]) for name, entry in yaml.safe_load(text)["classes"].items()}


def half_width(
    value_of: Callable[[Mapping[str, Stack]], float], stacks: Mapping[str, Stack], used: str, letter: str
) -> float:
    """Return the half width of the interval around ``value_of(stacks)``, as a share of it.

    ``used`` names the stack that it depends on, ``letter`` the class of rows that it is like.
    """
    centre = value_of(stacks)
    if not centre or not math.isfinite(centre):
        return 0.0
    count, error = leave_one_out().get(letter) or max(leave_one_out().values(), key=lambda entry: entry[1])
    variance = 0.0
    for figure in stack_figures(used):
        before = getattr(stacks[used], figure.name)
        if not figure.error or not before:
            continue
        changed = dict(stacks)
        changed.update(with_constants({used: stacks[used]}, {(used, figure.name): before + figure.error}))
        moved = value_of(changed)
        if moved > 0 and math.isfinite(moved):
            variance += math.log(moved / centre) ** 2
    student = _STUDENT[min(max(count - 1, 1), len(_STUDENT)) - 1]
    return math.hypot(Z * math.sqrt(variance), student * error)
