"""The operator killed after each of its writes in turn: starting it again and again, and what it was that was cut."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.kube_proxy import KubeProxy
from support.operator_world import API, NAMESPACE, OperatorProcess, World, wait_for

__all__ = ["Write", "is_a_cut", "killed_until", "kind_of", "picture"]

Write = tuple[str, str, Any]
"""(method, path, body)."""
_VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "ownerReferences", "selfLink")
_PATHS = {
    "computenodes": f"{API}/computenodes",
    "supernodes": f"{API}/supernodes",
    "workloads": f"{API}/supernodeworkloads",
    "statefulsets": f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets",
    "services": f"/api/v1/namespaces/{NAMESPACE}/services",
    "jobs": "/apis/batch/v1/jobs",
    "nodes": "/api/v1/nodes",
}


def picture(world: World) -> dict[str, Any]:
    """Everything that the operator made, without what differs from run to run."""
    found: dict[str, Any] = {}
    for kind, path in _PATHS.items():
        for one in world.call("GET", path)["items"]:
            kept = copy.deepcopy(one)
            for key in _VOLATILE:
                kept["metadata"].pop(key, None)
            for condition in kept.get("status", {}).get("conditions", []):
                condition.pop("lastTransitionTime", None)
                condition.pop("lastHeartbeatTime", None)
            for key in ("clusterIP", "clusterIPs"):
                kept["spec"].pop(key, None)
            if kind == "jobs":
                kept["spec"].pop("selector", None)
                kept["spec"]["template"]["metadata"].pop("labels", None)
            found[f"{kind}/{kept['metadata']['name']}"] = kept
    return found


def is_a_cut(path: str) -> bool:
    """Every write; of the 48 ComputeNodes the first, one in the middle and the last."""
    return "/computenodes/" not in path or path.split("?", maxsplit=1)[0].endswith(("-00", "-24", "-47"))


def killed_until(
    world: World,
    start: Callable[..., OperatorProcess],
    folder: Path,
    settled_now: Callable[[], bool],
    counts: Callable[[str], bool] = is_a_cut,
) -> list[Write]:
    """Start the operator again and again, each time killed after one write, until it has nothing left to write.

    Returned are the writes that were answered with the kill, one of each run; ``counts`` says which may be, by path.
    """
    cut: list[Write] = []
    for run in range(40):
        world.forget_lease()
        with KubeProxy(world.server) as proxy:
            proxy.cut_after, proxy.counts = 1, counts
            operator = start(proxy.kubeconfig(folder), name=f"victim-{run}", lead=False)
            proxy.on_cut = operator.process.kill

            def over(operator: OperatorProcess = operator, proxy: KubeProxy = proxy) -> bool:
                if operator.process.poll() is not None:
                    return True
                if not settled_now() or '"leading": true' not in operator.get(operator.health_port, "/readyz")[1]:
                    return False
                time.sleep(2.5)  # a status write may wait for its second
                return not any(counts(path) for _, path, _ in proxy.writes)

            wait_for(over, "cut or done", 60)
            operator.kill()
            counted = [write for write in proxy.writes if counts(write[1])]
            if not counted:
                return cut
            cut.append(counted[0])
    raise AssertionError(f"still writing after 40 kills: {[kind_of(*write) for write in cut]}")


def kind_of(method: str, path: str, body: Any) -> str:
    """Name what a write does, in words."""
    bare = path.split("?", maxsplit=1)[0]
    kinds = "supernodeworkloads|supernodes|computenodes|nodes|services|statefulsets|jobs|events"
    found = re.search(rf"/({kinds})(?:/[^/]+)?(/status)?$", bare)
    assert found, path
    what = found[1] + (found[2] or "")
    fields = body if isinstance(body, dict) else {}
    if what == "nodes":
        return "nodes label off" if isinstance(body, list) else "nodes label on"
    if what == "jobs" and "apiVersion" not in fields:
        return "jobs suspended" if fields.get("spec", {}).get("suspend") else "jobs scaled"
    if method == "PATCH" and what in ("supernodes", "computenodes") and "spec" not in fields:
        return f"{what} finalizer {'on' if 'apiVersion' in fields else 'off'}"
    return f"{what} {({'PATCH': 'applied', 'POST': 'created', 'DELETE': 'deleted'})[method]}"
