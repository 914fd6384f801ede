"""Tests of the chart need helm, and where that is required its absence is an error."""

from __future__ import annotations

import os

import pytest

from support.chart import missing_helm
from support.levels import required_levels


@pytest.fixture(autouse=True, scope="session")
def _helm() -> None:
    if reason := missing_helm():
        if required_levels(os.environ):
            pytest.fail(reason)
        pytest.skip(reason)
