"""The rows of the catalogue about optical modules at L2 chips: how they are, and what their links carry.

A module carries several links (two on a CloudMatrix 384, see :mod:`supernode_dataplane.optics`). Its traffic has a name
of its own and is not ``hw.network.io``: the ports behind it count the same bytes, and a sum over a chip's points would
have them twice. How full it is and how it is do have names in the conventions.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from supernode_cabinet.metric import Read, Row, Scope
from supernode_cabinet.values import read_failed, read_module_links, read_modules, read_share_of_module

__all__ = ["MODULE_ROWS"]

_SENT: Final = read_module_links("uplink_rx_bytes_per_second", np.sum)
"""What an L2 chip sends is what the L1 chip at the other end receives."""
_GOT: Final = read_module_links("uplink_tx_bytes_per_second", np.sum)


def _some(links: Any, axis: int) -> Any:
    return np.any(links, axis=axis) & ~np.all(links, axis=axis)


def _status(name: str, text: str, read: Read, state: str) -> Row:
    attributes = {"hw.type": "network", "hw.state": state}
    return Row(Scope.MODULE, name, "hw.status", text, read, "faithful", attributes, integer=True)


def _rate(way: str, verb: str, doing: str, read: Read) -> tuple[Row, Row]:
    name, text = f"supernode_optical_module_{way}_bytes_per_second", f"Payload that the optical module's links {verb}."
    use = f"Share of the bandwidth of the optical module's links in use, {doing}."
    more = {"network.io.direction": way}
    return (
        Row(Scope.MODULE, name, "supernode.optical_module.io", text, read, attributes=more),
        Row(Scope.MODULE, "", "hw.network.bandwidth.utilization", use, read_share_of_module(read), attributes=more),
    )


MODULE_ROWS: Final = (
    _status(
        "supernode_optical_module_healthy",
        "Whether every link of the optical module works: 1 or 0.",
        read_module_links("uplink_up", np.all),
        "ok",
    ),
    _status(
        "supernode_optical_module_degraded",
        "Whether some links of the optical module work and some do not: 1 or 0.",
        read_module_links("uplink_up", _some),
        "degraded",
    ),
    _status(
        "",
        "Whether no link of the optical module works: it has failed itself, or all that it connects: 1 or 0.",
        read_failed(read_modules("optics_up")),
        "failed",
    ),
    *_rate("transmit", "send", "sending", _SENT),
    *_rate("receive", "receive", "receiving", _GOT),
)
