"""What of a machine has failed, as scenarios and ``supernode plan --failed`` say it, and as servers that lack it.

Everything is named by its place, from 0, in lists of mappings::

    failed:
      servers: [3]                                      # all of its dies
      planes: [6]                                       # L1 chips of all servers
      dies: [{server: 0, die: 5}]
      diePorts: [{server: 0, die: 6, plane: 2}]         # bus links
      uplinks: [{server: 1, plane: 2, port: 9}]         # of an L1 chip, port j to L2 chip j
      l1: [{server: 1, plane: 4}]
      l2: [{plane: 0, chip: 11}]
      optics: [{server: 1, plane: 0, module: 3}, {chip: 11, plane: 0, module: 20}]    # at an L1 chip, at an L2 chip
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field

from supernode_api.base import ApiModel
from supernode_cli.errors import ScenarioError
from supernode_dataplane.errors import ImpossibleFailureError
from supernode_dataplane.failures import Failures, failed_servers
from supernode_dataplane.machine import ServerInput
from supernode_dataplane.profile import Profile

__all__ = [
    "DiePlace",
    "DiePortPlace",
    "Failed",
    "L1Place",
    "L2Place",
    "OpticsPlace",
    "UplinkPlace",
    "fault_entries",
    "servers_with_failures",
    "untouched_failures",
]

_STRICT = ConfigDict(extra="forbid")
Number = Annotated[int, Field(ge=0, le=65535)]
_FIELDS: Final = {"die_ports": "diePorts", "l1_optics": "optics", "l2_optics": "optics"}
_MOST: Final = 8192
"""Entries of a list: more than the ports of any machine here."""


class L1Place(ApiModel):
    """One L1 switch chip."""

    model_config = _STRICT
    server: Number = Field(description="Server, counted from 0.")
    plane: Number = Field(description="Plane of the chip.")


class L2Place(ApiModel):
    """One L2 switch chip."""

    model_config = _STRICT
    plane: Number = Field(description="Plane of the chip.")
    chip: Number = Field(description="Chip of the plane, counted from 0.")


class DiePlace(ApiModel):
    """One die."""

    model_config = _STRICT
    server: Number = Field(description="Server, counted from 0.")
    die: Number = Field(description="Die of the server, counted from 0.")


class DiePortPlace(ApiModel):
    """One die's port on one plane: a bus link."""

    model_config = _STRICT
    server: Number = Field(description="Server, counted from 0.")
    die: Number = Field(description="Die of the server, counted from 0.")
    plane: Number = Field(description="Plane of the port.")


class UplinkPlace(ApiModel):
    """One uplink of an L1 chip."""

    model_config = _STRICT
    server: Number = Field(description="Server, counted from 0.")
    plane: Number = Field(description="Plane of the L1 chip.")
    port: Number = Field(description="Port of the L1 chip, counted from 0: the number of its L2 chip too.")


class OpticsPlace(ApiModel):
    """One optical module of the bus: at an L1 chip (server, plane) or at an L2 chip (plane, chip)."""

    model_config = _STRICT
    server: Number | None = Field(default=None, description="Server whose L1 chip has the module, counted from 0.")
    chip: Number | None = Field(default=None, description="L2 chip of the plane that has the module, counted from 0.")
    plane: Number = Field(description="Plane of the chip.")
    module: Number = Field(
        description="Module of the chip, counted from 0: it carries two neighbouring ports, 2 m and 2 m + 1."
    )


class Failed(ApiModel):
    """What does not work."""

    model_config = _STRICT
    servers: Annotated[list[Number], Field(max_length=_MOST)] = Field(
        default_factory=list, description="Servers all of whose dies have failed."
    )
    planes: Annotated[list[Number], Field(max_length=_MOST)] = Field(
        default_factory=list, description="Planes of the bus that have failed as a whole."
    )
    dies: Annotated[list[DiePlace], Field(max_length=_MOST)] = Field(
        default_factory=list, description="Dies that have failed."
    )
    die_ports: Annotated[list[DiePortPlace], Field(max_length=_MOST)] = Field(
        default_factory=list, description="Ports of dies (bus links) that have failed."
    )
    uplinks: Annotated[list[UplinkPlace], Field(max_length=_MOST)] = Field(
        default_factory=list, description="Uplinks between L1 and L2 chips that have failed."
    )
    l1: Annotated[list[L1Place], Field(max_length=_MOST)] = Field(
        default_factory=list, description="L1 switch chips that have failed."
    )
    l2: Annotated[list[L2Place], Field(max_length=_MOST)] = Field(
        default_factory=list, description="L2 switch chips that have failed."
    )
    optics: Annotated[list[OpticsPlace], Field(max_length=_MOST)] = Field(
        default_factory=list, description="Optical modules of the bus that have failed; each takes its two uplinks."
    )


