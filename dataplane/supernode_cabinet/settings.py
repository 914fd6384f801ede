"""What a cabinet process is told by its environment.

Everything else (telemetry interval, detail, cabinets per pod of a running machine) it reads from the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from supernode_api.names import CABINET_PORT
from supernode_api.otlp import wants_otlp

__all__ = ["Role", "Settings", "SettingsError", "read_settings"]

Role = Literal["compute", "bus", "all"]
_ROLES: Final = ("compute", "bus", "all")
_CABINETS_PER_POD: Final = (1, 2, 4, 16)


class SettingsError(Exception):
    """An environment variable is missing or wrong; the message names it and what it must be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment, checked."""

    super_node: str
    role: Role
    ordinal: int
    cabinets_per_pod: int
    pod_name: str
    port: int = CABINET_PORT
    host: str = ""
    log_level: str = "INFO"
    log_format: Literal["json", "text"] = "json"
    otlp: bool = False
    """Whether an OTLP endpoint is configured."""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Check the environment; SettingsError says which variable is wrong and what it must be."""
    name = environment.get("SUPERNODE_NAME", "")
    if not name:
        raise SettingsError("SUPERNODE_NAME is not set: give the name of the SuperNode whose cabinets these are")
    role = environment.get("SUPERNODE_CABINET_ROLE", "all")
    if role not in _ROLES:
        raise SettingsError(f"SUPERNODE_CABINET_ROLE is {role!r}: it must be one of {', '.join(_ROLES)}")
    per_pod = _number(environment, "SUPERNODE_CABINETS_PER_POD", 1, "1, 2, 4 or 16")
    if per_pod not in _CABINETS_PER_POD:
        raise SettingsError(f"SUPERNODE_CABINETS_PER_POD is {per_pod}: it must be 1, 2, 4 or 16")
    pod = environment.get("POD_NAME", f"{name}-{role}-0")
    suffix = pod.rpartition("-")[2]
    if not (suffix.isascii() and suffix.isdigit()):
        raise SettingsError(
            f"POD_NAME is {pod!r}: it must end in the ordinal of a StatefulSet's pod, as in {name}-{role}-0"
        )
    return Settings(
        super_node=name,
        role=cast(Role, role),
        ordinal=int(suffix),
        cabinets_per_pod=per_pod,
        pod_name=pod,
        port=_number(environment, "SUPERNODE_CABINET_PORT", CABINET_PORT, "a port number"),
        host=environment.get("SUPERNODE_CABINET_HOST", ""),
        log_level=_log_level(environment),
        log_format="text" if environment.get("SUPERNODE_LOG_FORMAT") == "text" else "json",
        otlp=wants_otlp(environment, "METRICS"),
    )


def _number(environment: Mapping[str, str], key: str, default: int, what: str) -> int:
    text = environment.get(key) or str(default)
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise SettingsError(f"{key} is {text[:40]!r}: it must be {what}")
    return int(text)


def _log_level(environment: Mapping[str, str]) -> str:
    level = environment.get("LOG_LEVEL", "INFO").upper()
    return level if level in ("DEBUG", "INFO", "WARNING", "ERROR") else "INFO"
