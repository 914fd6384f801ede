"""What the chart lets cabinets do is what they do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cabinet.machines import cabinet_process, compute_node, eventually, super_node, workload
from support.apiserver import ApiServer
from support.applying import apply
from support.permissions import calls_of, chart_account, refusals_of

UNUSED_HERE: set[tuple[str, str, str]] = set()
"""Nothing is for errors only."""


@pytest.fixture
def machine(api_server: ApiServer) -> Iterator[ApiServer]:
    apply(api_server, super_node())
    for index in range(2):
        apply(api_server, compute_node(index))
    apply(api_server, workload(2))
    yield api_server
    api_server.remove_objects()


@pytest.mark.usefixtures("_helm")
def test_a_cabinet_needs_every_permission_of_the_charts_role_and_no_other(machine: ApiServer, tmp_path: Path) -> None:
    with (
        chart_account(machine, "cabinet") as account,
        cabinet_process(account.kubeconfig, tmp_path / "log") as cabinet,
    ):
        cabinet.wait_ready()
        digest = cabinet.json("/v1/machine")["digest"]
        apply(machine, compute_node(0, faults=[{"name": "broken", "die": 3}]))
        eventually(lambda: cabinet.json("/v1/machine")["digest"] != digest, "what the watch brings")
        assert refusals_of(machine, account.user) == set()
        called = calls_of(machine, account.user)
        assert account.granted - called == UNUSED_HERE
        assert called <= account.granted
