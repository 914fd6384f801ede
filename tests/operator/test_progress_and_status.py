"""Progress, verdicts, Events, Jobs: values in, values out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernode_api import SuperNode, SuperNodeWorkload
from supernode_api.common import LabelSelector
from supernode_api.conditions import ConditionType, Reason
from supernode_dataplane.profile import load_profile
from supernode_dataplane.progress import format_time
from supernode_operator.domain.cabinets import PodSettings, build_service, build_stateful_sets
from supernode_operator.domain.claims import claim_of, elder_claims
from supernode_operator.domain.events import build_events
from supernode_operator.domain.faults import describe_fault
from supernode_operator.domain.jobs import build_job, build_job_scale, job_belongs
from supernode_operator.domain.objects import natural_key, selects, some, subsumes
from supernode_operator.domain.progressing import plan_progress
from supernode_operator.domain.verdicts import Verdict, conditions_of, fine

PROFILE = load_profile("cloudmatrix-384")
NOW = 1_700_000_000.0


def line(tokens: int, rate: str, at: float = NOW) -> dict[str, Any]:
    return {"progress": {"tokens": tokens, "steps": 0, "at": format_time(at), "tokensPerSecond": rate}}


def test_progress_is_written_only_when_the_rate_changes() -> None:
    assert plan_progress({}, 0.0, 1000, 10, NOW).progress is None
    begun = plan_progress({}, 123.44, 1000, 10, NOW)
    assert begun.progress == line(0, "123.4")["progress"]
    same = plan_progress({"progress": begun.progress}, 123.41, 1000, 10, NOW + 3)
    assert same.progress is begun.progress
    assert same.wake_epoch == begun.wake_epoch
    changed = plan_progress({"progress": begun.progress}, 0.0, 1000, 10, NOW + 5)
    assert changed.progress is not None
    assert (changed.progress["tokens"], changed.progress["steps"]) == (617, 61)
    assert changed.wake_epoch is None


def test_completion_counts_from_the_predicted_instant_however_late_it_is_noticed() -> None:
    late = plan_progress(line(0, "100"), 100.0, 1000, 10, NOW + 3600)
    assert late.completion_time == format_time(NOW + 10)
    assert late.progress == {
        "tokens": 1000,
        "steps": 100,
        "at": format_time(NOW + 10),
        "tokensPerSecond": "0",
    }
    early = plan_progress(line(0, "100"), 100.0, 1000, 10, NOW + 9.999999)
    assert not early.complete
    assert early.wake_epoch == NOW + 10
    assert plan_progress(line(0, "100"), 100.0, 1000, 10, NOW + 10).complete


def test_what_is_complete_stays_so() -> None:
    done = {**line(1000, "0"), "completionTime": "2026-01-01T00:00:00Z"}
    plan = plan_progress(done, 55.0, 1000, 10, NOW)
    assert (plan.progress, plan.complete) == (done["progress"], True)


def test_an_endless_run_never_completes() -> None:
    assert plan_progress(line(0, "100"), 100.0, None, 10, NOW + 1e9).complete is False


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0.001, 100)), max_size=12), st.integers(1, 10**9))
def test_tokens_never_go_back_and_never_pass_the_target(changes: list[tuple[float, float]], target: int) -> None:
    status: dict[str, Any] = {}
    now, last = NOW, 0
    for rate, seconds in changes:
        plan = plan_progress(status, rate, target, 7, now)
        if plan.progress is not None:
            assert last <= plan.progress["tokens"] <= target
            assert plan.progress["steps"] == plan.progress["tokens"] // 7
            last = plan.progress["tokens"]
            status = {"progress": plan.progress}
        if plan.complete:
            assert last == target
            return
        now += seconds


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    first = conditions_of([], [fine(ConditionType.READY)], generation=1, now="t1")
    again = conditions_of(first, [fine(ConditionType.READY, "more")], generation=2, now="t2")
    assert (again[0]["lastTransitionTime"], again[0]["observedGeneration"]) == ("t1", 2)
    off = Verdict(ConditionType.PODS_CONTESTED, False, Reason.AS_EXPECTED, only_when_true=True)
    assert conditions_of([], [off], generation=1, now="t1") == []
    on = Verdict(ConditionType.PODS_CONTESTED, True, Reason.PODS_CONTESTED, "x", only_when_true=True)
    was = conditions_of([], [on], generation=1, now="t1")
    assert conditions_of(was, [off], generation=1, now="t2")[0]["status"] == "False"


def test_one_transition_is_one_event_however_often_it_is_reported() -> None:
    obj = {"metadata": {"name": "m", "uid": "u", "resourceVersion": "7"}}
    old = [{"type": "Ready", "status": "True", "reason": "AsExpected", "lastTransitionTime": "t0"}]
    new = [{"type": "Ready", "status": "False", "reason": "NodeTaken", "lastTransitionTime": "t1", "message": "why"}]
    first = build_events("SuperNode", obj, old, new, "t1")
    second = build_events("SuperNode", obj, old, new, "t2")
    assert len(first) == 1
    assert first[0]["metadata"] == second[0]["metadata"]
    obj["metadata"]["resourceVersion"] = "9"
    again = build_events("SuperNode", obj, old, new, "t2")
    assert again[0]["metadata"] != first[0]["metadata"], "it comes again, after another"
    assert (first[0]["metadata"]["namespace"], first[0]["type"], first[0]["message"]) == ("default", "Warning", "why")
    assert build_events("SuperNode", obj, new, new, "t3") == []
    calm = [{"type": "Ready", "status": "False", "reason": "WaitingForAgent", "lastTransitionTime": "t", "message": ""}]
    assert build_events("SuperNode", obj, [], calm, "t") == []


def test_nodes_that_are_left_out_are_told_although_the_machine_stands() -> None:
    obj = {"metadata": {"name": "m", "uid": "u", "resourceVersion": "7"}}
    types = [ConditionType.NODES_READY, ConditionType.READY]
    whole = conditions_of([], [fine(type_) for type_ in types], generation=1, now="t1")
    left_out = Verdict(ConditionType.NODES_READY, True, Reason.NODE_TAKEN, "left out: a")
    short = conditions_of(whole, [left_out, fine(ConditionType.READY)], generation=1, now="t2")
    told = build_events("SuperNode", obj, whole, short, "t2")
    assert [(event["type"], event["reason"], event["message"]) for event in told] == [
        ("Warning", "NodeTaken", "left out: a")
    ]
    assert build_events("SuperNode", obj, short, short, "t3") == []
    assert build_events("SuperNode", obj, short, whole, "t3") == []


def workload(name: str = "w", second: int = 0, **pods: Any) -> dict[str, Any]:
    training = {"sequenceLength": 4096, "globalBatchSize": 64}
    spec = {"superNode": "m", "model": {"name": "llama-3.1-8b"}, "training": training, "pods": pods}
    stamp = f"2026-01-01T00:00:{second:02d}Z"
    meta = {"name": name, "namespace": "n", "uid": name, "creationTimestamp": stamp}
    return {"metadata": meta, "spec": spec}


def machine(**spec: Any) -> dict[str, Any]:
    full = {"profile": "cloudmatrix-384", "nodes": {"selector": {"matchLabels": {"pool": "a"}}}, **spec}
    return {"metadata": {"name": "m", "uid": "u"}, "spec": full}


def test_a_job_is_put_right_only_when_it_is_wrong() -> None:
    raw = workload(managed={"nodes": 3})
    job = build_job(
        raw,
        SuperNodeWorkload.model_validate(raw),
        PROFILE,
        SuperNode.model_validate(machine()).spec.resources,
        PodSettings("release", "image"),
    )
    live = {**job, "metadata": {**job["metadata"], "uid": "j", "resourceVersion": "5"}}
    assert job_belongs(live, raw)
    assert not job_belongs(live, workload("other"))
    assert build_job_scale(live, 3, suspend=False) is None
    assert build_job_scale(live, 4, suspend=False) == {
        "metadata": {"uid": "j", "resourceVersion": "5"},
        "spec": {"completions": 4, "parallelism": 4, "suspend": False},
    }


@pytest.mark.parametrize(
    ("per_pod", "sizes"),
    [
        (1, {"m-compute": 12, "m-bus": 4}),
        (2, {"m-compute": 6, "m-bus": 2}),
        (4, {"m-compute": 3, "m-bus": 1}),
        (16, {"m-cabinets": 1}),
    ],
)
def test_cabinets_are_spread_over_pods_as_asked(per_pod: int, sizes: dict[str, int]) -> None:
    raw = machine(cabinetsPerPod=per_pod)
    settings = PodSettings("release", "image", service_account="cabinet", telemetry={"OTEL_X": "1"})
    sets = build_stateful_sets(raw, SuperNode.model_validate(raw), PROFILE, settings)
    assert {s["metadata"]["name"]: s["spec"]["replicas"] for s in sets} == sizes
    for one in sets:
        pod = one["spec"]["template"]["spec"]
        assert one["spec"]["podManagementPolicy"] == "Parallel"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        env = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
        assert (env["SUPERNODE_CABINETS_PER_POD"], env["OTEL_X"]) == (str(per_pod), "1")
        service = build_service(raw, SuperNode.model_validate(raw), settings)
        assert service["spec"]["selector"].items() <= one["spec"]["template"]["metadata"]["labels"].items()


def test_claims_follow_the_job_or_the_selector() -> None:
    managed = claim_of(SuperNodeWorkload.model_validate(workload(managed={"nodes": 1})))
    owner = {"controller": True, "kind": "Job", "name": "w", "uid": "j"}
    mine = {"metadata": {"namespace": "n", "labels": {"supernode.io/workload": "w"}, "ownerReferences": [owner]}}
    assert managed(mine)
    assert not managed({"metadata": {**mine["metadata"], "namespace": "other"}})
    assert not managed({"metadata": {**mine["metadata"], "ownerReferences": []}})
    young = workload("young", 9, selector={"matchLabels": {"a": "b"}})
    elder = workload("elder", 1, selector={"matchLabels": {"a": "b"}})
    done = {**workload("done", 0, selector={"matchLabels": {"a": "b"}}), "status": {"completionTime": "t"}}
    garbled = {**workload("garbled", 0), "spec": {}}
    assert [who for who, _ in elder_claims(young, [young, elder, done, garbled])] == ["n/elder"]


def test_selectors_match_as_in_kubernetes() -> None:
    def match(labels: dict[str, str], *terms: tuple[str, str, list[str]], **exact: str) -> bool:
        rows = [{"key": k, "operator": o, "values": v} for k, o, v in terms]
        return selects(LabelSelector.model_validate({"matchLabels": exact, "matchExpressions": rows}), labels)

    assert match({"a": "1"}, a="1")
    assert not match({"a": "1"}, a="2")
    assert match({"a": "1"}, ("a", "In", ["1", "2"]), ("b", "DoesNotExist", []), ("b", "NotIn", ["x"]))
    assert not match({}, ("a", "In", ["1"]))
    assert not match({"a": "1"}, ("a", "NotIn", ["1"]))
    assert not match({}, ("a", "Exists", []))
    assert not match({"a": "1"}, ("a", "DoesNotExist", []))


def test_defaults_of_the_server_are_no_difference_and_changes_are() -> None:
    live = {"a": 1, "extra": True, "list": [{"name": "x", "defaulted": 1}]}
    assert subsumes(live, {"a": 1, "list": [{"name": "x"}], "empty": {}})
    assert not subsumes(live, {"a": 2})
    assert not subsumes(live, {"list": []})
    assert not subsumes(live, {"missing": 1})
    assert not subsumes({"a": 1}, {"a": {"b": 1}})


def test_people_read_short_lists_and_faults() -> None:
    assert some(["a", "b"], 2) == "a, b"
    assert some(["a", "b", "c"], 2) == "a, b and 1 more"
    assert sorted(["p-10", "p-2"], key=natural_key) == ["p-2", "p-10"]
    assert describe_fault({"diePort": {"die": 1, "plane": 2}}) == "port of die 1 on plane 2 (SeparateNPU)"
    assert describe_fault({"uplink": {"plane": 2, "port": 9}, "level": "X"}) == "uplink 9 of plane 2 (X)"
    assert describe_fault({"l1": {"plane": 6}, "code": "C"}) == "L1 chip of plane 6 (SeparateNPU C)"


def condition(type_: str, status: str, reason: str) -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": "t"}


def test_events_tell_what_ready_does_not_already_say() -> None:
    obj = {"metadata": {"name": "w", "namespace": "team", "uid": "u", "resourceVersion": "7"}}
    new = [
        condition("Ready", "True", "Running"),
        condition("Accepted", "True", "Running"),
        condition("NodesReady", "False", "NodeTaken"),
        condition("Degraded", "Unknown", "FaultsInForce"),
        condition("SpansServers", "True", "SpansServers"),
        condition("Complete", "False", "Incomplete"),
    ]
    events = build_events("SuperNodeWorkload", obj, [condition("Ready", "False", "Incomplete")], new, "t")
    assert [(e["reason"], e["type"], e["message"]) for e in events] == [
        ("Running", "Normal", "Ready is True"),
        ("SpansServers", "Warning", "SpansServers is True"),
    ]
    assert (
        {e["metadata"]["namespace"] for e in events} == {e["involvedObject"]["namespace"] for e in events} == {"team"}
    )


def test_a_selector_claims_pods_of_its_own_namespace() -> None:
    has = claim_of(SuperNodeWorkload.model_validate(workload(selector={"matchLabels": {"a": "b"}})))
    assert has({"metadata": {"namespace": "n", "labels": {"a": "b"}}})
    assert not has({"metadata": {"namespace": "other", "labels": {"a": "b"}}})
    assert not has({"metadata": {"namespace": "n"}})


def test_without_a_service_account_the_namespaces_default_is_used() -> None:
    raw = machine()
    sets = build_stateful_sets(raw, SuperNode.model_validate(raw), PROFILE, PodSettings("release", "image"))
    assert all("serviceAccountName" not in s["spec"]["template"]["spec"] for s in sets)
