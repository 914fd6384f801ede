"""A built-in machine with some figures changed: another bin of the chip, a faster network, more memory.

Figures have the names of the profile's file in camelCase, with their units: ``rdmaGigabytesPerSecond: 50``. What a file
does not state can be added: it is unknown of that machine, not impossible. A figure with a unit that is 500 times the
machine's own or more, or as little of it, is taken for one in another unit and refused; over 100 times it is far off.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from typing import Any, Final

from supernode_dataplane import wording
from supernode_dataplane.errors import InvalidFigureError, near_names
from supernode_dataplane.power import full_load_watts
from supernode_dataplane.profile import Profile, load_profile, profile_figures, profile_names, to_si

__all__ = ["changed_profile", "changes", "derived_figures", "far_figures", "figure_names", "in_camel_case"]

_LARGEST: Final = 1e9
_OTHER_UNIT: Final = 500.0
"""Half of what a slip to the next unit makes: 1,000 or 1,024, and 931 from GiB of 64 to GB of 64,000."""
_FAR: Final = 100.0
_LIKE: Final = {
    "sio_measured_bytes_per_second": "sio_bytes_per_second",
    "node_measured_bytes_per_second": "die_bus_bytes_per_second",
    "pod_measured_bytes_per_second": "die_bus_bytes_per_second",
    "rdma_measured_bytes_per_second": "rdma_bytes_per_second",
}
"""What a measured figure is compared with where a machine has none of its own."""
_WORDS: Final = {"intraServer": ("switched", "mesh"), "lowLatencyExchange": ("links", "rdma")}
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
_RANGES: Final[tuple[tuple[str, float, float], ...]] = (
    ("GigabytesPerSecond", 0.01, _LARGEST),
    ("TerabytesPerSecond", 0.01, _LARGEST),
    ("Teraflops", 0.1, _LARGEST),
    ("Teraops", 0.1, _LARGEST),
    ("Microseconds", 0.0, 1e6),
    ("Gibibytes", 1.0, _LARGEST),
    ("Gigabytes", 1.0, _LARGEST),
)
"""Sensible values by the unit in a name: from a slow Ethernet port, a core of a CPU, a second. 0.0: above 0."""


@cache
def figure_names() -> tuple[str, ...]:
    """Return the names of all figures that any built-in profile states, sorted."""
    known = {field.name for field in fields(Profile)}
    keys = {key for name in profile_names() for key in profile_figures(name)}
    return tuple(sorted(in_camel_case(key) for key in keys if to_si(key)[0] in known))


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
        _check_unit(profile, key, values[field])
    changed = replace(profile, **values)
    changed = replace(changed, **_in_proportion(profile, changed, values))
    _check(changed, figures)
    return changed


def far_figures(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what is said of each figure that is far from the machine's own, after its name; raises as changed_profile.

    Far is over 100 times, or under a hundredth.
    """
    changed, built_in = changed_profile(name, figures), load_profile(name)
    compared = ((key, _beside(built_in, key, getattr(changed, to_si(_snake(key))[0]))) for key in figures)
    return tuple(f"{key} {words}" for key, (ratio, words) in compared if not 1 / _FAR <= ratio <= _FAR)


def _beside(profile: Profile, key: str, value: Any) -> tuple[float, str]:
    """Return how many times the machine's own a figure is, and that in words; 1 where there is nothing to compare."""
    field, factor = to_si(_snake(key))
    own = getattr(profile, field) or getattr(profile, _LIKE.get(field, field))
    if isinstance(value, str | int) or not own or not value:
        return 1.0, ""
    unit = next(
        profile_figures(name)[_snake(key)]["unit"].removesuffix(" dense")
        for name in (profile.name, *profile_names())
        if _snake(key) in profile_figures(name)
    )
    ratio = value / own
    times = f"{ratio:,.4g} times" if ratio >= 1 else f"1/{1 / ratio:,.4g} of"
    return ratio, f"is {value / factor:g} ({unit}), {times} the {own / factor:.4g} of {profile.name}"


def _check_unit(profile: Profile, key: str, value: Any) -> None:
    """Check that a figure is not so far from the machine's own that it must be meant in another unit."""
    ratio, words = _beside(profile, key, value)
    if not 1 / _OTHER_UNIT < ratio < _OTHER_UNIT:
        limits = f"less than {_OTHER_UNIT:g} times that and more than 1/{_OTHER_UNIT:g}"
        raise InvalidFigureError(key, f"{words}: give it in the unit of its name, {limits}")


