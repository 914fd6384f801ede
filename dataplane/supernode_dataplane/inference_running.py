"""One inference deployment that runs: its pace on the links it has, and what every die of it does.

An instance with a broken die stops; the others serve what they can: with a fixed batch so much less, with a fixed
concurrency so many more sequences each, as far as their caches hold them. At a fixed plan no straggler is dropped:
links of a lost instance still count in the pace. Disaggregated, the slowest of prefill, decode and the caches on their
way between both sets the rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.communication import LinkView
from supernode_dataplane.deployment_plan import Deployment, Role
from supernode_dataplane.fabric import Fabric, servers_short
from supernode_dataplane.incast import show_hottest, uplink_room
from supernode_dataplane.job_links import JobLinks, job_links
from supernode_dataplane.placing import Placed, names
from supernode_dataplane.pool_links import PoolLinks, pool_links
from supernode_dataplane.pool_parts import PoolPart, pool_parts
from supernode_dataplane.pool_rates import PoolRates, Rates, deployment_rates
from supernode_dataplane.pool_traffic import Ways, add_pairs, add_split, add_spread
from supernode_dataplane.profile import Profile
from supernode_dataplane.runs import DieLoads, Run, Stall, place_of, stall_of_links

__all__ = ["InferenceRun", "PlacedPools", "placed_pools", "run_deployment"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRun(Run):
    """A deployment on its dies; ``rates`` is None when nothing moves."""

    deployment: Deployment
    rates: Rates | None
    linked: Deployment | None
    """Its whole instances, on the hardware that their links and packing leave; None when nothing moves."""


@dataclass(frozen=True, slots=True, eq=False)
class _Solution:
    """All that follows from a deployment, its dies, the links that they hold and which of them work."""

    parts: tuple[PoolPart, ...]
    moves: bool
    rates: Rates | None
    working: BoolArray
    ports: tuple[FloatArray, FloatArray]
    """Sent and received, as in :class:`Run`; so are the next."""
    uplinks: tuple[FloatArray, FloatArray]
    loads: DieLoads | None
    linked: Deployment | None = None


def run_deployment(fabric: Fabric, placed: Placed, deployment: Deployment, free: FloatArray | None) -> InferenceRun:
    """Return the pace of a placed deployment; ``free`` (servers, planes) is the uplinks' share that others leave."""
    up = fabric.ports[placed.dies] & placed.links
    links = job_links(fabric, placed.dies, up, free)
    solution = _solve(deployment, links, fabric.healthy[placed.dies].tobytes())
    return InferenceRun(
        tokens_per_second=0.0 if solution.rates is None else solution.rates.tokens_per_second,
        pace_seconds=float("inf") if solution.rates is None else solution.rates.step_seconds,
        working=solution.working,
        port_tx_bytes_per_second=solution.ports[0],
        port_rx_bytes_per_second=solution.ports[1],
        uplink_tx_bytes_per_second=solution.uplinks[0],
        uplink_rx_bytes_per_second=solution.uplinks[1],
        loads=solution.loads,
        stall=_stall(fabric, placed, up, solution),
        notes=_notes(fabric, placed, up, solution),
        deployment=deployment,
        rates=solution.rates,
        linked=solution.linked,
    )


@dataclass(frozen=True, slots=True, eq=False)
class PlacedPools:
    """A deployment's pools on the dies and links that they have, whatever they serve."""

    profile: Profile
    dies: IntArray
    parts: tuple[PoolPart, ...]
    between: PoolLinks | None
    """Of all dies, where one pool hands caches to the other."""
    linked: Deployment
    """On the hardware that its links and its packing leave, lost instances counted in."""
    room: FloatArray
    """What its dies may send over the uplinks, bytes per second, (servers, planes)."""

    @property
    def moves(self) -> bool:
        """Whether every pair that must talk has a plane."""
        between = self.between
        return all(part.moves for part in self.parts) and (
            between is None or min(between.node_share, between.pod_share) > 0
        )

    @property
    def instances(self) -> dict[Role, int]:
        """Whole instances of each pool."""
        return {part.found.role: int(np.count_nonzero(part.whole)) for part in self.parts}

    @property
    def runs(self) -> bool:
        """Whether anything can be served at all."""
        return self.moves and all(self.instances.values())

    def port_bytes(self, pools: Mapping[Role, PoolRates]) -> tuple[FloatArray, FloatArray]:
        """Return what the ports of each die send and receive, (dies of the deployment, planes), at these rates."""
        return _readings(self, pools).ports


