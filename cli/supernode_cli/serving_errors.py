"""How far the means of a served load may be off: the load served again with each constant of the stack moved.

The interval is that of :mod:`supernode_dataplane.expected_error`, of rows that were served. Moved are the constants
that change a step of the pools at all; a long load is represented by its first requests. A rate that no constant moves
by more than the end of the load does is that of the arrivals, and has no error of the model's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from supernode_cli.serving_deployment import ServedScenario
from supernode_dataplane.deployment_plan import RolePool, inference_spec
from supernode_dataplane.expected_error import half_width
from supernode_dataplane.inference import inference_point
from supernode_dataplane.serving import Requests, ServingResult
from supernode_dataplane.stacks import Stack, stack_figures

__all__ = ["MOST_REQUESTS", "serving_errors"]

MOST_REQUESTS: Final = 1000
"""Requests that are served again for each constant."""
_CLASS: Final = "S"
_MOVED: Final = 1e-3
"""Share of a step's time by which a constant must move it to count."""
_SET_BY_ARRIVALS: Final = 0.01
"""Share by which the rate may move while arrivals set it: the last requests end a little earlier or later."""
_SEQUENCES: Final = 8.0
"""Of a tensor group, at which it is asked what a constant moves."""
Serve = Callable[[ServedScenario, Requests], ServingResult]


def serving_errors(served: ServedScenario, requests: Requests, serve: Serve) -> dict[str, float | None]:
    """Return the expected errors in percent of the mean TTFT and TPOT, and of the rate (None: the load sets it)."""
    part = _first(requests, MOST_REQUESTS)
    known: dict[Stack, dict[str, float]] = {}

    def means(stack: Stack) -> dict[str, float]:
        if stack not in known:
            known[stack] = _means(serve(with_stack(served, stack), part))
        return known[stack]

    pools = served.deployment.pools
    stack = pools[0].pool.stack
    names = _moving(served, stack)
    errors: dict[str, float | None] = {}
    for name in ("ttftSeconds", "tpotSeconds", "tokensPerSecond"):

        def value(moved: Stack, name: str = name) -> float:
            return means(moved)[name]

        known_mean = math.isfinite(means(stack)[name])
        errors[name] = round(100.0 * half_width(value, stack, _CLASS, names), 1) if known_mean else None
    rates = [found["tokensPerSecond"] for found in known.values()]
    if max(rates) - min(rates) < _SET_BY_ARRIVALS * max(rates):
        errors["tokensPerSecond"] = None
    return errors


def with_stack(served: ServedScenario, stack: Stack) -> ServedScenario:
    """Return the scenario with other constants in both pools."""
    deployment = served.deployment

    def moved(found: RolePool | None) -> RolePool | None:
        return None if found is None else replace(found, pool=replace(found.pool, stack=stack))

    changed = replace(deployment, prefill=moved(deployment.prefill), decode=moved(deployment.decode))
    return replace(served, deployment=changed)


def _moving(served: ServedScenario, stack: Stack) -> frozenset[str]:
    """Return the constants on which a decode step, or a prompt, depends."""
    centre, names = _steps(served), set()
    for figure in stack_figures(stack.name):
        before = getattr(stack, figure.name)
        if figure.error and before:
            moved = _steps(with_stack(served, replace(stack, **{figure.name: before + figure.error})))
            if any(abs(there / here - 1) > _MOVED for here, there in zip(centre, moved, strict=True) if here):
                names.add(figure.name)
    return frozenset(names)


def _steps(served: ServedScenario) -> tuple[float, ...]:
    point = inference_point(inference_spec(served.deployment, _SEQUENCES))
    return float(point.tpot_seconds), float(point.ttft_seconds), float(point.tokens_per_second)


def _means(result: ServingResult) -> dict[str, float]:
    found: dict[str, Any] = result.distributions()
    ttft, tpot = float(found["ttft"].mean), float(found["tpot"].mean)
    return {"ttftSeconds": ttft, "tpotSeconds": tpot, "tokensPerSecond": float(result.tokens_per_second)}


def _first(requests: Requests, count: int) -> Requests:
    if len(requests) <= count:
        return requests
    return replace(
        requests,
        arrivals=requests.arrivals[:count],
        inputs=requests.inputs[:count],
        outputs=requests.outputs[:count],
        prefixes=None if requests.prefixes is None else requests.prefixes[:count],
    )
