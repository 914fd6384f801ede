"""MindCluster's fault levels, and which of them withdraw a device. No pydantic: the node agent imports this."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["FaultLevel"]


class FaultLevel(StrEnum):
    """MindCluster's fault levels; which make a device unhealthy is :attr:`is_unhealthy`."""

    NOT_HANDLE = "NotHandleFault"
    SUB_HEALTH = "SubHealthFault"
    RESTART_REQUEST = "RestartRequest"
    RESTART_BUSINESS = "RestartBusiness"
    FREE_RESTART_NPU = "FreeRestartNPU"
    RESTART_NPU = "RestartNPU"
    PRE_SEPARATE_NPU = "PreSeparateNPU"
    SEPARATE_NPU = "SeparateNPU"
    MANUALLY_SEPARATE_NPU = "ManuallySeparateNPU"

    @property
    def is_unhealthy(self) -> bool:
        """Whether a device with such a fault is withdrawn from scheduling."""
        return self not in (FaultLevel.NOT_HANDLE, FaultLevel.SUB_HEALTH, FaultLevel.RESTART_REQUEST)
