"""The API server, as far as the agent needs it: the ComputeNodes of one node, listed, watched, their status patched.

``ComputeNodes`` is the seam; ``ApiComputeNodes`` is the real thing (lightkube). ``follow`` is list and watch for ever:
whatever happens to the connection, the caller keeps what it has and hears of changes when the server is back.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, Protocol, cast

import httpx2
from lightkube import ApiError, AsyncClient
from lightkube.generic_resource import create_global_resource
from lightkube.types import PatchType

from supernode_api.names import GROUP, PLURALS, VERSION

__all__ = [
    "FIELD_MANAGER",
    "ApiComputeNodes",
    "ApiUnavailableError",
    "ComputeNodes",
    "ConflictError",
    "ExpiredError",
    "NotFoundError",
    "Sink",
    "follow",
]

FIELD_MANAGER: Final = "supernode-agent"
_WATCH_SECONDS: Final = 290
_SILENCE_SECONDS: Final = 330.0
_MAX_DELAY_SECONDS: Final = 10.0
_log = logging.getLogger(__name__)

Json = dict[str, Any]


class ApiUnavailableError(Exception):
    """The API server does not answer, or not as it should; tried again later."""


class ExpiredError(Exception):
    """The version to watch from is too old (410): list again."""


class NotFoundError(Exception):
    """The object is gone."""


class ConflictError(Exception):
    """The object has changed since it was read, or another one of the same name has taken its place."""


class ComputeNodes(Protocol):
    """The ComputeNodes of one node."""

    async def list(self) -> tuple[list[Json], str]:
        """Return all objects and the version of the list."""

    def watch(self, version: str) -> AsyncIterator[tuple[str, Json]]:
        """Yield (ADDED, MODIFIED or DELETED, object) after a version until the server ends the stream."""

    async def patch_status(self, name: str, version: str, status: Mapping[str, Any]) -> Json:
        """Replace the status of an object as it was read and return it; NotFoundError or ConflictError otherwise."""


class Sink(Protocol):
    """Who hears of the objects."""

    def replaced(self, objects: list[Json]) -> None:
        """This is all there is."""

    def changed(self, kind: str, obj: Json) -> None:
        """One object was added, modified or deleted."""


class ApiComputeNodes:
    """ComputeNodes at a real API server; made for one node name."""

    def __init__(self, client: AsyncClient, node_name: str) -> None:
        self._client = client
        self._fields = {"spec.nodeName": node_name}
        self._resource: Any = create_global_resource(GROUP, VERSION, "ComputeNode", PLURALS["ComputeNode"])

    async def list(self) -> tuple[list[Json], str]:
        """Return all objects and the version of the list."""
        try:
            answer = self._client.list(self._resource, fields=cast(Any, self._fields))
            objects = [obj async for obj in answer]
        except (httpx2.HTTPError, OSError) as error:
            raise ApiUnavailableError(_text(error)) from error
        return objects, answer.resourceVersion

    async def watch(self, version: str) -> AsyncIterator[tuple[str, Json]]:
        """Yield changes; a stream that is silent for longer than the server keeps one open is dead."""
        stream: Any = self._client.watch(
            self._resource,
            fields=cast(Any, self._fields),
            server_timeout=_WATCH_SECONDS,
            resource_version=version,
        )
        try:
            while True:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    kind, obj = await anext(stream)
                yield kind, obj
        except StopAsyncIteration:
            return
        except TimeoutError:
            return
        except ApiError as error:
            if error.status.code == 410:
                raise ExpiredError(_text(error)) from error
            raise ApiUnavailableError(_text(error)) from error
        except (httpx2.HTTPError, OSError, ValueError) as error:
            raise ApiUnavailableError(_text(error)) from error
        finally:
            await stream.aclose()

    async def patch_status(self, name: str, version: str, status: Mapping[str, Any]) -> Json:
        """Replace the status by a merge patch: lists in it are taken over whole, foreign entries go."""
        body = {"metadata": {"resourceVersion": version}, "status": dict(status)}
        try:
            patched = await self._client.patch(
                self._resource.Status, name, body, patch_type=PatchType.MERGE, field_manager=FIELD_MANAGER
            )
        except ApiError as error:
            if error.status.code == 404:
                raise NotFoundError(_text(error)) from error
            if error.status.code == 409:
                raise ConflictError(_text(error)) from error
            raise ApiUnavailableError(_text(error)) from error
        except (httpx2.HTTPError, OSError) as error:
            raise ApiUnavailableError(_text(error)) from error
        return cast(Json, patched)


async def follow(nodes: ComputeNodes, sink: Sink, sleep: Callable[[float], Any] = asyncio.sleep) -> None:
    """List and watch for ever, telling the sink. A failure changes nothing at the sink and is tried again."""
    version, delay = "", 0.0
    while True:
        try:
            if not version:
                objects, version = await nodes.list()
                sink.replaced(objects)
            async for kind, obj in nodes.watch(version):
                delay = 0.0
                version = obj["metadata"].get("resourceVersion", version)
                if kind in ("ADDED", "MODIFIED", "DELETED"):
                    sink.changed(kind, obj)
        except ExpiredError:
            version = ""
        except ApiUnavailableError as error:
            delay = min(max(delay * 2, 0.25), _MAX_DELAY_SECONDS)
            _log.warning("the API server is not available", extra={"problem": str(error), "retry_seconds": delay})
        # also after a stream that ended in order: a server that ends each at once is not worth a busy loop
        await sleep(max(delay, 0.05) * random.uniform(0.5, 1.0))


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
