"""What all tests share: the real API server, and the levels (see support/levels.py)."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import settings

from support.apiserver import ApiServer, running_api_server
from support.chart import missing_helm
from support.levels import LEVELS, level_of, obstacle, required_levels, skip_reason, skipped_level, summary
from support.preparing import Preparation
from support.scheduling import LoadScopeScheduling, Scheduling, is_stray, scope_of

# Machines are shared: how long an example takes says nothing about the code.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

_outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
_obstacles: dict[str, str] = {}
_level = pytest.StashKey[str]()
_preparation: list[Preparation] = []
_api_ready: list[bool] = []
_unprepared: list[str] = []


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


@pytest.fixture(scope="session")
def _helm() -> None:
    """Of tests that render the chart: where they are required, it is an error that there is no helm."""
    if reason := missing_helm():
        if required_levels(os.environ):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark each test with its level, let ``-m`` choose, and skip what this machine cannot run of the rest."""
    for item in items:
        level = level_of((mark.name for mark in item.iter_markers()), getattr(item, "fixturenames", ()))
        item.stash[_level] = level
        item.user_properties.append(("level", level))  # for reports; a keyword may be the name of a folder, too
        if level != "pure":
            item.add_marker(level)
    if strays := sorted({item.location[0] for item in items if is_stray(item.location[0], item.stash[_level])}):
        raise pytest.UsageError(f"tests of a cluster in files that {scope_of.__module__} does not name: {strays}")
    yield
    required = required_levels()
    found = {level: obstacle(level) for level in {item.stash[_level] for item in items}}
    if any(found.values()) and Preparation.wanted():
        # What is missing is built while the pure tests run; the first other test waits for it.
        _preparation.append(Preparation.start())
        found = dict.fromkeys(found, "")
    _obstacles.update({level: reason for level, reason in found.items() if reason})
    if forbidden := [f"{level} ({reason})" for level, reason in _obstacles.items() if level in required]:
        raise pytest.UsageError(f"required test levels cannot run here: {'; '.join(forbidden)}")
    turns: dict[str, tuple[int, bool]] = {}  # a file's tests stay together, so all wait for what one of them needs
    for item in items:
        turns[item.location[0]] = max(turns.get(item.location[0], (0, False)), _turn(item))
    items.sort(key=lambda item: (turns[item.location[0]], _turn(item)))
    for item in items:
        if reason := found[item.stash[_level]]:
            item.add_marker(pytest.mark.skip(reason=skip_reason(item.stash[_level], reason)))


def _needs_helm(item: pytest.Item) -> bool:
    """Whether a test renders the chart: ``_helm`` is the fixture of those that do."""
    return "_helm" in getattr(item, "fixturenames", ())


def _turn(item: pytest.Item) -> tuple[int, bool]:
    """The cheap first, random within a level; those that need helm, which is built last, after what needs less."""
    level = item.stash[_level]
    return max(LEVELS.index(level), LEVELS.index("api") if _needs_helm(item) else 0), _needs_helm(item)


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Wait for what is being built before the first test that needs it, outside of that test's time limit."""
    if _preparation and (item.stash[_level] != "pure" or _needs_helm(item)):
        _prepare(item)
    return (yield)


def _prepare(item: pytest.Item) -> None:
    """Wait for the API server's programs, which are built first, or for all."""
    few = item.stash[_level] == "api" and not _needs_helm(item)
    if few and (_api_ready or _preparation[0].wait_until(lambda: not obstacle("api"))):
        _api_ready.append(True)
        return
    failure = _preparation.pop().wait()
    if reason := failure or "; ".join(filter(None, (obstacle(level) for level in LEVELS))):
        _unprepared.append(f"tests that need a cluster cannot run here: {reason}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail what was waited for in vain, each test by itself: a process of several cannot end them all."""
    if _unprepared and (item.stash[_level] != "pure" or _needs_helm(item)):
        pytest.fail(_unprepared[0], pytrace=False)


def pytest_unconfigure() -> None:
    """Leave no build behind when the run ends before anything needed it."""
    for preparation in _preparation:
        preparation.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count outcomes by level, wherever the test ran."""
    if report.when == "call" or report.outcome != "passed":
        level = str(dict(report.user_properties).get("level", "pure"))
        _outcomes[level][report.outcome] += 1
        if report.skipped and (reason := skipped_level(str(report.longrepr))):
            _obstacles[level] = reason


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Give the tests of one file to one process, and all that need a cluster to the same."""
    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line which levels ran."""
    if _outcomes or _obstacles:
        terminalreporter.write_line(summary(_outcomes, _obstacles))
