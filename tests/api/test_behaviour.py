"""What the API server makes of our objects: defaults, pruning, status, ownership of faults, selection, kubectl."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from typing import Any

import pytest

from supernode_api import KINDS, ComputeNode, SuperNode, SuperNodeWorkload
from supernode_api.crd import build_crd
from support.api_samples import SAMPLES, compute_node, super_node, workload
from support.apiserver import ApiServer, KubectlError
from support.crd_rules import walk

BASE = "/apis/supernode.io/v1alpha1"
APPLY = "application/apply-patch+yaml"


def create(server: ApiServer, path: str, body: dict[str, Any], **query: Any) -> Any:
    status, answer = server.request("POST", f"{BASE}/{path}", body, **query)
    assert status == 201, answer
    return answer


def test_a_short_supernode_gets_every_default(server: ApiServer) -> None:
    body = super_node()
    body["spec"] = {"profile": "cloudmatrix-384", "nodes": {"selector": {"matchLabels": {"pool": "a"}}}}
    assert create(server, "supernodes", body)["spec"] == {
        "profile": "cloudmatrix-384",
        "superPodID": 0,
        "nodes": {"selector": {"matchLabels": {"pool": "a"}, "matchExpressions": []}, "placement": "Packed"},
        "resources": {"npu": "huawei.com/Ascend910", "busLink": "supernode.io/bus-link"},
        "cabinetsPerPod": 1,
        "telemetry": {"intervalSeconds": 5, "detail": "Device"},
    }


def test_half_a_struct_gets_its_other_half(server: ApiServer) -> None:
    body = super_node()
    body["spec"]["telemetry"] = {"intervalSeconds": 60}
    assert create(server, "supernodes", body)["spec"]["telemetry"] == {"intervalSeconds": 60, "detail": "Device"}


def test_a_short_workload_gets_every_default(server: ApiServer) -> None:
    body = workload()
    body["spec"] = {
        "superNode": "cm384",
        "model": {"name": "llama-3.1-8b"},
        "training": {"sequenceLength": 4096, "globalBatchSize": 64},
        "pods": {"managed": {"nodes": 1}},
    }
    spec = create(server, "namespaces/default/supernodeworkloads", body)["spec"]
    assert spec["stack"] == "vendor-tuned"
    assert spec["training"] == {
        "sequenceLength": 4096,
        "globalBatchSize": 64,
        "microBatchSize": 1,
        "parallelism": {"tensor": 1, "pipeline": 1, "virtualPipeline": 1, "expert": 1},
    }


def test_a_fault_without_a_level_separates(server: ApiServer) -> None:
    body = compute_node()
    body["spec"]["faults"] = [{"name": "a", "die": 0}]
    fault = create(server, "computenodes", body)["spec"]["faults"][0]
    assert fault == {"name": "a", "level": "SeparateNPU", "code": "", "die": 0}


@pytest.mark.parametrize("kind", SAMPLES)
def test_unknown_fields_are_pruned_and_a_strict_client_is_told(server: ApiServer, kind: str) -> None:
    body = deepcopy(SAMPLES[kind][0])
    body["spec"]["nosuchfield"] = {"a": 1}
    plural = {"SuperNode": "supernodes", "ComputeNode": "computenodes"}.get(
        kind, "namespaces/default/supernodeworkloads"
    )
    assert "nosuchfield" not in create(server, plural, body, dryRun="All")["spec"]
    status, answer = server.request("POST", f"{BASE}/{plural}", body, dryRun="All", fieldValidation="Strict")
    assert status == 400
    assert 'unknown field "spec.nosuchfield"' in answer["message"]


def test_status_is_written_through_its_own_door_only(server: ApiServer) -> None:
    created = create(server, "supernodes", super_node())
    assert "status" not in created
    path = f"{BASE}/supernodes/cm384"
    changed = {**created, "status": super_node()["status"], "spec": {**created["spec"], "cabinetsPerPod": 16}}
    reported = server.request("PUT", f"{path}/status", changed)[1]
    assert reported["status"]["placedNodes"] == 48
    assert reported["spec"]["cabinetsPerPod"] == 1, "a status write changes no spec"
    assert reported["metadata"]["generation"] == 1
    changed = {**reported, "status": {}, "spec": {**created["spec"], "cabinetsPerPod": 16}}
    replaced = server.request("PUT", path, changed)[1]
    assert replaced["status"]["placedNodes"] == 48, "a spec write changes no status"
    assert replaced["metadata"]["generation"] == 2


def test_status_that_nobody_wrote_stays_absent(server: ApiServer) -> None:
    create(server, "supernodes", super_node())
    patch = {"apiVersion": "supernode.io/v1alpha1", "kind": "SuperNode", "status": {"placedNodes": 1}}
    path = f"{BASE}/supernodes/cm384/status"
    reported = server.request("PATCH", path, patch, content_type=APPLY, fieldManager="test", force="true")[1]
    assert reported["status"] == {"placedNodes": 1}


def fault(name: str, **what: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"apiVersion": "supernode.io/v1alpha1", "kind": "ComputeNode", "spec": {}}
    body["spec"]["faults"] = [{"name": name, **what}]
    return body


def test_two_managers_have_faults_on_one_server(server: ApiServer) -> None:
    body = compute_node()
    body["spec"].pop("faults")
    path = f"{BASE}/computenodes/cm384-07"

    def apply(manager: str, patch: dict[str, Any]) -> list[str]:
        status, answer = server.request("PATCH", path, patch, content_type=APPLY, fieldManager=manager)
        assert status < 300, answer
        return [entry["name"] for entry in answer["spec"]["faults"]]

    assert apply("supernode-operator", body) == []
    assert apply("me", fault("mine", die=3)) == ["mine"]
    assert apply("you", fault("yours", l1={"plane": 0})) == ["mine", "yours"]
    assert apply("supernode-operator", body) == ["mine", "yours"], "the operator removes only what it wrote"
    status, answer = server.request("PATCH", path, fault("mine", die=4), content_type=APPLY, fieldManager="you")
    assert status == 409
    assert '.spec.faults[name="mine"].die' in answer["message"]
    empty = {"apiVersion": "supernode.io/v1alpha1", "kind": "ComputeNode"}
    assert apply("me", empty) == ["yours"]
    assert apply("you", empty) == []


def test_what_is_watched_by_a_field_can_be_selected_by_it(server: ApiServer) -> None:
    for number, node in enumerate(("node-1", "node-2", "node-1")):
        body = compute_node(f"cm384-0{number}")
        body["spec"]["nodeName"] = node
        create(server, "computenodes", body)
    found = server.kubectl("get", "cn", "--field-selector", "spec.nodeName=node-1,spec.superNode=cm384", "-o", "name")
    assert found.split() == ["computenode.supernode.io/cm384-00", "computenode.supernode.io/cm384-02"]
    create(server, "namespaces/default/supernodeworkloads", workload())
    for selector, expected in (("cm384", 1), ("other", 0)):
        listed = server.request("GET", f"{BASE}/supernodeworkloads", fieldSelector=f"spec.superNode={selector}")[1]
        assert len(listed["items"]) == expected


HEADERS = {
    "sn": "NAME PROFILE NODES DIES LINKS ALLOCATED READY REASON AGE",
    "cn": "NAME SUPERNODE CABINET SERVER NODE FIRST-FAULT FIRST-POD READY AGE",
    "snw": "NAME SUPERNODE MODEL DIES TOKENS/S/CARD MFU READY REASON AGE",
}
ROWS = {
    "sn": "cm384 cloudmatrix-384 48 768 5376 768 True AsExpected",
    "cn": "cm384-07 cm384 1 7 node-1 die-3 p-0 True",
    "snw": "llama cm384 llama-3.1-405b 16 133 0.4501 True AsExpected",
}
WIDE = {
    "sn": "PLACEMENT DEGRADED POWER MESSAGE AGE",
    "cn": "READY REASON AGE",
    "snw": "STEP TTFT TPOT BOUND MESSAGE AGE",
}


def test_tables_read_well(server: ApiServer) -> None:
    for body in (super_node(), compute_node(), workload()):
        path = {"SuperNode": "supernodes", "ComputeNode": "computenodes"}.get(
            body["kind"], "namespaces/default/supernodeworkloads"
        )
        created = create(server, path, body)
        name = body["metadata"]["name"]
        assert server.request("PUT", f"{BASE}/{path}/{name}/status", {**created, "status": body["status"]})[0] == 200
    for short, header in HEADERS.items():
        lines = server.kubectl("get", short).splitlines()
        assert lines[0].split() == header.split()
        assert lines[1].split()[:-1] == ROWS[short].split()
        assert max(map(len, lines)) <= 120, "a row fits on a screen"
        assert server.kubectl("get", short, "-o", "wide").splitlines()[0].endswith(" ".join(WIDE[short].split()[-1:]))
        assert re.search(r"\s+".join(WIDE[short].split()), server.kubectl("get", short, "-o", "wide"))
    everything = server.kubectl("get", "supernode-all", "-A", "-o", "name").split()
    assert len(everything) == 3


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind_name)
def test_kubectl_explain_describes_every_field(api_server: ApiServer, kind: Any) -> None:
    schema = build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    tree = api_server.kubectl("explain", kind.short_name, "--recursive")
    for path, node in walk(schema):
        if path[:1] not in (("spec",), ("status",)) or "properties" not in node:
            continue
        place = ".".join((kind.short_name, *(step for step in path if step != "[]")))
        shown = api_server.kubectl("explain", place)
        words = " ".join(shown.split())
        assert "<no description>" not in words, place
        for name, child in node["properties"].items():
            assert re.search(rf"^\s+{name}\t<", tree, re.MULTILINE), f"{place}.{name}"
            assert " ".join(child["description"].split()) in words, f"{place}.{name}"


def test_names_collide_with_nothing(api_server: ApiServer) -> None:
    taken: dict[str, str] = {}
    for line in api_server.kubectl("api-resources", "--no-headers").splitlines():
        words = line.split()
        names = {words[0], *(words[1].split(",") if len(words) == 5 else ())}
        for name in names:
            assert name not in taken or "supernode.io" not in (group := words[-3] + taken[name]), (name, group)
            taken[name] = words[-3]
    assert {"sn", "cn", "snw"} <= set(taken)
    kinds = {kind.kind_name.lower() for kind in KINDS} | {kind.plural for kind in KINDS}
    assert "supernode-all" not in kinds, "kubectl expands categories first: delete KIND would hit everything"


def test_waiting_for_ready_works(server: ApiServer) -> None:
    created = create(server, "supernodes", super_node())
    with pytest.raises(KubectlError, match="timed out"):
        server.kubectl("wait", "sn/cm384", "--for=condition=Ready", "--timeout=100ms")
    server.request("PUT", f"{BASE}/supernodes/cm384/status", {**created, "status": super_node()["status"]})
    server.kubectl("wait", "sn/cm384", "--for=condition=Ready", "--timeout=5s")


@pytest.mark.parametrize("model", [SuperNode, ComputeNode, SuperNodeWorkload], ids=lambda model: model.__name__)
def test_models_read_what_the_server_returns(server: ApiServer, model: Any) -> None:
    path = "namespaces/default/supernodeworkloads" if model.namespaced else model.plural
    for sample in SAMPLES[model.__name__]:
        created = create(server, path, deepcopy(sample))
        target = f"{BASE}/{path}/{sample['metadata']['name']}"
        answer = server.request("PUT", f"{target}/status", {**created, "status": sample["status"]})[1]
        parsed = model.model_validate(answer)
        assert parsed.metadata.uid == answer["metadata"]["uid"]
        for part in ("spec", "status"):
            written = getattr(parsed, part).model_dump(mode="json", by_alias=True, exclude_none=True)
            assert written == answer[part], json.dumps(written)
        again = model.model_validate_json(json.dumps({**answer, "spec": created["spec"]}))
        assert again == parsed