def servers_with_failures(failed: Failed, profile: Profile) -> tuple[ServerInput, ...]:
    """Return what is broken on each server of a machine; ScenarioError, as of a :class:`Failed`, for what it lacks."""
    sides: dict[str, list[int]] = {"l1_optics": [], "l2_optics": []}
    for number, module in enumerate(failed.optics):
        if (module.server is None) == (module.chip is None):
            raise ScenarioError(
                f"optics.{number}", "give server for a module at an L1 chip, or chip for one at an L2 chip"
            )
        sides["l1_optics" if module.chip is None else "l2_optics"].append(number)
    failures = Failures(
        servers=tuple((server,) for server in failed.servers),
        planes=tuple((plane,) for plane in failed.planes),
        dies=tuple((place.server, place.die) for place in failed.dies),
        die_ports=tuple((place.server, place.die, place.plane) for place in failed.die_ports),
        uplinks=tuple((place.server, place.plane, place.port) for place in failed.uplinks),
        l1=tuple((place.server, place.plane) for place in failed.l1),
        l2=tuple((place.plane, place.chip) for place in failed.l2),
        l1_optics=tuple((m.server or 0, m.plane, m.module) for m in failed.optics if m.chip is None),
        l2_optics=tuple((m.plane, m.chip, m.module) for m in failed.optics if m.chip is not None),
    )
    try:
        return failed_servers(profile, failures)
    except ImpossibleFailureError as error:
        index = error.index
        if index is not None and error.kind in sides:
            index = sides[error.kind][index]
        part = "" if error.kind in ("servers", "planes") else error.part
        where = (_FIELDS.get(error.kind, error.kind), "" if index is None else str(index), part)
        raise ScenarioError(".".join(name for name in where if name), str(error)) from None


def untouched_failures(failed: Failed, dies: int, dies_per_server: int) -> tuple[str, ...]:
    """Return sentences on what is named beyond the first ``dies`` of a machine, none without any."""
    nodes, last = -(-dies // dies_per_server), (dies - 1) % dies_per_server + 1
    of_dies: list[DiePlace | DiePortPlace] = [*failed.dies, *failed.die_ports]
    chips: list[UplinkPlace | L1Place | OpticsPlace] = [*failed.uplinks, *failed.l1, *failed.optics]
    named = {*failed.servers, *(place.server for place in of_dies), *(place.server for place in chips)}
    notes = []
    beyond = sorted(server for server in named if server is not None and server >= nodes)
    if beyond:
        notes.append(f"failures on {_numbered('server', beyond)} do not touch it: it is on servers 0 to {nodes - 1}")
    unused = sorted({place.die for place in of_dies if place.server == nodes - 1 and place.die >= last})
    if unused:
        notes.append(
            f"failures of {_numbered('die', unused)} of server {nodes - 1} do not touch it: it is on "
            f"{'die 0' if last == 1 else f'dies 0 to {last - 1}'} there"
        )
    return tuple(notes)


def _numbered(noun: str, numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:8]) + (", ..." if len(numbers) > 8 else "")
    return f"{noun}{'' if len(numbers) == 1 else 's'} {shown}"


def fault_entries(entry: ServerInput) -> list[dict[str, Any]]:
    """Return what is broken on a server as the faults of a ComputeNode, without name and level."""
    return [
        *({"die": die} for die in entry.dies),
        *({"diePort": {"die": die, "plane": plane}} for die, plane in entry.ports),
        *({"uplink": {"plane": plane, "port": port}} for plane, port in entry.uplinks),
        *({"l1": {"plane": plane}} for plane in entry.l1),
    ]
