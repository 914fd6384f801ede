"""How fine telemetry is. No pydantic: the cabinets import this, and have no models otherwise."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Detail"]


class Detail(StrEnum):
    """Finest level of telemetry."""

    DEVICE = "Device"
    NODE = "Node"
    SUPER_NODE = "SuperNode"
