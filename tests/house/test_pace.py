"""How long a promise may take where tests run: longer on a busy machine, and never so long that it says nothing."""

from __future__ import annotations

import os

import pytest

from support.pace import crowding


@pytest.mark.parametrize(
    ("processes", "cores", "factor"),
    [(0.3, 2, 1.0), (2, 2, 1.0), (4, 2, 2.0), (6, 2, 3.0), (90, 2, 3.0), (2, None, 2.0)],
)
def test_a_promise_takes_longer_where_processes_wait_and_three_times_as_long_at_most(
    monkeypatch: pytest.MonkeyPatch, processes: float, cores: int | None, factor: float
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (processes, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert crowding() == factor
