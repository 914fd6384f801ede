"""What inference and collectives need of a machine: peaks by number format, HBM, and links by tier as measured.

Nominal figures are in :mod:`supernode_dataplane.profile`; here each tier has what a die really gets end to end, from
measurements where there are some (arXiv 2607.26444 for Supernode 384) and from the nominal rate and the link efficiency
elsewhere. All bandwidths are one way, bytes per second of one die; latencies are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import numpy as np

from supernode_dataplane.constants import LINK_EFFICIENCY
from supernode_dataplane.numeric import Number, at_least, at_most
from supernode_dataplane.profile import Profile

__all__ = ["BYTES", "Format", "Hardware", "Wire", "hardware_of"]

Format = Literal["bf16", "int8", "fp8", "int4"]
BYTES: Final[dict[Format, float]] = {"bf16": 2.0, "int8": 1.0, "fp8": 1.0, "int4": 0.5}
"""Bytes of a number of each format."""
_REFERENCE_VECTOR_FLOPS: Final = 22e12
_REFERENCE_BF16_FLOPS: Final = 353.9e12
"""Of a 910C die (Ascend/msmodeling)."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Bytes that a die sends in one exchange, by the tier that they take."""

    package: Number
    node: Number
    pod: Number
    rdma: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One die of a machine and its way to others."""

    name: str
    dies_per_card: int
    dies_per_server: int
    dies: int
    flops: tuple[tuple[Format, float], ...]
    """Dense peak of a die for each format that it multiplies in."""
    vector_scale: float
    """How much longer vector work takes than on a 910C die, of which the stacks' constants are."""
    hbm_bytes: float
    hbm_bytes_per_second: float
    package_bytes_per_second: float
    node_bytes_per_second: float
    """0 where a server has no links between its dies."""
    pod_bytes_per_second: float
    """Between servers over the bus; 0 where there is only RDMA."""
    rdma_bytes_per_second: float
    package_latency_seconds: float
    node_latency_seconds: float
    pod_latency_seconds: float
    rdma_latency_seconds: float
    mesh: bool = False
    """Whether every pair of a server has a link of its own, so that n dies use n - 1 of them."""
    port_bytes_per_second: float = 0.0
    """Nominal, all planes: no die ever moves more."""
    low_latency_over_rdma: bool = True
    """Whether MoE kernels that are made for RDMA take it inside a server too, and leave the server's links alone."""

    def multiplied(self, kind: Format) -> Format:
        """Return the format that products of a format run in: what the die lacks runs as BF16."""
        has = [name for name, _ in self.flops]
        if kind == "int4":  # weights of four bits are unpacked to eight
            kind = "int8" if "int8" in has else "fp8"
        return kind if kind in has else "bf16"

    def peak(self, kind: Format) -> float:
        """Return the dense peak of a die, operations per second; a format that it lacks runs as BF16."""
        for name, peak in self.flops:
            if name == kind:
                return peak
        return dict(self.flops)[self.multiplied(kind)]

    def wire(self, sent: Number, ranks: Number) -> Wire:
        """Return where the bytes of an all-to-all go: of ``sent`` per rank each of ``ranks`` gets an equal part.

        Ranks fill packages, then servers; one part stays on the die and takes no wire.
        """
        each = sent / ranks
        in_package = at_most(ranks, float(self.dies_per_card)) - 1.0
        in_server = at_most(ranks, float(self.dies_per_server))
        remote = each * (ranks - in_server)
        node = each * (in_server - 1.0 - in_package)
        zero = remote * 0.0
        bus = self.pod_bytes_per_second > 0
        return Wire(each * in_package, node, remote if bus else zero, zero if bus else remote)

    def wire_by_server(self, sent: Number, copies: Number, ranks: Number) -> Wire:
        """Return where the bytes go when a token crosses RDMA once for each other server, and is copied on inside it.

        Of ``copies`` drawn over the servers, (servers - 1)(1 - (1 - 1/servers)^copies) go to different other ones.
        """
        inside = at_most(ranks, float(self.dies_per_server))
        servers = ranks / inside
        remote = (servers - 1.0) * (1.0 - (1.0 - 1.0 / servers) ** copies)
        zero = sent * 0.0
        return Wire(zero, sent * (inside - 1.0) / inside, zero, sent / copies * remote)

    def wire_seconds(self, wire: Wire, ranks: Number) -> Number:
        """Return how long the wires need: node and pod leave by the same ports, package and RDMA have their own."""
        ports: Number = 0.0
        if self.node_bytes_per_second:
            ports = wire.node / self.node_rate(ranks)
        if self.pod_bytes_per_second:
            ports = ports + wire.pod / self.pod_bytes_per_second
        seconds = ports
        if self.package_bytes_per_second:
            seconds = at_least(seconds, wire.package / self.package_bytes_per_second)
        return at_least(seconds, wire.rdma / self.rdma_bytes_per_second)

    def node_rate(self, ranks: Number) -> Number:
        """Return a die's bandwidth inside its server when so many ranks talk; a mesh uses one link for each peer."""
        if not self.mesh:
            return self.node_bytes_per_second
        peers = at_least(at_most(ranks, float(self.dies_per_server)) - 1.0, 1.0)
        return self.node_bytes_per_second * peers / (self.dies_per_server - 1)

    def rate(self, ranks: Number) -> Number:
        """Return the bandwidth between neighbours of a ring of so many ranks that fills servers."""
        outside = self.pod_bytes_per_second or self.rdma_bytes_per_second
        inside = self.node_rate(ranks) if self.node_bytes_per_second else outside
        return (
            np.where(np.asarray(ranks) > self.dies_per_server, outside, inside)
            if _is_array(ranks)
            else (outside if ranks > self.dies_per_server else inside)
        )

    def latency(self, ranks: Number) -> Number:
        """Return the latency of one message among so many ranks, seconds."""
        outside = self.pod_latency_seconds if self.pod_bytes_per_second else self.rdma_latency_seconds
        values = (self.package_latency_seconds, self.node_latency_seconds, outside)
        if _is_array(ranks):
            count = np.asarray(ranks)
            far = np.where(count > self.dies_per_server, values[2], values[1])
            return np.where(count <= self.dies_per_card, values[0], far)
        if ranks <= self.dies_per_card:
            return values[0]
        return values[2] if ranks > self.dies_per_server else values[1]

    def scaled(self, node: float = 1.0, pod: float = 1.0) -> Hardware:
        """Return the same die with shares of its links: what faults and other workloads leave, 0 to 1."""
        if node == 1.0 and pod == 1.0:
            return self
        return replace(
            self,
            node_bytes_per_second=self.node_bytes_per_second * node,
            pod_bytes_per_second=self.pod_bytes_per_second * pod,
            port_bytes_per_second=self.port_bytes_per_second * node,
        )


