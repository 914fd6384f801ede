"""Software stacks: what the same hardware costs under different software, as constants with a unit each.

A stack is one value per constant, not one per model: launches of a captured graph or an eager one, the host's time in
a step, how well kernels use cores and memory, what its MoE exchange does beside the wire. The values, their sources and
their standard errors are in ``data/stacks.yaml``; the rows that fit them are in :mod:`supernode_dataplane.suite`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal

from supernode_dataplane.constants import BUFFER_BYTES, GRADIENT_OVERLAP, LINK_EFFICIENCY, training_constants
from supernode_dataplane.errors import StackNotFoundError
from supernode_dataplane.packaged import read_data

__all__ = ["Figure", "Stack", "load_stack", "stack_figures", "stack_names", "training_figures"]

Status = Literal["calibrated", "derived", "assumed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The constants of one software stack."""

    name: str
    gemm_efficiency: float
    """Share of the peak of the format that products with weights reach, when they are large."""
    attention_efficiency: float
    """Share of the BF16 peak that the attention core reaches."""
    attention_bandwidth: float
    """Share of the HBM bandwidth at which the attention core reads the cache."""
    hbm_efficiency: float
    """Share of the HBM bandwidth at which weights are read."""
    vector_seconds: float
    """Vector work of a layer (norms, rotation, quantisation, routing), seconds per token and value read or written."""
    layer_seconds: float
    """Fixed cost of a layer in a step: launches, or gaps of a captured graph."""
    host_seconds: float
    """Host time of a step: scheduling, sampling, graph launch."""
    draft_seconds: float
    """Fixed cost of speculation in a step, however many run: launches beside the model's own, the host's turn."""
    draft_token_seconds: float
    """Sampling and verifying one draft token, on the vector cores and by the host that drives them.

    It is work over the vocabulary, of which each die of a tensor group has its share as of the output head: drafts x
    sequences / tensor of them count in a step. Data-parallel groups do theirs at the same time.
    """
    collective_launch_seconds: float
    peer_seconds: float
    """Of a one-shot collective, for each peer."""
    dispatch_launch_seconds: float
    combine_launch_seconds: float
    launch_hidden: float
    """Share of the launches of dispatch and combine that a captured graph hides in a running step."""
    dispatch_scan_seconds: float
    """For each token and rank: finding what goes where."""
    combine_scan_seconds: float
    dispatch_passes: float
    """Passes of the bytes through HBM beside the wire; 0: zero-copy."""
    combine_passes: float
    overlap_slowdown: float
    """How much a collective slows the compute that runs beside it, as a share of the collective's time."""
    straggler_share: float
    """Waiting of a decode step's exchanges for the slowest rank, as a share of the work between them."""
    expert_imbalance: float
    """Load of the hottest rank over the mean, where a scenario does not say."""
    attention_cube_share: float
    """Share of the cube and vector cores that the attention stream has when two streams run."""
    training_gemm_efficiency: float
    """Share of the BF16 peak that products reach in training."""
    training_vector_seconds: float
    """Vector work of a forward pass in training, seconds per token and value read or written; twice that backward."""
    vector_core_bytes_per_second: float
    """What one vector core copies to another server."""
    two_streams: bool = True
    """Whether it runs two micro-batches beside one another when that is faster."""
    all_over_rdma: bool = False
    """Whether the MoE exchange takes the network card even inside a server (as DeepEP's low-latency kernels do)."""
    gradient_overlap: float = GRADIENT_OVERLAP
    """This and what follows: constants of training, the same or nearly so in every stack; see `training_figures`."""
    buffer_bytes: float = BUFFER_BYTES
    link_efficiency: float = LINK_EFFICIENCY
    training_host_seconds: float = training_constants("vendor-tuned")["training_host_seconds"].value


@dataclass(frozen=True, slots=True)
class Figure:
    """One constant with what it is measured in, where it comes from and how far it can be trusted."""

    stack: str
    name: str
    value: float
    unit: str
    status: Status
    source: str
    error: float
    """Standard error if calibrated; else half of the range that is thought possible; same unit."""
    rows: tuple[str, ...] = ()
    """Calibration rows that identify it."""


def stack_names() -> tuple[str, ...]:
    """Return the names of the built-in stacks, sorted."""
    return tuple(sorted(_tables()))


@cache
def load_stack(name: str) -> Stack:
    """Return a built-in stack; StackNotFoundError lists the known ones."""
    if name not in _tables():
        raise StackNotFoundError(name, stack_names())
    values: dict[str, Any] = {figure.name: figure.value for figure in stack_figures(name)}
    for name_of_flag in ("all_over_rdma", "two_streams"):
        if name_of_flag in values:
            values[name_of_flag] = bool(values[name_of_flag])
    values |= {figure.name: figure.value for figure in training_figures(name)}
    return Stack(name=name, **values)


@cache
def stack_figures(name: str) -> tuple[Figure, ...]:
    """Return the constants of a stack with their sources; what a stack does not state is its base's."""
    table = _tables()[name]
    base = table.get("base")
    figures = {figure.name: figure for figure in stack_figures(base)} if base else {}
    known = {field.name for field in fields(Stack)} - {"name", *training_constants(name)}
    for key, entry in table["figures"].items():
        if key not in known:
            raise ValueError(f"stacks.yaml: {name}.{key} is no constant of a stack")
        figures[key] = Figure(
            stack=name,
            name=key,
            value=float(entry["value"]),
            unit=entry["unit"],
            status=entry["status"],
            source=entry["source"],
            error=float(entry.get("error", 0.0)),
            rows=tuple(entry.get("rows", ())),
        )
    return tuple(figures.values())


@cache
def training_figures(name: str) -> tuple[Figure, ...]:
    """Return the constants of training that stand in :mod:`supernode_dataplane.constants`, as a stack has them."""
    return tuple(
        Figure(name, key, found.value, found.unit, found.status, f"{found.source}; range: {found.range}", found.error)
        for key, found in training_constants(name).items()
    )


@cache
def _tables() -> Mapping[str, Any]:
    tables: Mapping[str, Any] = read_data("stacks.yaml")["stacks"]
    return tables
