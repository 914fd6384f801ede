"""Asking the API server: enough HTTPS for waiting, over one kept connection."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import urllib.parse
from pathlib import Path
from typing import Any

__all__ = ["ApiClient"]


class ApiClient:
    """A reader with the administrator's certificate: `ApiClient(url, pki).get("/readyz")`."""

    def __init__(self, server: str, pki: Path) -> None:
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._host = urllib.parse.urlsplit(server).netloc
        self._connection: http.client.HTTPSConnection | None = None

    def get(self, path: str) -> str | None:
        """Return the body of an answer 200, nothing for any other answer or none."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPSConnection(self._host, timeout=2, context=self._context)
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            body = answer.read().decode()
        except (OSError, http.client.HTTPException):
            if self._connection is not None:
                with contextlib.suppress(OSError):
                    self._connection.close()
            self._connection = None
            return None
        return body if answer.status == 200 else None

    def get_object(self, path: str) -> dict[str, Any] | None:
        """Return an object, or nothing if it cannot be had."""
        body = self.get(path)
        return json.loads(body) if body else None
