"""Which devices a container should get (GetPreferredAllocation): one rule for dies and links.

Dies. One server, if one has enough: the one with the fewest free dies that suffice (whole servers stay whole), then
with the fewest links missing, then the first. Otherwise as few servers as possible. Within a server whole packages
(dies 2k and 2k+1), single dies of broken-up packages before breaking another.

Links. The kubelet asks for each resource of a container by itself, in no certain order, and does not say for which
container. So the two calls find each other through what was allocated last: dies allocated without links are where
the next links belong, and links allocated without dies are where the next dies belong (both called *open*; module
``grants``). With nothing open, links go to the free dies that the die rule would pick next, as many as the links would
fill. Links of dies that others hold come last, when nothing else is left: the kubelet would take them at random.
Among the dies chosen the links are spread evenly, the same planes on each.

Every function returns distinct devices out of ``available`` and ``must``, in the order of preference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from itertools import groupby

from supernode_deviceplugin.domain.devices import Device

__all__ = ["prefer_dies", "prefer_links"]

Die = tuple[int, int]


def prefer_dies(
    available: Iterable[Device],
    must: Collection[Device],
    size: int,
    *,
    open_dies: Set[Die] = frozenset(),
    missing_links: Mapping[int, int] | None = None,
) -> list[Device]:
    """Choose ``size`` dies; ``open_dies`` are those whose links the same container seems to have got already.

    ``missing_links`` counts, for each server, links of free dies that are broken or held. With fewer dies than
    ``size`` all are returned.
    """
    size = max(size, 0)
    chosen = sorted(set(must))[:size]
    free = _by_server(set(available).difference(chosen))
    anchors = {s: [d for d in dies if d.die in open_dies] for s, dies in free.items()}
    if any(anchors.values()) and _worth_following(free, anchors, size - len(chosen)):
        for server, dies in sorted(anchors.items()):
            _take(free, server, _packages(dies, size - len(chosen), chosen), chosen)
    missing = missing_links or {}
    while free and len(chosen) < size:
        wanted = size - len(chosen)
        server = _next_server(free, wanted, {d.server for d in chosen}, missing)
        _take(free, server, _packages(free[server], wanted, chosen), chosen)
    return chosen


def prefer_links(
    available: Iterable[Device],
    must: Collection[Device],
    size: int,
    *,
    planes: int,
    free_dies: Collection[Device],
    open_dies: Set[Die] = frozenset(),
    missing_links: Mapping[int, int] | None = None,
) -> list[Device]:
    """Choose ``size`` links; a die has ``planes`` of them, and ``free_dies`` are the healthy dies that nobody holds."""
    size = max(size, 0)
    chosen = sorted(set(must))[:size]
    included = set(chosen)
    links: dict[Die, list[Device]] = {}
    for link in available:  # thousands: what only some need is done when they are taken
        links.setdefault(link[:2], []).append(link)

    def take(dies: Iterable[Die]) -> None:
        if len(chosen) < size:
            spread = _spread([sorted(set(links.pop(die)) - included) for die in dies if die in links])
            chosen.extend(spread[: size - len(chosen)])

    take({link.die: None for link in chosen})
    take(sorted(open_dies))
    if len(chosen) < size:
        candidates = [die for die in free_dies if die.die in links]
        wanted = -(-(size - len(chosen)) // planes)
        take(die.die for die in prefer_dies(candidates, (), wanted, missing_links=missing_links))
    if len(chosen) < size:
        take(sorted(die.die for die in free_dies))
        take(sorted(links))
    return chosen


def _worth_following(free: Mapping[int, list[Device]], anchors: Mapping[int, list[Device]], wanted: int) -> bool:
    """Open links are followed unless only another server could hold all the dies that are wanted."""
    here = sum(len(free[server]) for server, dies in anchors.items() if dies)
    return here >= wanted or all(len(dies) < wanted for dies in free.values())


def _next_server(free: Mapping[int, list[Device]], wanted: int, involved: Set[int], missing: Mapping[int, int]) -> int:
    """Pick the server to take from: one in use before others, one that suffices before the fullest."""
    pool = [s for s in free if s in involved] or list(free)
    enough = [s for s in pool if len(free[s]) >= wanted]
    if enough:
        return min(enough, key=lambda s: (len(free[s]), missing.get(s, 0), s))
    return min(pool, key=lambda s: (-len(free[s]), missing.get(s, 0), s))


def _packages(dies: Iterable[Device], count: int, chosen: Iterable[Device]) -> list[Device]:
    """Choose up to ``count`` dies of one server: partners of chosen ones, whole packages, singles, a broken package."""
    started = {(d.server, d.phy // 2) for d in chosen}
    partners: list[Device] = []
    pairs: list[list[Device]] = []
    singles: list[Device] = []
    for package, members in groupby(sorted(dies), key=lambda d: (d.server, d.phy // 2)):
        group = list(members)
        if len(group) == 2:
            pairs.append(group)
        else:
            (partners if package in started else singles).extend(group)
    picked = partners[:count]
    whole = min(len(pairs), (count - len(picked)) // 2)
    picked += [die for pair in pairs[:whole] for die in pair]
    picked += singles[: count - len(picked)]
    return picked + [die for pair in pairs[whole:] for die in pair][: count - len(picked)]


def _take(free: dict[int, list[Device]], server: int, picked: list[Device], chosen: list[Device]) -> None:
    chosen.extend(picked)
    rest = [die for die in free[server] if die not in set(picked)]
    if rest:
        free[server] = rest
    else:
        del free[server]


def _by_server(devices: Iterable[Device]) -> dict[int, list[Device]]:
    return {server: list(group) for server, group in groupby(sorted(devices), key=lambda d: d.server)}


def _spread(links_of_dies: list[list[Device]]) -> list[Device]:
    """Deal the links out, one plane after the other over all dies."""
    ranked = [(rank, order, link) for order, links in enumerate(links_of_dies) for rank, link in enumerate(links)]
    return [link for _, _, link in sorted(ranked)]
