"""What goes into the mathematics: servers with what is broken, workloads with what they run and where they are.

Values only; :mod:`supernode_dataplane.inputs` makes them from API objects.
"""

from __future__ import annotations

from dataclasses import dataclass

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.state import Problem

__all__ = ["PartInput", "RankInput", "ServerInput", "TrainingSpec", "WorkloadInput"]


@dataclass(frozen=True, slots=True)
class ServerInput:
    """One compute server and what is broken on it (only faults that take a device out of use)."""

    server: int
    dies: tuple[int, ...] = ()
    """phyIDs of broken dies."""
    ports: tuple[tuple[int, int], ...] = ()
    """Broken die ports: phyID, plane."""
    uplinks: tuple[tuple[int, int], ...] = ()
    """Broken uplinks: plane, port of the L1 chip."""
    l1: tuple[int, ...] = ()
    """Planes whose L1 chip is broken."""


@dataclass(frozen=True, slots=True)
class PartInput:
    """What a rank holds on one server: phyIDs, and links as phyID x planes + plane (None: all of its dies)."""

    server: int
    dies: tuple[int, ...]
    links: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class RankInput:
    """One pod: whether it works, and where."""

    rank: int
    running: bool
    parts: tuple[PartInput, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """A training run; ``data`` None means dies / (tensor x pipeline)."""

    model: Architecture
    stack: str
    sequence_length: int
    global_batch_size: int
    micro_batch_size: int = 1
    tensor: int = 1
    pipeline: int = 1
    virtual_pipeline: int = 1
    data: int | None = None


@dataclass(frozen=True, slots=True)
class WorkloadInput:
    """One workload: its key (namespace/name), what it runs (None with the problem) and its ranks."""

    key: str
    training: TrainingSpec | None
    ranks: tuple[RankInput, ...] = ()
    expected_ranks: int | None = None
    """Ranks that must run; None: those that are present."""
    problem: Problem | None = None
    notes: tuple[str, ...] = ()