def derived_figures(name: str, figures: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a built-in profile that follow the given ones, by name in camelCase and in their units."""
    if not figures:
        return {}
    changed = changes(changed_profile(name, figures))
    known = {in_camel_case(key): to_si(key) for key in profile_figures(name)}
    return {
        key: changed[field] / factor
        for key, (field, factor) in known.items()
        if field in changed and key not in figures
    }


def _in_proportion(profile: Profile, changed: Profile, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what follows other figures: as much of a link is measured as of the built-in one, and as much more than
    its parts a machine is rated at.
    """
    bus = changed.die_bus_bytes_per_second / profile.die_bus_bytes_per_second
    rdma = changed.rdma_bytes_per_second / (profile.rdma_bytes_per_second or 1.0)
    package = changed.sio_bytes_per_second / (profile.sio_bytes_per_second or 1.0)
    ratios = {
        "node_measured_bytes_per_second": bus,
        "pod_measured_bytes_per_second": bus,
        "rdma_measured_bytes_per_second": rdma if profile.rdma_bytes_per_second else 1.0,
        "sio_measured_bytes_per_second": package if profile.sio_bytes_per_second else 1.0,
        "rated_watts": _parts(changed) / _parts(profile),
    }
    return {
        name: getattr(profile, name) * ratio for name, ratio in ratios.items() if name not in given and ratio != 1.0
    }


def _parts(profile: Profile) -> float:
    """Return what the rated power goes with: that of all parts, or the dies where no source has it by part."""
    return full_load_watts(profile) if profile.has_power_model else float(profile.dies)


def changes(profile: Profile) -> dict[str, Any]:
    """Return the fields in which a profile is not the built-in one of its name."""
    if profile is load_profile(profile.name):
        return {}
    own, built_in = asdict(profile), asdict(load_profile(profile.name))
    return {key: value for key, value in own.items() if value != built_in[key]}


def _value(key: str, value: Any, whole: bool, factor: float) -> int | float | str:
    if key in _WORDS:
        if value not in _WORDS[key]:
            raise InvalidFigureError(key, wording.must_be(wording.one_of(_WORDS[key]), value))
        return str(value)
    if isinstance(value, str):
        value = _number(value)  # YAML takes 1e9 and 1.0e9 for text
    number = isinstance(value, int | float) and not isinstance(value, bool)
    least, most = _range(key, whole)
    enough = number and (value >= least and (value > 0 or key in _MAY_BE_ZERO))
    if not number or not math.isfinite(value) or not enough or value > most or (whole and value != int(value)):
        above = not least and key not in _MAY_BE_ZERO
        bounds = wording.whole_number(int(least), int(most)) if whole else wording.number(least, most, above=above)
        raise InvalidFigureError(key, wording.must_be(bounds, value))
    return int(value) if whole else float(value) * factor


def _range(key: str, whole: bool) -> tuple[float, float]:
    """Return the least and the largest value of a figure."""
    if whole:
        return 1.0, _BOUNDS.get(key, _LARGEST)
    if key in _MAY_BE_ZERO:
        return 0.0, _LARGEST
    return next(((least, most) for unit, least, most in _RANGES if unit in key), (0.0, _LARGEST))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _check(profile: Profile, given: Mapping[str, Any]) -> None:
    """Check what figures have to do with one another."""
    parts = full_load_watts(profile)
    if profile.has_power_model and profile.rated_watts < parts:
        message = (
            f"is {profile.rated_watts / 1e3:g} kW, and the parts of the machine take {parts / 1e3:.4g} kW at full load"
        )
        raise InvalidFigureError(
            "ratedKilowatts",
            f"{message}: give at least {math.ceil(parts / 1e3):g}, or less of packages and other parts",
        )
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
        most, least = profile.hbm_bytes_per_die / 2**20, profile.hbm_idle_bytes / 2**30
        if "hbmIdleMebibytes" not in given:
            raise InvalidFigureError("hbmGibibytesPerDie", f"must be more than idle dies use: give more than {least:g}")
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


def in_camel_case(key: str) -> str:
    """Return the name that a figure's key in a data file has in scenarios and answers."""
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _snake(key: str) -> str:
    return re.sub("([A-Z])", lambda match: f"_{match[1].lower()}", key)
