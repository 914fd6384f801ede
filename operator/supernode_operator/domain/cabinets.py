"""Cabinet pods: StatefulSets and the Service in front of them.

One pod stands for ``cabinetsPerPod`` cabinets; with all 16 in one pod there is a single StatefulSet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from supernode_api import SuperNode
from supernode_api.names import (
    API_VERSION,
    CABINET_PORT,
    CABINET_ROLE_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    SUPERNODE_LABEL,
    cabinet_service_name,
)
from supernode_dataplane.profile import Profile
from supernode_operator.domain.objects import Object, owner_reference

__all__ = ["PodSettings", "build_service", "build_stateful_sets", "container_security", "pod_security"]


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What the operator's configuration says about the pods that it creates."""

    namespace: str
    image: str
    image_pull_policy: str = "IfNotPresent"
    service_account: str = ""
    telemetry: Mapping[str, str] = field(default_factory=dict)


def pod_security() -> dict[str, Any]:
    """Security context of a pod under the ``restricted`` standard."""
    return {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """Security context of a container under the ``restricted`` standard."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def build_service(raw: Object, super_node: SuperNode, settings: PodSettings) -> dict[str, Any]:
    """Build the Service that any cabinet answers on."""
    return {
        "metadata": _metadata(raw, super_node, cabinet_service_name(super_node.metadata.name), settings, None),
        "spec": {
            "selector": _selector(super_node, None),
            "ports": [{"name": "http", "port": CABINET_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def build_stateful_sets(
    raw: Object, super_node: SuperNode, profile: Profile, settings: PodSettings
) -> list[dict[str, Any]]:
    """Build the StatefulSets of all cabinets of a machine."""
    name, per_pod = super_node.metadata.name, int(super_node.spec.cabinets_per_pod)
    if per_pod >= profile.compute_cabinets + profile.bus_cabinets:
        return [_stateful_set(raw, super_node, settings, name=f"{name}-cabinets", role="all", replicas=1)]
    roles = (("compute", profile.compute_cabinets), ("bus", profile.bus_cabinets))
    return [
        _stateful_set(raw, super_node, settings, name=f"{name}-{role}", role=role, replicas=-(-cabinets // per_pod))
        for role, cabinets in roles
        if cabinets
    ]


def _stateful_set(
    raw: Object, super_node: SuperNode, settings: PodSettings, *, name: str, role: str, replicas: int
) -> dict[str, Any]:
    selector = _selector(super_node, role)
    return {
        "metadata": _metadata(raw, super_node, name, settings, role),
        "spec": {
            "replicas": replicas,
            "serviceName": cabinet_service_name(super_node.metadata.name),
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {"labels": {**selector, MANAGED_BY_LABEL: MANAGED_BY}},
                "spec": _pod_spec(super_node, role, settings),
            },
        },
    }


def _pod_spec(super_node: SuperNode, role: str, settings: PodSettings) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "securityContext": pod_security(),
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "containers": [
            {
                "name": "cabinet",
                "image": settings.image,
                "imagePullPolicy": settings.image_pull_policy,
                "command": ["python3", "-m", "supernode_cabinet"],
                "env": _environment(super_node, role, settings),
                "ports": [{"name": "http", "containerPort": CABINET_PORT, "protocol": "TCP"}],
                "readinessProbe": _probe("/readyz", period_seconds=3, failures=3),
                "livenessProbe": _probe("/healthz", period_seconds=20, failures=6),
                # Small: sixteen of them beside a full Job fit on a kubelet with two cores.
                "resources": {"requests": {"cpu": "5m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
                "securityContext": container_security(),
            }
        ],
    }
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    return spec


def _environment(super_node: SuperNode, role: str, settings: PodSettings) -> list[dict[str, Any]]:
    values = {
        "SUPERNODE_NAME": super_node.metadata.name,
        "SUPERNODE_CABINET_ROLE": role,
        "SUPERNODE_CABINETS_PER_POD": str(int(super_node.spec.cabinets_per_pod)),
        # One thread: the arrays are small, and sixteen cabinets share the cores.
        "OPENBLAS_NUM_THREADS": "1",
        **settings.telemetry,
    }
    env: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in values.items() if value]
    return [*env, {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}]


def _probe(path: str, *, period_seconds: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_seconds,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _selector(super_node: SuperNode, role: str | None) -> dict[str, str]:
    selector = {
        "app.kubernetes.io/name": "supernode",
        "app.kubernetes.io/component": "cabinet",
        SUPERNODE_LABEL: super_node.metadata.name,
    }
    return selector if role is None else {**selector, CABINET_ROLE_LABEL: role}


def _metadata(raw: Object, super_node: SuperNode, name: str, settings: PodSettings, role: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": settings.namespace,
        "labels": {**_selector(super_node, role), MANAGED_BY_LABEL: MANAGED_BY},
        "ownerReferences": [owner_reference(API_VERSION, "SuperNode", raw)],
    }
