"""Every constant of the model that is not a figure of the hardware, with unit, source and status.

``calibrated``: taken from a measurement that is not a test row; ``derived``: arithmetic on published figures;
``assumed``: no source, said to be so. None of them is fitted to what the model is tested on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "ACTIVATION_BYTES",
    "ATTENTION_BACKWARD_RATIO",
    "ATTENTION_EFFICIENCY",
    "BUFFER_BYTES",
    "COLLECTIVE_VECTOR_SHARE",
    "CONSTANTS",
    "GEMM_BACKWARD_RATIO",
    "GRADIENT_BYTES",
    "GRADIENT_OVERLAP",
    "HBM_EFFICIENCY",
    "LINK_EFFICIENCY",
    "LOGIT_BYTES",
    "OPTIMIZER_BYTES",
    "OPTIMIZER_TRAFFIC_BYTES",
    "POD_EFFICIENCY",
    "RECOMPUTED_BYTES",
    "WEIGHT_BYTES",
    "Constant",
    "training_constants",
]

Status = Literal["calibrated", "derived", "assumed"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A number with what it is measured in, where it comes from and how far it can be trusted."""

    name: str
    value: float
    unit: str
    status: Status
    source: str
    error: float = 0.0
    """Standard error where it is known, half of the range thought possible where it is assumed; same unit."""
    range: str = ""
    """Why the error is what it is."""


_ATTENTION = Constant(
    "attention_efficiency",
    0.65,
    "share of the BF16 peak",
    "calibrated",
    "MLA kernel at 65.4 % of the peak, arXiv 2506.12708",
)
_HBM = Constant(
    "hbm_efficiency",
    0.865,
    "share of the HBM bandwidth",
    "calibrated",
    "Qwen3-8B decode on one die, BF16 and W8A8, hicann/cann-recipes-infer",
)
_LINK = Constant(
    "link_efficiency",
    0.70,
    "share of the nominal bandwidth",
    "calibrated",
    "Ascend/msmodeling: efficiency of collectives on every tier",
    error=0.10,
    range="no collective is faster than its links: 170 of 196 GB/s, measured inside a server (arXiv 2607.26444), "
    "is the upper end of the 90 % interval, 1.645 errors above",
)
_POD = Constant(
    "pod_efficiency",
    0.70 * 150 / 170,
    "share of the nominal bandwidth",
    "derived",
    "link_efficiency x 150/170 GB/s, the measured bandwidths between and inside servers, arXiv 2607.26444",
)
_OVERLAP = Constant(
    "gradient_overlap",
    0.5,
    "share of the gradient collectives that is hidden",
    "assumed",
    "half hides behind backward and the next forward; the effect on LLaMA-3.1-405B is below 2 %",
    error=0.5,
    range="from nothing (Megatron without --overlap-grad-reduce) to all of it",
)
_HOST_VENDOR = Constant(
    "host_step_seconds[vendor-tuned]",
    0.002,
    "s per optimizer step",
    "assumed",
    "scheduling of an iteration takes xDeepServe 2 ms, arXiv 2508.02520; taken for training too",
    error=0.002,
    range="from nothing (hidden behind the dies' work) to twice as long",
)
_HOST_OPEN = Constant(
    "host_step_seconds[open-source]",
    0.020,
    "s per optimizer step",
    "assumed",
    "ten times the tuned stack's",
    error=0.018,
    range="from the tuned stack's 2 ms to as much above",
)
_ACTIVATION = Constant(
    "activation_bytes",
    34.0,
    "bytes per token, hidden element and layer, over the tensor group",
    "derived",
    "Korthikanti et al., arXiv 2205.05198: 34 s b h / t with sequence parallelism and fused attention",
)
_RECOMPUTED = Constant(
    "recomputed_bytes",
    2.0,
    "bytes per token, hidden element and layer, over the tensor group",
    "derived",
    "a recomputed layer keeps its BF16 input only",
)
_BUFFERS = Constant(
    "buffer_bytes",
    4e9,
    "bytes per die",
    "assumed",
    "buffers of the collective library and the runtime, about 4 GB",
    error=2e9,
    range="from the runtime with five communicators of HCCL's 2 x 200 MB to as much above",
)
_WEIGHT = Constant("weight_bytes", 2.0, "bytes per parameter", "derived", "BF16 weights")
_GRADIENT = Constant(
    "gradient_bytes",
    4.0,
    "bytes per parameter",
    "derived",
    "gradients are accumulated and reduced in FP32 (Megatron's default)",
)
_OPTIMIZER = Constant(
    "optimizer_bytes",
    12.0,
    "bytes per parameter, sharded over data parallelism",
    "derived",
    "Adam: FP32 master weights and two moments",
)
_OPTIMIZER_TRAFFIC = Constant(
    "optimizer_traffic_bytes",
    30.0,
    "bytes of HBM traffic per parameter of the shard and step",
    "derived",
    "read 12 of state and 4 of gradient, write 12 of state and 2 of weight",
)
_LOGITS = Constant(
    "logit_bytes",
    6.0,
    "bytes per token and vocabulary entry, over the tensor group",
    "derived",
    "BF16 logits and their FP32 copy in the loss",
)
_GEMM_BACKWARD = Constant(
    "gemm_backward_ratio", 2.0, "backward over forward", "derived", "gradients of input and of weight"
)
_ATTENTION_BACKWARD = Constant(
    "attention_backward_ratio",
    2.5,
    "backward over forward",
    "derived",
    "fused attention does five matrix products in the backward pass and two in the forward",
)
_VECTOR_SHARE = Constant(
    "collective_vector_share",
    0.5,
    "share of the vector cores that a collective keeps busy",
    "calibrated",
    "24 of 48 vector cores saturate about 95 % of the bandwidth, arXiv 2607.06202",
)