@lru_cache(maxsize=64)
def hardware_of(profile: Profile) -> Hardware:
    """Return a profile's die and links, as measured where the profile says so."""
    nominal = profile.die_bus_bytes_per_second * LINK_EFFICIENCY
    flops: list[tuple[Format, float]] = [("bf16", profile.bf16_flops_per_die)]
    if profile.int8_ops_per_die:
        flops.append(("int8", profile.int8_ops_per_die))
    if profile.fp8_flops_per_die:
        flops.append(("fp8", profile.fp8_flops_per_die))
    return Hardware(
        name=profile.name,
        dies_per_card=profile.dies_per_package,
        dies_per_server=profile.dies_per_server,
        dies=profile.dies,
        flops=tuple(flops),
        vector_scale=_vector_scale(profile),
        hbm_bytes=profile.hbm_bytes_per_die,
        hbm_bytes_per_second=profile.hbm_bytes_per_second_per_die,
        package_bytes_per_second=profile.sio_measured_bytes_per_second or profile.sio_bytes_per_second,
        node_bytes_per_second=profile.node_measured_bytes_per_second or nominal,
        pod_bytes_per_second=(profile.pod_measured_bytes_per_second or nominal)
        if profile.has_bus_between_servers
        else 0.0,
        rdma_bytes_per_second=profile.rdma_measured_bytes_per_second or profile.rdma_bytes_per_second * LINK_EFFICIENCY,
        package_latency_seconds=profile.sio_latency_seconds,
        node_latency_seconds=profile.node_latency_seconds,
        pod_latency_seconds=profile.pod_latency_seconds,
        rdma_latency_seconds=profile.rdma_latency_seconds,
        mesh=profile.intra_server == "mesh",
        port_bytes_per_second=profile.die_bus_bytes_per_second,
        low_latency_over_rdma=profile.low_latency_exchange == "rdma",
    )


def _vector_scale(profile: Profile) -> float:
    """Return the ratio of vector peaks; where no source has one, that of the BF16 peaks."""
    if profile.vector_flops_per_die:
        return _REFERENCE_VECTOR_FLOPS / profile.vector_flops_per_die
    return _REFERENCE_BF16_FLOPS / profile.bf16_flops_per_die


def _is_array(value: Number) -> bool:
    return isinstance(value, np.ndarray)
