"""Fits of the serving rows: what weighs how much, and that the stored constants are where the rows want them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from supernode_dataplane.stacks import Stack, load_stack, stack_figures, stack_names
from supernode_dataplane.suite import Row, load_rows
from supernode_dataplane.suite.evaluate import evaluate_row
from supernode_dataplane.suite.fitting import GROUPS, residuals, weights, with_constants

ROWS = {row.id: row for row in load_rows()}
SERVING = next(group for group in GROUPS if "C-S1" in group.rows)
STACKS = {name: load_stack(name) for name in stack_names()}


def squares(stacks: dict[str, Stack]) -> float:
    total = 0.0
    for row in (ROWS[name] for name in SERVING.rows):
        total += float(np.sum((np.array(weights(row)) * residuals(row, evaluate_row(row, stacks))) ** 2))
    return total


def test_a_mean_ttft_under_load_weighs_less_in_a_fit() -> None:
    def of(row: Row) -> dict[str, float]:
        return dict(zip(row.published, weights(row), strict=True))

    assert of(ROWS["C-S1"]) == {"TPOT ms": 1.0, "TTFT ms": 0.3, "decode alone ms": 1.0, "prefill share": 1.0}
    assert of(ROWS["C-S2"]) == {"TPOT ms": 1.0, "TTFT ms": 0.3}
    assert of(ROWS["C-S3"]) == {"TPOT ms": 1.0, "TTFT ms": 1.0}  # nobody waits for anybody
    assert set(weights(ROWS["C-K2"])) == {1.0}


def test_what_is_left_out_of_a_fit_is_compared_without_weights() -> None:
    row = ROWS["C-S1"]
    twice = {name: 2.0 * value for name, value in row.published.items()}
    assert residuals(row, twice) == pytest.approx([math.log(2.0)] * len(row.published))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("stack", "name"), SERVING.constants)
def test_the_serving_rows_fit_worse_with_any_of_their_constants_moved(stack: str, name: str) -> None:
    figure = next(figure for figure in stack_figures(stack) if figure.name == name)
    best = squares(STACKS)
    for moved in (figure.value - 0.5 * figure.error, figure.value + 0.5 * figure.error):
        assert squares(with_constants(STACKS, {(stack, name): moved})) > best


def test_both_ends_of_the_batch_say_what_drafts_cost() -> None:
    alone, many = ROWS["C-S3"], ROWS["C-S1"]
    assert (alone.given["inSystem"], many.given["inSystem"]) == (1, 78)
    stack = STACKS["open-source"]

    def tokens(row: Row) -> float:
        return float(row.given["drafts"] * row.given["inSystem"] / row.given["tensor"])

    # Of one sequence the fixed part is most, of 78 the tokens' part.
    assert stack.draft_seconds > 3 * tokens(alone) * stack.draft_token_seconds
    assert tokens(many) * stack.draft_token_seconds > 3 * stack.draft_seconds
    for row in (alone, many):
        assert evaluate_row(row, STACKS)["TPOT ms"] == pytest.approx(row.published["TPOT ms"], rel=0.05)
