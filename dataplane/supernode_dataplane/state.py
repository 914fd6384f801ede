"""What :func:`supernode_dataplane.solve` returns: one value that every surface publishes from.

Arrays are indexed by the machine's own numbering, whatever is placed where: die = server x dies per server + phyID,
package = die // 2, L1 chip = server x planes + plane, L2 chip = plane x chips per plane + chip. All rates are steady
states; nothing here knows a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bound", "DeviceState", "FabricState", "MachineState", "Problem", "WaitingReason", "WorkloadResult"]

Bound = Literal["Compute", "HBM", "Bus", "RDMA", "Pipeline"]
WaitingReason = Literal["Incomplete", "DiesFaulty", "LinksFaulty", "LinksMismatch"]
"""Condition reasons of a workload that is valid and has no rate: pods or dies are missing, its dies are broken, the bus
between them is, or its containers hold links that lead nowhere."""
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a workload cannot run at all: a condition reason, the field and what to do."""

    reason: Literal["ModelNotFound", "InvalidModel", "InvalidParallelism", "DoesNotFit", "InvalidObject"]
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class WorkloadResult:
    """What the machine makes of one workload.

    ``problem`` is set when it can never run as it is; then, and while a rank is missing, not running or on a dead
    die (``waiting`` says which), every rate is 0.
    """

    key: str
    """namespace/name."""
    kind: Literal["training", "inference"] = "training"
    problem: Problem | None = None
    waiting: str = ""
    """Why its rate is 0 although it is valid; empty while it runs."""
    waiting_reason: WaitingReason | None = None
    """What kind of thing ``waiting`` is about; None while it runs, and of a run over several supernodes."""
    notes: tuple[str, ...] = ()
    """What makes it slower than it could be (scattered dies, lost links, contention), for people."""
    tokens_per_second: float = 0.0
    tokens_per_second_per_card: float = 0.0
    """Per package in use (2 dies on a 910C, 1 on a 910B)."""
    tokens_per_step: int = 0
    """Of an optimizer step; of a request."""
    mfu: float = 0.0
    step_time_seconds: float = 0.0
    """Of an optimizer step, of a decode step, of a prefill batch where there is no decode."""
    ttft_seconds: float = 0.0
    """Inference: to the first token of a prompt that waits for no other."""
    tpot_seconds: float = 0.0
    """Inference: for each token after it, as one request sees it."""
    prompt_tokens_per_second: float = 0.0
    """Inference: cached ones included."""
    bound: Bound | None = None
    breakdown_seconds: Mapping[str, float] | None = None
    """Step time by cause: compute, bubble, tensor_parallel, ...; of a decode step projections, core, dispatch, ..."""
    prefill_breakdown_seconds: Mapping[str, float] | None = None
    """Of a batch of prompts, where the workload decodes too."""
    memory_bytes: Mapping[str, float] | None = None
    """Inference: HBM of the fullest die by use."""
    expected_error_percent: float | None = None
    recompute_fraction: float = 0.0
    spare_compute_seconds: float = 0.0
    """Training: compute of a step behind which no transfer hides yet, as one between supernodes may."""
    hbm_bytes_per_die: float = 0.0
    """Of the fullest die."""
    link_utilisation: float = 0.0
    """Mean over the die ports in use, 0 to 1."""
    power_watts: float = 0.0
    dies: int = 0
    cards: int = 0
    spans_servers: tuple[int, ...] = ()
    """Ranks whose container holds dies of more than one server."""
    links_mismatch: tuple[int, ...] = ()
    """Ranks that hold links of dies which they do not hold."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Per die, shape (dies,), and per die port, shape (dies, planes)."""

    healthy: BoolArray
    owner: IntArray
    """Index into MachineState.workloads, -1 when no workload has the die."""
    utilisation: FloatArray
    """Busy share of the cores, 0 to 1 (aicore utilisation, not MFU)."""
    cube_utilisation: FloatArray
    """Share of the cube units' peak that is used, 0 to 1."""
    vector_utilisation: FloatArray
    hbm_used_bytes: FloatArray
    hbm_total_bytes: FloatArray
    hbm_bandwidth_utilisation: FloatArray
    power_watts: FloatArray
    """Share of the package's power, W."""
    temperature_celsius: FloatArray
    tokens_per_second: FloatArray
    """Sums over the dies of a workload to its rate."""
    port_up: BoolArray
    port_tx_bytes_per_second: FloatArray
    """Of the die that has the hottest experts more than of others, and so is rx: see
    :mod:`supernode_dataplane.incast`."""
    port_rx_bytes_per_second: FloatArray


@dataclass(frozen=True, slots=True)
class FabricState:
    """Switch chips and optics: uplinks have shape (L1 chips, ports); an L2 port is the other end of an uplink.

    Traffic of uplinks is that of workloads and of CPUs.
    """

    uplink_up: BoolArray
    uplink_tx_bytes_per_second: FloatArray
    """From L1 to L2."""
    uplink_rx_bytes_per_second: FloatArray
    l1_up: BoolArray
    """Shape (L1 chips,)."""
    l2_up: BoolArray
    """Shape (L2 chips,)."""
    optics_up: BoolArray
    """Shape (optical modules of the bus,), in the order of :attr:`supernode_dataplane.optics.Optics.scale_up`: whether
    any uplink of the module works. One that has failed reads False."""
    l2_rx_bytes_per_second: FloatArray
    """Shape (L2 chips,): sum over its ports, from L1 chips."""
    l2_tx_bytes_per_second: FloatArray
    l1_power_watts: FloatArray
    l2_power_watts: FloatArray


@dataclass(frozen=True, slots=True)
class MachineState:
    """The whole machine at one operating point."""

    profile: str
    digest: str
    """Of the inputs: profile, ComputeNode specs, workload specs and placements."""
    version: str
    """Of the model: changes whenever an equal digest may give other figures."""
    workloads: tuple[WorkloadResult, ...]
    """Sorted by key."""
    devices: DeviceState
    fabric: FabricState
    power_watts: float
    """Of the whole machine with hosts, switches, optics, fans and conversion."""
    tokens_per_second: float
    bus_bandwidth_bytes_per_second: float
    """Of all die ports that are up, one way."""

    def workload(self, key: str) -> WorkloadResult | None:
        """Return the result of ``namespace/name``, or None."""
        return next((w for w in self.workloads if w.key == key), None)
