"""Deleting the machine leaves nothing; `helm test` brings one up by itself; the machine can come back."""

from __future__ import annotations

import pytest

from support.product import AGENT_NAMESPACE, MACHINE, NAMESPACE, RELEASE, Product

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def left(product: Product) -> list[str]:
    """Return what is left of the machine."""
    found = [f"cn/{item['metadata']['name']}" for item in product.get("computenodes")["items"]]
    for kind in ("pods", "statefulsets", "services"):
        items = product.get(kind, "-n", NAMESPACE, "-l", f"supernode.io/supernode={MACHINE}")["items"]
        found += [f"{kind}/{item['metadata']['name']}" for item in items]
    node = product.get("nodes")["items"][0]["metadata"]
    found += [key for key in (*node["labels"], *node.get("annotations", {})) if key.startswith("supernode.io/")]
    found += [f"agent/{item['metadata']['name']}" for item in product.get("pods", "-n", AGENT_NAMESPACE)["items"]]
    return [name for name in found if name != "supernode.io/pool"]


def test_deleting_the_machine_leaves_nothing_and_helm_test_brings_up_its_own(product: Product) -> None:
    product.kubectl("delete", "supernode", MACHINE, "--timeout=180s")
    try:
        product.wait(lambda: product.allocatable() == (0, 0), "no resource above zero", 30)
        product.wait(lambda: not left(product), "nothing to be left", 120)
        product.run(["helm", "test", RELEASE, "--namespace", NAMESPACE, "--timeout", "5m"])
        product.wait(lambda: not product.get("supernodes")["items"], "the test's machine to be gone", 180)
    finally:
        product.kubectl("apply", "-f", "examples/supernode-384.yaml")
    product.wait_machine_ready(240)


def test_uninstalling_the_chart_deletes_the_machine_first_and_keeps_the_definitions(product: Product) -> None:
    try:
        product.run(["helm", "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "5m"])
        assert not product.get("supernodes")["items"]
        assert not left(product)
        product.wait(lambda: product.allocatable() == (0, 0), "no resource above zero", 30)
        product.wait(lambda: not product.get("pods", "-n", NAMESPACE)["items"], "the operator to be gone", 120)
        for kind in ("clusterroles", "clusterrolebindings", "validatingadmissionpolicies"):
            labelled = product.get(kind, "-l", f"app.kubernetes.io/instance={RELEASE}")["items"]
            assert [item["metadata"]["name"] for item in labelled] == []
    finally:
        product.install()
        product.kubectl("apply", "-f", "examples/supernode-384.yaml")
    product.wait_machine_ready(240)
