"""What failures leave of a machine, for people: dies, both link sets, optical modules, and the bus by tier."""

from __future__ import annotations

from collections.abc import Mapping

from supernode_dataplane.fabric import build_fabric, tier_bandwidth
from supernode_dataplane.figures import decimal
from supernode_dataplane.inputs import Inputs
from supernode_dataplane.profile import Profile
from supernode_dataplane.state import MachineState

__all__ = ["remaining"]


def remaining(profile: Profile, inputs: Inputs, state: MachineState) -> Mapping[str, str]:
    """Return what is left, by what it is; empty when nothing has failed."""
    if not inputs.compute_nodes:
        return {}
    counted = (
        ("dies that work", int(state.devices.healthy.sum()), profile.dies),
        ("bus links up", int(state.devices.port_up.sum()), profile.die_ports),
        ("uplinks up", int(state.fabric.uplink_up.sum()), profile.uplinks),
        ("optical modules of the bus with light", int(state.fabric.optics_up.sum()), state.fabric.optics_up.size),
    )
    found = {words: f"{count} of {of}" for words, count, of in counted if of}
    left, whole = (tier_bandwidth(build_fabric(profile, broken)) for broken in (inputs.compute_nodes, ()))
    for words, planes, of in (("inside", left.node, whole.node), ("between", left.pod, whole.pod)):
        if of.any():
            shares = planes / of
            weakest = int(shares.argmin())
            found[f"bus {words} servers"] = (
                f"{decimal(planes.sum() / 1e12)} of {decimal(of.sum() / 1e12)} TB/s one way; "
                f"plane {weakest} has {shares[weakest]:.1%}"
            )
    return found
