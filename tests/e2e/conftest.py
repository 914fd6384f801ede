"""The whole product on a real one-machine cluster of its own, installed from the chart, shared by all e2e tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support.product import MACHINE, Product


@pytest.fixture(scope="session")
def installed() -> Iterator[Product]:
    """The cluster with the chart installed and one machine Ready; taken down at the end, also after a failure.

    With SUPERNODE_E2E_INSTANCE=demo the tests run on an instance that is up already, and leave it up.
    """
    if existing := os.environ.get("SUPERNODE_E2E_INSTANCE"):
        product = Product(existing)
        product.load_environment()
        product.clean()
        yield product
        return
    product = Product("e2e")
    try:
        product.start()
        yield product
    finally:
        product.stop()


@pytest.fixture
def product(installed: Product) -> Iterator[Product]:
    """The same, left as it was found: no workload, no fault, the machine Ready."""
    installed.wait_machine_ready()
    yield installed
    installed.clean()
    assert installed.machine()["metadata"]["name"] == MACHINE
