"""Fit the stacks' constants on the calibration rows, and write them: `python tests/support/calibrate.py`.

Written are the fitted values and standard errors in ``data/stacks.yaml`` and the leave-one-out errors by class in
``data/leave_one_out.yaml``. Test rows are never evaluated here.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from supernode_dataplane.stacks import load_stack, stack_names
from supernode_dataplane.suite.fitting import GROUPS, fit_group, leave_one_out_errors, with_constants

DATA = Path(__file__).resolve().parents[2] / "dataplane" / "supernode_dataplane" / "data"
HEAD = """\
# Root mean square error (as a share) of calibration components by class, each left out of its own fit.
# Written by tests/support/calibrate.py.
"""


def write_value(text: str, stack: str, name: str, value: float, error: float) -> str:
    """Return stacks.yaml with one fitted constant replaced."""
    start = text.index(f"\n  {stack}:\n")
    pattern = re.compile(rf"(\n      {name}: \{{value: )[^,]+(.*?)(?:, error: [^,]+)?(, source: \"fitted\"\}})")
    found = pattern.search(text, start)
    if found is None:
        raise SystemExit(f"stacks.yaml has no fitted {stack}.{name}")
    new = f"{found[1]}{_number(value)}{found[2]}, error: {_number(error)}{found[3]}"
    return text[: found.start()] + new + text[found.end() :]


def _number(value: float) -> str:
    text = f"{value:.4g}"
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent}" if exponent else text


def main() -> None:
    """Fit group by group; a later group sees the values of the earlier ones."""
    stacks = {name: load_stack(name) for name in stack_names()}
    found: list[tuple[str, str, float, float]] = []
    errors: dict[str, list[float]] = {}
    for group in GROUPS:
        fit = fit_group(group, stacks)
        stacks = with_constants(stacks, dict(zip(group.constants, fit.values.tolist(), strict=True)))
        for (stack, name), value, error in zip(group.constants, fit.values, fit.errors, strict=True):
            found.append((stack, name, float(value), float(error)))
            print(f"{stack}.{name} = {value:.4g} +- {error:.2g} (rank {fit.rank} of {len(group.constants)})")
        for (row, component), error in leave_one_out_errors(group, stacks).items():
            print(f"    left out: {row} {component}: {100 * error:+.1f} %")
            errors.setdefault(row.split("-")[1][0], []).append(error)
    text = (DATA / "stacks.yaml").read_text(encoding="utf-8")
    for constant in found:
        text = write_value(text, *constant)
    (DATA / "stacks.yaml").write_text(text, encoding="utf-8")
    lines = ""
    for key, values in sorted(errors.items()):
        error = math.sqrt(sum(x * x for x in values) / len(values))
        lines += f"  {key}: {{components: {len(values)}, error: {error:.3f}}}\n"
    (DATA / "leave_one_out.yaml").write_text(f"{HEAD}classes:\n{lines}", encoding="utf-8")


if __name__ == "__main__":
    main()
