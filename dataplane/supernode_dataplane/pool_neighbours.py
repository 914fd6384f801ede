"""What the ports of dies carry that send to one other die each: rings of shared prompts, and stages of a pipeline.

A pair in one package takes no port; on one server its ports of the planes that both have, evenly; else the same on the
way to the bus between servers, where there is one. What is sent is received by the same pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.communication import LinkView

__all__ = ["Neighbours", "ring_neighbours", "stage_neighbours"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Bytes on each port per byte that a die sends to its neighbour; shape (dies, planes), dies in their order."""

    local_tx: FloatArray
    local_rx: FloatArray
    remote_tx: FloatArray
    """To other servers over the bus."""
    remote_rx: FloatArray


def ring_neighbours(view: LinkView, instances: IntArray, context: int, tensor: int) -> Neighbours:
    """Return the rings of dies that share prompts: of ``context`` tensor groups that follow one another.

    ``instances`` (instances, dies): die numbers.
    """
    place = np.arange(instances.size, dtype=np.int64).reshape(-1, context, tensor)
    return _pairs(view, instances.reshape(-1), place.reshape(-1), np.roll(place, -1, axis=1).reshape(-1))


def stage_neighbours(view: LinkView, instances: IntArray, pipeline: int) -> Neighbours:
    """Return the pairs of neighbouring stages: the dies of an instance are its stages one after the other."""
    place = np.arange(instances.size, dtype=np.int64).reshape(instances.shape[0], pipeline, -1)
    return _pairs(view, instances.reshape(-1), place[:, :-1].reshape(-1), place[:, 1:].reshape(-1))


def _pairs(view: LinkView, dies: IntArray, source: IntArray, target: IntArray) -> Neighbours:
    profile = view.profile
    sender, receiver = dies[source], dies[target]
    both = np.ones((source.size, profile.planes))
    if view.ports is not None:
        both = np.minimum(view.ports[sender], view.ports[receiver])
    total = both.sum(axis=1, keepdims=True)
    even = np.divide(both, total, out=np.zeros_like(both), where=total > 0)
    same_server = sender // profile.dies_per_server == receiver // profile.dies_per_server
    same_package = sender // profile.dies_per_package == receiver // profile.dies_per_package
    found = []
    for takes in (same_server & ~same_package, ~same_server & profile.has_bus_between_servers):
        carried = even * takes[:, None]
        for end in (source, target):
            ports = np.zeros((dies.size, profile.planes))
            np.add.at(ports, end, carried)
            found.append(ports)
    return Neighbours(*found)