def placed_pools(fabric: Fabric, placed: Placed, deployment: Deployment, free: FloatArray | None) -> PlacedPools:
    """Return a deployment on its dies; ``free`` as in :func:`run_deployment`."""
    links = job_links(fabric, placed.dies, fabric.ports[placed.dies] & placed.links, free)
    return _placed_pools(deployment, links.view(), placed.dies, fabric.healthy[placed.dies])


def _placed_pools(deployment: Deployment, view: LinkView, dies: IntArray, works: BoolArray) -> PlacedPools:
    parts = pool_parts(view, dies, works, deployment)
    between = pool_links(view, dies[None, :]) if len(parts) > 1 else None
    room = uplink_room(view.profile, dies, view.share)
    return PlacedPools(view.profile, dies, parts, between, _linked(deployment, parts, between), room)


@lru_cache(maxsize=64)
def _solve(deployment: Deployment, links: JobLinks, healthy: bytes) -> _Solution:
    """Solve one deployment; places, faults and neighbours change seldom, so the last ones are kept."""
    dies, works = np.frombuffer(links.dies, dtype=np.int64), np.frombuffer(healthy, dtype=np.bool_)
    found = _placed_pools(deployment, links.view(), dies, works)
    if not found.runs:
        return _readings(found, None)
    counts, linked = found.instances, found.linked
    rates = deployment_rates(linked, counts.get("prefill", 0), counts.get("decode", 0))
    pools = {pool.role: replace(pool, instances=counts[pool.role]) for pool in linked.pools}
    whole = replace(linked, prefill=pools.get("prefill"), decode=pools.get("decode"))
    return replace(_readings(found, rates.pools), rates=rates, linked=whole)


def _linked(deployment: Deployment, parts: tuple[PoolPart, ...], between: PoolLinks | None) -> Deployment:
    """Return the deployment with the hardware that its worst links and its packing leave."""
    pools = {}
    for part in parts:
        every = [*part.links, *([] if between is None else [between])]
        worst = replace(
            part.groups,
            node_share=min(links.node_share for links in every),
            pod_share=min(links.pod_share for links in every),
            dies_per_server=min(links.dies_per_server for links in (part.groups, part.tensor)),
            dies_per_card=min(links.dies_per_card for links in (part.groups, part.tensor)),
        )
        pool = replace(part.found.pool, hardware=worst.apply(part.found.pool.hardware))
        pools[part.found.role] = replace(part.found, pool=pool)
    return replace(deployment, prefill=pools.get("prefill"), decode=pools.get("decode"))


