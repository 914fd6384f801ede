"""API objects and snapshots for the cabinet's tests, and a cabinet as a process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supernode_cabinet.engine import build_snapshot
from supernode_cabinet.settings import Settings, read_settings
from supernode_cabinet.snapshot import Snapshot
from supernode_dataplane.inputs import load_profile, whole_server_ranks
from support.deployments import QWEN_COLOCATED, deployment, with_fields
from support.machines import LLAMA
from support.processes import child

PROFILE = load_profile("cloudmatrix-384")
NAME = "cm384"
AT = "2026-11-21T04:00:00.000000Z"
AT_EPOCH = 1795233600.0


def super_node(name: str = NAME, **telemetry: Any) -> dict[str, Any]:
    spec = {
        "profile": "cloudmatrix-384",
        "superPodID": 0,
        "nodes": {"selector": {"matchLabels": {"pool": name}}},
        **({"telemetry": telemetry} if telemetry else {}),
    }
    return {"apiVersion": "supernode.io/v1alpha1", "kind": "SuperNode", "metadata": {"name": name}, "spec": spec}


def compute_node(server: int, faults: Any = (), allocations: Any = (), name: str = NAME) -> dict[str, Any]:
    devices = {
        "npuResource": "huawei.com/Ascend910",
        "busLinkResource": "supernode.io/bus-link",
        "firstDie": server * 16,
        "dies": 16,
        "planes": 7,
    }
    spec = {
        "superNode": name,
        "cabinet": server // 4,
        "serverIndex": server,
        "devices": devices,
        "faults": list(faults),
    }
    return {
        "apiVersion": "supernode.io/v1alpha1",
        "kind": "ComputeNode",
        "metadata": {"name": f"{name}-{server:02d}"},
        "spec": spec,
        "status": {"allocations": list(allocations)},
    }


def workload(
    servers: int = 48,
    *,
    name: str = "llama",
    running: bool = True,
    first: int = 0,
    rate: str = "50000",
    tokens: int | None = 200_000_000,
    super_node: str = NAME,
    **status: Any,
) -> dict[str, Any]:
    training = dict(LLAMA["training"])
    if tokens is not None:
        training["tokens"] = tokens
    ranks = whole_server_ranks(PROFILE, range(first, first + servers))
    for rank in ranks:
        rank["running"] = running
        rank["pod"] = f"{name}-{rank['rank']}"
    progress = {"tokens": 1_000_000, "steps": 0, "at": AT, "tokensPerSecond": rate if running else "0"}
    return {
        "apiVersion": "supernode.io/v1alpha1",
        "kind": "SuperNodeWorkload",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "superNode": super_node,
            "model": LLAMA["model"],
            "stack": "vendor-tuned",
            "training": training,
            "pods": {"managed": {"nodes": servers}},
        },
        "status": {"placement": {"ranks": ranks}, "progress": progress, **status},
    }


def deployed(base: dict[str, Any] = QWEN_COLOCATED, servers: int = 3, *, first: int = 0, **more: Any) -> dict[str, Any]:
    """An inference workload of this machine; more sets its name and fields of its spec.inference."""
    name = more.pop("name", "chat")
    job = deployment(name, range(first, first + servers), with_fields(base, **more), managed=True)
    job["metadata"] |= {"namespace": "default", "uid": f"{name}-1"}
    job["spec"]["superNode"] = NAME
    return {"apiVersion": "supernode.io/v1alpha1", "kind": "SuperNodeWorkload", **job}


def settings(role: str = "compute", ordinal: int = 0, per_pod: int = 1, **more: str) -> Settings:
    environment = {
        "SUPERNODE_NAME": NAME,
        "SUPERNODE_CABINET_ROLE": role,
        "SUPERNODE_CABINETS_PER_POD": str(per_pod),
        "POD_NAME": f"{NAME}-{role}-{ordinal}",
    }
    return read_settings({**environment, **more})


def nodes(faults: dict[int, Any] | None = None, *, held: bool = True) -> list[dict[str, Any]]:
    def allocations(server: int) -> list[dict[str, str]]:
        one = {"namespace": "default", "pod": f"llama-{server}", "container": "main", "dies": "0-15", "links": ""}
        return [one] if held else []

    return [compute_node(server, (faults or {}).get(server, ()), allocations(server)) for server in range(48)]


def snapshot(
    role: str = "compute",
    ordinal: int = 0,
    per_pod: int = 1,
    *,
    workloads: list[dict[str, Any]] | None = None,
    compute_nodes: list[dict[str, Any]] | None = None,
    **telemetry: Any,
) -> Snapshot:
    """Solve a full machine with one workload on all of it, as this pod sees it."""
    jobs = [workload()] if workloads is None else workloads
    by_key = {f"{job['metadata']['namespace']}/{job['metadata']['name']}": job for job in jobs}
    given = nodes() if compute_nodes is None else compute_nodes
    return build_snapshot(settings(role, ordinal, per_pod), super_node(**telemetry), given, by_key, None)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def eventually(test: Callable[[], Any], what: str | Callable[[], str], limit_seconds: float = 20.0) -> Any:
    """Return the first true value of ``test``; what is not there after the limit is an error."""
    deadline = time.monotonic() + limit_seconds
    while True:
        value = test()
        if value:
            return value
        if time.monotonic() > deadline:
            what = what if isinstance(what, str) else what()
            raise AssertionError(f"{what} did not happen within {limit_seconds:g} s")
        time.sleep(0.05)


class CabinetProcess:
    """A cabinet as a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def json(self, path: str) -> Any:
        return json.loads(self.get(path)[1] or "null")

    def wait_ready(self) -> None:
        eventually(lambda: self.get("/readyz")[0] == 200, lambda: f"readiness ({self.log.read_text()[-2000:]})", 30)


@contextmanager
def cabinet_process(kubeconfig: Path, log: Path, **environment: str) -> Iterator[CabinetProcess]:
    port = free_port()
    variables = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(kubeconfig),
        "SUPERNODE_NAME": NAME,
        "SUPERNODE_CABINET_ROLE": "compute",
        "SUPERNODE_CABINETS_PER_POD": "1",
        "POD_NAME": f"{NAME}-compute-0",
        "SUPERNODE_CABINET_PORT": str(port),
        "SUPERNODE_CABINET_HOST": "127.0.0.1",
        "SUPERNODE_LOG_FORMAT": "text",
        **environment,
    }
    argv = [sys.executable, "-m", "supernode_cabinet"]
    with log.open("wb") as output, child(argv, env=variables, stdout=output, stderr=output) as process:
        yield CabinetProcess(process, port, log)
