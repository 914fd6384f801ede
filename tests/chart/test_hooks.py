"""The chart's hooks against a real API server, with the permissions that the chart gives them and no more."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supernode_operator import chart_test, uninstall
from supernode_operator.chart_test import build_super_node, find_hopeless, run_test, summarize
from supernode_operator.hooks import HookError, describe_conditions
from support.apiserver import ApiServer
from support.chart import RELEASE, find, render
from support.permissions import Account, calls_of, chart_account, refusals_of
from support.processes import child

PATH = "/apis/supernode.io/v1alpha1/supernodes"
NAME = f"{RELEASE}-test"


def condition(type_: str, status: str, reason: str = "Reconciling", message: str = "") -> dict[str, Any]:
    moment = "2026-01-01T00:00:00Z"
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": moment}


READY = condition("Ready", "True", "AsExpected")
TAKEN = condition("Ready", "False", "NodeTaken", "node a belongs to SuperNode cm384")


# ------------------------------------------------------------ words


def test_conditions_speak_when_something_is_wrong_and_deletion_comes_first() -> None:
    told = describe_conditions(
        {
            "status": {
                "conditions": [
                    condition("NodesReady", "True", "AsExpected"),
                    condition("CabinetsReady", "False", "WaitingForCabinets", "3 of 16"),
                    condition("Ready", "False", "WaitingForCabinets", "3 of 16"),  # the summary repeats it
                    condition("Degraded", "False", "AsExpected"),
                    condition("Progressing", "True"),
                    condition("DeletionBlocked", "True", "DevicesHeld", "pods default/a, default/b hold dies"),
                ]
            }
        }
    )
    assert told == (
        "DeletionBlocked is True, DevicesHeld (pods default/a, default/b hold dies); "
        "CabinetsReady is False, WaitingForCabinets (3 of 16)"
    )


def test_a_supernode_with_nothing_to_complain_of_says_nothing() -> None:
    assert describe_conditions({"status": {"conditions": [READY]}}) == "no condition says why"


@pytest.mark.parametrize("super_node", [{}, {"status": {}}, {"status": {"conditions": []}}])
def test_a_supernode_that_nobody_looks_after_is_said_to_be_that(super_node: dict[str, Any]) -> None:
    assert describe_conditions(super_node) == "it has no conditions: does the operator run?"


def test_what_waiting_does_not_change_has_a_remedy() -> None:
    told = find_hopeless({"status": {"conditions": [TAKEN]}})
    assert told is not None
    assert (
        told
        == "NodeTaken: node a belongs to SuperNode cm384; somebody took the node that was chosen, run helm test again"
    )
    assert find_hopeless({"status": {"conditions": [condition("Ready", "False", "WaitingForAgent")]}}) is None
    assert find_hopeless({}) is None


def test_the_summary_names_the_numbers() -> None:
    status = {"placedNodes": 48, "kubernetesNodes": 1, "allocatable": {"dies": 768, "busLinks": 5376}}
    assert summarize({"metadata": {"name": NAME}, "status": status}) == (
        "SuperNode supernode-test is Ready: 48 compute servers on 1 Kubernetes node, 768 dies and 5376 bus links "
        "allocatable"
    )


# ------------------------------------------------------------ against the API server


@pytest.fixture(scope="module")
def accounts(api_server: ApiServer, _helm: None) -> Iterator[Callable[[str], Path]]:
    """Return a kubeconfig of a hook's own account, with the chart's permissions."""
    with contextlib.ExitStack() as stack:
        made = {name: stack.enter_context(chart_account(api_server, name)) for name in ("uninstall", "test")}
        yield lambda name: made[name].kubeconfig


def assert_it_needed_all_that_it_may(server: ApiServer, account: Account) -> None:
    """No hook has a permission that only an error would need."""
    assert refusals_of(server, account.user) == set()
    assert calls_of(server, account.user) == account.granted


def make_node(server: ApiServer, name: str) -> None:
    """Make a bare Node that is Ready, as a kubelet of that host name would."""
    labels = {"kubernetes.io/os": "linux", "kubernetes.io/hostname": name}
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    assert server.request("POST", "/api/v1/nodes", body)[0] == 201
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": ""}]}}
    path, merge = f"/api/v1/nodes/{name}/status", "application/strategic-merge-patch+json"
    assert server.request("PATCH", path, ready, content_type=merge)[0] == 200
    # The API server gives each new Node a taint, which a controller takes away.
    untainted = {"spec": {"taints": None}}
    assert server.request("PATCH", f"/api/v1/nodes/{name}", untainted, content_type=merge)[0] == 200


@pytest.fixture
def server(api_server: ApiServer) -> Iterator[ApiServer]:
    api_server.remove_objects()
    make_node(api_server, "worker")
    yield api_server
    api_server.remove_objects()
    api_server.request("DELETE", "/api/v1/nodes/worker")


def create(server: ApiServer, name: str, number: int, *, finalizer: bool = False) -> None:
    body = build_super_node(name, number, {"kubernetes.io/os": "linux"})
    if finalizer:
        body["metadata"]["finalizers"] = ["supernode.io/nodes"]
    assert server.request("POST", PATH, body)[0] == 201


def patch(server: ApiServer, name: str, body: dict[str, Any], subresource: str = "") -> int:
    path = f"{PATH}/{name}{subresource}"
    return server.request("PATCH", path, body, content_type="application/merge-patch+json")[0]


@contextlib.contextmanager
def operator(server: ApiServer, *conditions: dict[str, Any], gone_after: float = 0.3) -> Iterator[list[str]]:
    """Play the operator for SuperNodes as they appear: a finalizer and these conditions; hand back after a while."""
    stop, seen = threading.Event(), []
    deleted: dict[str, float] = {}
    known: set[str] = set()

    def play() -> None:
        while not stop.wait(0.05):
            for item in server.request("GET", PATH)[1]["items"]:
                name, uid = item["metadata"]["name"], item["metadata"]["uid"]
                if "deletionTimestamp" in item["metadata"]:
                    if time.monotonic() - deleted.setdefault(uid, time.monotonic()) > gone_after:
                        patch(server, name, {"metadata": {"finalizers": None}})
                elif uid not in known:
                    patch(server, name, {"metadata": {"finalizers": ["supernode.io/nodes"]}})
                    patch(server, name, {"status": {"conditions": list(conditions), "placedNodes": 48}}, "/status")
                    known.add(uid)
                    seen.append(name)
        server.close()

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def arguments_of(kind: str, name: str) -> list[str]:
    spec = find(render(), kind, name)["spec"]
    return [str(a) for a in spec.get("template", {}).get("spec", spec)["containers"][0]["args"]]


def names(server: ApiServer) -> list[str]:
    return [item["metadata"]["name"] for item in server.request("GET", PATH)[1]["items"]]


def test_uninstall_deletes_every_supernode_and_waits_until_they_are_gone(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create(server, "one", 1)
    create(server, "two", 2)
    with chart_account(server, "uninstall") as account, operator(server, READY, gone_after=2.5) as seen:
        monkeypatch.setenv("KUBECONFIG", str(account.kubeconfig))
        while len(seen) < 2:
            time.sleep(0.05)
        assert uninstall.main(arguments_of("Job", "uninstall")) == 0
        assert_it_needed_all_that_it_may(server, account)
    assert names(server) == []
    told = capsys.readouterr().out.splitlines()
    assert {"deleting SuperNode one", "deleting SuperNode two"} <= set(told)
    assert told[-1] == "no SuperNode is left"


def test_uninstall_gives_up_with_what_holds_it_up(
    server: ApiServer,
    accounts: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(accounts("uninstall")))
    create(server, "held", 1, finalizer=True)
    blocked = condition("DeletionBlocked", "True", "DevicesHeld", "pod default/train-0 holds 16 dies")
    assert patch(server, "held", {"status": {"conditions": [blocked]}}, "/status") == 200
    assert uninstall.main(["--timeout", "3"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert (
        "waiting for SuperNode held: DeletionBlocked is True, DevicesHeld (pod default/train-0 holds 16 dies)" in told
    )
    assert told[-1].startswith("failed: after 3 s these are not gone. SuperNode held: DeletionBlocked is True")
    assert "run helm uninstall again" in told[-1]


def test_uninstall_has_nothing_to_do_where_nothing_is(
    server: ApiServer,
    accounts: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(accounts("uninstall")))
    assert uninstall.main([]) == 0
    assert capsys.readouterr().out == "no SuperNode is left\n"


def test_a_refusal_is_told_in_the_api_servers_words(
    server: ApiServer,
    accounts: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    create(server, "cm384", 1)
    monkeypatch.setenv("KUBECONFIG", str(accounts("test")))  # may not delete this one
    assert uninstall.main(["--timeout", "30"]) == 1
    assert 'failed: the API server refuses: supernodes.supernode.io "cm384" is forbidden' in capsys.readouterr().out
    assert names(server) == ["cm384"]


def test_helm_test_without_a_free_node_says_what_is_wrong_with_each(
    server: ApiServer, accounts: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(accounts("test")))
    create(server, "cm384", 1)
    told = (
        "of the nodes with kubernetes.io/os=linux none is free for the test: "
        "node worker belongs to the older SuperNode cm384. "
        "Free one, add one, or set the value test.nodeSelector to labels of one that is free"
    )
    with pytest.raises(HookError, match=f"^{re.escape(told)}$"):
        run_test(build_super_node(NAME, 2, {"kubernetes.io/os": "linux"}), 60, hopeless_seconds=0)
    told = "no Kubernetes node has rack=7,zone=b; set the value test.nodeSelector to labels that a node has"
    with pytest.raises(HookError, match=f"^{re.escape(told)}$"):
        run_test(build_super_node(NAME, 2, {"zone": "b", "rack": "7"}), 60, hopeless_seconds=0)
    assert names(server) == ["cm384"]


def test_helm_test_waits_for_a_node_that_is_just_joining(
    server: ApiServer, accounts: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(accounts("test")))
    assert server.request("DELETE", "/api/v1/nodes/worker")[0] == 200

    def join() -> None:
        make_node(server, "worker")
        server.close()  # this thread's connection

    late = threading.Timer(2, join)
    late.start()
    with operator(server, READY) as seen:
        run_test(build_super_node(NAME, 1, {"kubernetes.io/os": "linux"}), 20)
        late.join()
    assert seen == [NAME]


def test_an_api_server_that_is_not_there_is_asked_again_and_then_told(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = tmp_path / "kubeconfig"
    dead.write_text(server.kubeconfig.read_text().replace(server.url, "https://127.0.0.1:1"))
    monkeypatch.setenv("KUBECONFIG", str(dead))
    assert uninstall.main(["--timeout", "2"]) == 1
    told = capsys.readouterr().out
    assert told.count("the API server does not answer, trying again") == 1
    assert "failed: the API server did not answer within 2 s; run helm uninstall again" in told


def test_without_any_way_to_the_api_server_the_hook_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert uninstall.main([]) == 1
    assert "failed: no way to the API server" in capsys.readouterr().out


def test_helm_test_creates_a_supernode_waits_for_ready_and_leaves_nothing(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with chart_account(server, "test") as account, operator(server, READY) as seen:
        monkeypatch.setenv("KUBECONFIG", str(account.kubeconfig))
        assert chart_test.main(arguments_of("Pod", "test")) == 0
        assert_it_needed_all_that_it_may(server, account)
    assert seen == [NAME]
    assert names(server) == []
    told = capsys.readouterr().out
    assert told.startswith("creating SuperNode supernode-test on node worker\n")
    assert "SuperNode supernode-test is Ready: 48 compute servers" in told
    assert told.endswith("SuperNode supernode-test is gone\n")


def test_helm_test_takes_away_what_an_earlier_one_left(
    server: ApiServer, accounts: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(accounts("test")))
    create(server, NAME, 7)
    with operator(server, READY):
        assert chart_test.main(arguments_of("Pod", "test")) == 0
    assert names(server) == []


def test_helm_test_ends_early_when_the_nodes_are_taken(
    server: ApiServer, accounts: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(accounts("test")))
    body = build_super_node(NAME, 1, {"kubernetes.io/os": "linux"})
    with operator(server, TAKEN), pytest.raises(HookError, match=r"cannot become Ready\. NodeTaken: node a belongs"):
        run_test(body, 600, hopeless_seconds=1)
    assert names(server) == []


def test_helm_test_says_what_was_missing_when_its_time_is_up(
    server: ApiServer, accounts: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(accounts("test")))
    waiting = condition("Ready", "False", "WaitingForAgent", "node a has no agent yet")
    body = build_super_node(NAME, 1, {"kubernetes.io/os": "linux"})
    told = r"not Ready after 2 s: Ready is False, WaitingForAgent \(node a has no agent yet\)"
    with operator(server, waiting), pytest.raises(HookError, match=told):
        run_test(body, 2)
    assert names(server) == []


def test_helm_test_that_is_stopped_takes_its_supernode_away(server: ApiServer, accounts: Callable[[str], Path]) -> None:
    argv = [sys.executable, "-m", "supernode_operator.chart_test", *arguments_of("Pod", "test")]
    environment = {**os.environ, "KUBECONFIG": str(accounts("test"))}
    with (
        operator(server, condition("Ready", "False", "WaitingForAgent")) as seen,
        child(argv, env=environment, stdout=subprocess.PIPE, text=True) as process,
    ):
        deadline = time.monotonic() + 20
        while not seen and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "failed: stopped before it was Ready" in output
    assert names(server) == []
