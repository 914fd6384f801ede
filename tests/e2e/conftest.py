"""The whole product on a real one-machine cluster of its own, installed from the chart, shared by all e2e tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.product import MACHINE, Product


@pytest.fixture(scope="session")
def installed() -> Iterator[Product]:
    """The cluster with the chart installed and one machine Ready; taken down at the end, also after a failure."""
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
