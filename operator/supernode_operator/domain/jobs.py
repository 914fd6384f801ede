"""The Indexed Job of a managed workload.

One pod for each server, with all its dies and links. Failures never end it (nodes come and go); its pods end it by
exiting 0 when the workload is complete.
"""

from __future__ import annotations

from typing import Any

from supernode_api import SuperNodeWorkload
from supernode_api.conditions import Reason
from supernode_api.names import (
    API_VERSION,
    CABINET_PORT,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    NODE_LABEL,
    SUPERNODE_LABEL,
    WORKLOAD_LABEL,
    cabinet_service_name,
    managed_job_name,
)
from supernode_api.supernode import Resources
from supernode_dataplane.profile import Profile
from supernode_operator.domain.accept import Rejection
from supernode_operator.domain.cabinets import PodSettings, container_security, pod_security
from supernode_operator.domain.objects import Object, owner, owner_reference, subsumes, uid

__all__ = ["CONTAINER", "build_job", "build_job_scale", "job_belongs", "reject_job"]

CONTAINER = "worker"
_FOREVER = 2147483647
_COMMAND = ("python3", "-S", "-c", "from supernode_workload.__main__ import main; raise SystemExit(main())")
"""``python3 -m supernode_workload`` in less of its time: 48 start at once, and its package is all that it needs."""
_MOST_OF_THE_SERVERS = 700
"""Characters of the API server's words: the remedy after them fits into a condition's message."""


def build_job(
    raw: Object, workload: SuperNodeWorkload, profile: Profile, resources: Resources, settings: PodSettings
) -> dict[str, Any]:
    """Build the Job; ``settings.namespace`` is the release namespace, where the cabinets answer."""
    name, namespace = workload.metadata.name, str(workload.metadata.namespace)
    nodes = workload.spec.pods.managed.nodes if workload.spec.pods.managed is not None else 0
    labels = {WORKLOAD_LABEL: name, SUPERNODE_LABEL: workload.spec.super_node, MANAGED_BY_LABEL: MANAGED_BY}
    return {
        "metadata": {
            "name": managed_job_name(name),
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(API_VERSION, "SuperNodeWorkload", raw)],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": nodes,
            "parallelism": nodes,
            "suspend": False,
            "backoffLimit": _FOREVER,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec(workload, profile, resources, settings)},
        },
    }


def build_job_scale(job: Object, nodes: int, *, suspend: bool) -> dict[str, Any] | None:
    """Build the merge patch that puts a Job's size and suspension right, or None; its template is immutable."""
    desired = {"completions": nodes, "parallelism": nodes, "suspend": suspend}
    if subsumes(job.get("spec") or {}, desired):
        return None
    metadata = {"uid": uid(job), "resourceVersion": job["metadata"]["resourceVersion"]}
    return {"metadata": metadata, "spec": desired}


def job_belongs(job: Object, workload: Object) -> bool:
    """Whether a Job of the right name is this workload's own."""
    reference = owner(job)
    return reference is not None and reference.get("uid") == uid(workload)


def reject_job(said: str, retry_seconds: float) -> Rejection:
    """Say that the API server refuses the Job: in its own words, then what a person can do."""
    words = said.rstrip(". \n")
    if len(words) > _MOST_OF_THE_SERVERS:
        words = f"{words[:_MOST_OF_THE_SERVERS]}..."
    return Rejection(
        Reason.JOB_REJECTED,
        f"the API server refuses the Job: {words}; lift what refuses it (an admission policy, a webhook, "
        f"a quota or a missing permission): the Job is tried again every {retry_seconds:.0f} s",
    )


def _pod_spec(
    workload: SuperNodeWorkload, profile: Profile, resources: Resources, settings: PodSettings
) -> dict[str, Any]:
    name, namespace = workload.metadata.name, workload.metadata.namespace
    service = f"{cabinet_service_name(workload.spec.super_node)}.{settings.namespace}.svc:{CABINET_PORT}"
    env = {
        "SUPERNODE_WORKLOAD_URL": f"http://{service}/v1/workloads/{namespace}/{name}",
        "SUPERNODE_WORKLOAD": f"{namespace}/{name}",
    }
    dies = profile.dies_per_server
    devices = {resources.npu: str(dies), resources.bus_link: str(dies * profile.planes)}
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "nodeSelector": {NODE_LABEL: workload.spec.super_node},
        "securityContext": pod_security(),
        "containers": [
            {
                "name": CONTAINER,
                "image": settings.image,
                "imagePullPolicy": settings.image_pull_policy,
                "command": list(_COMMAND),
                "env": [{"name": key, "value": value} for key, value in env.items()],
                "resources": {
                    "requests": {"cpu": "5m", "memory": "16Mi", **devices},
                    "limits": {"memory": "64Mi", **devices},
                },
                "securityContext": container_security(),
            }
        ],
    }
