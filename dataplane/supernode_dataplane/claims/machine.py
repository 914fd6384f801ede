"""Claims about the machine itself: arithmetic on profiles."""

from __future__ import annotations

import math
from functools import partial
from typing import Final

from supernode_dataplane.claims.claim import Claim, Reading
from supernode_dataplane.exchange import combine, dispatch
from supernode_dataplane.expected_error import constants_of, half_width
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.machine_defaults import default_format
from supernode_dataplane.profile import Profile, load_profile
from supernode_dataplane.reliability import availability
from supernode_dataplane.stacks import Stack, load_stack
from supernode_dataplane.superclusters import MOST_SUPERNODES

__all__ = ["machine_claims"]

_PRESS: Final = "press on Supernode 384, April to July 2025"
_ANALYSIS: Final = "SemiAnalysis, CloudMatrix 384"
_CLAIMED_FLOPS: Final = 300e15
"""Published for the supernode; NVL72: 180e15."""
_CARD_FLOPS: Final = {"780": 780e12, "800": 800e12}
"""Of a 910C card: SemiAnalysis, and Huawei Connect 2025."""
_PAYLOAD: Final = 50e9
"""Bytes per second of a 400 Gbit/s optical module."""
_GIB: Final = 2.0**30

_Row = tuple[str, str, float, tuple[Reading, ...], str]
"""Of a claim that is a ratio: id, subject, what is published, readings, definition."""


def machine_claims() -> tuple[Claim, ...]:
    """Return the claims about compute, memory, links, power, size and availability."""
    machine, rack = load_profile("cloudmatrix-384"), load_profile("gb200-nvl72")
    return (
        *_totals(machine),
        _bus_of_all_cards(machine),
        *_links(machine, load_profile("atlas-a2-cluster"), load_profile("h800-cluster")),
        *_energy(machine, rack),
        *_against_nvl72(machine, rack),
        _processors(machine),
        _availability(),
    )


def _totals(machine: Profile) -> tuple[Claim, ...]:
    per_card = {name: machine.packages * flops for name, flops in _CARD_FLOPS.items()}
    in_cabinet = machine.servers_per_cabinet * machine.dies_per_server / machine.dies_per_package
    return (
        Claim(
            id="7.1",
            subject="compute of the machine",
            unit="PFLOPS",
            published=(300.0, 300.0),
            source=_PRESS,
            readings=(
                Reading("FP16 dense as rated, 752 TFLOPS a card", machine.rated_flops / 1e15),
                Reading("BF16 dense of the cube units", machine.bf16_flops / 1e15),
                Reading("at 780 TFLOPS a card", per_card["780"] / 1e15),
                Reading("at 800 TFLOPS a card", per_card["800"] / 1e15),
            ),
            definition="Dense FP16, rounded up; usable for BF16 training are 6 % less than rated.",
        ),
        Claim(
            id="7.2",
            subject="HBM of the machine",
            unit="TB",
            published=(48.0, 49.2),
            source=f"{_PRESS}; {_ANALYSIS}",
            readings=(
                Reading("in TiB", machine.hbm_bytes / 2**40),
                Reading("GiB of a card printed as GB, over 1,000", machine.hbm_bytes / _GIB / 1e3),
                Reading("in 10^12 bytes", machine.hbm_bytes / 1e12),
            ),
            definition="48 TiB; 49.2 counts the 128 GiB of a card as 128 GB.",
        ),
        Claim(
            id="7.3",
            subject="cards in 12 + 4 cabinets",
            unit="cards",
            published=(384.0, 384.0),
            source=_PRESS,
            readings=(
                Reading("compute cabinets x cards of one", machine.compute_cabinets * in_cabinet),
                Reading("dies", float(machine.dies)),
            ),
            definition=f"A card is a package of {machine.dies_per_package} dies; the "
            f"{machine.bus_cabinets} bus cabinets hold switches only.",
            tolerance=0.0,
        ),
    )


def _bus_of_all_cards(machine: Profile) -> Claim:
    return Claim(
        id="7.16",
        subject="bandwidth of all cards to the bus",
        unit="TB/s both ways",
        published=(269.0, 269.0),
        source=_ANALYSIS,
        readings=(
            Reading("lane rate, 7 x 28 GB/s a die", 2 * machine.dies * machine.die_bus_bytes_per_second / 1e12),
            Reading("payload of the optics, 7 x 400 Gbit/s a card", 2 * _optics(machine) / 1e12),
        ),
        definition="By the payload of 400G optics; the lanes run 12 % faster, and both are right.",
    )


