"""The links that a job has, as the few bytes that decide them: equal ones have equal costs, and costs are kept by them.

What a job gets between its servers depends on the uplinks of these alone, and on what others leave of them. Faults
elsewhere change nothing here, and the shares of all pairs are computed only where a cost is not known yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.communication import LinkView
from supernode_dataplane.fabric import Fabric, plane_share
from supernode_dataplane.link_costs import Groups, LinkCosts, link_costs
from supernode_dataplane.profile import Profile

__all__ = ["JobLinks", "costs_of_job", "job_links"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class JobLinks:
    """What a job's links depend on, arrays as bytes; its servers go by number, whatever the order of its dies."""

    profile: Profile
    dies: bytes
    """Die numbers, in the order of the job."""
    ports: bytes | None
    """Planes that each die holds and that work, (dies of the job, planes); None: all of them."""
    uplinks: bytes | None
    """Uplinks that work, (servers of the job, planes, ports); None: all of them."""
    free: bytes | None
    """Share of the uplinks that others leave, (servers of the job, planes); None: all of it."""

    def apart(self) -> JobLinks:
        """Return the same on the first servers of the machine: what an exchange costs does not depend on which."""
        return replace(self, dies=_on_first_servers(self.dies, self.profile.dies_per_server))

    def view(self) -> LinkView:
        """Return them as arrays over the machine; what says nothing of this job's dies and servers is filled up."""
        profile, dies = self.profile, np.frombuffer(self.dies, dtype=np.int64)
        ports: FloatArray | None = None
        if self.ports is not None:
            ports = np.zeros((profile.dies, profile.planes))
            ports[dies] = np.frombuffer(self.ports, dtype=np.bool_).reshape(-1, profile.planes)
        return LinkView(profile, ports, self._share(dies) if profile.has_bus_between_servers else None)

    def _share(self, dies: IntArray) -> FloatArray | None:
        profile = self.profile
        active = np.bincount(dies // profile.dies_per_server, minlength=profile.servers)
        servers = np.flatnonzero(active)
        shape = (servers.size, profile.planes)
        found = plane_share(
            profile,
            active[servers].astype(np.float64),
            None if self.uplinks is None else np.frombuffer(self.uplinks, dtype=np.bool_).reshape(*shape, -1),
            None if self.free is None else np.frombuffer(self.free).reshape(shape),
        )
        if found is None:
            return None
        share = np.ones((profile.servers, profile.servers, profile.planes))
        share[np.ix_(servers, servers)] = found
        return share


def job_links(fabric: Fabric, dies: IntArray, up: BoolArray, free: FloatArray | None) -> JobLinks:
    """Return the links of a job on these dies, of which ``up`` (dies of the job, planes) are held and work.

    ``free`` (servers, planes) is the share of the machine's uplinks that other workloads leave, None for all.
    """
    profile = fabric.profile
    uplinks: BoolArray | None = None
    if profile.has_bus_between_servers and (fabric.uplinks_broken or free is not None):
        servers = np.flatnonzero(np.bincount(dies // profile.dies_per_server, minlength=profile.servers))
        uplinks = fabric.uplinks[servers] if fabric.uplinks_broken else None
        free = None if free is None else free[servers]
    return JobLinks(
        profile=profile,
        dies=dies.tobytes(),
        ports=None if up.all() else up.tobytes(),
        uplinks=None if uplinks is None or uplinks.all() else uplinks.tobytes(),
        free=None if free is None else free.tobytes(),
    )


def costs_of_job(links: JobLinks, shape: tuple[int, int, int], groups: Groups) -> LinkCosts:
    """Return the costs of the patterns of a job whose dies make a grid of this shape in their order.

    Places and faults change seldom, so the last ones are kept: a change of one workload computes that one anew, and
    workloads that are alike in all but their servers once together.
    """
    return _costs(links.apart(), shape, groups)


@lru_cache(maxsize=128)
def _on_first_servers(job: bytes, per_server: int) -> bytes:
    dies = np.frombuffer(job, dtype=np.int64)
    place = np.cumsum(np.bincount(dies // per_server) > 0, dtype=np.int64) - 1
    return (place[dies // per_server] * per_server + dies % per_server).tobytes()


@lru_cache(maxsize=32)
def _costs(links: JobLinks, shape: tuple[int, int, int], groups: Groups) -> LinkCosts:
    return link_costs(links.view(), np.frombuffer(links.dies, dtype=np.int64).reshape(shape), groups)
