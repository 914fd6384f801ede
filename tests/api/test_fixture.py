"""The shared API server is a real one, and the fixture keeps its promises."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from support.apiserver import ApiServer, KubectlError
from support.levels import level_of, required_levels, summary
from support.processes import child

TESTS = Path(__file__).resolve().parents[1]


def test_crds_are_established(api_server: ApiServer) -> None:
    shown = api_server.kubectl(
        "get", "crd", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Established')].status}"
    )
    assert shown.split() == ["True"] * 3


def test_service_account_gets_only_what_its_role_grants(api_server: ApiServer) -> None:
    api_server.kubectl("create", "serviceaccount", "fixture-test", "-n", "default")
    kubeconfig = api_server.service_account_kubeconfig("default", "fixture-test")
    with pytest.raises(
        KubectlError, match='"system:serviceaccount:default:fixture-test" cannot list resource "supernodes"'
    ):
        api_server.kubectl("get", "sn", f"--kubeconfig={kubeconfig}")
    assert any(
        event["user"].get("username") == "system:serviceaccount:default:fixture-test" and event["verb"] == "list"
        for event in api_server.audit_events()
    )


def test_controllers_make_the_pods_of_a_job_and_the_scheduler_says_why_they_wait(
    controlled_api_server: ApiServer,
) -> None:
    server = controlled_api_server
    server.kubectl("create", "job", "fixture-test", "--image=docker.io/library/none:1")
    server.kubectl("wait", "pod", "-l", "job-name=fixture-test", "--for=create", "--timeout=20s")
    server.kubectl("wait", "pod", "-l", "job-name=fixture-test", "--for=condition=PodScheduled=false", "--timeout=20s")
    server.kubectl("delete", "job", "fixture-test", "--wait")


@pytest.mark.api
def test_a_killed_test_run_leaves_no_process() -> None:
    program = (
        "import sys, time; sys.path[:0] = sys.argv[1:]\n"
        "from support.apiserver import running_api_server\n"
        "with running_api_server() as server:\n    print(server.folder, flush=True)\n    time.sleep(60)\n"
    )
    argv = [sys.executable, "-c", program, str(TESTS), str(TESTS.parent / "devcluster")]
    with child(argv, stdout=subprocess.PIPE, text=True) as run:
        folder = run.stdout.readline().strip()
        assert folder
        assert _users_of(folder)
    deadline = time.monotonic() + 20
    while left := _users_of(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def _users_of(folder: str) -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        try:
            command = Path(f"/proc/{int(entry)}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError):
            continue
        if folder in command:
            found.append(command)
    return found


def test_a_test_that_uses_the_server_is_of_level_api() -> None:
    assert level_of([], ["api_server"]) == "api"
    assert level_of(["node"], ["api_server"]) == "node"
    assert level_of(["asyncio"], []) == "pure"


def test_in_ci_every_level_is_required() -> None:
    assert required_levels({}) == frozenset()
    assert "e2e" in required_levels({"CI": "true"})
    assert required_levels({"SUPERNODE_REQUIRE_LEVELS": "api, node"}) == {"api", "node"}
    with pytest.raises(ValueError, match="nodes"):
        required_levels({"SUPERNODE_REQUIRE_LEVELS": "nodes"})


def test_a_level_that_cannot_run_is_said_in_one_line() -> None:
    line = summary({"pure": Counter(passed=3), "api": Counter(failed=1)}, {"node": "needs root"})
    assert line == "levels: pure 3 run; api 1 run, 1 failed; node SKIPPED (needs root); e2e not selected"


@pytest.mark.parametrize(("required", "code"), [("", 0), ("api", 4)])
def test_a_missing_level_is_skipped_or_where_required_an_error(tmp_path: Path, required: str, code: int) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "SUPERNODE_PREPARE")}
    environment.update(
        PATH="/nonexistent",
        XDG_CACHE_HOME=str(tmp_path),
        SUPERNODE_REQUIRE_LEVELS=required,
        SUPERNODE_DEVCLUSTER_BIN="",
    )
    argv = [sys.executable, "-m", "pytest", "-q", f"{__file__}::test_crds_are_established"]
    done = subprocess.run(argv, env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    said = [line for line in (done.stdout + done.stderr).splitlines() if "needs openssl" in line]
    assert any("levels: " in line or "required test levels" in line for line in said), done.stdout + done.stderr
