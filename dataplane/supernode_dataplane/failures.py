"""Any set of failures of a machine: what is named here becomes what is broken on each server.

Where a thing is, is said by numbers from 0: a die by its server and die, a die port with the plane too, an uplink by
server, plane and port of the L1 chip (port j is wired to L2 chip j of that plane), chips and modules as below. What has
no port of its own on a server takes the ports that it feeds: an L2 chip port j of its plane on every server, a plane
all of its L1 chips, an optical module its uplinks. A server is its dies: what shares no replica or instance with them
goes on, as with any other broken die. Its switch chips are named apart, because whoever needs a pair of dies without a
plane stops.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from supernode_dataplane.errors import ImpossibleFailureError
from supernode_dataplane.machine import ServerInput
from supernode_dataplane.optics import optics_of
from supernode_dataplane.profile import Profile

__all__ = ["Failures", "failed_servers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """What has failed; each entry is a tuple of numbers in the order of its name."""

    servers: tuple[tuple[int], ...] = ()
    planes: tuple[tuple[int], ...] = ()
    dies: tuple[tuple[int, int], ...] = ()
    """server, die."""
    die_ports: tuple[tuple[int, int, int], ...] = ()
    """server, die, plane."""
    uplinks: tuple[tuple[int, int, int], ...] = ()
    """server, plane, port."""
    l1: tuple[tuple[int, int], ...] = ()
    """server, plane."""
    l2: tuple[tuple[int, int], ...] = ()
    """plane, chip."""
    l1_optics: tuple[tuple[int, int, int], ...] = ()
    """server, plane, module of the L1 chip."""
    l2_optics: tuple[tuple[int, int, int], ...] = ()
    """plane, chip, module of the L2 chip."""


_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "servers": ("server",),
    "planes": ("plane",),
    "dies": ("server", "die"),
    "die_ports": ("server", "die", "plane"),
    "uplinks": ("server", "plane", "port"),
    "l1": ("server", "plane"),
    "l2": ("plane", "chip"),
    "l1_optics": ("server", "plane", "module"),
    "l2_optics": ("plane", "chip", "module"),
}
_WORDS: Final = {
    "server": "servers",
    "die": "dies in a server",
    "plane": "planes",
    "port": "uplinks at an L1 chip",
    "chip": "L2 chips in a plane",
}
_SWITCHED: Final = ("planes", "l1", "uplinks", "l2", "l1_optics", "l2_optics")
_CLOS: Final = ("uplinks", "l2", "l1_optics", "l2_optics")


def failed_servers(profile: Profile, failures: Failures) -> tuple[ServerInput, ...]:
    """Return what is broken on each server, by server; those without a failure are left out.

    Raises ImpossibleFailureError for what the machine does not have; its ``kind`` is the field of :class:`Failures`.
    """
    _check(profile, failures)
    broken: dict[int, dict[str, set[tuple[int, ...]]]] = defaultdict(lambda: defaultdict(set))
    for server, part, place in _broken(profile, failures):
        broken[server][part].add(place)
    return tuple(
        ServerInput(
            server=server,
            dies=tuple(sorted(die for (die,) in parts["dies"])),
            ports=tuple(sorted((die, plane) for die, plane in parts["ports"])),
            uplinks=tuple(sorted((plane, port) for plane, port in parts["uplinks"])),
            l1=tuple(sorted(plane for (plane,) in parts["l1"])),
        )
        for server, parts in sorted(broken.items())
    )


def _broken(profile: Profile, failures: Failures) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """Yield server, field of ServerInput and place of all that is broken, some of it more than once."""
    planes, ports = profile.planes, profile.uplinks_per_l1
    for (server,) in failures.servers:
        yield from ((server, "dies", (die,)) for die in range(profile.dies_per_server))
    for (plane,) in failures.planes:
        yield from ((server, "l1", (plane,)) for server in range(profile.servers))
    for plane, chip in failures.l2:
        yield from ((server, "uplinks", (plane, chip)) for server in range(profile.servers))
    yield from ((server, "dies", (die,)) for server, die in failures.dies)
    yield from ((server, "ports", (die, plane)) for server, die, plane in failures.die_ports)
    yield from ((server, "uplinks", (plane, port)) for server, plane, port in failures.uplinks)
    yield from ((server, "l1", (plane,)) for server, plane in failures.l1)
    optics = optics_of(profile)
    for side, places in ((optics.at_l1, failures.l1_optics), (optics.at_l2, failures.l2_optics)):
        for place in places:
            for number in side[place].tolist():
                chip, port = divmod(number, ports)
                yield chip // planes, "uplinks", (chip % planes, port)


def _check(profile: Profile, failures: Failures) -> None:
    optics = optics_of(profile)
    for kind, parts in _PARTS.items():
        places: Sequence[tuple[int, ...]] = getattr(failures, kind)
        if places:
            _has(profile, kind, modules=bool(optics.links))
        for index, place in enumerate(places):
            for part, number in zip(parts, place, strict=True):
                count, words = _count(profile, kind, part)
                if not 0 <= number < count:
                    if count == 1:
                        words = re.sub(r"s\b", "", words, count=1)
                    most = f"0 to {count - 1}" if count > 1 else "0"
                    message = f"{number} is not there: {profile.name} has {count} {words}; give {most}"
                    raise ImpossibleFailureError(kind, index, part, message)


def _has(profile: Profile, kind: str, *, modules: bool) -> None:
    """Raise for a kind of thing that the machine has none of."""
    problem = ""
    if kind in _SWITCHED and not profile.l1_chips:
        problem = f"{profile.name} has no switch chips: its servers are meshed; name dies, diePorts or servers"
    elif kind in _CLOS and not profile.uplinks:
        problem = f"{profile.name} has no L2 chips and no uplinks; name dies, diePorts, l1, planes or servers"
    elif kind in ("l1_optics", "l2_optics") and not modules:
        problem = f"no optical modules of {profile.name} are laid out; name uplinks instead"
    if problem:
        raise ImpossibleFailureError(kind, None, "", problem)


def _count(profile: Profile, kind: str, part: str) -> tuple[int, str]:
    if part == "module":
        side = optics_of(profile).at_l1 if kind == "l1_optics" else optics_of(profile).at_l2
        return int(side.shape[2]), f"modules at an {'L1' if kind == 'l1_optics' else 'L2'} chip"
    counts = {
        "server": profile.servers,
        "die": profile.dies_per_server,
        "plane": profile.planes,
        "port": profile.uplinks_per_l1,
        "chip": profile.l2_chips_per_plane,
    }
    return counts[part], _WORDS[part]
