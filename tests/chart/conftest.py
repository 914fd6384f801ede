"""Every test of the chart needs helm."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def _every_test_renders(_helm: None) -> None:
    pass
