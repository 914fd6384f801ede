"""A built-in machine with some figures changed: another bin of the chip, a faster network, more memory.

Figures have the names of the profile's file in camelCase, with their units: ``rdmaGigabytesPerSecond: 50``. What a file
does not state can be added: it is unknown of that machine, not impossible.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from typing import Any, Final

from supernode_dataplane.errors import InvalidFigureError, near_names
from supernode_dataplane.profile import Profile, load_profile, profile_figures, profile_names, to_si

__all__ = ["changed_profile", "changes", "figure_names"]

_LARGEST: Final = 1e9
_WORDS: Final = {"intraServer": ("switched", "mesh")}
_BOUNDS: Final = {
    "servers": 1024,
    "diesPerServer": 64,
    "diesPerPackage": 8,
    "planes": 32,
    "computeCabinets": 1024,
    "busCabinets": 1024,
    "uplinksPerL1": 256,
    "l2ChipsPerPlane": 1024,
    "l2PortsPerChip": 1024,
}
"""Largest values of what arrays are made of."""
_MAY_BE_ZERO: Final = frozenset({"cpuGigabytesPerSecond"})
"""What is traffic and no hardware: there may be none."""


@cache
def figure_names() -> tuple[str, ...]:
    """Return the names of all figures that any built-in profile states, sorted."""
    known = {field.name for field in fields(Profile)}
    keys = {key for name in profile_names() for key in profile_figures(name)}
    return tuple(sorted(_camel(key) for key in keys if to_si(key)[0] in known))


def changed_profile(name: str, figures: Mapping[str, Any]) -> Profile:
    """Return a built-in profile with these figures instead of its own.

    Raises ProfileNotFoundError for the name, InvalidFigureError for a figure.
    """
    profile = load_profile(name)
    if not figures:
        return profile
    types = {field.name: field.type for field in fields(Profile)}
    values: dict[str, Any] = {}
    for key, value in figures.items():
        if key not in figure_names():
            lower = {name.lower(): name for name in figure_names()}
            near = ", ".join(lower[name] for name in near_names(str(key), lower))
            raise InvalidFigureError(str(key), f"is no figure of a machine; known, or near: {near}")
        field, factor = to_si(_snake(key))
        values[field] = _value(key, value, types[field] == "int", factor)
    changed = replace(profile, **values)
    changed = replace(changed, **_measured_anew(profile, changed, values))
    _check(changed)
    return changed


def _measured_anew(profile: Profile, changed: Profile, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was measured of links whose rate is another now: as much of it as of the built-in rate."""
    bus = changed.die_bus_bytes_per_second / profile.die_bus_bytes_per_second
    rdma = changed.rdma_bytes_per_second / (profile.rdma_bytes_per_second or 1.0)
    package = changed.sio_bytes_per_second / (profile.sio_bytes_per_second or 1.0)
    ratios = {
        "node_measured_bytes_per_second": bus,
        "pod_measured_bytes_per_second": bus,
        "rdma_measured_bytes_per_second": rdma if profile.rdma_bytes_per_second else 1.0,
        "sio_measured_bytes_per_second": package if profile.sio_bytes_per_second else 1.0,
    }
    return {
        name: getattr(profile, name) * ratio for name, ratio in ratios.items() if name not in given and ratio != 1.0
    }


def changes(profile: Profile) -> dict[str, Any]:
    """Return the fields in which a profile is not the built-in one of its name."""
    if profile is load_profile(profile.name):
        return {}
    own, built_in = asdict(profile), asdict(load_profile(profile.name))
    return {key: value for key, value in own.items() if value != built_in[key]}


def _value(key: str, value: Any, whole: bool, factor: float) -> int | float | str:
    if key in _WORDS:
        if value not in _WORDS[key]:
            raise InvalidFigureError(key, f"must be one of {', '.join(_WORDS[key])}, not {str(value)[:40]}")
        return str(value)
    if isinstance(value, str):
        value = _number(value)  # YAML takes 1e9 and 1.0e9 for text
    number = isinstance(value, int | float) and not isinstance(value, bool)
    most = _BOUNDS.get(key, _LARGEST)
    least = "at least 0" if key in _MAY_BE_ZERO else "above 0"
    enough = number and (value > 0 or (value == 0 and key in _MAY_BE_ZERO))
    if not number or not math.isfinite(value) or not enough or value > most or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise InvalidFigureError(key, f"must be {kind} {least} and at most {most:g}, not {str(value)[:40]}")
    return int(value) if whole else float(value) * factor


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _check(profile: Profile) -> None:
    """Check what figures have to do with one another."""
    if profile.dies_per_server % profile.dies_per_package:
        raise InvalidFigureError(
            "diesPerPackage", f"{profile.dies_per_package} does not divide {profile.dies_per_server} dies of a server"
        )
    if profile.l2_chips and profile.uplinks_per_l1 != profile.l2_chips_per_plane:
        message = (
            f"is {profile.uplinks_per_l1}, and an L1 chip has one for each of {profile.l2_chips_per_plane} L2 chips"
        )
        raise InvalidFigureError("uplinksPerL1", f"{message} of its plane; change l2ChipsPerPlane too")
    if profile.hbm_idle_bytes >= profile.hbm_bytes_per_die:
        most = profile.hbm_bytes_per_die / 2**20
        raise InvalidFigureError("hbmIdleMebibytes", f"must be less than a die's HBM: give less than {most:g}")
    _check_cpus(profile)


def _check_cpus(profile: Profile) -> None:
    """Check that CPUs can send what they are said to send."""
    most, sent = profile.most_cpu_bytes_per_second / 1e9, profile.cpu_bytes_per_second / 1e9
    if sent <= most:
        return
    name = "cpuGigabytesPerSecond"
    if not most:
        raise InvalidFigureError(name, f"the CPUs of {profile.name} are not on a bus between servers: leave it out")
    cpus = f"{profile.cpus_per_server} CPUs of a server send {most / profile.cpus_per_server:g} GB/s each"
    raise InvalidFigureError(name, f"is {sent:g}, and the {cpus}: give at most {most:g}")


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _snake(key: str) -> str:
    return re.sub("([A-Z])", lambda match: f"_{match[1].lower()}", key)
