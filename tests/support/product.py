"""Drive an installed product as a user would: kubectl, helm, `supernode`, HTTP. For e2e tests and the benchmarks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo import MACHINE, NAMESPACE, RELEASE, CommandError, Demo

__all__ = ["AGENT_NAMESPACE", "MACHINE", "NAMESPACE", "RELEASE", "CommandError", "Product"]

AGENT_NAMESPACE = f"{RELEASE}-agent"


class Product(Demo):
    """One instance of the development cluster with the chart in it."""

    # ------------------------------------------------------------ life

    def start(self, *, machine: bool = True) -> None:
        """Start a fresh cluster, install the chart, and create the machine unless told not to."""
        image = self.cluster("image", capture=True).strip().splitlines()[-1]
        self.cluster("down", "--purge", capture=True)
        label = f"supernode.io/pool={MACHINE}"
        self.cluster("up", "--fresh", "--image", image, "--node-label", label, capture=True)
        self.load_environment()
        self.install()
        if machine:
            self.kubectl("apply", "-f", "examples/supernode-384.yaml")
            self.wait_machine_ready()

    def stop(self) -> None:
        """Take the cluster down with everything that was in it."""
        self.cluster("down", "--purge", capture=True)

    def clean(self) -> None:
        """Delete what tests create, and wait until the machine is idle and Ready."""
        self.kubectl("delete", "snw", "--all", "-A", "--wait", "--timeout=180s")
        self.kubectl("delete", "job,pod", "--all", "-n", "default", "--wait", "--timeout=180s")
        self.clear_faults()
        self.kubectl("label", "node", self.node(), f"supernode.io/pool={MACHINE}", "--overwrite")
        self.wait(lambda: self.machine()["status"]["allocated"].get("dies", 0) == 0, "all dies to be free", 120)
        self.wait(lambda: not self.holders(), "the agent to say so too", 120)
        self.wait_machine_ready()

    # ------------------------------------------------------------ tools

    def supernode(self, *arguments: str) -> str:
        """Run the CLI."""
        return self.run([sys.executable, "-m", "supernode_cli.main", *arguments])

    def get(self, *arguments: str) -> Any:
        """Return ``kubectl get … -o json``."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def raw(self, path: str) -> str:
        """Return what the API server (or, through its proxy, a Service) answers."""
        return self.kubectl("get", "--raw", path)

    def cabinet(self, path: str) -> str:
        """Return a page of the cabinet Service."""
        service = f"/api/v1/namespaces/{NAMESPACE}/services/{MACHINE}-cabinets:8080/proxy"
        return self.raw(f"{service}{path}")

    def cabinet_pod(self, pod: str, path: str) -> str:
        """Return a page of one cabinet."""
        return self.raw(f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy{path}")

    @staticmethod
    def wait(test: Callable[[], Any], what: str, seconds: float = 30.0) -> float:
        """Wait until a test is true; return how long it took. AssertionError says what did not happen."""
        start = time.monotonic()
        last = ""
        while (elapsed := time.monotonic() - start) < seconds:
            try:
                if test():
                    return elapsed
                last = ""
            except (AssertionError, CommandError, KeyError, IndexError, TypeError, ValueError) as error:
                last = f" ({type(error).__name__}: {str(error)[:300]})"
            time.sleep(0.1)
        raise AssertionError(f"{what}: not within {seconds:.0f} s{last}")

    # ------------------------------------------------------------ the machine

    def machine(self) -> dict[str, Any]:
        """Return the SuperNode."""
        machine: dict[str, Any] = self.get("supernode", MACHINE)
        return machine

    def workload(self, name: str) -> dict[str, Any]:
        """Return a workload of the default namespace."""
        workload: dict[str, Any] = self.get("snw", name, "-n", "default")
        return workload

    def condition(self, obj: dict[str, Any], type_: str) -> dict[str, Any]:
        """Return a condition of an object; KeyError when it has none."""
        for condition in obj.get("status", {}).get("conditions", []):
            if condition["type"] == type_:
                found: dict[str, Any] = condition
                return found
        raise KeyError(type_)

    def rate(self, name: str) -> float:
        """Return a workload's tokens per second."""
        return float(self.workload(name)["status"]["performance"]["tokensPerSecond"])

    def node(self) -> str:
        """Return the name of the only node."""
        return str(self.get("nodes")["items"][0]["metadata"]["name"])

    def allocatable(self) -> tuple[int, int]:
        """Return allocatable dies and links of the only node, as the kubelet says."""
        resources = self.get("nodes")["items"][0]["status"]["allocatable"]
        return int(resources.get("huawei.com/Ascend910", 0)), int(resources.get("supernode.io/bus-link", 0))

    def wait_machine_ready(self, seconds: float = 120) -> float:
        """Wait until the machine is Ready with all its devices."""

        def ready() -> bool:
            machine = self.machine()
            return self.condition(machine, "Ready")["status"] == "True" and self.allocatable() == (768, 5376)

        return self.wait(ready, "the machine to be Ready", seconds)

    def clear_faults(self) -> None:
        """Remove every fault that tests have put on ComputeNodes."""
        for node in self.get("computenodes")["items"]:
            if node["spec"].get("faults"):
                patch = json.dumps({"spec": {"faults": None}})
                self.kubectl("patch", "cn", node["metadata"]["name"], "--type=merge", "-p", patch)

    def writes(self) -> list[str]:
        """Return what our service accounts wrote, leases apart, from the audit log."""
        ours = (f"system:serviceaccount:{NAMESPACE}:", f"system:serviceaccount:{AGENT_NAMESPACE}:")
        found = []
        for line in Path(self.environment["SUPERNODE_AUDIT_LOG"]).read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            # A request that was not authenticated (a token of a pod that is gone) has no name.
            user, verb = event["user"].get("username", ""), event["verb"]
            if user.startswith(ours) and verb not in ("get", "list", "watch") and "/leases" not in event["requestURI"]:
                found.append(f"{user} {verb} {event['requestURI']}")
        return found

    def holders(self) -> dict[tuple[int, int], tuple[str, str]]:
        """Return who holds which die by (server, phyID); AssertionError if a die is held twice."""
        held: dict[tuple[int, int], tuple[str, str]] = {}
        for node in self.get("computenodes")["items"]:
            for allocation in node.get("status", {}).get("allocations", []):
                for die in _numbers(allocation.get("dies", "")):
                    key = (node["spec"]["serverIndex"], die)
                    holder = (allocation["pod"], allocation["container"])
                    assert key not in held, f"die {key} is held by {held[key]} and {holder}"
                    held[key] = holder
        return held


def _numbers(text: str) -> list[int]:
    from supernode_api.ranges import parse_ranges

    return parse_ranges(text)
