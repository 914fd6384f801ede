"""An API server in which one of each sample exists, for changes that are tried without being kept."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from support.api_samples import SAMPLES
from support.api_tries import Tries
from support.apiserver import ApiServer


@pytest.fixture
def server(api_server: ApiServer) -> Iterator[ApiServer]:
    """The API server, without objects of ours before and after."""
    yield api_server
    api_server.remove_objects()


@pytest.fixture(scope="module")
def tries(api_server: ApiServer) -> Iterator[Tries]:
    """Create, change and read the samples."""
    existing: dict[tuple[str, str], Any] = {}
    found = Tries(api_server, existing)
    api_server.remove_objects()
    for kind, samples in SAMPLES.items():
        for sample in samples:
            status, answer = api_server.request("POST", found.collection(sample), deepcopy(sample))
            assert status == 201, answer
            existing[kind, sample["metadata"]["name"]] = answer
    yield found
    api_server.remove_objects()
