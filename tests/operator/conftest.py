"""Fixtures of the operator's tests: a world in the real API server, an operator on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.apiserver import ApiServer
from support.kube_proxy import KubeProxy
from support.operator_world import OperatorProcess, ScriptedAgent, World, wait_for


@pytest.fixture
def world(api_server: ApiServer) -> Iterator[World]:
    made = World(api_server)
    yield made
    made.clean()


@pytest.fixture
def start(world: World, tmp_path: Path) -> Iterator[Callable[..., OperatorProcess]]:
    """Start operators; what still runs at the end is killed, and none may have logged an error."""
    running: list[OperatorProcess] = []

    def begin(
        kubeconfig: Path | None = None, name: str = "operator-a", lead: bool = True, **env: str
    ) -> OperatorProcess:
        operator = OperatorProcess(kubeconfig or world.server.kubeconfig, tmp_path, name, **env)
        running.append(operator)
        if lead:
            operator.wait_leading()
        return operator

    yield begin
    for operator in running:
        operator.kill()
    assert [error for operator in running for error in operator.errors()] == []


@pytest.fixture
def agent(world: World) -> Iterator[ScriptedAgent]:
    with ScriptedAgent(world) as script:
        yield script


@pytest.fixture
def proxy(world: World) -> Iterator[KubeProxy]:
    with KubeProxy(world.server) as one:
        yield one


@pytest.fixture
def machine(world: World, start: Callable[..., OperatorProcess], agent: ScriptedAgent) -> OperatorProcess:
    """An operator of a whole machine on one node, whose servers have an agent."""
    world.node("node-a")
    world.super_node()
    operator = start()
    wait_for(lambda: len([c for c in world.compute_nodes() if c.get("status")]) == 48, "48 servers have an agent")
    return operator
