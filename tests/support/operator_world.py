"""The operator as a real process against a real API server, with a scripted node agent and hand-made nodes and pods."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.apiserver import ApiServer
from support.processes import spawn

__all__ = ["NAMESPACE", "OperatorProcess", "ScriptedAgent", "World", "free_ports", "wait_for"]

NAMESPACE = "supernode-system"
NPU, LINK = "huawei.com/Ascend910", "supernode.io/bus-link"
API = "/apis/supernode.io/v1alpha1"
MERGE = "application/merge-patch+json"
RANK = "batch.kubernetes.io/job-completion-index"
NO_SOCKET = "there is no socket /var/lib/kubelet/device-plugins/kubelet.sock: is the kubelet running?"


def wait_for(test: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """Wait until a test says something true; return that."""
    deadline = time.monotonic() + seconds
    while True:
        found = test()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class OperatorProcess:
    """``python -m supernode_operator`` as a child."""

    def __init__(self, kubeconfig: Path, folder: Path, name: str = "operator-a", **env: str) -> None:
        self.health_port, self.metrics_port = free_ports(2)
        self.log = folder / f"{name}-{self.health_port}.log"
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SUPERNODE_", "OTEL_", "KUBE"))},
            "KUBECONFIG": str(kubeconfig),
            "POD_NAME": name,
            "SUPERNODE_NAMESPACE": NAMESPACE,
            "SUPERNODE_LOG_FORMAT": "json",
            "SUPERNODE_HEALTH_PORT": str(self.health_port),
            "SUPERNODE_METRICS_PORT": str(self.metrics_port),
            "HOME": str(folder),
            **env,
        }
        argv = [sys.executable, "-m", "supernode_operator"]
        with self.log.open("ab") as output:
            self.process = spawn(argv, env=environment, stdout=output, stderr=output)

    def get(self, port: int, path: str) -> tuple[int, str]:
        with contextlib.suppress(OSError):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()
        return 0, ""

    def wait_leading(self, seconds: float = 30) -> None:
        def leading() -> bool:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            status, text = self.get(self.health_port, "/readyz")
            return status == 200 and json.loads(text) == {"leading": True, "synced": True}

        wait_for(leading, "the operator leads", seconds)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def errors(self) -> list[dict[str, Any]]:
        """Errors of ours; Kopf also logs each failed attempt of a request as one, and tries again."""
        ours = [line for line in self.lines() if str(line.get("logger", "")).startswith("supernode")]
        return [line for line in ours if line.get("level") in ("error", "critical")]


class World:
    """Hand-made objects in one API server; everything goes at the end."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.made_nodes: list[str] = []
        self.made: list[str] = []
        server.request(
            "POST", "/api/v1/namespaces", {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": NAMESPACE}}
        )
        self.forget_lease()

    def forget_lease(self) -> None:
        self.server.request("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/supernode-operator")

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        status, answer = self.server.request(method, path, body, **more)
        assert status < 400, f"{method} {path}: {status} {answer}"
        return answer

    def try_get(self, path: str) -> Any:
        status, answer = self.server.request("GET", path)
        return answer if status == 200 else None

    def node(self, name: str, *, ready: bool = True, **labels: str) -> str:
        """Make a bare Node."""
        body = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "labels": {"pool": "a", **labels}}}
        self.call("POST", "/api/v1/nodes", body)
        self.made_nodes.append(name)
        self.set_ready(name, ready)
        return name

    def set_ready(self, name: str, ready: bool) -> None:
        condition = {"type": "Ready", "status": "True" if ready else "False", "reason": "Test", "message": ""}
        patch = {"status": {"conditions": [condition]}}
        self.call("PATCH", f"/api/v1/nodes/{name}/status", patch, content_type="application/strategic-merge-patch+json")

    def set_capacity(self, name: str, **quantities: int) -> None:
        texts = {key: str(value) for key, value in quantities.items()}
        patch = {"status": {"capacity": texts, "allocatable": texts}}
        self.call("PATCH", f"/api/v1/nodes/{name}/status", patch, content_type=MERGE)

    def label_node(self, name: str, **labels: str | None) -> None:
        self.call("PATCH", f"/api/v1/nodes/{name}", {"metadata": {"labels": labels}}, content_type=MERGE)

    def super_node(self, name: str = "cm384", **spec: Any) -> dict[str, Any]:
        full = {"profile": "cloudmatrix-384", "nodes": {"selector": {"matchLabels": {"pool": "a"}}}, **spec}
        body = {"apiVersion": "supernode.io/v1alpha1", "kind": "SuperNode", "metadata": {"name": name}, "spec": full}
        return dict(self.call("POST", f"{API}/supernodes", body))

    def workload(
        self, name: str, pods: dict[str, Any], *, namespace: str = "default", **training: Any
    ) -> dict[str, Any]:
        """Make a small llama-3.1-8b run."""
        spec = {
            "superNode": training.pop("super_node", "cm384"),
            "model": training.pop("model", {"name": "llama-3.1-8b"}),
            "training": {
                "sequenceLength": 4096,
                "globalBatchSize": 64,
                "parallelism": {"tensor": 8, "pipeline": 1},
                **training,
            },
            "pods": pods,
        }
        body = {
            "apiVersion": "supernode.io/v1alpha1",
            "kind": "SuperNodeWorkload",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        return dict(self.call("POST", f"{API}/namespaces/{namespace}/supernodeworkloads", body))

    def rank_pod(self, workload: str, rank: int, name: str = "") -> None:
        """Make the pod of a managed workload's rank, as its Job would; on node-a."""
        labels: dict[str, Any] = {"supernode.io/workload": workload, RANK: str(rank)}
        self.pod(name or f"{workload}-{rank}", "node-a", owner=self.get_job(workload), **labels)

    def pod(
        self,
        name: str,
        node: str | None = None,
        *,
        running: bool = True,
        owner: dict[str, Any] | None = None,
        namespace: str = "default",
        **labels: str,
    ) -> None:
        """Make a pod by hand: bound and running, as the scheduler and the kubelet would."""
        meta: dict[str, Any] = {"name": name, "namespace": namespace, "labels": labels}
        if owner is not None:
            reference = {k: owner["metadata"][k] for k in ("name", "uid")}
            meta["ownerReferences"] = [
                {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": True, **reference}
            ]
        container = {"name": "worker", "image": "none", "resources": {"limits": {NPU: "16"}}}
        spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 0}
        if node is not None:
            spec["nodeName"] = node
        body = {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec}
        self.call("POST", f"/api/v1/namespaces/{namespace}/pods", body)
        self.made.append(f"/api/v1/namespaces/{namespace}/pods/{name}")
        if running and node is not None:
            self.set_running(name, True, namespace)

    def set_running(self, name: str, running: bool, namespace: str = "default") -> None:
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}} if running else {"waiting": {"reason": "Crash"}}
        status = {"name": "worker", "image": "none", "imageID": "", "ready": running, "restartCount": 0, "state": state}
        patch = {"status": {"phase": "Running", "containerStatuses": [status]}}
        self.call("PATCH", f"/api/v1/namespaces/{namespace}/pods/{name}/status", patch, content_type=MERGE)

    def delete(self, path: str) -> None:
        self.server.request("DELETE", path, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})

    def delete_pod(self, name: str, namespace: str = "default") -> None:
        self.delete(f"/api/v1/namespaces/{namespace}/pods/{name}")

    def compute_nodes(self) -> list[dict[str, Any]]:
        return list(self.call("GET", f"{API}/computenodes")["items"])

    def get_super_node(self, name: str = "cm384") -> dict[str, Any]:
        return dict(self.try_get(f"{API}/supernodes/{name}") or {})

    def get_workload(self, name: str, namespace: str = "default") -> dict[str, Any]:
        return dict(self.try_get(f"{API}/namespaces/{namespace}/supernodeworkloads/{name}") or {})

    def get_job(self, name: str, namespace: str = "default") -> dict[str, Any] | None:
        return self.try_get(f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}")  # type: ignore[no-any-return]

    def condition(self, obj: dict[str, Any], type_: str) -> dict[str, Any]:
        conditions = obj.get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {})

    def wait_condition(
        self, read: Callable[[], dict[str, Any]], type_: str, status: str, reason: str, seconds: float = 20
    ) -> dict[str, Any]:
        """Wait for a condition and return it."""
        last: dict[str, Any] = {}

        def there() -> bool:
            nonlocal last
            last = self.condition(read(), type_)
            return (last.get("status"), last.get("reason")) == (status, reason)

        try:
            wait_for(there, f"{type_}={status} {reason}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; last: {last}") from None
        return last

    def events(self, name: str, reason: str, namespace: str = "default") -> list[dict[str, Any]]:
        items = self.call("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
        return [e for e in items if e["involvedObject"]["name"] == name and e["reason"] == reason]

    def cabinets_ready(self) -> None:
        """Play the StatefulSet controller: every cabinet pod is ready."""
        for one in self.call("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets")["items"]:
            replicas = one["spec"]["replicas"]
            patch = {
                "status": {
                    "replicas": replicas,
                    "readyReplicas": replicas,
                    "observedGeneration": one["metadata"]["generation"],
                }
            }
            path = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{one['metadata']['name']}/status"
            self.call("PATCH", path, patch, content_type=MERGE)

    def clean(self) -> None:
        self.server.remove_objects()
        for path in self.made:
            self.delete(path)
        for kind in ("statefulsets",):
            for one in self.call("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind}")["items"]:
                self.delete(f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind}/{one['metadata']['name']}")
        for one in self.call("GET", f"/api/v1/namespaces/{NAMESPACE}/services")["items"]:
            self.delete(f"/api/v1/namespaces/{NAMESPACE}/services/{one['metadata']['name']}")
        for one in self.call("GET", "/apis/batch/v1/jobs")["items"]:
            meta = one["metadata"]
            path = f"/apis/batch/v1/namespaces/{meta['namespace']}/jobs/{meta['name']}"
            self.call("PATCH", path, {"metadata": {"finalizers": None}}, content_type=MERGE)
            self.delete(path)
        for name in self.made_nodes:
            self.delete(f"/api/v1/nodes/{name}")
        events = self.call("GET", "/api/v1/namespaces/default/events")["items"]
        for one in events:
            self.delete(f"/api/v1/namespaces/default/events/{one['metadata']['name']}")
        self.forget_lease()


class ScriptedAgent:
    """Plays all node agents and the kubelets' capacities; ``held`` says who holds what on which server."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.held: dict[int, list[dict[str, str]]] = {}
        """serverIndex -> allocations."""
        self.releasing = True
        self.unreachable: set[int] = set()
        """Servers whose kubelet's socket is not there."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> ScriptedAgent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        if self.failure is not None:
            raise self.failure

    def hold(self, server: int, pod: str, dies: str = "0-15", links: str = "", namespace: str = "default") -> None:
        entry = {"namespace": namespace, "pod": pod, "container": "worker", "dies": dies, "links": links}
        self.held[server] = [*self.held.get(server, []), entry]

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.15):
                self.play_round()
        except BaseException as error:
            self.failure = error
        finally:
            self.world.server.close()  # this thread's connection

    def play_round(self) -> None:
        """Report each server once, as it is now."""
        nodes = {n["metadata"]["name"]: n for n in self.world.call("GET", "/api/v1/nodes")["items"]}
        totals: dict[str, dict[str, int]] = {}
        for one in self.world.compute_nodes():
            spec = one["spec"]
            where = spec.get("nodeName")
            if where not in nodes or "supernode.io/supernode" not in nodes[where]["metadata"].get("labels", {}):
                continue
            leaving = "deletionTimestamp" in one["metadata"]
            held = self.held.get(spec["serverIndex"], [])
            released = leaving and not held and self.releasing
            self._report(one, held, released)
            if not released:
                devices = spec["devices"]
                sums = totals.setdefault(where, {})
                for resource, count in (
                    (devices["npuResource"], devices["dies"]),
                    (devices["busLinkResource"], devices["dies"] * devices["planes"]),
                ):
                    sums[resource] = sums.get(resource, 0) + count
        for name, node in nodes.items():
            capacity = node["status"].get("capacity", {})
            wanted = totals.get(name, {NPU: 0, LINK: 0} if NPU in capacity and "agent" in self._mine(node) else {})
            if any(capacity.get(k, "0") != str(v) for k, v in wanted.items()):
                self.world.set_capacity(name, **wanted)

    @staticmethod
    def _mine(node: dict[str, Any]) -> str:
        return "agent" if node["metadata"].get("labels", {}).get("supernode.io/supernode") else ""

    def _report(self, one: dict[str, Any], held: list[dict[str, str]], released: bool) -> None:
        devices = one["spec"]["devices"]
        broken = {f["die"] for f in one["spec"].get("faults", []) if "die" in f}
        total = devices["dies"]
        sizes = [
            {"name": devices["npuResource"], "devices": total, "unhealthy": len(broken)},
            {"name": devices["busLinkResource"], "devices": total * devices["planes"], "unhealthy": len(broken) * 7},
        ]
        lost = one["spec"]["serverIndex"] in self.unreachable
        ready = _condition("Ready", False, "KubeletUnreachable", NO_SOCKET) if lost else _condition("Ready", True)
        status = {
            "observedGeneration": one["metadata"]["generation"],
            "conditions": [_condition("Released", True) if released else ready],
            "resources": [] if released else sizes,
            "allocations": held,
        }
        now = one.get("status", {})
        if all(now.get(key, [] if key != "observedGeneration" else 0) == value for key, value in status.items()):
            return
        path = f"{API}/computenodes/{one['metadata']['name']}/status"
        self.world.server.request("PATCH", path, {"status": status}, content_type=MERGE)


def _condition(type_: str, status: bool, reason: str = "", message: str = "") -> dict[str, Any]:
    return {
        "type": type_,
        "status": "True" if status else "False",
        "reason": reason or ("Registered" if type_ == "Ready" else "Released"),
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
