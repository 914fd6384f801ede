"""The environment that Allocate gives a container.

``ASCEND_VISIBLE_DEVICES`` holds phyIDs, as on the real machine: in the order of servers and dies, and the same phyID
twice when the dies span servers (then only our own variable is unambiguous). ``SUPERNODE_DEVICES`` and
``SUPERNODE_LINKS`` hold full device ids. The kubelet merges what the resources of one container return, so the two
resources never set the same variable. ``ASCEND_RUNTIME_OPTIONS`` is left unset: a die is whole, not virtual, and there
is no driver to keep out.
"""

from __future__ import annotations

from collections.abc import Iterable

from supernode_deviceplugin.domain.devices import DIE, Device

__all__ = ["build_environment"]


def build_environment(devices: Iterable[Device]) -> dict[str, str]:
    """Return the variables for the devices of one resource."""
    ordered = sorted(devices)
    dies = [device for device in ordered if device.plane == DIE]
    links = [device for device in ordered if device.plane != DIE]
    environment = {}
    if dies:
        environment["ASCEND_VISIBLE_DEVICES"] = ",".join(str(device.phy) for device in dies)
        environment["SUPERNODE_DEVICES"] = ",".join(device.id for device in dies)
    if links:
        environment["SUPERNODE_LINKS"] = ",".join(device.id for device in links)
    return environment
