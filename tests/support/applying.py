"""Objects of our kinds as they are told in a test, put into a real API server with their status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supernode_api.names import API_VERSION, PLURALS
from support.apiserver import ApiServer

__all__ = ["apply", "path_of"]

_SSA = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_OF_THE_SERVER = {"creationTimestamp", "generation", "resourceVersion", "uid"}


def path_of(item: Mapping[str, Any]) -> str:
    """Return where the API server has an object of ours."""
    meta = item["metadata"]
    scope = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    return f"/apis/{API_VERSION}{scope}/{PLURALS[item['kind']]}/{meta['name']}"


def apply(server: ApiServer, item: Mapping[str, Any]) -> None:
    """Apply an object, but for what the server itself says of it, then its status if it has one."""
    meta = {key: value for key, value in item["metadata"].items() if key not in _OF_THE_SERVER}
    body = {**{key: value for key, value in item.items() if key != "status"}, "metadata": meta}
    status, answer = server.request("PATCH", path_of(item), body, content_type=_SSA, fieldManager="test", force="true")
    assert status in (200, 201), answer
    if item.get("status"):
        patch = {"status": item["status"]}
        status, answer = server.request("PATCH", f"{path_of(item)}/status", patch, content_type=_MERGE)
        assert status == 200, answer
