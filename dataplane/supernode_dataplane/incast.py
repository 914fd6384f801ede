"""Traffic to and from the die that has the hottest experts: its ports carry more than the others' do.

With an imbalance h (load of the hottest of n ranks over the mean, at most n) every rank sends the hottest h times the
mean and each other one (n - h) / (n - 1) times:

    dispatch   tokens to the experts: every rank sends what it does with even experts, the hottest receives h times it
    combine    results back, the reverse: the hottest sends h times the mean, every rank receives what it sent

That is where somebody says how hot the hottest rank is. What a stack has by default is the mean over layers, in each
of which another rank is hottest: over all of them ports carry the same, and all wait nevertheless.

What a rank keeps itself and what stays in its package takes no port, so ranks beside the hottest send a little less.
Nothing is created or lost: over a group as much is sent as with even experts, and as much received as sent. How long
it takes is not decided here; where a step's time has no room for it, the ports are full and carry no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.communication import Incast
from supernode_dataplane.deployment import Pool
from supernode_dataplane.exchange import SCALE_SHARE
from supernode_dataplane.hardware import BYTES
from supernode_dataplane.profile import Profile

__all__ = ["Excess", "bounded_excess", "excess_of", "member_load", "show_hottest", "uplink_room"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Excess:
    """How traffic on ports changes for each unit by which the imbalance is above 1; by position, below 0 on most."""

    sent: FloatArray
    received: FloatArray

    def mixed(self, dispatched: FloatArray | float, combined: FloatArray | float) -> Excess:
        """Return the change when so much is dispatched and so much combined."""
        return Excess(
            dispatched * self.sent + combined * self.received, dispatched * self.received + combined * self.sent
        )


def excess_of(incast: Incast, load: FloatArray, to_hottest: FloatArray) -> Excess:
    """Return the change of a dispatch; that of a combine is the reverse.

    ``load`` is what each port carries with even experts, ``to_hottest`` the part of it on its way to the hottest rank.
    """
    others = 1.0 / (incast.size - 1) if incast.size > 1 else 0.0
    if not others:
        return Excess(np.zeros_like(load), np.zeros_like(load))
    return Excess((1.0 + others) * to_hottest - others * load, np.where(incast.hot, load, -others * load))


def member_load(incast: Incast, imbalance: float) -> FloatArray:
    """Return the load of each position over the mean, shape (positions, 1)."""
    if incast.size == 1:
        return np.ones(incast.hot.shape)
    hottest = min(imbalance, float(incast.size))
    return np.where(incast.hot, hottest, (incast.size - hottest) / (incast.size - 1))


def bounded_excess(wanted: float, *ways: tuple[FloatArray, FloatArray, FloatArray | float]) -> float:
    """Return how far above 1 the imbalance may show, at most ``wanted``.

    Each way is (what it carries with even experts, its change for each unit, what it can carry).
    """
    most = wanted
    for even, change, limit in ways:
        grows = change > 0
        if grows.any():
            room = np.broadcast_to(limit - even, change.shape)[grows] / change[grows]
            most = min(most, float(room.min()))
    return max(0.0, most)


def show_hottest(
    incast: Incast,
    pool: Pool,
    room: FloatArray,
    *,
    exchanged: FloatArray,
    loads: tuple[FloatArray, FloatArray],
    at: slice,
    servers: IntArray,
    ports: tuple[FloatArray, FloatArray],
    uplinks: tuple[FloatArray, FloatArray],
) -> None:
    """Move the traffic of a pool, in place, to what it is with its hottest experts on one rank of each instance.

    ``exchanged`` (dies of the pool, 1): bytes per second that each die sends evenly to its instance, of which ``loads``
    (dies of the pool, planes) are on ports and, the second, leave the server. ``ports`` (dies of the job, planes) and
    ``uplinks`` (servers, planes) are (sent, received), the pool's dies being ``at`` and on ``servers``. No port carries
    more than its rate, and no uplink more than ``room`` (servers, planes).
    """
    dispatched = _dispatched_share(pool)
    on_ports, outside = (
        excess_of(incast, load, to_hottest / incast.size).mixed(exchanged * dispatched, exchanged * (1.0 - dispatched))
        for load, to_hottest in zip(loads, (incast.ports, incast.uplinks), strict=True)
    )
    ways: list[tuple[FloatArray, FloatArray, FloatArray | float]] = []
    for number, name in enumerate(("sent", "received")):
        beyond = np.zeros_like(uplinks[number])
        np.add.at(beyond, servers, getattr(outside, name))
        ways += [
            (ports[number][at], getattr(on_ports, name), pool.hardware.port_bytes_per_second / ports[number].shape[1]),
            (uplinks[number], beyond, room),
        ]
    shown = bounded_excess(min(float(pool.imbalance), float(incast.size)) - 1.0, *ways)
    for even, change, _ in ways:
        np.maximum(even + shown * change, 0.0, out=even)


def _dispatched_share(pool: Pool) -> float:
    """Return the share of the bytes of an exchange that go to the experts; results come back in BF16."""
    kind = pool.precision.activations
    out = BYTES[kind] * (SCALE_SHARE if kind != "bf16" else 1.0)
    return out / (out + BYTES["bf16"])


def uplink_room(profile: Profile, dies: IntArray, share: FloatArray | None) -> FloatArray:
    """Return what a workload's dies may send over the uplinks of each server, bytes per second, (servers, planes).

    ``share`` is as :func:`supernode_dataplane.fabric.plane_share` gives it for them: None is all that their ports send.
    """
    active = np.bincount(dies // profile.dies_per_server, minlength=profile.servers).astype(np.float64)
    if share is None:
        return np.broadcast_to((active * profile.port_bytes_per_second)[:, None], (profile.servers, profile.planes))
    used = active > 0
    senders = np.maximum(active[:, None], active[None, :])[:, :, None]
    room: FloatArray = (share * senders)[:, used].max(axis=1) * profile.port_bytes_per_second
    return room
