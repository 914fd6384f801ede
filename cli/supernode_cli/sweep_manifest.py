"""A sweep as an Indexed Job: the sweep file in a ConfigMap, a pod for each shard, a volume that all of them mount.

Whichever pod finds all shards complete joins them into the table, so nothing has to wait for anything. A pod that is
killed is started again, by its index; what others have finished stays. Bad input is not tried again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from supernode_cli.errors import CliError

__all__ = ["JobSettings", "build_manifest"]

_MOST_BYTES: Final = 900_000
"""A ConfigMap holds 1 MiB, its names included."""
_MOST_SHARDS: Final = 10_000
_RETRIES: Final = 6
_SWEEP: Final = "/sweep"
_RESULTS: Final = "/results"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """How a sweep runs on a cluster; ``claim`` is a PersistentVolumeClaim that the pods of all shards can mount."""

    name: str
    image: str
    shards: int
    parallelism: int
    claim: str
    jobs: int = 1
    namespace: str | None = None


def build_manifest(
    text: str, *, file_name: str, table: str, digest: str, settings: JobSettings
) -> list[dict[str, Any]]:
    """Return the ConfigMap and the Job of a sweep, for pods under the ``restricted`` standard.

    Both are named after the sweep's digest: another sweep is another Job, and the same one is applied without a change.

    :raises CliError: the file does not fit into a ConfigMap, or there are too many shards for a Job.
    """
    if len(text.encode()) > _MOST_BYTES:
        raise CliError(
            f"{file_name}: {len(text.encode()):,} bytes do not fit into a ConfigMap; say it as a grid, or split it"
        )
    if not 1 <= settings.shards <= _MOST_SHARDS:
        raise CliError(f"--shards: {settings.shards} is out of range; give 1 to {_MOST_SHARDS:,}")
    name = f"{settings.name}-{digest[:8]}"
    metadata: dict[str, Any] = {
        "name": name,
        "labels": {"app.kubernetes.io/name": "supernode", "app.kubernetes.io/component": "sweep"},
    }
    if settings.namespace is not None:
        metadata["namespace"] = settings.namespace
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "immutable": True,
        "data": {file_name: text},
    }
    return [config, _job(metadata, _pod(file_name, table, name, settings), settings)]


def _job(metadata: dict[str, Any], pod: dict[str, Any], settings: JobSettings) -> dict[str, Any]:
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailIndex", "onExitCodes": {"containerName": "sweep", "operator": "In", "values": [2]}},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "completionMode": "Indexed",
            "completions": settings.shards,
            "parallelism": min(settings.parallelism, settings.shards),
            "backoffLimitPerIndex": _RETRIES,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": rules},
            "template": {"metadata": {"labels": metadata["labels"]}, "spec": pod},
        },
    }


def _pod(file_name: str, table: str, name: str, settings: JobSettings) -> dict[str, Any]:
    # Which shard is in JOB_COMPLETION_INDEX, which every pod of an Indexed Job has.
    arguments = ["-f", f"{_SWEEP}/{file_name}", "-o", f"{_RESULTS}/{table}"]
    arguments += ["--shard", str(settings.shards), "--collect", "--jobs", str(settings.jobs)]
    return {
        "restartPolicy": "Never",
        # Files are whole or not there: a shard that is stopped loses nothing by stopping at once.
        "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "sweep",
                "image": settings.image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["python3", "-m", "supernode_cli.main", "sweep"],
                "args": arguments,
                "resources": {
                    "requests": {"cpu": str(settings.jobs), "memory": "512Mi"},
                    "limits": {"memory": f"{1 + settings.jobs // 4}Gi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "sweep", "mountPath": _SWEEP, "readOnly": True},
                    {"name": "results", "mountPath": _RESULTS},
                ],
            }
        ],
        "volumes": [
            {"name": "sweep", "configMap": {"name": name}},
            {"name": "results", "persistentVolumeClaim": {"claimName": settings.claim}},
        ],
    }