CONSTANTS: Final = (
    _ATTENTION,
    _HBM,
    _LINK,
    _POD,
    _OVERLAP,
    _HOST_VENDOR,
    _HOST_OPEN,
    _ACTIVATION,
    _RECOMPUTED,
    _BUFFERS,
    _WEIGHT,
    _GRADIENT,
    _OPTIMIZER,
    _OPTIMIZER_TRAFFIC,
    _LOGITS,
    _GEMM_BACKWARD,
    _ATTENTION_BACKWARD,
    _VECTOR_SHARE,
)

_HOSTS: Final = {"vendor-tuned": _HOST_VENDOR, "open-source": _HOST_OPEN}


def training_constants(stack: str) -> dict[str, Constant]:
    """Return the constants with an error that training takes, by their name in a Stack; of any stack, by name."""
    return {
        "gradient_overlap": _OVERLAP,
        "buffer_bytes": _BUFFERS,
        "link_efficiency": _LINK,
        "training_host_seconds": _HOSTS.get(stack, _HOST_VENDOR),
    }


ATTENTION_EFFICIENCY: Final = _ATTENTION.value
HBM_EFFICIENCY: Final = _HBM.value
LINK_EFFICIENCY: Final = _LINK.value
POD_EFFICIENCY: Final = _POD.value
GRADIENT_OVERLAP: Final = _OVERLAP.value
ACTIVATION_BYTES: Final = _ACTIVATION.value
RECOMPUTED_BYTES: Final = _RECOMPUTED.value
BUFFER_BYTES: Final = _BUFFERS.value
WEIGHT_BYTES: Final = _WEIGHT.value
GRADIENT_BYTES: Final = _GRADIENT.value
OPTIMIZER_BYTES: Final = _OPTIMIZER.value
OPTIMIZER_TRAFFIC_BYTES: Final = _OPTIMIZER_TRAFFIC.value
LOGIT_BYTES: Final = _LOGITS.value
GEMM_BACKWARD_RATIO: Final = _GEMM_BACKWARD.value
ATTENTION_BACKWARD_RATIO: Final = _ATTENTION_BACKWARD.value
COLLECTIVE_VECTOR_SHARE: Final = _VECTOR_SHARE.value
