"""Where progress comes from: one GET of the cabinets' JSON, with a deadline, over a fresh connection.

Plain sockets and HTTP/1.0, where the end of the connection is the end of the answer: the standard library's HTTP
client takes longer to import than all the rest of this program, 48 times at once on a small machine.
"""

from __future__ import annotations

import json
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Unavailable", "read_view"]

_MOST_BYTES = 4 << 20
_STATES = ("Waiting", "Running", "Complete")


class Unavailable(Exception):
    """The answer cannot be had or makes no sense; the message says why."""


def read_view(url: str, timeout_seconds: float) -> dict[str, Any]:
    """Return the workload as the cabinets see it; Unavailable for anything else, whatever it is."""
    host, port, path = _split(url)
    try:
        answer = _get(host, port, path, timeout_seconds)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"{type(error).__name__}: {str(error)[:200]}") from error
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head[:200].split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise Unavailable("the answer is not HTTP")
    if words[1] != b"200":
        raise Unavailable(
            f"HTTP {words[1][:3].decode(errors='replace')}: {body[:200].decode(errors='replace').strip()}"
        )
    try:
        view = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unavailable(f"the answer is not JSON: {str(error)[:200]}") from error
    if not isinstance(view, dict) or view.get("state") not in _STATES:
        raise Unavailable("the answer is not about a workload")
    return view


def _split(url: str) -> tuple[str, int, str]:
    scheme, found, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if authority.startswith("["):
        host, _, port = authority[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = authority.partition(":")
    if scheme != "http" or not found or not host or not (port or "80").isdigit() or int(port or 80) > 65535:
        raise Unavailable(f"not an http:// address: {url[:200]!r}")
    return host, int(port or 80), slash + path or "/"


def _get(host: str, port: int, path: str, timeout_seconds: float) -> bytes:
    deadline = time.monotonic() + timeout_seconds
    request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nAccept: application/json\r\n\r\n"
    answer = bytearray()
    with socket.create_connection((host, port), timeout_seconds) as connection:
        connection.sendall(request.encode("ascii"))
        while len(answer) < _MOST_BYTES:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no complete answer within {timeout_seconds:g} s")
            connection.settimeout(left)
            part = connection.recv(65536)
            if not part:
                break
            answer += part
    return bytes(answer)
