"""Dry runs against the API server: what would it say to this object?"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from supernode_api.names import PLURALS
from support.apiserver import ApiServer

__all__ = ["Answer", "Tries"]


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    body: Any

    @property
    def accepted(self) -> bool:
        return self.status < 300

    @property
    def fields(self) -> list[str]:
        """The fields that a refusal names."""
        return [cause.get("field", "") for cause in self.body.get("details", {}).get("causes", [])]

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class Tries:
    """Tries things on an API server in which the samples exist; nothing is kept."""

    def __init__(self, server: ApiServer, existing: dict[tuple[str, str], Any]) -> None:
        self._server = server
        self._existing = existing

    def collection(self, body: dict[str, Any]) -> str:
        """Path of the objects of a kind."""
        namespace = body["metadata"].get("namespace")
        scope = f"namespaces/{namespace}/" if namespace else ""
        return f"/apis/supernode.io/v1alpha1/{scope}{PLURALS[body['kind']]}"

    def create(self, body: dict[str, Any]) -> Answer:
        """Create an object under a name of its own."""
        body = deepcopy(body)
        if body["metadata"]["name"] in {name for _, name in self._existing}:
            body["metadata"]["name"] += "-new"
        return self._send("POST", self.collection(body), body)

    def change(self, body: dict[str, Any]) -> Answer:
        """Replace the spec of the sample of that name."""
        return self._replace(body, "")

    def report(self, body: dict[str, Any]) -> Answer:
        """Replace the status of the sample of that name."""
        return self._replace(body, "/status")

    def keep(self, body: dict[str, Any]) -> None:
        """Really create an object, once."""
        name = body["metadata"]["name"]
        if (body["kind"], name) not in self._existing:
            status, answer = self._server.request("POST", self.collection(body), body)
            assert status == 201, answer
            self._existing[body["kind"], name] = answer

    def _replace(self, body: dict[str, Any], subresource: str) -> Answer:
        name = body["metadata"]["name"]
        body = {**deepcopy(body), "metadata": self._existing[body["kind"], name]["metadata"]}
        return self._send("PUT", f"{self.collection(body)}/{name}{subresource}", body)

    def _send(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        return Answer(*self._server.request(method, path, body, dryRun="All", fieldValidation="Strict"))
