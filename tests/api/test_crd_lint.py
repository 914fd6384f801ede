"""House rules for our own CRDs, after the checks that the Kubernetes projects run over theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.crd_rules import walk

CRDS = Path(__file__).resolve().parents[2] / "crds"
DOCUMENTS = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CRDS.glob("*.yaml"))}
every_crd = pytest.mark.parametrize("name", DOCUMENTS)


def version_of(name: str) -> Any:
    return DOCUMENTS[name]["spec"]["versions"][0]


def schema_of(name: str) -> Any:
    return version_of(name)["schema"]["openAPIV3Schema"]


def nodes(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, node in walk(schema_of(name)):
        if path[:1] in (("spec",), ("status",)):
            yield ".".join(path), node


def field_at(schema: Any, json_path: str) -> Any:
    for step in re.findall(r"\.(\w+)|(\[[^]]*\])", json_path):
        schema = schema["items"] if step[1] else schema["properties"][step[0]]
    return schema


def test_there_is_one_crd_for_each_kind() -> None:
    assert list(DOCUMENTS) == [
        f"supernode.io_{plural}.yaml" for plural in ("computenodes", "supernodes", "supernodeworkloads")
    ]


@every_crd
def test_conditions_come_first_and_are_keyed_by_type(name: str) -> None:
    status = schema_of(name)["properties"]["status"]["properties"]
    assert list(status)[:2] == ["conditions", "observedGeneration"]
    assert status["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    condition = status["conditions"]["items"]
    assert set(condition["properties"]) == {
        "type",
        "status",
        "reason",
        "message",
        "lastTransitionTime",
        "observedGeneration",
    }


@every_crd
def test_no_phase(name: str) -> None:
    assert not [path for path, _ in nodes(name) if path.lower().endswith(("phase", "status.state"))]


@every_crd
def test_no_floats(name: str) -> None:
    assert not [path for path, node in nodes(name) if node["type"] == "number"]


@every_crd
def test_no_durations_as_text(name: str) -> None:
    assert not [path for path, node in nodes(name) if node.get("format") == "duration"]
    assert not [path for path, _ in nodes(name) if re.search("(timeout|interval|period)$", path, re.IGNORECASE)]


@every_crd
def test_status_is_optional_and_has_its_own_door(name: str) -> None:
    assert "status" not in schema_of(name)["required"]
    assert not schema_of(name)["properties"]["status"].get("required")
    assert version_of(name)["subresources"] == {"status": {}}


@every_crd
def test_names_are_camel_case(name: str) -> None:
    for path, _ in nodes(name):
        last = path.rpartition(".")[2]
        assert last in ("[]", "*") or re.fullmatch("[a-z][A-Za-z0-9]*", last), path


@every_crd
def test_nothing_is_said_twice(name: str) -> None:
    for path, node in nodes(name):
        rules = [rule["rule"] for rule in node.get("x-kubernetes-validations", ())]
        messages = [rule["message"] for rule in node.get("x-kubernetes-validations", ())]
        assert len(set(rules)) == len(rules) == len(set(messages)), path
        assert len(set(node.get("required", ()))) == len(node.get("required", ())), path
    columns = [column["name"] for column in version_of(name)["additionalPrinterColumns"]]
    assert len(set(columns)) == len(columns)


@every_crd
def test_every_field_is_described_in_a_sentence(name: str) -> None:
    for path, node in nodes(name):
        last = path.rpartition(".")[2]
        if last not in ("[]", "*"):
            assert re.fullmatch(r".{4,400}\.", node["description"], re.DOTALL), path


@every_crd
def test_every_string_list_and_map_is_bounded(name: str) -> None:
    for path, node in nodes(name):
        if node["type"] == "string":
            assert "maxLength" in node or "enum" in node, path
        if node["type"] == "array":
            assert "maxItems" in node, path
            assert node["x-kubernetes-list-type"] in ("map", "atomic", "set"), path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


@every_crd
def test_every_integer_says_its_size_and_least_value(name: str) -> None:
    for path, node in nodes(name):
        if node["type"] == "integer" and "enum" not in node:
            assert node["format"] in ("int32", "int64"), path
            assert "minimum" in node, path


@every_crd
def test_only_spec_has_defaults_and_nothing_required_has_one(name: str) -> None:
    for path, node in nodes(name):
        assert "default" not in node or path.startswith("spec"), path
        for required in node.get("required", ()):
            assert "default" not in node["properties"][required], f"{path}.{required}"


@every_crd
def test_columns_exist_and_end_with_the_age(name: str) -> None:
    columns = version_of(name)["additionalPrinterColumns"]
    narrow = [column for column in columns if not column.get("priority")]
    assert 5 <= len(narrow) <= 8
    assert columns[-1]["jsonPath"] == ".metadata.creationTimestamp"
    for column in columns[:-1]:
        kind = field_at(schema_of(name), column["jsonPath"])["type"]
        assert kind == column["type"], column
    assert all(column["description"] for column in columns)


@every_crd
def test_selectable_fields_are_plain(name: str) -> None:
    for field in version_of(name).get("selectableFields", ()):
        assert field_at(schema_of(name), field["jsonPath"])["type"] == "string"


@every_crd
def test_it_is_small(name: str) -> None:
    assert (CRDS / name).stat().st_size < 100_000


@every_crd
def test_nothing_of_a_client_is_left_in_it(name: str) -> None:
    assert "kubectl.kubernetes.io" not in (CRDS / name).read_text(encoding="utf-8")
    assert DOCUMENTS[name]["spec"]["names"]["categories"] == ["supernode-all"]