def _optics(machine: Profile) -> float:
    """Return what the optical modules of all cards carry one way; a link has a module at either end."""
    return machine.packages * machine.scale_up_optical_modules_per_package / 2 * _PAYLOAD


def _links(machine: Profile, before: Profile, h800: Profile) -> tuple[Claim, ...]:
    card = machine.dies_per_package * machine.die_bus_bytes_per_second
    measured = machine.dies_per_package * machine.pod_measured_bytes_per_second
    slow, fast = before.rdma_bytes_per_second, machine.dies_per_package * machine.rdma_bytes_per_second
    gains, errors = _exchange_gains(machine, h800)
    return (
        Claim(
            id="7.10",
            subject="bandwidth over that of a traditional cluster",
            unit="x",
            published=(15.0, 15.0),
            source=_PRESS,
            readings=(
                Reading("bus of a card over 200 Gbit/s RoCE of a card", card / slow),
                Reading("bus of a card over 400 Gbit/s RoCE of a card", card / fast),
                Reading("bus as measured between servers over nominal 200 Gbit/s RoCE", measured / slow),
                Reading("MoE dispatch at EP8, bytes per second over those of an H800", gains[0], errors[0]),
                Reading("MoE combine at EP8, the same", gains[1], errors[1]),
            ),
            definition="A ratio of links, against 200 Gbit/s a card; it is not what an application gains.",
        ),
        Claim(
            id="7.11",
            subject="latency of a hop",
            unit="us",
            published=(0.2, 0.2),
            source=f"{_PRESS}: 2 us -> 200 ns",
            readings=(
                Reading("die to die of another server, two levels of switches", machine.pod_latency_seconds * 1e6),
                Reading("die to die in a server, one switch", machine.node_latency_seconds * 1e6),
                Reading("between the dies of a package", machine.sio_latency_seconds * 1e6),
                Reading("over RoCE", machine.rdma_latency_seconds * 1e6),
            ),
            definition="Measured end to end it is the way between the two dies of a package; "
            "between servers it takes ten times that.",
        ),
    )


def _exchange_gains(machine: Profile, other: Profile) -> tuple[list[float], list[float]]:
    """Return bytes per second of dispatch and combine over those of another machine, and their errors in percent.

    128 tokens a rank, EP8, each with its tuned stack.
    """
    gains, errors = [], []
    for kind in ("dispatch", "combine"):
        sides = ((machine, load_stack("vendor-tuned")), (other, load_stack("gpu-tuned")))
        ours, theirs = (_exchange_seconds(kind, profile, stack) for profile, stack in sides)
        parts = [
            half_width(partial(_exchange_seconds, kind, profile), stack, "K", constants_of(stack, training=False))
            for profile, stack in sides
        ]
        gains.append(theirs / ours)
        errors.append(100.0 * math.hypot(*parts))
    return gains, errors


def _exchange_seconds(kind: str, profile: Profile, stack: Stack) -> float:
    hardware = hardware_of(profile)
    if kind == "combine":
        return float(combine(hardware, stack, 128, 8, 7168, 8).seconds())
    return float(dispatch(hardware, stack, 128, 8, 7168, 8, default_format(profile)).seconds())


def _energy(machine: Profile, rack: Profile) -> tuple[Claim, ...]:
    absolute = machine.rated_watts / rack.rated_watts
    return (
        Claim(
            id="7.12",
            subject="power of the machine",
            unit="kW",
            published=(559.0, 559.0),
            source=f"{_PRESS}; {_ANALYSIS}",
            readings=(
                Reading("rated, all-in at the racks", machine.rated_watts / 1e3),
                Reading(
                    "package, optics, CPUs and switches at full load, without fans and conversion",
                    _parts_watts(machine) / 1e3,
                ),
            ),
            definition=f"All-in, {machine.rated_watts / machine.packages:,.0f} W a card; "
            "no split by component is public.",
        ),
        Claim(
            id="7.12b",
            subject="energy: more than twice that of NVL72",
            unit="x",
            published=(2.0, 2.5),
            source=f"{_PRESS}; {_ANALYSIS}: 2.5 per FLOP",
            readings=(
                Reading("power of the machine over that of the rack", absolute),
                Reading("power per claimed FLOPS", absolute / (_CLAIMED_FLOPS / rack.bf16_flops)),
                Reading("power per rated FLOPS", absolute / (machine.rated_flops / rack.bf16_flops)),
            ),
            definition="More than twice is per FLOP; one machine draws almost four times one rack.",
        ),
    )


