"""Hardware profiles: figures with their sources in data files, a frozen value with arithmetic in code.

A profile's figures are those of ``data/profiles/<name>.yaml``; each has a unit, a source and a confidence flag there,
and the file is validated when it is read. Everything structural (chips, ports, totals) is computed from them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

from supernode_dataplane.errors import ProfileNotFoundError

__all__ = ["Profile", "ProfileNotFoundError", "load_profile", "profile_figures", "profile_names"]

_NAMES: Final = ("atlas-a2-cluster", "cloudmatrix-384")
_SCALES: Final = {
    "gigabytes_per_second": ("bytes_per_second", 1e9),
    "terabytes_per_second": ("bytes_per_second", 1e12),
    "microseconds": ("seconds", 1e-6),
    "teraflops": ("flops", 1e12),
    "teraops": ("ops", 1e12),
    "gibibytes": ("bytes", 2.0**30),
    "mebibytes": ("bytes", 2.0**20),
    "kilowatts": ("watts", 1e3),
}
"""Unit in a figure's key in the file -> unit in the field's name here (SI), factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One machine's hardware, in SI units; bandwidths are one way."""

    name: str
    version: int
    title: str
    compute_cabinets: int
    bus_cabinets: int
    servers: int
    dies_per_server: int
    dies_per_package: int
    planes: int
    intra_server: Literal["switched", "mesh"]
    port_bytes_per_second: float
    uplinks_per_l1: int
    l2_chips_per_plane: int
    l2_ports_per_chip: int
    sio_bytes_per_second: float
    sio_latency_seconds: float
    node_latency_seconds: float
    pod_latency_seconds: float
    rdma_bytes_per_second: float
    rdma_latency_seconds: float
    fp16_flops_per_die: float
    bf16_flops_per_die: float
    hbm_bytes_per_die: float
    hbm_bytes_per_second_per_die: float
    hbm_idle_bytes: float
    scale_up_optical_modules_per_package: int
    scale_out_optical_modules_per_package: int
    optical_module_watts: float
    cpus_per_server: int
    cpu_watts: float
    switch_chip_watts: float
    package_idle_watts: float
    package_cube_watts: float
    package_hbm_watts: float
    package_vector_watts: float
    package_bus_watts: float
    rated_watts: float
    inlet_celsius: float
    celsius_per_watt: float
    int8_ops_per_die: float = 0.0
    """0: the machine has no such units, or no source says so; so for the figures that follow."""
    fp8_flops_per_die: float = 0.0
    sio_measured_bytes_per_second: float = 0.0
    node_measured_bytes_per_second: float = 0.0
    pod_measured_bytes_per_second: float = 0.0
    rdma_measured_bytes_per_second: float = 0.0
    cpu_bus_bytes_per_second: float = 0.0
    """Of one CPU socket to the bus, one way."""

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
        """Compute servers in one compute cabinet."""
        return self.servers // self.compute_cabinets

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


def profile_names() -> tuple[str, ...]:
    """Return the names of the built-in profiles, sorted."""
    return _NAMES


@cache
def profile_figures(name: str) -> dict[str, dict[str, Any]]:
    """Return a profile's figures as in its file: key -> value, unit, source, flag."""
    return {key: figure.model_dump() for key, figure in _read(name).figures.items()}


@cache
def load_profile(name: str) -> Profile:
    """Return a built-in profile; ProfileNotFoundError when there is none of that name."""
    if name not in _NAMES:
        raise ProfileNotFoundError(str(name), _NAMES)
    file = _read(name)
    types = {field.name: field.type for field in fields(Profile)}
    values: dict[str, Any] = {"name": file.name, "version": file.version, "title": file.title}
    for key, figure in file.figures.items():
        field, factor = _to_si(key)
        value = figure.value
        if types.get(field) == "int":
            value = int(value)
        elif not isinstance(value, str):
            value = float(value) * factor
        values[field] = value
    return Profile(**values)


def _to_si(key: str) -> tuple[str, float]:
    for unit, (si, factor) in _SCALES.items():
        if unit in key:
            return key.replace(unit, si), factor
    return key, 1.0


def _read(name: str) -> Any:
    # The readers are imported late: a process that has its profile from the cache of load_profile never pays for them.
    import yaml
    from pydantic import BaseModel, ConfigDict, Field

    class Figure(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        value: float | Literal["switched", "mesh"]
        unit: str = Field(min_length=1)
        source: str = Field(min_length=8)
        flag: Literal["V", "S", "S+", "I", "M"]

    class ProfileFile(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        name: Literal["atlas-a2-cluster", "cloudmatrix-384"]
        version: int = Field(ge=1)
        title: str = Field(min_length=1)
        figures: dict[str, Figure]

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = files("supernode_dataplane").joinpath("data", "profiles", f"{name}.yaml").read_text(encoding="utf-8")
    return ProfileFile.model_validate(yaml.load(text, Loader=loader))  # noqa: S506 - a safe loader, in C where there is one
