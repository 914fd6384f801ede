"""What can go wrong before a request is served.

    DataplaneError
    └── ServingError              base of all errors of serving; permanent: trying again does not help
        ├── TraceError            a line of a trace cannot be read: its number and column
        ├── InvalidServingError   a setting that cannot be: its field
        └── RequestTooLongError   a request that no instance could ever hold

Everything is checked before the first step is computed, so an error never leaves half a result.
"""

from __future__ import annotations

from supernode_dataplane.errors import DataplaneError

__all__ = ["InvalidServingError", "RequestTooLongError", "ServingError", "TraceError"]


class ServingError(DataplaneError):
    """Requests, settings or traces that cannot be served."""


class TraceError(ServingError):
    """A line of a trace that cannot be read."""

    def __init__(self, line: int, column: str, problem: str, remedy: str) -> None:
        self.line = line
        self.column = column
        super().__init__(f"line {line}, {column}: {problem}; {remedy}")


class InvalidServingError(ServingError):
    """A setting that cannot be."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        self.field = field
        super().__init__(f"{field}: {problem}; {remedy}")


class RequestTooLongError(ServingError):
    """A request whose tokens need more KV blocks than an instance has, so that it would wait for ever."""

    def __init__(self, request: int, tokens: int, blocks: int, limit: int, where: str) -> None:
        self.request = request
        super().__init__(
            f"request {request}: its {tokens} tokens need {blocks} KV blocks and {where} has {limit}; "
            "give more blocks (more memory, or fewer weights per die), or leave out requests as long as this"
        )
