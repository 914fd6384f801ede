"""What was allocated a moment ago: devices that PodResources does not show yet, and the container being admitted.

The kubelet admits one container after another: for each of its resources GetPreferredAllocation, then Allocate; when
all are done it writes its checkpoint file, and only then comes the next container. So the last Allocate belongs to the
container that the next call is about exactly while the checkpoint has not been written since. ``mark`` is the identity
of that file; a time limit closes the container where a mark is not to be had.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass

from supernode_deviceplugin.domain.devices import DIE, Device

__all__ = ["OPEN_SECONDS", "PENDING_SECONDS", "Grants"]

OPEN_SECONDS = 30.0
"""How long a container may take from one resource to the next: seconds on a machine where 48 pods start at once."""
PENDING_SECONDS = 10.0
"""How long an allocation that PodResources never showed counts as held (its pod was refused for another reason)."""

Die = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Container:
    at: float
    mark: Hashable
    dies: frozenset[Die] = frozenset()
    links: frozenset[Die] = frozenset()


class Grants:
    """The memory of recent Allocate calls; times are monotonic seconds that the caller passes in."""

    def __init__(self) -> None:
        self._pending: dict[str, float] = {}
        self._last = _Container(float("-inf"), None)

    def record(self, devices: Collection[Device], now: float, mark: Hashable) -> None:
        """Remember an Allocate that was granted: all dies, or all links, of one container."""
        self._pending.update((device.id, now) for device in devices)
        dies = frozenset(device.die for device in devices)
        if all(device.plane == DIE for device in devices):
            links = self.open_links(now, mark)
        else:
            dies, links = self.open_dies(now, mark), dies
        self._last = _Container(now, mark, dies, links)

    def open_dies(self, now: float, mark: Hashable) -> frozenset[Die]:
        """Dies that the container being admitted has got, while it has no links."""
        return self._last.dies if self._is_open(now, mark) and not self._last.links else frozenset()

    def open_links(self, now: float, mark: Hashable) -> frozenset[Die]:
        """Dies whose links the container being admitted has got, while it has no dies."""
        return self._last.links if self._is_open(now, mark) and not self._last.dies else frozenset()

    @property
    def any_pending(self) -> bool:
        """Whether anything was granted that PodResources has not shown."""
        return bool(self._pending)

    def seen(self, ids: Iterable[str]) -> None:
        """PodResources shows these: from now on it says how long they are held."""
        for device_id in ids:
            self._pending.pop(device_id, None)

    def pending(self, now: float) -> frozenset[str]:
        """Ids that were granted and that PodResources has not shown yet."""
        for device_id in [i for i, at in self._pending.items() if now - at > PENDING_SECONDS]:
            del self._pending[device_id]
        return frozenset(self._pending)

    def forget_open(self) -> None:
        """The devices have been numbered anew: positions in the last container mean nothing any more."""
        self._last = _Container(float("-inf"), None)

    def _is_open(self, now: float, mark: Hashable) -> bool:
        return mark == self._last.mark and now - self._last.at <= OPEN_SECONDS
