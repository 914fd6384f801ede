"""Which devices are unhealthy: faults in force, and servers that are being handed over.

A broken die takes its links with it; a broken die port is that link; a broken L1 chip is the links of its plane on the
whole server. An uplink lies behind the L1 chip and makes no device unhealthy: it costs bandwidth. Levels that
MindCluster leaves schedulable (NotHandle, SubHealth, RestartRequest) change nothing here.
"""

from __future__ import annotations

from supernode_deviceplugin.domain.devices import Server

__all__ = ["unhealthy_dies", "unhealthy_links"]


def unhealthy_dies(server: Server) -> frozenset[int]:
    """PhyIDs of the unhealthy dies; all of them while the server is being deleted."""
    if server.deleting:
        return frozenset(range(server.dies))
    return frozenset(f.die for f in server.faults if f.die is not None and f.level.is_unhealthy)


def unhealthy_links(server: Server) -> frozenset[tuple[int, int]]:
    """(phyID, plane) of the unhealthy links."""
    links = {(die, plane) for die in unhealthy_dies(server) for plane in range(server.planes)}
    for fault in server.faults:
        if not fault.level.is_unhealthy:
            continue
        if fault.port is not None:
            links.add(fault.port)
        elif fault.l1 is not None:
            links.update((die, fault.l1) for die in range(server.dies))
    return frozenset(links)
