"""``/metrics/npu/<server>``: one compute server's dies as npu-exporter shows them on an A3 server. Pure rendering.

Names, label names and order, gauges with an explicit timestamp each, -1 where a real reading fails, nothing where the
real exporter has nothing or the machine is not modelled so far (clocks, voltage, RoCE and optical counters). Units are
that exporter's: percent, MB (of 2^20 bytes), GB/s (of 10^9 bytes). Readings keep their fractions, so that they are the
same figures as everywhere else.

Power is per package on this hardware, and the query fails on its second die; so the first die shows the package's
power and the second one -1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

import numpy as np

from supernode_cabinet.entities import escape
from supernode_cabinet.holders import Holder
from supernode_cabinet.prometheus import format_value
from supernode_cabinet.snapshot import Snapshot

__all__ = [
    "LABELS",
    "MODEL_NAME",
    "Template",
    "npu_exporter_fidelity",
    "npu_exporter_metrics",
    "pcie_bus_info",
    "render_server",
    "vdie_id",
]

LABELS: Final = ("id", "model_name", "vdie_id", "pcie_bus_info", "namespace", "pod_name", "container_name")
MODEL_NAME: Final = "Ascend910-V1"
_EXPORTER_VERSION: Final = "supernode-0.1.0"
_FIRST_BUS: Final = 0x9D
_MIB: Final = float(1 << 20)
_FAILED: Final = -1.0

Template = tuple[str, ...]
"""Text with holes: joining it with the time in milliseconds gives the page."""

_HELP: Final = {
    "machine_npu_nums": "NPUs (dies) of the machine.",
    "machine_card_nums": "Cards (packages) of the machine.",
    "machine_healthy_npu_nums": "Healthy NPUs.",
    "machine_unhealthy_npu_nums": "Unhealthy NPUs.",
    "machine_unknown_npu_nums": "NPUs whose health is unknown.",
    "npu_exporter_version_info": "Version of the exporter, value 1.",
    "npu_chip_info_name": "Name of the NPU, value 1.",
    "npu_chip_info_health_status": "Health: 1 healthy, 0 unhealthy.",
    "npu_chip_info_network_status": "Network health: 1 healthy, 0 unhealthy.",
    "npu_chip_info_link_status": "Network link: 1 up, 0 down.",
    "npu_chip_info_utilization": "AI core utilization, percent.",
    "npu_chip_info_overall_utilization": "Overall utilization, percent.",
    "npu_chip_info_cube_utilization": "Cube utilization, percent.",
    "npu_chip_info_vector_utilization": "Vector utilization, percent.",
    "npu_chip_info_hbm_used_memory": "HBM in use, MB.",
    "npu_chip_info_hbm_total_memory": "HBM, MB.",
    "npu_chip_info_hbm_utilization": "HBM in use, percent.",
    "npu_chip_info_hbm_bandwidth_utilization": "HBM bandwidth in use, percent.",
    "npu_chip_info_hbm_temperature": "HBM temperature, Celsius.",
    "npu_chip_info_temperature": "Temperature, Celsius.",
    "npu_chip_info_power": "Power of the package, W; -1 on its second die.",
    "npu_chip_info_hccs_bandwidth_info_total_tx": "Sent over all HCCS links, GB/s.",
    "npu_chip_info_hccs_bandwidth_info_total_rx": "Received over all HCCS links, GB/s.",
    "container_npu_utilization": "AI core utilization of a container's NPU, percent.",
    "container_npu_total_memory": "HBM of a container's NPU, MB.",
    "container_npu_used_memory": "HBM in use on a container's NPU, MB.",
}


def npu_exporter_metrics(planes: int = 7) -> dict[str, str]:
    """Return every name that a page can have, with its help text."""
    names = dict(_HELP)
    for way in ("tx", "rx"):
        names |= {
            f"npu_chip_info_hccs_bandwidth_info_{way}_{x}": f"HCCS link {x}, {way}, GB/s." for x in _links(planes)
        }
    names |= {f"npu_chip_info_error_code{suffix}": "Error code." for suffix in _error_suffixes()}
    return names


def npu_exporter_fidelity(name: str) -> str:
    """Return ``faithful`` for what is counted, named or in force, ``modelled`` for what is computed."""
    counted = name.startswith(("machine_", "npu_exporter_", "npu_chip_info_error_code"))
    stated = name.endswith(("_name", "health_status", "total_memory"))
    return "faithful" if counted or stated else "modelled"


def vdie_id(super_node: str, server: int, die: int) -> str:
    """Return a die's identity as five groups of hexadecimal digits; made up, but always the same for the same die."""
    text = hashlib.sha256(f"{super_node}/{server}/{die}".encode()).hexdigest()[:40].upper()
    return "-".join(text[i : i + 8] for i in range(0, 40, 8))


def pcie_bus_info(die: int, dies_per_package: int) -> str:
    """Return a die's PCIe address: descending in steps of four from 9D, its package's second die two above."""
    package, of_package = divmod(die, dies_per_package)
    return f"0000:{(_FIRST_BUS - 4 * package + 2 * of_package) % 256:02X}:00.0"


