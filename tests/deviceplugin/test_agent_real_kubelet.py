"""The agent as a process beside a real kubelet: what the kubelet, the scheduler and running pods make of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from instance import state_root
from support.memory_nodes import DIES, LINKS, compute_node
from support.processes import spawn

CLI = Path(__file__).resolve().parents[2] / "devcluster" / "cluster.py"
PREFIX = "agent-test-"
NAME = f"{PREFIX}{os.getpid()}"
OWN_POD = "agent"
"""Stands for the agent's pod, which a kubelet has to list before it is believed; the agent itself runs beside it."""
IMAGE = "docker.io/local/pause:1"

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]


class Rig:
    """One node, one agent, 48 servers."""

    def __init__(self) -> None:
        self.state = state_root() / NAME
        self.folder = self.state / "kubelet" / "device-plugins"
        self.log = self.state / "log" / "agent.log"
        self.agent: subprocess.Popen[bytes] | None = None

    def cluster(self, *words: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [sys.executable, str(CLI), *words], input=stdin, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        for attempt in range(5):  # a machine that does too much at once
            try:
                return self.cluster("kubectl", "--instance", NAME, *words, stdin=stdin)
            except AssertionError as error:
                if attempt == 4 or not re.search(r"timeout|refused|timed out", str(error)):
                    raise
        raise AssertionError

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def create(self, *objects: dict[str, Any]) -> None:
        self.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    @property
    def node(self) -> str:
        return str(self.get("nodes")["items"][0]["metadata"]["name"])

    def start_agent(self) -> None:
        environment = {
            **os.environ,
            "NODE_NAME": self.node,
            "KUBECONFIG": str(self.state / "admin.kubeconfig"),
            "SUPERNODE_KUBELET_DIR": str(self.folder),
            "SUPERNODE_POD_RESOURCES": str(self.state / "kubelet" / "pod-resources" / "kubelet.sock"),
            "SUPERNODE_HEALTH_PORT": "0",
            "POD_NAMESPACE": "default",
            "POD_NAME": OWN_POD,
        }
        argv = [sys.executable, "-m", "supernode_deviceplugin"]
        with self.log.open("ab") as log:
            self.agent = spawn(argv, env=environment, stdout=log, stderr=log)

    def end_agent(self, number: signal.Signals) -> None:
        assert self.agent is not None
        self.agent.send_signal(number)
        self.agent.wait(30)

    def allocatable(self) -> tuple[int, int]:
        found = self.get("nodes")["items"][0]["status"]["allocatable"]
        return int(found.get(DIES, 0)), int(found.get(LINKS, 0))

    def statuses(self) -> dict[str, dict[str, Any]]:
        return {o["metadata"]["name"]: o.get("status", {}) for o in self.get("computenodes")["items"]}

    def allocations(self) -> dict[str, list[Any]]:
        return {name: status.get("allocations", []) for name, status in self.statuses().items()}

    def pods(self) -> dict[str, tuple[str, str, int]]:
        """Pod -> uid, phase, restarts."""
        return {
            p["metadata"]["name"]: (
                p["metadata"]["uid"],
                p["status"]["phase"],
                sum(c["restartCount"] for c in p["status"].get("containerStatuses", [])),
            )
            for p in self.get("pods")["items"]
        }

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self.agent is None or self.agent.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, f"not within {seconds} s: {what}\n{self.log.read_text()[-3000:]}"
            time.sleep(0.3)

    def fault(self, name: str, *faults: dict[str, Any]) -> None:
        self.kubectl("patch", "cn", name, "--type=merge", "-p", json.dumps({"spec": {"faults": list(faults)}}))


def pod(name: str, *, dies: int = 0, links: int = 0) -> dict[str, Any]:
    resources = {resource: str(count) for resource, count in ((DIES, dies), (LINKS, links)) if count}
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "resources": {"limits": resources, "requests": resources},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, "restartPolicy": "Never"},
    }


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    made = Rig()
    for slot in (state_root() / "slots").glob("[0-9]*"):
        name = slot.read_text().strip()
        if name.startswith(PREFIX) and not Path("/proc", name.removeprefix(PREFIX)).exists():
            made.cluster("down", "--purge", "--instance", name)  # of a run that was killed
    made.cluster("up", "--fresh", "--instance", NAME)
    try:
        made.kubectl("apply", "--server-side", "-f", str(CLI.parents[1] / "crds"))
        made.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        made.create(pod(OWN_POD))
        made.start_agent()
        objects = [compute_node(i, nodeName=made.node) for i in range(48)]
        for obj in objects:
            obj["metadata"] = {"name": obj["metadata"]["name"], "finalizers": obj["metadata"]["finalizers"]}
        made.create(*objects)
        yield made
    finally:
        if made.agent is not None:
            made.agent.kill()
            made.agent.wait(30)
        made.cluster("down", "--purge", "--instance", NAME)


