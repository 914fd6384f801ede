"""The machine that failures leave, as a planner sees it: whole servers, and links at the pace of the worst pair.

A planner compares layouts before anything is placed, so it cannot know which of its groups will meet a weak link. Here
all of them do: servers with a broken die are left out, and every die has the share of its bandwidth that the worst pair
of the others keeps, inside servers and between them. The answer for a placed workload, pair by pair, is
:func:`supernode_dataplane.solve`'s, and never slower than this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from supernode_dataplane.errors import ImpossibleFailureError
from supernode_dataplane.fabric import build_fabric, cpu_share
from supernode_dataplane.job_links import job_links
from supernode_dataplane.machine import ServerInput
from supernode_dataplane.pool_links import pool_links
from supernode_dataplane.profile import Profile

__all__ = ["remaining_machine"]


def remaining_machine(profile: Profile, servers: Sequence[ServerInput]) -> Profile:
    """Return the profile of what is left: so many servers, bandwidths in bytes per second as the worst pair has them.

    Raises ImpossibleFailureError when no server is whole, or two dies of whole servers have no plane in common.
    """
    fabric = build_fabric(profile, servers)
    if not servers and not profile.cpu_bytes_per_second:
        return profile
    whole = np.logical_and.reduce(fabric.healthy.reshape(profile.servers, -1), axis=1)
    if not whole.any():
        raise ImpossibleFailureError("servers", None, "", "no server is left without a broken die: name fewer")
    dies = np.flatnonzero(whole.repeat(profile.dies_per_server)).astype(np.int64)
    links = pool_links(job_links(fabric, dies, fabric.ports[dies], cpu_share(fabric)).view(), dies[None, :])
    node, pod = links.node_share, links.pod_share
    if min(node, pod) <= 0:
        message = "two dies of the servers that are left have no working plane in common: name fewer"
        raise ImpossibleFailureError("planes", None, "", message)
    return replace(
        profile,
        servers=int(np.count_nonzero(whole)),
        port_bytes_per_second=profile.port_bytes_per_second * min(node, pod),
        node_measured_bytes_per_second=profile.node_measured_bytes_per_second * node,
        pod_measured_bytes_per_second=profile.pod_measured_bytes_per_second * pod,
    )
