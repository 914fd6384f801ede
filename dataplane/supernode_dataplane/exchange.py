"""How long dies need to exchange data: collectives, MoE dispatch and combine, point to point.

    all-reduce    ring               2 (n-1) a + 2 m (n-1) / (n B)
                  one shot           a + m (n-1) / B + (n-1) p      every rank sends all of m to every other
                  halving-doubling   2 log2(n) a + 2 m (n-1) / (n B)
    dispatch      launch + wire + passes x bytes / HBM + scan x tokens x ranks, combine likewise

n ranks, m bytes per rank, latency a, bandwidth B of a die on the tier that the group reaches, p for each peer. The
exchange of tokens with experts is one formula for 128 tokens and for 4,096: what differs between kernels is their
launch, which a captured graph hides, the copies that they make in HBM, and the scan of tokens against ranks by which
each rank finds what it sends. Waiting for the slowest rank is no part of it (:mod:`supernode_dataplane.decode`).
Sizes are bytes, times seconds, tokens those of a rank; each may be an array, all of one shape, which the answer then
has. Nothing is raised: one rank exchanges in no time.
Latency and bandwidth: arXiv 2607.26444; forms: arXiv 2506.12708 and sgl-project/sgl-kernel-npu.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from supernode_dataplane.hardware import BYTES, Format, Hardware, Wire
from supernode_dataplane.numeric import Number, at_least, at_most, log2
from supernode_dataplane.stacks import Stack

__all__ = [
    "SCALE_SHARE",
    "Exchange",
    "all_reduce_seconds",
    "combine",
    "dispatch",
    "gather_seconds",
    "halving_doubling_seconds",
    "one_shot_seconds",
    "over_network_card",
    "point_to_point_seconds",
    "ring_seconds",
]

SCALE_SHARE: Final = 7500.0 / 7168.0
"""Bytes of a quantised token with its scales over those without: 7.5 kB for 7,168 values (arXiv 2506.12708)."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One dispatch or combine of one rank, seconds by cause, and the bytes that it sends (as many come in)."""

    launch: Number
    wire: Number
    staging: Number
    scan: Number
    sent: Wire

    def seconds(self, hidden_share: float = 0.0) -> Number:
        """Return the time with so much of the launch hidden behind other work."""
        return self.launch * (1.0 - hidden_share) + self.wire + self.staging + self.scan


def over_network_card(hardware: Hardware, stack: Stack) -> bool:
    """Return whether the network card moves all tokens of an exchange of few, those inside a server too.

    The stack's kernels are made so, the servers have no bus between them, and the machine's kernels do not use the
    links inside a server: DeepEP's of H800 do not, those for an NVL72 do (lmsys.org, 2025-06-16).
    """
    return stack.all_over_rdma and hardware.low_latency_over_rdma and not hardware.pod_bytes_per_second


def ring_seconds(hardware: Hardware, size: Number, ranks: Number) -> Number:
    """Return an all-reduce of ``size`` bytes per rank around a ring."""
    steps = 2.0 * (ranks - 1.0)
    return steps * hardware.latency(ranks) + steps / ranks * size / hardware.rate(ranks)


def one_shot_seconds(hardware: Hardware, size: Number, ranks: Number, stack: Stack) -> Number:
    """Return an all-reduce in which every rank sends everything to every other one."""
    peers = ranks - 1.0
    return hardware.latency(ranks) + peers * stack.peer_seconds + size * peers / hardware.rate(ranks)


def halving_doubling_seconds(hardware: Hardware, size: Number, ranks: Number) -> Number:
    """Return an all-reduce by recursive halving and doubling."""
    volume = 2.0 * (ranks - 1.0) / ranks * size / hardware.rate(ranks)
    return 2.0 * log2(ranks) * hardware.latency(ranks) + volume


