"""The agent's configuration: environment variables, read once at start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from supernode_api.names import KUBELET_SOCKET, POD_RESOURCES_SOCKET

__all__ = ["Settings", "SettingsError", "read_settings"]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class SettingsError(Exception):
    """A variable is missing or makes no sense; the message names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All there is to configure."""

    node_name: str
    kubelet_dir: Path
    pod_resources: Path
    own_pod: tuple[str, str] | None
    health_port: int
    log_level: str
    log_format: str


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings; SettingsError names the variable that is wrong.

    ``NODE_NAME`` is required. ``POD_NAMESPACE`` and ``POD_NAME``, where given, tell the agent when a kubelet that has
    just started knows its pods: it lists the agent's own.
    """
    node_name = environment.get("NODE_NAME", "")
    if not node_name:
        raise SettingsError("NODE_NAME is not set: give the agent the name of its Kubernetes node (spec.nodeName)")
    port = environment.get("SUPERNODE_HEALTH_PORT", "8083")
    if not port.isdigit() or not int(port) < 65536:
        raise SettingsError(f"SUPERNODE_HEALTH_PORT is {port!r}: use a port number, or 0 for none")
    level = environment.get("LOG_LEVEL", "INFO").upper()
    if level not in _LEVELS:
        raise SettingsError(f"LOG_LEVEL is {level!r}: use one of {', '.join(_LEVELS)}")
    form = environment.get("SUPERNODE_LOG_FORMAT", "")
    if form not in ("", "json", "text"):
        raise SettingsError(f"SUPERNODE_LOG_FORMAT is {form!r}: use json or text")
    namespace, pod = environment.get("POD_NAMESPACE", ""), environment.get("POD_NAME", "")
    return Settings(
        node_name=node_name,
        kubelet_dir=Path(environment.get("SUPERNODE_KUBELET_DIR") or Path(KUBELET_SOCKET).parent),
        pod_resources=Path(environment.get("SUPERNODE_POD_RESOURCES") or POD_RESOURCES_SOCKET),
        own_pod=(namespace, pod) if namespace and pod else None,
        health_port=int(port),
        log_level=level,
        log_format=form,
    )
