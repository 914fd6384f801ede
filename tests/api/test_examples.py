"""Every file in examples/ is accepted by the API server as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.api_samples import compute_node
from support.apiserver import ApiServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = sorted(path for path in EXAMPLES.rglob("*.yaml") if "\napiVersion:" in f"\n{path.read_text()}")


def test_there_are_examples() -> None:
    assert {"supernode-384.yaml", "llama-3.1-405b-training.yaml", "fault.yaml"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_example_is_accepted(server: ApiServer, path: Path) -> None:
    body = compute_node("cm384-07")
    body["spec"].pop("faults")
    assert server.request("POST", "/apis/supernode.io/v1alpha1/computenodes", body)[0] == 201
    said = server.kubectl(
        "apply", "--server-side", "--field-manager=me", "--dry-run=server", "--validate=strict", "-f", path
    )
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    assert said.count("serverside-applied (server dry run)") == len(documents)


def test_the_documented_way_to_clear_a_fault_works(server: ApiServer) -> None:
    body = compute_node("cm384-07")
    body["spec"]["faults"] = []
    server.request("POST", "/apis/supernode.io/v1alpha1/computenodes", body)
    apply = ("apply", "--server-side", "--field-manager=me", "-f")
    shown = ("get", "cn", "cm384-07", "-o", "jsonpath={.spec.faults[*].name}")
    server.kubectl(*apply, EXAMPLES / "fault.yaml")
    assert server.kubectl(*shown) == "die-3"
    document = yaml.safe_load((EXAMPLES / "fault.yaml").read_text())
    del document["spec"]
    server.kubectl(*apply, "-", input=yaml.safe_dump(document))
    assert server.kubectl(*shown) == ""
