"""``helm uninstall``'s first step: delete all SuperNodes and wait until they are gone.

The operator must still be there then, to take labels, devices and cabinets back; that is why a hook does it. With
pods that hold dies a SuperNode stays, and says which; the hook repeats it and gives up after its time, so that nothing
is uninstalled half.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from supernode_operator.hooks import HookError, SuperNodes, describe_conditions, list_reasons, poll, run_hook, say

__all__ = ["delete_all", "main"]


def delete_all(seconds: float) -> None:
    """Delete all SuperNodes, also those created meanwhile; raises :class:`HookError` if some are left in the end."""
    super_nodes = SuperNodes()
    left: dict[str, dict[str, Any]] = {}
    told: dict[str, list[str]] = {}
    finished = False

    def look() -> bool:
        nonlocal finished
        left.clear()
        for item in super_nodes.list():
            name = item["metadata"]["name"]
            if not item["metadata"].get("deletionTimestamp"):
                say(f"deleting SuperNode {name}")
                super_nodes.delete(name)
            left[name] = item
        finished = not left
        return finished

    for elapsed in poll(look, seconds):
        for name, item in left.items():
            if elapsed >= 2 and told.get(name) != list_reasons(item):
                say(f"waiting for SuperNode {name}: {describe_conditions(item)}")
                told[name] = list_reasons(item)
    if not finished:
        raise HookError(_remedy(left, seconds))
    say("no SuperNode is left")


def _remedy(left: dict[str, dict[str, Any]], seconds: float) -> str:
    if not left:
        return f"the API server did not answer within {seconds:.0f} s; run helm uninstall again"
    names = "; ".join(f"SuperNode {name}: {describe_conditions(item)}" for name, item in sorted(left.items()))
    return (
        f"after {seconds:.0f} s these are not gone. {names}. Delete the pods that hold dies and see that operator "
        "and node agents run, then run helm uninstall again (with --no-hooks, node labels and finalizers would stay)."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the hook; returns its exit status."""
    parser = argparse.ArgumentParser(prog="supernode_operator.uninstall", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--timeout", type=float, default=240.0, metavar="SECONDS", help="how long to wait")
    seconds = parser.parse_args(arguments).timeout
    return run_hook(lambda: delete_all(seconds))


if __name__ == "__main__":
    sys.exit(main())
