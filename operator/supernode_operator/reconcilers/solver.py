"""Calls the mathematics, and remembers its last answers by the digest of their inputs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from supernode_dataplane.inputs import machine_inputs, solve_inputs
from supernode_dataplane.state import MachineState
from supernode_operator.domain.objects import Object

__all__ = ["Solver"]

_REMEMBERED: Final = 8


class Solver:
    """Solves machines; equal inputs are solved once."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, MachineState] = OrderedDict()

    def solve(self, super_node: Object, compute_nodes: Iterable[Object], workloads: Iterable[Object]) -> MachineState:
        """Return the state of a machine; raises DataplaneError for an unknown profile."""
        inputs = machine_inputs(dict(super_node), [dict(c) for c in compute_nodes], [dict(w) for w in workloads])
        state = self._states.get(inputs.digest)
        if state is None:
            state = solve_inputs(inputs)
            self._states[inputs.digest] = state
        self._states.move_to_end(inputs.digest)
        while len(self._states) > _REMEMBERED:
            self._states.popitem(last=False)
        return state
