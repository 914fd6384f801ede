"""What a scenario's kernel says: one collective or exchange of tokens, alone on a machine.

    machine: {profile: cloudmatrix-384}
    model: {name: deepseek-r1}                # hidden size and experts of a token; Dispatch and Combine only
    stack: vendor-tuned
    kernel: {kind: Dispatch, ranks: 256, tokens: 128, form: LowLatency}

or, without a model, ``{kind: AllReduce, ranks: 16, bytes: 65536}``, ``{kind: PointToPoint, bytes: 9000, cores: 2}``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import ConfigDict, Field

from supernode_api.base import ApiModel

__all__ = ["Algorithm", "KernelForm", "KernelFormat", "KernelKind", "ScenarioKernel"]

_MOST_BYTES: Final = 1 << 40


class KernelKind(StrEnum):
    """What a kernel does."""

    DISPATCH = "Dispatch"
    COMBINE = "Combine"
    ALL_REDUCE = "AllReduce"
    POINT_TO_POINT = "PointToPoint"


class KernelForm(StrEnum):
    """Which of the two forms of kernels exchanges tokens with experts."""

    LOW_LATENCY = "LowLatency"
    NORMAL = "Normal"


class KernelFormat(StrEnum):
    """Number format that tokens are sent in."""

    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"


class Algorithm(StrEnum):
    """How an all-reduce is done."""

    RING = "Ring"
    ONE_SHOT = "OneShot"
    HALVING_DOUBLING = "HalvingDoubling"


class ScenarioKernel(ApiModel):
    """One communication kernel on the first dies of a healthy machine."""

    model_config = ConfigDict(extra="forbid")
    kind: KernelKind = Field(
        description="Dispatch of tokens to experts, Combine of their results, AllReduce, or PointToPoint: a copy to a "
        "die of another server."
    )
    ranks: int | None = Field(
        default=None, ge=2, le=1 << 20, description="Dies that take part; all kinds but PointToPoint, which has two."
    )
    tokens: int | None = Field(default=None, ge=1, le=1 << 24, description="Tokens of a rank; Dispatch and Combine.")
    bytes: int | None = Field(
        default=None, ge=1, le=_MOST_BYTES, description="Bytes of a rank; AllReduce and PointToPoint."
    )
    form: KernelForm | None = Field(
        default=None,
        description="Of Dispatch and Combine. Normal is for thousands of tokens: where there is only RDMA between "
        "servers, a token crosses once for each server; LowLatency is for decoding: each copy takes its own way.",
    )
    format: KernelFormat | None = Field(
        default=None,
        description="Format of the tokens of Dispatch; absent: the machine's, fp8 on GPUs and int8 on others. Combine "
        "is in bf16.",
    )
    cores: int | None = Field(default=None, ge=1, le=1024, description="Vector cores that copy; PointToPoint.")
    algorithms: Annotated[list[Algorithm], Field(min_length=1, max_length=3)] | None = Field(
        default=None, description="Of AllReduce: those of which the fastest runs; absent: all."
    )
