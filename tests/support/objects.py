"""Objects that e2e tests and benchmarks apply."""

from __future__ import annotations

from typing import Any

from support.product import MACHINE, NAMESPACE, Product

SMALL = {"sequenceLength": 4096, "globalBatchSize": 64, "parallelism": {"tensor": 8, "pipeline": 1}}


def workload(name: str, nodes: int, *, selector: bool = False, **training: Any) -> dict[str, Any]:
    """Build a small llama-3.1-8b run on whole servers."""
    pods = {"selector": {"matchLabels": {"run": name}}} if selector else {"managed": {"nodes": nodes}}
    return {
        "apiVersion": "supernode.io/v1alpha1",
        "kind": "SuperNodeWorkload",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "superNode": MACHINE,
            "model": {"name": "llama-3.1-8b"},
            "training": {**SMALL, **training},
            "pods": pods,
        },
    }


def pod(name: str, dies: int, image: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """Build a bare pod that holds dies (and asks for no links) until it is deleted."""
    limits = {"huawei.com/Ascend910": str(dies), "cpu": "5m", "memory": "32Mi"}
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "resources": {"limits": limits, "requests": limits},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "restartPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
        "spec": spec,
    }


def image_of(product: Product) -> str:
    deployment = product.get("deployment", "-n", NAMESPACE)["items"][0]
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])
