"""Hardware profiles: figures with their sources in data files, a frozen value with arithmetic in code.

A profile's figures are those of ``data/profiles/<name>.yaml``; each has a unit, a source and a confidence flag there,
and the file is validated when it is read. Everything structural (chips, ports, totals) is computed from them. A figure
that no source states is absent from the file and 0 here, and what would need it is not answered. Only a machine whose
file says ``supernode: true`` can be a SuperNode object; the others are there to be compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final, Literal

from supernode_dataplane.errors import ProfileNotFoundError
from supernode_dataplane.packaged import data_names, read_data

__all__ = [
    "Profile",
    "ProfileNotFoundError",
    "checked_file",
    "load_profile",
    "profile_figures",
    "profile_names",
    "sourced",
    "supernode_profile_names",
    "to_si",
]

_SCALES: Final = {
    "gigabytes_per_second": ("bytes_per_second", 1e9),
    "terabytes_per_second": ("bytes_per_second", 1e12),
    "microseconds": ("seconds", 1e-6),
    "teraflops": ("flops", 1e12),
    "teraops": ("ops", 1e12),
    "gigabytes": ("bytes", 1e9),
    "gibibytes": ("bytes", 2.0**30),
    "mebibytes": ("bytes", 2.0**20),
    "kilowatts": ("watts", 1e3),
}
"""Unit in a figure's key in the file -> unit in the field's name here (SI), factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One machine's hardware, in SI units; bandwidths are one way.

    0 in a field with a default: the machine has none, or no source says so.
    """

    name: str
    version: int
    title: str
    supernode: bool = False
    """Whether a SuperNode object can be such a machine: its cabinets, power and temperature are modelled."""
    compute_cabinets: int = 0
    bus_cabinets: int = 0
    servers: int
    """Groups of dies with links of their own: compute servers; the whole rack of an NVL72."""
    dies_per_server: int
    dies_per_package: int
    planes: int
    intra_server: Literal["switched", "mesh"]
    low_latency_exchange: Literal["links", "rdma"] = "rdma"
    """What a stack whose MoE kernels are made for RDMA uses inside a server of this machine."""
    port_bytes_per_second: float
    uplinks_per_l1: int = 0
    l2_chips_per_plane: int = 0
    l2_ports_per_chip: int = 0
    sio_bytes_per_second: float = 0.0
    sio_latency_seconds: float = 0.0
    node_latency_seconds: float
    pod_latency_seconds: float
    rdma_bytes_per_second: float
    rdma_latency_seconds: float
    fp16_flops_per_die: float
    bf16_flops_per_die: float
    int8_ops_per_die: float = 0.0
    fp8_flops_per_die: float = 0.0
    vector_flops_per_die: float = 0.0
    """FP16 outside the matrix units."""
    hbm_bytes_per_die: float
    hbm_bytes_per_second_per_die: float
    hbm_idle_bytes: float = 0.0
    sio_measured_bytes_per_second: float = 0.0
    node_measured_bytes_per_second: float = 0.0
    pod_measured_bytes_per_second: float = 0.0
    rdma_measured_bytes_per_second: float = 0.0
    cpu_bus_bytes_per_second: float = 0.0
    """From a die to one CPU socket over the bus as measured, one way."""
    cpu_port_bytes_per_second: float = 0.0
    """Of one CPU socket's own ports on the bus, one way."""
    cpu_bytes_per_second: float = 0.0
    """What the CPUs of each server send over the bus to other servers, together; as much comes in."""
    scale_up_optical_modules_per_package: int = 0
    scale_out_optical_modules_per_package: int = 0
    optical_module_watts: float = 0.0
    cpus_per_server: int = 0
    cpu_watts: float = 0.0
    switch_chip_watts: float = 0.0
    package_idle_watts: float = 0.0
    package_cube_watts: float = 0.0
    package_hbm_watts: float = 0.0
    package_vector_watts: float = 0.0
    package_bus_watts: float = 0.0
    rated_watts: float = 0.0
    """All-in, of the whole machine at full load."""
    inlet_celsius: float = 0.0
    celsius_per_watt: float = 0.0

    @property
    def has_power_model(self) -> bool:
        """Whether power at an operating point can be said: it is known by component and in all."""
        return self.package_idle_watts > 0 and self.rated_watts > 0

    @property
    def dies(self) -> int:
        """Dies of the machine."""
        return self.servers * self.dies_per_server

    @property
    def packages(self) -> int:
        """Packages (cards) of the machine."""
        return self.dies // self.dies_per_package

    @property
    def die_ports(self) -> int:
        """Bus links: one for each die and plane."""
        return self.dies * self.planes

    @property
    def servers_per_cabinet(self) -> int:
        """Compute servers in one compute cabinet; all of them where no cabinets are known."""
        return self.servers // max(self.compute_cabinets, 1)

    @property
    def has_bus_between_servers(self) -> bool:
        """Whether servers meet over L2 chips (else over RDMA only)."""
        return self.l2_chips_per_plane > 0

    @property
    def l1_chips(self) -> int:
        """L1 switch chips: one for each server and plane, when servers are switched."""
        return self.servers * self.planes if self.intra_server == "switched" else 0

    @property
    def l2_chips(self) -> int:
        """L2 switch chips."""
        return self.planes * self.l2_chips_per_plane

    @property
    def uplinks(self) -> int:
        """Links between L1 and L2 chips."""
        return self.l1_chips * self.uplinks_per_l1

    @property
    def l2_ports(self) -> int:
        """Ports of all L2 chips; equals the uplinks when every port is wired."""
        return self.l2_chips * self.l2_ports_per_chip

    @property
    def die_bus_bytes_per_second(self) -> float:
        """Of one die over all its ports, nominal."""
        return self.planes * self.port_bytes_per_second

    @property
    def server_uplink_bytes_per_second(self) -> float:
        """Of one server over all its uplinks, nominal."""
        return self.planes * self.uplinks_per_l1 * self.port_bytes_per_second

    @property
    def most_cpu_bytes_per_second(self) -> float:
        """What the CPUs of one server can send over the bus together; 0 where they are not on it."""
        return self.cpus_per_server * self.cpu_port_bytes_per_second if self.has_bus_between_servers else 0.0

    @property
    def optical_modules(self) -> int:
        """Optical modules of the machine."""
        return self.packages * (self.scale_up_optical_modules_per_package + self.scale_out_optical_modules_per_package)

    @property
    def hbm_bytes(self) -> float:
        """HBM of the machine."""
        return self.dies * self.hbm_bytes_per_die

    @property
    def rated_flops(self) -> float:
        """Dense FP16 peak of the machine, as rated."""
        return self.dies * self.fp16_flops_per_die

    @property
    def bf16_flops(self) -> float:
        """Dense BF16 peak of the machine's cube units."""
        return self.dies * self.bf16_flops_per_die


