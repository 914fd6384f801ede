"""A sweep as an Indexed Job on a real cluster: shards by completion index, a killed pod resumed, one table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.product import Product

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
SWEEP = "examples/sweep/decode-batch-and-context.yaml"
POINTS, SHARDS = 30, 6


@pytest.fixture
def claim(product: Product, tmp_path: Path) -> Iterator[Path]:
    """A volume of the node that every pod can mount, and its folder."""
    folder = tmp_path / "results"
    folder.mkdir()
    folder.chmod(0o777)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    tmp_path.chmod(0o755)
    common = {"storageClassName": "", "accessModes": ["ReadWriteMany"]}
    size = {"storage": "1Gi"}
    product.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "sweep-results"},
            "spec": {**common, "capacity": size, "hostPath": {"path": str(folder)}},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "sweep-results", "namespace": "default"},
            "spec": {**common, "volumeName": "sweep-results", "resources": {"requests": size}},
        },
    )
    yield folder
    product.kubectl("delete", "job,cm", "-n", "default", "-l", "app.kubernetes.io/component=sweep", "--wait")
    product.kubectl("delete", "pvc", "sweep-results", "-n", "default", "--wait")
    product.kubectl("delete", "pv", "sweep-results", "--wait")


def test_a_sweep_runs_as_a_job_and_goes_on_after_a_killed_pod(product: Product, claim: Path, tmp_path: Path) -> None:
    image = product.get("deploy", "-A", "-l", "app.kubernetes.io/component=operator")["items"][0]
    reference = image["spec"]["template"]["spec"]["containers"][0]["image"]
    manifest = product.supernode(
        "sweep", "-f", SWEEP, "-o", "decode.csv", "--manifest", "--shards", str(SHARDS), "--parallelism", "2",
        "--claim", "sweep-results", "--image", reference, "-n", "default",
    )  # fmt: skip
    product.kubectl("apply", "-f", "-", stdin=manifest)
    selector = ("-n", "default", "-l", "app.kubernetes.io/component=sweep")
    product.wait(lambda: running(product, *selector), "a shard to run", 60)
    victim = running(product, *selector)[0]
    product.kubectl("delete", "pod", victim, "-n", "default", "--grace-period=0", "--force")
    product.wait(lambda: job(product, *selector).get("succeeded") == SHARDS, "all shards to be complete", 300)
    assert victim not in [pod["metadata"]["name"] for pod in product.get("pods", *selector)["items"]]
    assert not job(product, *selector).get("failedIndexes")
    table = list(csv.DictReader(io.StringIO((claim / "decode.csv").read_text(encoding="utf-8"))))
    assert len(table) == POINTS
    alone = tmp_path / "alone.csv"
    product.supernode("sweep", "-f", SWEEP, "-o", str(alone))
    assert table == list(csv.DictReader(io.StringIO(alone.read_text(encoding="utf-8"))))


def job(product: Product, *selector: str) -> dict[str, object]:
    """Return the status of the sweep's Job."""
    status: dict[str, object] = product.get("job", *selector)["items"][0]["status"]
    return status


def running(product: Product, *selector: str) -> list[str]:
    """Return the names of pods that run."""
    pods = json.loads(product.kubectl("get", "pods", *selector, "-o", "json"))["items"]
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"]
