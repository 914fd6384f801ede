"""The one way to the API server: raw JSON over the official client's asyncio transport.

Writes are server-side apply with our field manager; the answer to a write goes into the cache at once, so a reconcile
never reads older than what it wrote itself. Every request is counted, and one of a reconcile is a span of its trace.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

from supernode_api.names import FIELD_MANAGER
from supernode_operator.engine.errors import ConfigError, UnavailableError, api_error
from supernode_operator.engine.kinds import Kind
from supernode_operator.engine.metrics import Metrics
from supernode_operator.engine.tracing import Span, Tracing

__all__ = ["Client", "load_configuration"]

Json = dict[str, Any]
Written = Callable[[Kind, Mapping[str, Any]], object]

_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
_PARTIAL_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
REQUEST_SECONDS: Final = 15.0
LIST_CHUNK: Final = 500


async def load_configuration(kubeconfig: str | None) -> Configuration:
    """Return how to reach the API server: a kubeconfig when one is named, else the pod's service account."""
    configuration = Configuration()
    try:
        if kubeconfig:
            await load_kube_config(config_file=kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except Exception as error:  # the client raises ConfigException, OSError, yaml's errors and TypeErrors
        raise ConfigError(f"no way to the API server: {error} (in a pod, or KUBECONFIG)") from error
    configuration.retries = None
    return configuration


class Client:
    """Requests to one API server; use as an async context manager."""

    def __init__(self, configuration: Configuration, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._api = ApiClient(configuration)
        self._api.user_agent = FIELD_MANAGER
        self._metrics = metrics
        self._tracing = tracing or Tracing()
        self._written: Written | None = None
        self._gone: Written | None = None
        self._fenced = False

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]

    def feed(self, written: Written, gone: Written) -> None:
        """Tell these about the answers to our own writes."""
        self._written, self._gone = written, gone

    def fence(self) -> None:
        """Refuse every write from now on but those of the lease: somebody else may lead."""
        self._fenced = True

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "",
        accept: str = "",
    ) -> Json:
        """Send one request and return its JSON; raises :class:`ApiError`."""
        headers = {"Accept": accept or "application/json", "User-Agent": FIELD_MANAGER}
        headers["Content-Type"] = content or "application/json"
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._api.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        with self._tracing.request(method, url) as span:
            status, data = await self._send(method, url, {**headers, **span.propagation()}, body, span)
        if status >= 400:
            raise api_error(status, data)
        answer: Json = json.loads(data)
        return answer

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Any, span: Span
    ) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        try:
            response = await self._api.rest_client.request(  # type: ignore[no-untyped-call]
                method, url, headers=headers, body=body, _request_timeout=timeout
            )
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._metrics.requests.labels(method, "error").inc()
            span.note({"error.type": type(error).__name__})
            span.fail(str(error))
            raise UnavailableError(0, "Unreachable", f"{type(error).__name__}: {error}") from error
        self._metrics.requests.labels(method, str(response.status)).inc()
        span.note({"http.response.status_code": response.status})
        if response.status >= 400:
            span.note({"error.type": str(response.status)})
            span.fail(f"the API server answers {response.status}")
        return response.status, data

    async def list_all(self, kind: Kind, *, metadata_only: bool = False) -> tuple[list[Json], int]:
        """Return all objects of a kind that we watch and the version of the list."""
        items: list[Json] = []
        query = {"limit": str(LIST_CHUNK)}
        if kind.label_selector:
            query["labelSelector"] = kind.label_selector
        while True:
            answer = await self.request("GET", kind.path(), query=query, accept=_PARTIAL_LIST if metadata_only else "")
            items += answer.get("items") or []
            more = answer["metadata"].get("continue")
            if not more:
                return items, int(answer["metadata"].get("resourceVersion") or 0)
            query["continue"] = more

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Json:
        """Read one object from the API server itself."""
        return await self.request("GET", kind.path(namespace, name))

    async def apply(self, kind: Kind, obj: Mapping[str, Any], *, force: bool = True, subresource: str = "") -> Json:
        """Apply an object under our field manager.

        With ``metadata.uid`` it must exist, with ``metadata.resourceVersion`` it must be unchanged. Without ``force`` a
        field that belongs to somebody else is a :class:`ConflictError`.
        """
        metadata = obj["metadata"]
        body = {"apiVersion": kind.api_version, "kind": kind.name, **obj}
        path = kind.path(metadata.get("namespace", ""), metadata["name"], subresource)
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        return await self._write(kind, "PATCH", path, query=query, body=body, content=_APPLY)

    async def json_patch(self, kind: Kind, name: str, namespace: str, patch: list[Json]) -> Json:
        """Send a JSON patch; its ``test`` operations are the preconditions (422 when they fail)."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self._write(
            kind, "PATCH", kind.path(namespace, name), query=query, body=patch, content=_JSON_PATCH
        )

    async def merge_patch(self, kind: Kind, name: str, namespace: str, patch: Mapping[str, Any]) -> Json:
        """Send a merge patch; ``metadata.uid`` and ``metadata.resourceVersion`` in it are the preconditions."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self._write(kind, "PATCH", kind.path(namespace, name), query=query, body=patch, content=_MERGE)

    async def create(self, kind: Kind, obj: Mapping[str, Any]) -> Json:
        """Create an object; :class:`ConflictError` when it exists."""
        body = {"apiVersion": kind.api_version, "kind": kind.name, **obj}
        path = kind.path(obj["metadata"].get("namespace", ""))
        return await self._write(kind, "POST", path, query={"fieldManager": FIELD_MANAGER}, body=body)

    async def delete(
        self, kind: Kind, obj: Mapping[str, Any], propagation: Literal["Background", "Foreground"] = "Background"
    ) -> None:
        """Delete exactly this object (its uid is the precondition); gone already is fine only as NotFoundError."""
        metadata = obj["metadata"]
        options = {"preconditions": {"uid": metadata["uid"]}, "propagationPolicy": propagation}
        path = kind.path(metadata.get("namespace", ""), metadata["name"])
        self._check_fence()
        answer = await self.request("DELETE", path, body=options)
        if answer.get("kind") == kind.name and answer["metadata"].get("finalizers"):
            self._feed(self._written, kind, answer)

    async def _write(self, kind: Kind, method: str, path: str, **arguments: Any) -> Json:
        self._check_fence()
        answer = await self.request(method, path, **arguments)
        # The last finalizer of a deleted object went with this write: the object is gone.
        dead = answer["metadata"].get("deletionTimestamp") and not answer["metadata"].get("finalizers")
        self._feed(self._gone if dead and kind.api_version.startswith("supernode.io") else self._written, kind, answer)
        return answer

    def _feed(self, consumer: Written | None, kind: Kind, answer: Mapping[str, Any]) -> None:
        if consumer is not None:
            consumer(kind, answer)

    def _check_fence(self) -> None:
        if self._fenced:
            raise UnavailableError(0, "Fenced", "this replica no longer leads")