@cache
def profile_names() -> tuple[str, ...]:
    """Return the names of the built-in profiles, sorted: those that have a file."""
    return data_names("profiles")


@cache
def supernode_profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that a SuperNode object may have, sorted."""
    return tuple(name for name in profile_names() if load_profile(name).supernode)


@cache
def profile_figures(name: str) -> dict[str, dict[str, Any]]:
    """Return a profile's figures as in its file: key -> value, unit, source, flag."""
    figures: dict[str, dict[str, Any]] = _read(name)["figures"]
    return figures


def sourced(name: str, key: str) -> bool:
    """Return whether a profile states a figure (as named in its file) and does not merely assume it."""
    figure = profile_figures(name).get(key)
    return figure is not None and figure["flag"] != "M"


@cache
def load_profile(name: str) -> Profile:
    """Return a built-in profile; ProfileNotFoundError when there is none of that name."""
    if name not in profile_names():
        raise ProfileNotFoundError(str(name), profile_names())
    file = _read(name)
    types = {field.name: field.type for field in fields(Profile)}
    values: dict[str, Any] = {key: file[key] for key in ("name", "version", "title", "supernode")}
    for key, figure in file["figures"].items():
        field, factor = to_si(key)
        value = figure["value"]
        if types.get(field) == "int":
            value = int(value)
        elif not isinstance(value, str):
            value = float(value) * factor
        values[field] = value
    return Profile(**values)


def to_si(key: str) -> tuple[str, float]:
    """Return the field of :class:`Profile` that a figure of a file is, and the factor from its unit to SI."""
    for unit, (si, factor) in _SCALES.items():
        if unit in key:
            return key.replace(unit, si), factor
    return key, 1.0


@cache
def _read(name: str) -> dict[str, Any]:
    return checked_file(name, read_data("profiles", f"{name}.yaml"))


def checked_file(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a profile's file says, every figure a float or a word; ValueError names what is wrong in it."""
    _check(name, document, _FILE, "")
    if document["name"] != name:
        raise ValueError(f"profiles/{name}.yaml: name is {document['name']!r}, the file's is {name!r}")
    figures = {}
    for key, figure in document["figures"].items():
        _check(name, figure, _FIGURE, f"figures.{key}.")
        value = figure["value"]
        figures[key] = {**figure, "value": value if value in _WORDS else float(value)}
    return {"supernode": False, **document, "figures": figures}


def _check(name: str, given: Mapping[str, Any], wanted: Mapping[str, Callable[[Any], bool]], path: str) -> None:
    for key in [*given, *wanted]:
        if key not in wanted:
            raise ValueError(f"profiles/{name}.yaml: {path}{key} is nothing that a profile says")
        if not wanted[key](given.get(key)):
            raise ValueError(f"profiles/{name}.yaml: {path}{key} cannot be {given.get(key)!r}")


def _is_figure(value: Any) -> bool:
    return value in _WORDS or (isinstance(value, int | float) and not isinstance(value, bool))


_WORDS: Final = ("switched", "mesh", "links", "rdma")
_FILE: Final[Mapping[str, Callable[[Any], bool]]] = {
    "name": lambda value: isinstance(value, str),
    "version": lambda value: isinstance(value, int) and value >= 1,
    "title": lambda value: isinstance(value, str) and value != "",
    "supernode": lambda value: value in (None, True, False),
    "figures": lambda value: isinstance(value, dict) and all(isinstance(each, dict) for each in value.values()),
}
_FIGURE: Final[Mapping[str, Callable[[Any], bool]]] = {
    "value": _is_figure,
    "unit": lambda value: isinstance(value, str) and value != "",
    "source": lambda value: isinstance(value, str) and len(value) >= 8,
    "flag": lambda value: value in ("V", "S", "S+", "I", "M"),
}
"""What a file and each of its figures must say."""
