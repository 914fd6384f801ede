"""One communication kernel alone on a healthy machine: its time by cause, and its bandwidth as the field counts it.

    Dispatch, Combine   tokens x copies x hidden x bytes of a value, over the time: of one rank, scales not counted
    AllReduce           bytes of a rank over the time; on the bus 2 (n - 1) / n of that (NCCL's and HCCL's tests)
    PointToPoint        bytes over the time

The times are those of :mod:`supernode_dataplane.exchange`, which workloads and the suite's rows take too: nothing hides
a launch here, and nobody waits for the slowest rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from supernode_dataplane.exchange import (
    Exchange,
    combine,
    dispatch,
    halving_doubling_seconds,
    one_shot_seconds,
    over_network_card,
    point_to_point_seconds,
    ring_seconds,
)
from supernode_dataplane.expected_error import half_width
from supernode_dataplane.hardware import BYTES, Format, Hardware
from supernode_dataplane.stacks import Stack

__all__ = [
    "AllReduceAlgorithm",
    "KernelAlgorithm",
    "KernelFigures",
    "KernelForm",
    "KernelKind",
    "KernelSpec",
    "kernel_error_percent",
    "kernel_figures",
]

KernelKind = Literal["Dispatch", "Combine", "AllReduce", "PointToPoint"]
KernelForm = Literal["LowLatency", "Normal"]
AllReduceAlgorithm = Literal["Ring", "OneShot", "HalvingDoubling"]
KernelAlgorithm = Literal["Ring", "OneShot", "HalvingDoubling", "Direct", "DirectOverRdma", "ByServer", "Copy"]
_OTHER_MACHINES: Final = frozenset({"gpu-tuned"})
"""Stacks whose kernels are fitted to rows of class X."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSpec:
    """What a kernel does; fields that its kind does not have are as they are here."""

    kind: KernelKind
    ranks: int = 2
    """They fill packages, then servers; two dies of different servers for PointToPoint."""
    tokens: int = 0
    """Of each rank: Dispatch and Combine, likewise the next three."""
    copies: int = 0
    """Experts of a token."""
    hidden: int = 0
    form: KernelForm = "LowLatency"
    format: Format = "bf16"
    """That tokens are sent in by Dispatch."""
    size_bytes: int = 0
    """Of each rank: AllReduce and PointToPoint."""
    cores: int = 0
    """Vector cores that copy: PointToPoint."""
    algorithms: tuple[AllReduceAlgorithm, ...] = ("Ring", "OneShot", "HalvingDoubling")
    """Of AllReduce: the fastest of them runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFigures:
    """What a kernel costs one rank."""

    parts: Mapping[str, float]
    """Seconds by cause; they sum to the time."""
    payload_bytes: float
    """What the bandwidth counts."""
    bus_factor: float | None
    """Bus bandwidth over bandwidth; AllReduce only."""
    sent_bytes: Mapping[str, float]
    """What the rank sends, by the way that it takes: package, server, bus, rdma; of an all-reduce ``links``."""
    algorithm: KernelAlgorithm
    algorithms: Mapping[AllReduceAlgorithm, float]
    """Seconds of each algorithm that there is a choice of."""

    @property
    def seconds(self) -> float:
        """The time."""
        return sum(self.parts.values())

    @property
    def bytes_per_second(self) -> float:
        """Bandwidth of a rank as the field counts it."""
        return self.payload_bytes / self.seconds

    @property
    def bus_bytes_per_second(self) -> float | None:
        """What crosses the bus for an all-reduce; None for other kernels."""
        return None if self.bus_factor is None else self.bytes_per_second * self.bus_factor

    @property
    def bound(self) -> str:
        """The largest part of the time."""
        return max(self.parts, key=lambda cause: self.parts[cause])


def kernel_figures(hardware: Hardware, stack: Stack, spec: KernelSpec) -> KernelFigures:
    """Return what a kernel costs on a machine with a stack.

    ``spec`` has at most as many ranks as the machine has dies; PointToPoint needs a bus between servers.
    """
    if spec.kind == "AllReduce":
        return _all_reduce(hardware, stack, spec)
    if spec.kind == "PointToPoint":
        return _point_to_point(hardware, stack, spec)
    return _exchange(hardware, stack, spec)


def kernel_error_percent(hardware: Hardware, stack: Stack, spec: KernelSpec) -> float:
    """Return the expected error of the kernel's time, percent: half of a 90 % interval, as of the suite's rows."""
    letter = "X" if stack.name in _OTHER_MACHINES else "K"
    return 100.0 * half_width(lambda changed: kernel_figures(hardware, changed, spec).seconds, stack, letter)


def _exchange(hardware: Hardware, stack: Stack, spec: KernelSpec) -> KernelFigures:
    bulk, kind = spec.form == "Normal", spec.format if spec.kind == "Dispatch" else "bf16"
    found: Exchange
    if spec.kind == "Dispatch":
        found = dispatch(hardware, stack, spec.tokens, spec.copies, spec.hidden, spec.ranks, kind, bulk=bulk)
    else:
        found = combine(hardware, stack, spec.tokens, spec.copies, spec.hidden, spec.ranks, bulk=bulk)
    ways = {"package": found.sent.package, "server": found.sent.node, "bus": found.sent.pod, "rdma": found.sent.rdma}
    return KernelFigures(
        parts={name: float(getattr(found, name)) for name in ("launch", "wire", "staging", "scan")},
        payload_bytes=spec.tokens * spec.copies * spec.hidden * BYTES[kind],
        bus_factor=None,
        sent_bytes={way: float(sent) for way, sent in ways.items() if sent},
        algorithm=_way(hardware, stack, bulk=bulk),
        algorithms={},
    )


def _way(hardware: Hardware, stack: Stack, *, bulk: bool) -> KernelAlgorithm:
    """Return how copies of tokens travel, as :mod:`supernode_dataplane.exchange` has it."""
    if hardware.pod_bytes_per_second:
        return "Direct"
    if bulk:
        return "ByServer"
    return "DirectOverRdma" if over_network_card(hardware, stack) else "Direct"


def _all_reduce(hardware: Hardware, stack: Stack, spec: KernelSpec) -> KernelFigures:
    ranks, size = spec.ranks, float(spec.size_bytes)

    def seconds(algorithm: AllReduceAlgorithm, amount: float) -> float:
        if algorithm == "OneShot":
            return float(one_shot_seconds(hardware, amount, ranks, stack))
        function = ring_seconds if algorithm == "Ring" else halving_doubling_seconds
        return float(function(hardware, amount, ranks))

    launch = stack.collective_launch_seconds
    algorithms = {algorithm: seconds(algorithm, size) + launch for algorithm in spec.algorithms}
    chosen = min(algorithms, key=lambda algorithm: algorithms[algorithm])
    latency = seconds(chosen, 0.0)
    crossing = 2.0 * (ranks - 1) / ranks
    return KernelFigures(
        parts={"launch": launch, "latency": latency, "wire": algorithms[chosen] - launch - latency},
        payload_bytes=size,
        bus_factor=crossing,
        sent_bytes={"links": size * (ranks - 1.0 if chosen == "OneShot" else crossing)},
        algorithm=chosen,
        algorithms=algorithms,
    )


def _point_to_point(hardware: Hardware, stack: Stack, spec: KernelSpec) -> KernelFigures:
    size, latency = float(spec.size_bytes), hardware.pod_latency_seconds
    copying = float(point_to_point_seconds(hardware, stack, size, spec.cores)) - latency
    slow = spec.cores * stack.vector_core_bytes_per_second < hardware.pod_bytes_per_second
    return KernelFigures(
        parts={"latency": latency, "cores" if slow else "wire": copying},
        payload_bytes=size,
        bus_factor=None,
        sent_bytes={"bus": size},
        algorithm="Copy",
        algorithms={},
    )
