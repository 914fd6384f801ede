"""Settings from the environment, as the chart sets them; read once at start."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from supernode_operator.engine.errors import ConfigError

__all__ = ["Config", "load_config"]


@dataclass(frozen=True, slots=True)
class Config:
    """What the operator is told; the field comments name the variables."""

    namespace: str = "supernode-system"
    """SUPERNODE_NAMESPACE: where the cabinets and the lease live."""
    image: str = "docker.io/library/supernode:0.1.0"
    """SUPERNODE_IMAGE: image of cabinets and managed pods."""
    image_pull_policy: str = "IfNotPresent"
    """SUPERNODE_IMAGE_PULL_POLICY."""
    cabinet_service_account: str = ""
    """SUPERNODE_CABINET_SERVICE_ACCOUNT; empty: the namespace's default."""
    workload_namespaces: frozenset[str] = frozenset({"*"})
    """SUPERNODE_WORKLOAD_NAMESPACES: where managed Jobs may be created, comma separated, or ``*``."""
    identity: str = "supernode-operator"
    """POD_NAME: who we are in the lease."""
    kubeconfig: str | None = None
    """KUBECONFIG; absent in a pod."""
    health_port: int = 8081
    """SUPERNODE_HEALTH_PORT."""
    metrics_port: int = 8082
    """SUPERNODE_METRICS_PORT."""
    log_level: str = "INFO"
    """LOG_LEVEL."""
    log_format: str = ""
    """SUPERNODE_LOG_FORMAT: json or text; empty: text on a terminal."""
    telemetry: Mapping[str, str] = field(default_factory=dict)
    """OTEL_*: for our own traces, and passed through to the cabinets."""

    def allows_jobs_in(self, namespace: str) -> bool:
        """Whether managed Jobs may be created in a namespace."""
        return "*" in self.workload_namespaces or namespace in self.workload_namespaces


def load_config(environ: Mapping[str, str] | None = None) -> Config:
    """Read the settings; raises :class:`ConfigError` naming the variable."""
    env = os.environ if environ is None else environ
    default = Config()
    policy = env.get("SUPERNODE_IMAGE_PULL_POLICY") or default.image_pull_policy
    if policy not in ("Always", "IfNotPresent", "Never"):
        raise ConfigError(f"SUPERNODE_IMAGE_PULL_POLICY must be Always, IfNotPresent or Never, not {policy!r}")
    log_format = env.get("SUPERNODE_LOG_FORMAT", "")
    if log_format not in ("", "json", "text"):
        raise ConfigError(f"SUPERNODE_LOG_FORMAT must be json or text, not {log_format!r}")
    level = env.get("LOG_LEVEL", default.log_level).upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ConfigError(f"LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not {level!r}")
    namespaces = {n.strip() for n in env.get("SUPERNODE_WORKLOAD_NAMESPACES", "*").split(",")} - {""}
    return Config(
        namespace=env.get("SUPERNODE_NAMESPACE") or default.namespace,
        image=env.get("SUPERNODE_IMAGE") or default.image,
        image_pull_policy=policy,
        cabinet_service_account=env.get("SUPERNODE_CABINET_SERVICE_ACCOUNT", ""),
        workload_namespaces=frozenset(namespaces),
        identity=env.get("POD_NAME") or socket.gethostname(),
        kubeconfig=env.get("KUBECONFIG") or None,
        health_port=_port(env, "SUPERNODE_HEALTH_PORT", default.health_port),
        metrics_port=_port(env, "SUPERNODE_METRICS_PORT", default.metrics_port),
        log_level=level,
        log_format=log_format,
        telemetry={name: env[name] for name in sorted(env) if name.startswith("OTEL_")},
    )


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise ConfigError(f"{name} must be a port number (0: any free one), not {text!r}")
    return int(text)
