"""The exceptions of the operator.

::

    OperatorError
    ├── ConfigError          the environment does not make sense: exit with one line
    ├── LeaseLostError       somebody else may lead now: exit at once
    └── ApiError             the API server said no, or nothing
        ├── NotFoundError    404
        ├── ConflictError    409: what we read is no longer so; read again
        ├── ForbiddenError   403: RBAC, quota or admission
        ├── InvalidError     422 and 400: the object is refused
        └── UnavailableError 429, 5xx, no connection: later
"""

from __future__ import annotations

import json
from typing import Any

__all__ = [
    "ApiError",
    "ConfigError",
    "ConflictError",
    "ForbiddenError",
    "InvalidError",
    "LeaseLostError",
    "NotFoundError",
    "OperatorError",
    "UnavailableError",
    "api_error",
]


class OperatorError(Exception):
    """Base of what this program raises on purpose."""


class ConfigError(OperatorError):
    """A setting is missing or wrong; the message names it."""


class LeaseLostError(OperatorError):
    """The lease could not be renewed in time."""


class ApiError(OperatorError):
    """The API server refused a request: HTTP status, reason and message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class NotFoundError(ApiError):
    """The object or its kind does not exist."""


class ConflictError(ApiError):
    """The object changed since it was read, exists already, or a field belongs to somebody else."""


class ForbiddenError(ApiError):
    """Not allowed by RBAC, quota or admission."""


class InvalidError(ApiError):
    """The object does not validate."""


class UnavailableError(ApiError):
    """The API server is not there, or wants to be left alone for a while."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    422: InvalidError,
    429: UnavailableError,
}


def api_error(status: int, body: bytes | str) -> ApiError:
    """Build the exception of a refused request from its metav1.Status (or whatever a proxy sent instead)."""
    reason, message = "Unknown", (body if isinstance(body, str) else body.decode(errors="replace"))[:500]
    try:
        answer: Any = json.loads(body)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        reason, message = str(answer.get("reason", reason)), str(answer.get("message", message))
    kind = _BY_STATUS.get(status, UnavailableError if status >= 500 else ApiError)
    return kind(status, reason, message)
