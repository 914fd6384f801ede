"""What everything is published from: one solved machine with what its users see beside it. Immutable, no clock.

:class:`Snapshot` is the machine at one moment between two changes of its inputs; :class:`Selection` says which
elements of the machine's arrays this pod publishes (see :mod:`supernode_cabinet.shard`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernode_api.detail import Detail
from supernode_cabinet.holders import FaultCodes, Holder
from supernode_cabinet.shard import Shard
from supernode_dataplane.optics import optics_of
from supernode_dataplane.profile import Profile
from supernode_dataplane.state import MachineState

__all__ = ["Selection", "Snapshot", "select"]

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Index arrays into the machine's arrays, for one shard."""

    dies: IntArray
    l1_chips: IntArray
    l2_chips: IntArray
    l2_port_uplinks: IntArray
    """Shape (L2 chips of the shard, ports): flat index of the uplink at the other end of each port."""
    modules: IntArray
    """Shape (L2 chips of the shard, modules of a chip): index into FabricState.optics_up."""
    module_uplinks: IntArray
    """Shape (L2 chips of the shard, modules of a chip, links of a module): flat index of each link's uplink."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One solved machine and what is shown with it."""

    super_node: str
    profile: Profile
    shard: Shard
    state: MachineState
    holders: Mapping[int, Holder] = field(default_factory=dict)
    fault_codes: FaultCodes = field(default_factory=dict)
    workloads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """SuperNodeWorkload objects by namespace/name, for what a workload's own pods ask."""
    detail: Detail = Detail.DEVICE
    interval_seconds: int = 5

    @property
    def selection(self) -> Selection:
        """Return the index arrays of the shard."""
        return select(self.profile, self.shard)


@lru_cache(maxsize=4)
def select(profile: Profile, shard: Shard) -> Selection:
    """Return the index arrays of a shard.

    An L1 chip's uplink p goes to chip p mod (chips of its plane); on that chip the ports are numbered by server.
    """
    servers = np.asarray(shard.servers, dtype=np.int64)
    per_server, planes = profile.dies_per_server, profile.planes
    l1_planes = planes if profile.l1_chips else 0
    chips = np.asarray(shard.l2_chips, dtype=np.int64)
    modules, module_uplinks = _modules(profile, chips)
    return Selection(
        dies=(servers[:, None] * per_server + np.arange(per_server)).ravel(),
        l1_chips=(servers[:, None] * planes + np.arange(l1_planes)).ravel(),
        l2_chips=chips,
        l2_port_uplinks=_l2_port_uplinks(profile, chips),
        modules=modules,
        module_uplinks=module_uplinks,
    )


def _l2_port_uplinks(profile: Profile, chips: IntArray) -> IntArray:
    per_plane = profile.l2_chips_per_plane
    if not per_plane or not len(chips):
        return np.zeros((0, 0), dtype=np.int64)
    parallel = profile.uplinks_per_l1 // per_plane
    plane, of_plane = chips // per_plane, chips % per_plane
    l1 = np.arange(profile.servers) * profile.planes + plane[:, None]
    uplink = of_plane[:, None] + np.arange(parallel)[None, :] * per_plane
    flat = l1[:, :, None] * profile.uplinks_per_l1 + uplink[:, None, :]
    return flat.reshape(len(chips), -1).astype(np.int64)


def _modules(profile: Profile, chips: IntArray) -> tuple[IntArray, IntArray]:
    """Return the optical modules at these L2 chips; a chip has those of every uplink number that is wired to it."""
    optics, per_plane = optics_of(profile), profile.l2_chips_per_plane
    if not optics.links or not len(chips):
        return np.zeros((len(chips), 0), dtype=np.int64), np.zeros((len(chips), 0, 0), dtype=np.int64)
    wired = (chips % per_plane)[:, None] + np.arange(0, profile.uplinks_per_l1, per_plane)
    at = ((chips // per_plane)[:, None], wired)
    # Modules at L1 chips come first; what follows are the ends at L2 chips.
    first = optics.at_l1.size // optics.links
    numbers = first + np.arange(optics.at_l2.size // optics.links).reshape(optics.at_l2.shape[:3])
    return numbers[at].reshape(len(chips), -1), optics.at_l2[at].reshape(len(chips), -1, optics.links)
