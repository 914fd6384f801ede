"""Which tests run in one process where there are several: those of a file, and all that need a cluster."""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadScopeScheduling

__all__ = ["LoadScopeScheduling", "Scheduling", "is_stray", "scope_of"]

_CLUSTER: Final = (
    "tests/e2e/",
    "tests/devcluster/test_leaves_nothing.py",
    "tests/devcluster/test_network.py",
    "tests/deviceplugin/test_agent_real_kubelet.py",
)
"""Files of the levels node and e2e: they start clusters, and two at once are slower than promised."""


def scope_of(nodeid: str) -> str:
    """Return the name of what a test runs with."""
    path = nodeid.partition("::")[0]
    return "cluster" if path.startswith(_CLUSTER) else path


def is_stray(path: str, level: str) -> bool:
    """Say whether a file has tests of a cluster and would not run with the others."""
    return level in ("node", "e2e") and scope_of(path) != "cluster"


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives out scopes in their order: the cheap ones first."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)
