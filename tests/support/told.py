"""Events of a condition: that there is exactly one."""

from __future__ import annotations

import time

from support.operator_world import World, wait_for

__all__ = ["told_once"]


def told_once(world: World, name: str, reason: str) -> bool:
    """Wait for the Event of a condition, and see that no second one (nor a count) follows."""
    wait_for(lambda: world.events(name, reason), f"an Event {reason}")
    time.sleep(1.5)
    found = world.events(name, reason)
    return len(found) == 1 and (found[0].get("count") or 1) == 1