@pytest.fixture
def full(rig: Rig) -> Rig:
    """48 pods with 16 dies and 112 links each, running."""
    rig.until(lambda: rig.allocatable() == (768, 5376), "768 dies and 5376 links allocatable")
    if len(rig.pods()) == 1:
        rig.create(*(pod(f"p{i:02d}", dies=16, links=112) for i in range(48)))
    rig.until(lambda: all(phase == "Running" for _, phase, _ in rig.pods().values()), "48 pods running", 240)
    rig.until(lambda: all(rig.allocations().values()), "allocations in every status")
    return rig


def test_48_pods_hold_48_whole_servers_with_their_own_links(full):
    for held in full.allocations().values():
        assert [(a["dies"], a["links"]) for a in held] == [("0-15", "0-111")]
    assert len({held[0]["pod"] for held in full.allocations().values()}) == 48
    assert all(s["conditions"][0]["reason"] == "Registered" for s in full.statuses().values())


def test_a_fault_leaves_and_returns_and_a_running_pod_does_not_notice(full):
    before = full.pods()
    full.fault("cm384-05", {"name": "a", "die": 3})
    full.until(lambda: full.allocatable() == (767, 5369), "the die and its links to leave", 20)
    full.fault("cm384-05")
    full.until(lambda: full.allocatable() == (768, 5376), "the die and its links to return", 20)
    assert full.pods() == before


def test_a_restarted_kubelet_disturbs_no_pod_and_loses_no_allocation(full):
    pods, held = full.pods(), full.allocations()
    full.cluster("restart", "--instance", NAME, "kubelet")
    end = time.monotonic() + 25
    while time.monotonic() < end:
        assert full.allocations() == held, full.log.read_text()[-4000:]
        time.sleep(0.5)
    full.until(lambda: full.allocatable() == (768, 5376), "everything to be allocatable again", 60)
    assert full.pods() == pods
    assert full.allocations() == held


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_agent_disturbs_no_pod_and_loses_no_allocation(full, how):
    pods, held = full.pods(), full.allocations()
    full.end_agent(how)
    agent, full.agent = full.agent, None
    full.until(lambda: full.allocatable() == (0, 0), "nothing to be allocatable", 30)
    assert agent is not None
    full.start_agent()
    full.until(lambda: full.allocatable() == (768, 5376), "everything to be allocatable again", 60)
    time.sleep(3)
    assert full.pods() == pods
    assert full.allocations() == held
    assert len(list(full.folder.glob("supernode-*.sock"))) == 2


def test_the_agent_stays_small(full):
    status = Path(f"/proc/{full.agent.pid}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024
    assert resident < 66, f"{resident:.0f} MiB"


def test_a_held_server_is_handed_over_when_its_pod_is_gone(full):
    name = "cm384-40"
    holder = full.allocations()[name][0]["pod"]
    full.kubectl("delete", "cn", name, "--wait=false")

    def released() -> tuple[str, str]:
        conditions = full.statuses()[name]["conditions"]
        return next(((c["status"], c["message"]) for c in conditions if c["type"] == "Released"), ("", ""))

    full.until(lambda: f"default/{holder}" in released()[1], "the holder to be named", 30)
    full.until(lambda: full.allocatable() == (752, 5264), "its devices to be unhealthy", 20)
    assert full.pods()[holder][1] == "Running"
    full.kubectl("delete", "pod", holder)
    full.until(lambda: released()[0] == "True", "the release", 60)
    full.kubectl("patch", "cn", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    obj = compute_node(40, nodeName=full.node)
    obj["metadata"] = {"name": name, "finalizers": obj["metadata"]["finalizers"]}
    full.until(lambda: name not in full.statuses(), "it to be gone", 20)
    full.create(obj)
    full.until(lambda: full.allocatable() == (768, 5376), "the same devices to be back", 20)
    full.create(pod(holder, dies=16, links=112))
    full.until(lambda: full.pods()[holder][1] == "Running", "a new holder")


def test_pods_that_ask_for_more_than_is_left_stay_pending(full):
    full.create(pod("too-many", dies=1))
    full.until(
        lambda: "Insufficient" in full.kubectl("get", "events", "--field-selector=involvedObject.name=too-many"),
        "the scheduler to say so",
        30,
    )
    assert full.pods()["too-many"][1] == "Pending"
    full.kubectl("delete", "pod", "too-many")
