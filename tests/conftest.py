"""What all tests share: the real API server, and the levels (see support/levels.py)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import settings

from support.apiserver import ApiServer, running_api_server
from support.levels import LEVELS, level_of, obstacle, required_levels, summary

# Machines are shared: how long an example takes says nothing about the code.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

_outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
_obstacles: dict[str, str] = {}
_level = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """A real etcd and kube-apiserver with our CRDs, RBAC and an audit log; shared, so leave no objects behind.

    Nothing else runs: no controller, so a Job makes no pod and a deleted namespace stays. Pods can be created in any
    namespace, also without a service account.
    """
    with running_api_server() as server:
        yield server


@pytest.fixture(scope="session")
def controlled_api_server() -> Iterator[ApiServer]:
    """The same with kube-controller-manager and kube-scheduler: Jobs, StatefulSets, garbage collection work."""
    with running_api_server(controllers=True) as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark each test with its level, let ``-m`` choose, and skip what this machine cannot run of the rest."""
    for item in items:
        level = level_of((mark.name for mark in item.iter_markers()), getattr(item, "fixturenames", ()))
        item.stash[_level] = level
        if level != "pure":
            item.add_marker(level)
    yield
    required = required_levels()
    found = {level: obstacle(level) for level in {item.stash[_level] for item in items}}
    _obstacles.update({level: reason for level, reason in found.items() if reason})
    if forbidden := [f"{level} ({reason})" for level, reason in _obstacles.items() if level in required]:
        raise pytest.UsageError(f"required test levels cannot run here: {'; '.join(forbidden)}")
    items.sort(key=lambda item: LEVELS.index(item.stash[_level]))  # the cheap first; random within a level
    for item in items:
        if reason := found[item.stash[_level]]:
            item.add_marker(pytest.mark.skip(reason=f"level {item.stash[_level]}: {reason}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Count outcomes by level."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.when == "call" or report.outcome != "passed":
        _outcomes[item.stash.get(_level, "pure")][report.outcome] += 1
    return report  # type: ignore[return-value]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line which levels ran."""
    if _outcomes or _obstacles:
        terminalreporter.write_line(summary(_outcomes, _obstacles))