def render_server(snapshot: Snapshot, server: int) -> Template:
    """Render one server's page with a hole for every timestamp."""
    holes: list[str] = [""]
    for name, samples in _families(snapshot, server):
        holes[-1] += f"# HELP {name} {npu_exporter_metrics(snapshot.profile.planes)[name]}\n# TYPE {name} gauge\n"
        for labels, value in samples:
            holes[-1] += f"{name}{labels} {format_value(value, integer=isinstance(value, int))} "
            holes.append("\n")
    return tuple(holes)


Samples = list[tuple[str, float]]


def _families(snapshot: Snapshot, server: int) -> Iterator[tuple[str, Samples]]:
    devices, profile = snapshot.state.devices, snapshot.profile
    first = server * profile.dies_per_server
    mine = slice(first, first + profile.dies_per_server)
    healthy = int(np.count_nonzero(devices.healthy[mine]))
    yield "machine_npu_nums", [("", profile.dies_per_server)]
    yield "machine_card_nums", [("", profile.dies_per_server // profile.dies_per_package)]
    yield "machine_healthy_npu_nums", [("", healthy)]
    yield "machine_unhealthy_npu_nums", [("", profile.dies_per_server - healthy)]
    yield "machine_unknown_npu_nums", [("", 0)]
    yield "npu_exporter_version_info", [(f'{{exporterVersion="{_EXPORTER_VERSION}"}}', 1)]
    labels = [_labels(snapshot, server, die) for die in range(profile.dies_per_server)]
    yield "npu_chip_info_name", [(label.replace("model_name=", "name=", 1), 1) for label in labels]
    for name, values in _readings(snapshot, mine):
        yield name, list(zip(labels, values, strict=True))
    yield from _error_codes(snapshot, first, labels)
    yield from _containers(snapshot, first, labels)


def _readings(snapshot: Snapshot, mine: slice) -> Iterator[tuple[str, list[float]]]:
    devices = snapshot.state.devices
    for name in ("health_status", "network_status", "link_status"):
        yield f"npu_chip_info_{name}", devices.healthy[mine].astype(float).tolist()
    for name, share in (
        ("utilization", devices.utilisation),
        ("overall_utilization", devices.utilisation),
        ("cube_utilization", devices.cube_utilisation),
        ("vector_utilization", devices.vector_utilisation),
        ("hbm_utilization", devices.hbm_used_bytes / np.maximum(devices.hbm_total_bytes, 1.0)),
        ("hbm_bandwidth_utilization", devices.hbm_bandwidth_utilisation),
    ):
        yield f"npu_chip_info_{name}", (100.0 * share[mine]).tolist()
    yield "npu_chip_info_hbm_used_memory", (devices.hbm_used_bytes[mine] / _MIB).tolist()
    yield "npu_chip_info_hbm_total_memory", (devices.hbm_total_bytes[mine] / _MIB).tolist()
    yield "npu_chip_info_hbm_temperature", devices.temperature_celsius[mine].tolist()
    yield "npu_chip_info_temperature", devices.temperature_celsius[mine].tolist()
    yield "npu_chip_info_power", _package_power(devices.power_watts[mine].tolist(), snapshot.profile.dies_per_package)
    for way, rates in (("tx", devices.port_tx_bytes_per_second[mine]), ("rx", devices.port_rx_bytes_per_second[mine])):
        for x in _links(rates.shape[1]):
            yield f"npu_chip_info_hccs_bandwidth_info_{way}_{x}", (rates[:, x - 1] / 1e9).tolist()
        yield f"npu_chip_info_hccs_bandwidth_info_total_{way}", (rates.sum(axis=1) / 1e9).tolist()


def _package_power(watts: list[float], per_package: int) -> list[float]:
    return [sum(watts[die : die + per_package]) if die % per_package == 0 else _FAILED for die in range(len(watts))]


def _error_codes(snapshot: Snapshot, first: int, labels: list[str]) -> Iterator[tuple[str, Samples]]:
    for position, suffix in enumerate(_error_suffixes()):
        samples: Samples = []
        for die, label in enumerate(labels):
            codes = snapshot.fault_codes.get(first + die, ())
            if position < len(codes):
                samples.append((label, codes[position]))
        if samples:
            yield f"npu_chip_info_error_code{suffix}", samples


def _containers(snapshot: Snapshot, first: int, labels: list[str]) -> Iterator[tuple[str, Samples]]:
    devices = snapshot.state.devices
    held = [(first + die, label) for die, label in enumerate(labels) if first + die in snapshot.holders]
    if held:
        yield "container_npu_utilization", [(label, 100.0 * float(devices.utilisation[die])) for die, label in held]
        yield "container_npu_total_memory", [(label, float(devices.hbm_total_bytes[die]) / _MIB) for die, label in held]
        yield "container_npu_used_memory", [(label, float(devices.hbm_used_bytes[die]) / _MIB) for die, label in held]


def _labels(snapshot: Snapshot, server: int, die: int) -> str:
    holder = snapshot.holders.get(server * snapshot.profile.dies_per_server + die, Holder())
    values = (
        str(die),
        MODEL_NAME,
        vdie_id(snapshot.super_node, server, die),
        pcie_bus_info(die, snapshot.profile.dies_per_package),
        holder.namespace,
        holder.pod,
        holder.container,
    )
    return "{" + ",".join(f'{key}="{escape(value)}"' for key, value in zip(LABELS, values, strict=True)) + "}"


def _links(planes: int) -> range:
    return range(1, planes + 1)


def _error_suffixes() -> tuple[str, ...]:
    return ("", *(f"_{number}" for number in range(1, 10)))
