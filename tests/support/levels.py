"""Test levels: which one a test belongs to, whether this machine can run it, and the line that says so.

pure (no process), api (real etcd and kube-apiserver), node (a real kubelet), e2e (the whole product from the chart).
A level that cannot run here is said in one line; where it is required it is an error, never silence.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import binaries
from support.apiserver import missing_binaries

__all__ = ["LEVELS", "level_of", "obstacle", "required_levels", "skip_reason", "skipped_level", "summary"]

LEVELS: Final = ("pure", "api", "node", "e2e")
_NODE_TOOLS: Final = ("ip", "unshare", "mount", "nft", "runc")
_PREPARE: Final = "run: python3 devcluster/cluster.py prepare"


def level_of(markers: Iterable[str], fixtures: Iterable[str]) -> str:
    """Return the highest level that a test's markers and fixtures ask for."""
    names = set(markers)
    if {"api_server", "controlled_api_server"} & set(fixtures):
        names.add("api")
    return next((level for level in reversed(LEVELS) if level in names), "pure")


def required_levels(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Return the levels that must not be skipped: all in CI, else those in SUPERNODE_REQUIRE_LEVELS."""
    wanted = environment.get("SUPERNODE_REQUIRE_LEVELS", "")
    if environment.get("CI", "").lower() in ("true", "1") or wanted.lower() in ("all", "true", "1"):
        return frozenset(LEVELS)
    names = {name.strip() for name in wanted.split(",") if name.strip()}
    if unknown := sorted(names - set(LEVELS)):
        raise ValueError(f"SUPERNODE_REQUIRE_LEVELS has {', '.join(unknown)}; it takes all or {', '.join(LEVELS)}")
    return frozenset(names)


def obstacle(level: str) -> str:
    """Say why this machine cannot run a level; empty if it can."""
    return _OBSTACLES[level]()


def skip_reason(level: str, reason: str) -> str:
    """Return why a test of a level is skipped, as its report says it."""
    return f"level {level} cannot run here: {reason}"


def skipped_level(said: str) -> str:
    """Return the reason in what a report says, if it is for its level that a test was skipped; else nothing."""
    found = re.search(r"level (?:\w+) cannot run here: ([^'\"]*)", said)
    return found[1] if found else ""


def summary(outcomes: Mapping[str, Counter[str]], obstacles: Mapping[str, str]) -> str:
    """Return the line at the end: what ran and what did not, and why."""
    parts = []
    for level in LEVELS:
        ran = sum(count for outcome, count in outcomes.get(level, Counter()).items() if outcome != "skipped")
        failed = outcomes.get(level, Counter())["failed"]
        if level in obstacles:
            parts.append(f"{level} SKIPPED ({obstacles[level]})")
        elif ran:
            parts.append(f"{level} {ran} run{f', {failed} failed' if failed else ''}")
        else:
            parts.append(f"{level} not selected")
    return "levels: " + "; ".join(parts)


def _nothing() -> str:
    return ""


def _api() -> str:
    if sys.platform != "linux":
        return "needs Linux"
    if not shutil.which("openssl"):
        return "needs openssl"
    missing = missing_binaries(controllers=True)
    return f"no {', '.join(missing)}; {_PREPARE}" if missing else ""


def _node() -> str:
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root"
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    missing = [tool for tool in _NODE_TOOLS if not shutil.which(tool, path=path)]
    missing += [binary.name for binary in binaries.BINARIES if binaries.locate(binary) is None]
    return f"no {', '.join(missing)}; {_PREPARE}" if missing else ""


_OBSTACLES: Final[Mapping[str, Callable[[], str]]] = {"pure": _nothing, "api": _api, "node": _node, "e2e": _node}