def _parts_watts(machine: Profile) -> float:
    package = sum(
        (
            machine.package_idle_watts,
            machine.package_cube_watts,
            machine.package_hbm_watts,
            machine.package_vector_watts,
            machine.package_bus_watts,
        )
    )
    return (
        machine.packages * package
        + machine.optical_modules * machine.optical_module_watts
        + machine.servers * machine.cpus_per_server * machine.cpu_watts
        + (machine.l1_chips + machine.l2_chips) * machine.switch_chip_watts
    )


def _against_nvl72(machine: Profile, rack: Profile) -> tuple[Claim, ...]:
    loose = {"7.13": 0.25}
    return tuple(
        Claim(
            id=name,
            subject=subject,
            unit="x",
            published=(published, published),
            source=_PRESS if name == "7.13" else _ANALYSIS,
            readings=readings,
            definition=definition,
            tolerance=loose.get(name, 0.02),
        )
        for name, subject, published, readings, definition in _rows_against_nvl72(machine, rack)
    )


def _rows_against_nvl72(machine: Profile, rack: Profile) -> tuple[_Row, ...]:
    claimed, rated = _CLAIMED_FLOPS / rack.bf16_flops, machine.rated_flops / rack.bf16_flops
    lanes = machine.dies * machine.die_bus_bytes_per_second
    theirs = rack.dies * rack.die_bus_bytes_per_second
    hbm = [p.dies * p.hbm_bytes_per_second_per_die for p in (machine, rack)]
    power = machine.rated_watts / rack.rated_watts
    printed = machine.hbm_bytes / _GIB * 1e9 / rack.hbm_bytes
    by_claim, by_rating = Reading("300 over 180 PFLOPS", claimed), Reading("as rated, 752 TFLOPS a card", rated)
    return (
        ("7.13", "almost double the compute of NVL72", 2.0, (by_rating, by_claim), "Dense BF16 or FP16 of both."),
        ("H-X1 compute", "compute over NVL72", 1.66, (by_rating, by_claim), "Dense BF16 or FP16 of both."),
        (
            "H-X1 HBM",
            "HBM over NVL72",
            3.56,
            (Reading("GB as printed", printed), Reading("128 GiB against 192 GB", machine.hbm_bytes / rack.hbm_bytes)),
            "Both count a card's memory as printed, 128 and 192 GB.",
        ),
        (
            "H-X1 HBM bandwidth",
            "HBM bandwidth over NVL72",
            2.13,
            (Reading("3.2 TB/s a card against 8", hbm[0] / hbm[1]),),
            "Sum over all cards, nominal.",
        ),
        (
            "H-X1 scale-up",
            "scale-up bandwidth over NVL72",
            2.07,
            (Reading("lane rate", lanes / theirs), Reading("payload of 400G optics", _optics(machine) / theirs)),
            "Sum over all cards; ours is higher by lane rate.",
        ),
        (
            "H-X1 power",
            "power over NVL72",
            3.86,
            (Reading("rated, all-in", power),),
            "One machine against one rack, both all-in.",
        ),
        (
            "H-X1 power per FLOP",
            "power per FLOP over NVL72",
            2.31,
            (Reading("as rated", power / rated), Reading("by 300 over 180 PFLOPS", power / claimed)),
            "All-in power over dense FLOPS of both.",
        ),
    )


def _processors(machine: Profile) -> Claim:
    ratio = machine.dies_per_package * machine.die_bus_bytes_per_second
    ratio /= machine.dies_per_package * machine.rdma_bytes_per_second
    most = MOST_SUPERNODES
    return Claim(
        id="7.14",
        subject="tens of thousands of processors in one cluster",
        unit="cards",
        published=(10_000.0, 160_000.0),
        source=f"{_PRESS}; Huawei Cloud: 160,000 cards",
        readings=(
            Reading(f"{most} machines joined by RDMA", float(most * machine.packages)),
            Reading("their dies", float(most * machine.dies)),
        ),
        definition=f"Beyond {machine.packages} cards they talk over RDMA at 1/{ratio:.0f} of the bus; "
        f"160,000 cards are {160_000 / machine.packages:.0f} machines.",
    )


def _availability() -> Claim:
    return Claim(
        id="H-R1",
        subject="availability at MTBF 13.8 h and MTTR 75 min",
        unit="%",
        published=(91.6, 91.6),
        source="UB-Mesh, arXiv 2503.20377: 8,192 NPUs on a Clos",
        readings=(
            Reading("MTBF / (MTBF + MTTR)", 100 * float(availability(13.8, 75 / 60))),
            Reading("the same at the mesh's MTBF of 98.5 h", 100 * float(availability(98.5, 75 / 60))),
        ),
        definition="Share of time in operation; checkpoints and work done again come on top.",
        tolerance=0.005,
    )