def all_reduce_seconds(hardware: Hardware, size: Number, ranks: Number, stack: Stack) -> Number:
    """Return an all-reduce of ``size`` bytes per rank by the fastest way, seconds; 0 for one rank.

    Size and ranks may be arrays of one shape. Errors on published rows: class K of docs/fidelity.md.
    """
    ring = ring_seconds(hardware, size, ranks)
    fewer = halving_doubling_seconds(hardware, size, ranks)
    best = at_most(at_most(ring, fewer), one_shot_seconds(hardware, size, ranks, stack))
    return (best + stack.collective_launch_seconds) * at_most(ranks - 1.0, 1.0)


def gather_seconds(hardware: Hardware, size: Number, ranks: Number, stack: Stack) -> Number:
    """Return an all-gather or reduce-scatter whose whole result has ``size`` bytes; 0 for one rank."""
    volume = (ranks - 1.0) / ranks * size / hardware.rate(ranks)
    ring = (ranks - 1.0) * hardware.latency(ranks) + volume
    direct = hardware.latency(ranks) + (ranks - 1.0) * stack.peer_seconds + volume
    return (at_most(ring, direct) + stack.collective_launch_seconds) * at_most(ranks - 1.0, 1.0)


def dispatch(  # noqa: PLR0917 - the symbols of the formula, in its order
    hardware: Hardware,
    stack: Stack,
    tokens: Number,
    copies: Number,
    hidden: Number,
    ranks: Number,
    kind: Format,
    *,
    bulk: bool = False,
) -> Exchange:
    """Return what sending each of ``tokens`` to ``copies`` experts costs a rank; ``kind`` is the activations' format.

    ``bulk``: thousands of tokens, which cross RDMA once for each server where that is the way between servers. Seconds
    by part, and bytes; tokens are those of a rank and may be an array. Sources as :func:`combine`.
    """
    scale = SCALE_SHARE if kind != "bf16" else 1.0
    sent = tokens * copies * hidden * (BYTES[kind] * scale)
    return _exchange(
        hardware,
        stack,
        sent,
        tokens,
        ranks,
        copies=copies if bulk else None,
        launch=stack.dispatch_launch_seconds,
        scan=stack.dispatch_scan_seconds,
        passes=stack.dispatch_passes,
    )


def combine(  # noqa: PLR0917 - the symbols of the formula, in its order
    hardware: Hardware,
    stack: Stack,
    tokens: Number,
    copies: Number,
    hidden: Number,
    ranks: Number,
    *,
    bulk: bool = False,
) -> Exchange:
    """Return what getting the results of ``copies`` experts back in BF16 costs a rank: seconds by part, and bytes.

    Tokens are those of a rank and may be an array. Fitted to arXiv 2506.12708, table 6, and sgl-project/sgl-kernel-npu.
    """
    return _exchange(
        hardware,
        stack,
        tokens * copies * hidden * BYTES["bf16"],
        tokens,
        ranks,
        copies=copies if bulk else None,
        launch=stack.combine_launch_seconds,
        scan=stack.combine_scan_seconds,
        passes=stack.combine_passes,
    )


def _exchange(
    hardware: Hardware,
    stack: Stack,
    sent: Number,
    tokens: Number,
    ranks: Number,
    *,
    copies: Number | None,
    launch: float,
    scan: float,
    passes: float,
) -> Exchange:
    if copies is not None and not hardware.pod_bytes_per_second:
        wire = hardware.wire_by_server(sent, copies, ranks)
    elif over_network_card(hardware, stack):
        zero = sent * 0.0
        wire = Wire(zero, zero, zero, sent)
    else:
        wire = hardware.wire(sent, ranks)
    memory = hardware.hbm_bytes_per_second * stack.hbm_efficiency
    return Exchange(
        launch=launch,
        wire=hardware.wire_seconds(wire, ranks),
        staging=sent * (passes / memory),
        scan=tokens * ranks * scan,
        sent=wire,
    )


def point_to_point_seconds(hardware: Hardware, stack: Stack, size: Number, vector_cores: Number) -> Number:
    """Return a copy of ``size`` bytes to a die of another server by so many vector cores, not zero-copy."""
    rate = at_most(vector_cores * stack.vector_core_bytes_per_second, hardware.pod_bytes_per_second)
    return at_least(size / rate, 0.0) + hardware.pod_latency_seconds
