"""What a published metric is: its scope, its two names, its meaning, and how its value is read from a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from numpy.typing import NDArray

from supernode_api.detail import Detail
from supernode_cabinet.snapshot import Snapshot

__all__ = ["SCOPES_OF_DETAIL", "Instrument", "Read", "Row", "Scope", "Values"]

Values = NDArray[Any]
Read = Callable[[Snapshot], Values]
"""Values of one metric, in the order in which :mod:`supernode_cabinet.entities` lists the scope's entities."""


class Scope(StrEnum):
    """What a series is about."""

    DIE = "die"
    DIE_PORT = "die port"
    L1_CHIP = "L1 chip"
    UPLINK = "uplink"
    L2_CHIP = "L2 chip"
    L2_PORT = "L2 port"
    MODULE = "optical module"
    SERVER = "server"
    WORKLOAD = "workload"
    MACHINE = "machine"
    REQUEST = "request"
    HOLDER = "holder"
    MODEL = "model"


_TOTALS: Final = frozenset({Scope.WORKLOAD, Scope.REQUEST, Scope.MACHINE, Scope.MODEL})
SCOPES_OF_DETAIL: Final[Mapping[Detail, frozenset[Scope]]] = {
    Detail.SUPER_NODE: _TOTALS,
    Detail.NODE: _TOTALS | {Scope.SERVER, Scope.L1_CHIP, Scope.L2_CHIP},
    Detail.DEVICE: frozenset(Scope),
}
"""What SuperNode.spec.telemetry.detail leaves over."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """An OpenTelemetry instrument; it may have points of several scopes. A Counter counts what its rates add up to."""

    kind: Literal["Gauge", "UpDownCounter", "Counter", "Histogram"]
    unit: str
    description: str


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One metric of one scope. Either name may be empty: then that surface does not have it."""

    scope: Scope
    prometheus: str
    otel: str
    help: str
    read: Read
    fidelity: Literal["faithful", "modelled"] = "modelled"
    attributes: Mapping[str, str] = field(default_factory=dict)
    """OpenTelemetry attributes beside those of the entity."""
    integer: bool = False