def _readings(found: PlacedPools, pools: Mapping[Role, PoolRates] | None) -> _Solution:
    """Return what each die and port reads; ``pools`` is None while nothing moves."""
    profile, job, parts = found.profile, found.dies, found.parts
    local, remote = np.zeros((job.size, profile.planes)), np.zeros((job.size, profile.planes))
    working = np.zeros(job.size, dtype=np.bool_)
    columns = np.zeros((5, job.size))
    for part in parts:
        if pools is None:
            break
        rates = pools[part.found.role]
        scale = part.working[:, None].astype(np.float64)
        exchanged, reduced = (sum(getattr(w, name) for w in rates.work) for name in ("exchanged", "reduced"))
        local[part.at] = exchanged * part.groups.local * scale
        remote[part.at] = exchanged * part.groups.remote * scale
        with_attention = part.at.start + np.flatnonzero(part.attention)
        local[with_attention] += reduced * part.tensor.local * scale[part.attention]
        remote[with_attention] += reduced * part.tensor.remote * scale[part.attention]
        working[part.at] = part.working
        for side, places in ((rates, part.attention), (rates.experts, ~part.attention)):
            if side is not None:
                columns[:, part.at.start + np.flatnonzero(places)] = _loads(profile, side)
    near = (np.zeros_like(local), np.zeros_like(local))
    away = (np.zeros_like(local), np.zeros_like(local))
    if pools is not None:
        _add_traffic(found, pools, near, away)
    ports = (local + remote + near[0] + away[0], local + remote + near[1] + away[1])
    uplinks = (np.zeros((profile.servers, profile.planes)), np.zeros((profile.servers, profile.planes)))
    for beyond, far in zip(uplinks, away, strict=True):
        np.add.at(beyond, job // profile.dies_per_server, remote + far)
    if pools is not None:
        _show_hottest(found, pools, ports, uplinks)
    return _Solution(
        parts=parts,
        moves=found.moves,
        rates=None,
        working=working,
        ports=ports,
        uplinks=uplinks,
        loads=None if pools is None else DieLoads(*columns),
    )


def _show_hottest(
    found: PlacedPools,
    pools: Mapping[Role, PoolRates],
    ports: tuple[FloatArray, FloatArray],
    uplinks: tuple[FloatArray, FloatArray],
) -> None:
    """Move the traffic of each pool, in place, to what it is with its hottest experts on one rank of an instance."""
    for part in found.parts:
        if part.incast is None:
            continue
        exchanged = float(sum(work.exchanged for work in pools[part.found.role].work))
        show_hottest(
            part.incast,
            part.found.pool,
            found.room,
            exchanged=exchanged * part.working[:, None].astype(np.float64),
            loads=(part.groups.local + part.groups.remote, part.groups.remote),
            at=part.at,
            servers=part.dies // found.profile.dies_per_server,
            ports=ports,
            uplinks=uplinks,
        )


def _loads(profile: Profile, rates: PoolRates) -> FloatArray:
    """Return the rows of :class:`DieLoads` for a die, shape (5, 1)."""
    shares = [min(1.0, sum(getattr(work, name) for work in rates.work)) for name in ("busy", "cube", "vector", "hbm")]
    return np.array([*shares, max(profile.hbm_idle_bytes, rates.used_bytes)])[:, None]


def _add_traffic(found: PlacedPools, pools: Mapping[Role, PoolRates], near: Ways, away: Ways) -> None:
    """Add what is no even exchange of equal dies: rings, stages, experts apart, and caches on their way."""
    for part in found.parts:
        sums = {
            name: float(sum(getattr(work, name) for work in pools[part.found.role].work))
            for name in ("ringed", "piped", "dispatched", "combined")
        }
        for pairs, name in ((part.ring, "ringed"), (part.stages, "piped")):
            if pairs is not None:
                add_pairs(pairs, sums[name], part.working, at=part.at, near=near, away=away)
        if part.found.pool.split is not None and part.whole.all():
            out, back = sums["dispatched"], sums["combined"]
            add_split(
                found.profile,
                part.groups,
                part.dies,
                part.attention,
                out=out,
                back=back,
                at=part.at,
                near=near,
                away=away,
            )
    if found.between is None:
        return
    prefill, decode = found.parts
    # Each die of the prefill pool sends evenly to all of the decode pool that keep caches.
    for mine, other, name, way in ((prefill, decode, "sent", 0), (decode, prefill, "received", 1)):
        each = getattr(pools[mine.found.role], f"{name}_bytes_per_second") * (mine.working & mine.attention)
        partners = other.dies[other.working & other.attention]
        add_spread(
            found.profile, found.between, mine.dies, partners, each=each, at=mine.at, way=way, near=near, away=away
        )


def _stall(fabric: Fabric, placed: Placed, up: BoolArray, solution: _Solution) -> Stall | None:
    for part in solution.parts:
        if not part.whole.any():
            broken = part.dies[~fabric.healthy[part.dies]]
            return Stall(
                "DiesFaulty",
                f"{broken.size} dies of its {part.found.role} pool are broken, so that none of {part.whole.size} "
                f"instances is whole; the first is {place_of(fabric.profile, int(broken[0]))}",
            )
    return None if solution.moves else stall_of_links(fabric, placed, up)


def _notes(fabric: Fabric, placed: Placed, up: BoolArray, solution: _Solution) -> tuple[str, ...]:
    notes = []
    for part in solution.parts:
        role, groups, tensor = part.found.role, part.groups, part.tensor
        if tensor.scattered or groups.scattered:
            kind, count = ("tensor", tensor.scattered) if tensor.scattered else ("expert", groups.scattered)
            notes.append(
                f"{count} {kind} groups of its {role} pool are on more servers than they need: lower bandwidth and "
                "higher latency than inside a server; place each on as few as can be"
            )
        lost = part.whole.size - int(np.count_nonzero(part.whole))
        if lost:
            notes.append(f"{lost} of {part.whole.size} instances of its {role} pool have a broken die and are lost")
    held = int(np.count_nonzero(placed.links))
    if held < placed.links.size:
        notes.append(f"its containers hold {held} of the {placed.links.size} bus links of its dies")
    broken = held - int(np.count_nonzero(up))
    if broken:
        notes.append(f"{broken} of its bus links are broken; the slowest pair of dies sets the pace")
    if hurt := servers_short(fabric, placed.dies):
        notes.append(f"uplinks are broken on servers {names(hurt)}: less bandwidth between servers")
    if solution.rates is not None and solution.rates.refused > 0:
        notes.append(
            f"caches hold {1 - solution.rates.refused:.0%} of the sequences that are asked for; the others wait"
        )
    return tuple(notes)
