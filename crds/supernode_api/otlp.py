"""The standard OTEL_* variables for OTLP over gRPC, as a value: metrics of cabinets, traces of the operator.

Variables with METRICS or TRACES in their name win over those without, as the specification says. Timeouts are in
milliseconds there. ``https`` and a host without a scheme mean TLS, unless OTEL_EXPORTER_OTLP_INSECURE says otherwise
for the latter. Pure but for :func:`read_tls_files`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

__all__ = [
    "OtlpConfig",
    "OtlpConfigError",
    "Signal",
    "build_resource",
    "read_otlp_config",
    "read_tls_files",
    "wants_otlp",
]

Signal = Literal["METRICS", "TRACES"]
"""What is sent: the part of the variables' names that stands for it."""

_DEFAULT_TIMEOUT_SECONDS: Final = 5.0
_LONGEST_TIMEOUT_SECONDS: Final = 60.0


class OtlpConfigError(Exception):
    """An OTEL_* variable cannot be used; the message names it and what it must be. Telemetry is then off."""


@dataclass(frozen=True, slots=True)
class OtlpConfig:
    """Where telemetry goes, and how."""

    target: str
    """host:port, or a target in gRPC's own notation."""
    secure: bool
    headers: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float = _DEFAULT_TIMEOUT_SECONDS
    gzip: bool = False
    ca_file: str = ""
    key_file: str = ""
    certificate_file: str = ""


def wants_otlp(environment: Mapping[str, str], signal: Signal) -> bool:
    """Return whether an endpoint is set for a signal and nothing turns it off."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() == "none":
        return False
    return bool(_get(environment, signal, "ENDPOINT"))


def read_otlp_config(environment: Mapping[str, str], signal: Signal = "METRICS") -> OtlpConfig:
    """Read the variables of a signal; OtlpConfigError names one that cannot be used."""

    def get(name: str) -> str:
        return _get(environment, signal, name)

    protocol = get("PROTOCOL").lower()
    if protocol not in ("", "grpc"):
        raise OtlpConfigError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}: only grpc is spoken here")
    compression = get("COMPRESSION").lower()
    if compression not in ("", "none", "gzip"):
        raise OtlpConfigError(f"OTEL_EXPORTER_OTLP_COMPRESSION is {compression!r}: it must be gzip or none")
    target, secure = _target(get("ENDPOINT"), get("INSECURE").lower() == "true")
    return OtlpConfig(
        target=target,
        secure=secure,
        headers=_pairs(get("HEADERS"), "OTEL_EXPORTER_OTLP_HEADERS"),
        timeout_seconds=_timeout(get("TIMEOUT")),
        gzip=compression == "gzip",
        ca_file=get("CERTIFICATE"),
        key_file=get("CLIENT_KEY"),
        certificate_file=get("CLIENT_CERTIFICATE"),
    )


def build_resource(environment: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the resource's attributes: ours, then OTEL_RESOURCE_ATTRIBUTES, then OTEL_SERVICE_NAME."""
    more = dict(_pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES"))
    name = environment.get("OTEL_SERVICE_NAME", "").strip()
    return {**own, **more, **({"service.name": name} if name else {})}


def read_tls_files(config: OtlpConfig) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Read the authority's, the key's and the certificate's file, in gRPC's order; None for one that is not named.

    OtlpConfigError names a file that cannot be read.
    """
    return _read(config.ca_file), _read(config.key_file), _read(config.certificate_file)


def _read(path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OtlpConfigError(f"cannot read {path}, which an OTEL_EXPORTER_OTLP_ variable names: {error}") from error


def _get(environment: Mapping[str, str], signal: Signal, name: str) -> str:
    own = environment.get(f"OTEL_EXPORTER_OTLP_{signal}_{name}", "").strip()
    return own or environment.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


def _target(endpoint: str, insecure: bool) -> tuple[str, bool]:
    if "://" not in endpoint:
        if not endpoint:
            raise OtlpConfigError("OTEL_EXPORTER_OTLP_ENDPOINT is empty: give http://host:4317 or https://host:4317")
        return endpoint, not insecure
    try:
        parts = urlsplit(endpoint)
        port = parts.port or 4317
    except ValueError as error:
        raise OtlpConfigError(f"OTEL_EXPORTER_OTLP_ENDPOINT is {endpoint[:200]!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        what = "it must be http:// or https:// and a host"
        raise OtlpConfigError(f"OTEL_EXPORTER_OTLP_ENDPOINT is {endpoint[:200]!r}: {what}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}", parts.scheme == "https"


def _pairs(text: str, name: str) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise OtlpConfigError(f"{name} has a part {part[:80]!r}: it must be key=value pairs with commas between")
        key = unquote(key.strip())
        pairs.append((key.lower() if name.endswith("HEADERS") else key, unquote(value.strip())))
    return tuple(pairs)


def _timeout(text: str) -> float:
    if not text:
        return _DEFAULT_TIMEOUT_SECONDS
    try:
        seconds = float(text) / 1000
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise OtlpConfigError(f"OTEL_EXPORTER_OTLP_TIMEOUT is {text[:40]!r}: it must be milliseconds above 0")
    return min(seconds, _LONGEST_TIMEOUT_SECONDS)
