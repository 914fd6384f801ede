"""The one table of what cabinets publish, on both surfaces.

OTLP and ``/metrics`` are driven by it, and ``docs/telemetry.md`` is compared with it by a test. OpenTelemetry names
follow the semantic conventions (``hw.*``) where one exists, else ``supernode.*``; Prometheus names end in their base
unit. Prometheus has rates as gauges; OpenTelemetry has ``hw.network.io`` as a counter that starts with the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from supernode_api.detail import Detail
from supernode_cabinet.histograms import HISTOGRAMS
from supernode_cabinet.metric import SCOPES_OF_DETAIL, Instrument, Read, Row, Scope
from supernode_cabinet.optical_rows import MODULE_ROWS
from supernode_cabinet.values import (
    one,
    one_for_each_holder,
    read_dies,
    read_failed,
    read_hbm_share,
    read_l1,
    read_l2,
    read_l2_ports,
    read_limit,
    read_machine,
    read_performance,
    read_servers,
    read_share,
    read_workloads,
)

__all__ = ["INSTRUMENTS", "ROWS", "rows_of"]

_TX: Final = {"network.io.direction": "transmit"}
_RX: Final = {"network.io.direction": "receive"}
_GPU: Final = {"hw.type": "gpu"}
_NETWORK: Final = {"hw.type": "network"}


def _port_rows(scope: Scope, stem: str, what: str, read: Callable[[str], Read], *names: str) -> tuple[Row, ...]:
    up, tx, rx = (read(name) for name in names)
    io, sent, got = "hw.network.io", f"Payload that {what} sends.", f"Payload that {what} receives."
    return (
        Row(scope, f"{stem}_up", "hw.network.up", f"Whether {what} works: 1 or 0.", up, "faithful", integer=True),
        Row(scope, f"{stem}_transmit_bytes_per_second", io, sent, tx, attributes=_TX),
        Row(scope, f"{stem}_receive_bytes_per_second", io, got, rx, attributes=_RX),
    )


def _load_rows(scope: Scope, read: Callable[[str], Read], *names: str) -> tuple[Row, ...]:
    tx, rx = (read(name) for name in names)
    use, limit = "hw.network.bandwidth.utilization", "hw.network.bandwidth.limit"
    return (
        Row(scope, "", use, "Share of the port's bandwidth in use, sending.", read_share(tx), attributes=_TX),
        Row(scope, "", use, "Share of the port's bandwidth in use, receiving.", read_share(rx), attributes=_RX),
        Row(scope, "", limit, "Bandwidth of the port, one way.", read_limit(tx), "faithful", integer=True),
    )


def _status_rows(scope: Scope, name: str, what: str, read: Read, kind: Mapping[str, str]) -> tuple[Row, ...]:
    ok, failed = {**kind, "hw.state": "ok"}, {**kind, "hw.state": "failed"}
    healthy, broken = f"Whether {what} is healthy: 1 or 0.", f"Whether {what} has failed: 1 or 0."
    return (
        Row(scope, name, "hw.status", healthy, read, "faithful", ok, integer=True),
        Row(scope, "", "hw.status", broken, read_failed(read), "faithful", failed, integer=True),
    )


def _die(name: str, otel: str, text: str, attributes: Mapping[str, str] | None = None, source: str = "") -> Row:
    prometheus = f"supernode_die_{name}"
    return Row(Scope.DIE, prometheus, otel, text, read_dies(source or name), attributes=attributes or {})


_DIE_ROWS: Final = (
    Row(
        Scope.DIE,
        "supernode_die_utilisation_ratio",
        "hw.gpu.utilization",
        "Busy share of the die's cores.",
        read_dies("utilisation"),
        attributes={"hw.gpu.task": "general"},
    ),
    Row(
        Scope.DIE,
        "supernode_die_cube_utilisation_ratio",
        "supernode.die.cube.utilization",
        "Share of the cube units' peak in use.",
        read_dies("cube_utilisation"),
    ),
    Row(
        Scope.DIE,
        "supernode_die_vector_utilisation_ratio",
        "supernode.die.vector.utilization",
        "Busy share of the vector units.",
        read_dies("vector_utilisation"),
    ),
    Row(
        Scope.DIE,
        "supernode_die_hbm_used_bytes",
        "hw.gpu.memory.usage",
        "HBM in use.",
        read_dies("hbm_used_bytes"),
        integer=True,
    ),
    Row(
        Scope.DIE,
        "supernode_die_hbm_capacity_bytes",
        "hw.gpu.memory.limit",
        "HBM that the die has.",
        read_dies("hbm_total_bytes"),
        "faithful",
        integer=True,
    ),
    Row(Scope.DIE, "", "hw.gpu.memory.utilization", "Share of the die's HBM in use.", read_hbm_share),
    Row(
        Scope.DIE,
        "supernode_die_hbm_bandwidth_utilisation_ratio",
        "supernode.die.hbm.bandwidth.utilization",
        "Share of the HBM bandwidth in use.",
        read_dies("hbm_bandwidth_utilisation"),
    ),
    _die("power_watts", "hw.power", "Power of the die: its share of the package's.", _GPU),
    _die("temperature_celsius", "hw.temperature", "Temperature of the die: the steady state of its power."),
    _die("tokens_per_second", "supernode.die.token.rate", "Tokens per second of the die; sums to its workload's rate."),
    *_status_rows(Scope.DIE, "supernode_die_healthy", "the die", read_dies("healthy"), _GPU),
    Row(
        Scope.HOLDER,
        "supernode_die_holder_info",
        "supernode.die.holder",
        "Container that holds the die; absent when none does.",
        one_for_each_holder,
        "faithful",
        integer=True,
    ),
)
_TRAFFIC: Final = ("port_tx_bytes_per_second", "port_rx_bytes_per_second")
_UPLINK: Final = ("uplink_tx_bytes_per_second", "uplink_rx_bytes_per_second")
_FABRIC_ROWS: Final = (
    *_port_rows(Scope.DIE_PORT, "supernode_die_port", "the die's port on the plane", read_dies, "port_up", *_TRAFFIC),
    *_load_rows(Scope.DIE_PORT, read_dies, *_TRAFFIC),
    *_status_rows(Scope.L1_CHIP, "supernode_l1_chip_healthy", "the L1 chip", read_l1("l1_up"), _NETWORK),
    Row(
        Scope.L1_CHIP,
        "supernode_l1_chip_power_watts",
        "hw.power",
        "Power of the L1 chip.",
        read_l1("l1_power_watts"),
        attributes=_NETWORK,
    ),
    *_port_rows(Scope.UPLINK, "supernode_uplink", "the L1 chip's uplink", read_l1, "uplink_up", *_UPLINK),
    *_load_rows(Scope.UPLINK, read_l1, *_UPLINK),
    *_status_rows(Scope.L2_CHIP, "supernode_l2_chip_healthy", "the L2 chip", read_l2("l2_up"), _NETWORK),
    Row(
        Scope.L2_CHIP,
        "supernode_l2_chip_power_watts",
        "hw.power",
        "Power of the L2 chip.",
        read_l2("l2_power_watts"),
        attributes=_NETWORK,
    ),
    Row(
        Scope.L2_CHIP,
        "supernode_l2_chip_transmit_bytes_per_second",
        "supernode.l2_chip.io",
        "Payload that all ports of the L2 chip send.",
        read_l2("l2_tx_bytes_per_second"),
        attributes=_TX,
    ),
    Row(
        Scope.L2_CHIP,
        "supernode_l2_chip_receive_bytes_per_second",
        "supernode.l2_chip.io",
        "Payload that all ports of the L2 chip receive.",
        read_l2("l2_rx_bytes_per_second"),
        attributes=_RX,
    ),
    # The two ends of a cable see the same traffic the other way round.
    *_port_rows(Scope.L2_PORT, "supernode_l2_port", "the L2 chip's port", read_l2_ports, "uplink_up", *_UPLINK[::-1]),
    *MODULE_ROWS,
)


def _server(name: str, otel: str, text: str, read: Read, *, integer: bool = False) -> Row:
    return Row(Scope.SERVER, f"supernode_server_{name}", f"supernode.server.{otel}", text, read, integer=integer)


_SERVER_ROWS: Final = (
    _server("utilisation_ratio", "utilization", "Mean busy share of its dies.", read_servers("utilisation", np.mean)),
    _server(
        "hbm_used_bytes", "hbm.usage", "HBM in use on its dies.", read_servers("hbm_used_bytes", np.sum), integer=True
    ),
    _server(
        "hbm_capacity_bytes", "hbm.limit", "HBM of its dies.", read_servers("hbm_total_bytes", np.sum), integer=True
    ),
    _server("die_power_watts", "die.power", "Power of its dies, without hosts.", read_servers("power_watts", np.sum)),
    _server("temperature_celsius", "temperature", "Hottest of its dies.", read_servers("temperature_celsius", np.max)),
    _server("tokens_per_second", "token.rate", "Tokens per second.", read_servers("tokens_per_second", np.sum)),
    _server("healthy_dies", "healthy_dies", "Dies that are healthy.", read_servers("healthy", np.sum), integer=True),
    _server("up_links", "up_links", "Die ports that work.", read_servers("port_up", np.sum), integer=True),
    _server(
        "transmit_bytes_per_second",
        "transmit.rate",
        "Payload that its dies' ports send.",
        read_servers("port_tx_bytes_per_second", np.sum),
    ),
    _server(
        "receive_bytes_per_second",
        "receive.rate",
        "Payload that its dies' ports receive.",
        read_servers("port_rx_bytes_per_second", np.sum),
    ),
)


def _workload(name: str, otel: str, text: str, read: Read, *, integer: bool = False) -> Row:
    return Row(Scope.WORKLOAD, f"supernode_workload_{name}", f"supernode.workload.{otel}", text, read, integer=integer)


def _machine(name: str, otel: str, text: str, read: Read) -> Row:
    return Row(Scope.MACHINE, f"supernode_machine_{name}", f"supernode.machine.{otel}", text, read)


_TOTAL_ROWS: Final = (
    _workload("tokens_per_second", "token.rate", "Tokens per second.", read_performance("tokensPerSecond")),
    _workload(
        "tokens_per_second_per_card",
        "token.rate_per_card",
        "Tokens per second for each package in use.",
        read_performance("tokensPerSecondPerCard"),
    ),
    _workload("mfu_ratio", "mfu", "Model FLOPs utilisation, without recompute.", read_performance("mfu")),
    _workload(
        "step_time_seconds",
        "step.duration",
        "Time of one optimizer or decode step; 0 while it does not run.",
        read_performance("stepTimeSeconds"),
    ),
    _workload(
        "prompt_tokens_per_second",
        "prompt_token.rate",
        "Prompt tokens per second; 0 for training.",
        read_performance("promptTokensPerSecond"),
    ),
    _workload(
        "time_to_first_token_seconds",
        "time_to_first_token",
        "Time to the first token of a prompt that waits for no other; 0 for training.",
        read_performance("ttftSeconds"),
    ),
    _workload(
        "time_per_output_token_seconds",
        "time_per_output_token",
        "Time for each token after the first; 0 for training.",
        read_performance("tpotSeconds"),
    ),
    _workload("dies", "dies", "Dies in use.", read_workloads(lambda r: r.dies), integer=True),
    _workload(
        "hbm_bytes_per_die",
        "hbm.usage",
        "HBM in use on its fullest die.",
        read_performance("hbmGibibytesPerDie", 2.0**30),
    ),
    _workload(
        "link_utilisation_ratio",
        "link.utilization",
        "Mean use of its die ports.",
        read_performance("linkUtilisationPercent", 0.01),
    ),
    _workload("power_watts", "power", "Power of the dies in use.", read_performance("powerKilowatts", 1e3)),
    _machine("tokens_per_second", "token.rate", "Tokens per second of all workloads.", read_machine("tokensPerSecond")),
    _machine(
        "power_watts",
        "power",
        "Power with hosts, switches, optics and fans.",
        read_machine("powerKilowatts", 1e3),
    ),
    _machine(
        "bus_bandwidth_bytes_per_second",
        "bus.bandwidth",
        "Bandwidth of all die ports that work, one way.",
        read_machine("busBandwidthTerabytesPerSecond", 1e12),
    ),
    Row(
        Scope.MODEL,
        "supernode_model_info",
        "supernode.model.info",
        "Inputs (digest) and version of the model that all figures come from.",
        one,
        "faithful",
        integer=True,
    ),
)

ROWS: Final = (*_DIE_ROWS, *_FABRIC_ROWS, *_SERVER_ROWS, *_TOTAL_ROWS)

INSTRUMENTS: Final[Mapping[str, Instrument]] = {
    "hw.gpu.utilization": Instrument("Gauge", "1", "Busy share of a die's cores."),
    "hw.gpu.memory.usage": Instrument("UpDownCounter", "By", "HBM in use."),
    "hw.gpu.memory.limit": Instrument("UpDownCounter", "By", "HBM of a die."),
    "hw.gpu.memory.utilization": Instrument("Gauge", "1", "Share of the HBM in use."),
    "hw.power": Instrument("Gauge", "W", "Power of a component."),
    "hw.temperature": Instrument("Gauge", "Cel", "Temperature of a component."),
    "hw.status": Instrument("UpDownCounter", "1", "1 for the state that a component is in, else 0."),
    "hw.network.up": Instrument("UpDownCounter", "1", "Whether a link works: 1 or 0."),
    "hw.network.io": Instrument("Counter", "By", "Payload through a port since the process started."),
    "hw.network.bandwidth.utilization": Instrument("Gauge", "1", "Share of a port's bandwidth in use."),
    "hw.network.bandwidth.limit": Instrument("UpDownCounter", "By/s", "Bandwidth of a port, one way."),
    "supernode.die.cube.utilization": Instrument("Gauge", "1", "Share of the cube units' peak in use."),
    "supernode.die.vector.utilization": Instrument("Gauge", "1", "Busy share of the vector units."),
    "supernode.die.hbm.bandwidth.utilization": Instrument("Gauge", "1", "Share of the HBM bandwidth in use."),
    "supernode.die.token.rate": Instrument("Gauge", "{token}/s", "Tokens per second of a die."),
    "supernode.die.holder": Instrument("Gauge", "1", "1 for the container that holds a die."),
    "supernode.l2_chip.io": Instrument("Counter", "By", "Payload through an L2 chip since the process started."),
    "supernode.optical_module.io": Instrument("Counter", "By", "Payload through the links of an optical module."),
    "supernode.server.utilization": Instrument("Gauge", "1", "Mean busy share of a server's dies."),
    "supernode.server.hbm.usage": Instrument("UpDownCounter", "By", "HBM in use on a server."),
    "supernode.server.hbm.limit": Instrument("UpDownCounter", "By", "HBM of a server."),
    "supernode.server.die.power": Instrument("Gauge", "W", "Power of a server's dies."),
    "supernode.server.temperature": Instrument("Gauge", "Cel", "Temperature of a server's hottest die."),
    "supernode.server.token.rate": Instrument("Gauge", "{token}/s", "Tokens per second of a server."),
    "supernode.server.healthy_dies": Instrument("UpDownCounter", "{die}", "Healthy dies of a server."),
    "supernode.server.up_links": Instrument("UpDownCounter", "{link}", "Die ports of a server that work."),
    "supernode.server.transmit.rate": Instrument("Gauge", "By/s", "Payload that a server's dies send."),
    "supernode.server.receive.rate": Instrument("Gauge", "By/s", "Payload that a server's dies receive."),
    "supernode.workload.token.rate": Instrument("Gauge", "{token}/s", "Tokens per second of a workload."),
    "supernode.workload.token.rate_per_card": Instrument("Gauge", "{token}/s", "The same for each package in use."),
    "supernode.workload.mfu": Instrument("Gauge", "1", "Model FLOPs utilisation of a workload."),
    "supernode.workload.step.duration": Instrument("Gauge", "s", "Time of one optimizer or decode step."),
    "supernode.workload.prompt_token.rate": Instrument("Gauge", "{token}/s", "Prompt tokens per second of a workload."),
    "supernode.workload.time_to_first_token": Instrument("Gauge", "s", "To the first token of a prompt that is alone."),
    "supernode.workload.time_per_output_token": Instrument("Gauge", "s", "For each token after the first."),
    "supernode.workload.dies": Instrument("UpDownCounter", "{die}", "Dies that a workload uses."),
    "supernode.workload.hbm.usage": Instrument("Gauge", "By", "HBM in use on a workload's fullest die."),
    "supernode.workload.link.utilization": Instrument("Gauge", "1", "Mean use of a workload's die ports."),
    "supernode.workload.power": Instrument("Gauge", "W", "Power of a workload's dies."),
    "supernode.machine.token.rate": Instrument("Gauge", "{token}/s", "Tokens per second of the machine."),
    "supernode.machine.power": Instrument("Gauge", "W", "Power of the machine."),
    "supernode.machine.bus.bandwidth": Instrument("Gauge", "By/s", "Bus bandwidth of the machine, one way."),
    **{row.otel: Instrument("Histogram", "s", row.help) for row in HISTOGRAMS},
    "supernode.model.info": Instrument("Gauge", "1", "1; digest and version of the model as attributes."),
}


def rows_of(detail: Detail) -> tuple[Row, ...]:
    """Return the rows that a level of detail leaves over."""
    return tuple(row for row in ROWS if row.scope in SCOPES_OF_DETAIL[detail])
