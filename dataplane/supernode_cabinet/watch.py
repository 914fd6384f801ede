"""Lists and watches of one kind, for ever: keeps the last state while the API server is away, and starts anew on 410.

The edge to the API server; objects are raw JSON. A stream that says nothing is ended after a while by both sides, so a
half-open connection cannot leave a cabinet with old inputs for long.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError

__all__ = ["Objects", "Reflector"]

_log = logging.getLogger(__name__)

_WATCH_SECONDS: Final = 290
_GRACE_SECONDS: Final = 20
_FIRST_BACKOFF_SECONDS: Final = 0.2
_LAST_BACKOFF_SECONDS: Final = 5.0
_KEPT_METADATA: Final = ("name", "namespace", "uid", "generation", "deletionTimestamp")

Objects = dict[str, dict[str, Any]]
"""Objects by namespace/name, or by name where there is no namespace."""


class Reflector:
    """Keeps ``objects`` equal to what the API server has of one kind, as far as it can be reached."""

    def __init__(
        self,
        client: AsyncClient,
        resource: type[Any],
        changed: Callable[[], None],
        *,
        fields: Mapping[str, str],
        namespaced: bool,
    ) -> None:
        self.objects: Objects = {}
        self.synced = False
        """Whether everything has been listed at least once."""
        self.connected: bool | None = None
        """Whether the last request worked; None before the first."""
        self._client = client
        self._resource = resource
        self._changed = changed
        self._fields: dict[str, Any] = dict(fields)
        self._namespace = "*" if namespaced else None

    async def run(self) -> None:
        """List and watch until cancelled; failures back off with jitter and are logged once per transition."""
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            try:
                version = await self._list()
                backoff = _FIRST_BACKOFF_SECONDS
                self._set_connected(True, "")
                await self._watch(version)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # the loop's edge: whatever the transport raises, the last state stays
                if isinstance(error, ApiError) and getattr(error.status, "code", 0) == 410:
                    await asyncio.sleep(_FIRST_BACKOFF_SECONDS)  # the list is fresh; the loss is nothing to tell
                    continue
                self._set_connected(False, _describe(error))
                await asyncio.sleep(backoff * random.uniform(0.7, 1.3))
                backoff = min(backoff * 2, _LAST_BACKOFF_SECONDS)

    async def _list(self) -> str:
        async with asyncio.timeout(_WATCH_SECONDS):
            listed = self._client.list(self._resource, namespace=self._namespace, fields=self._fields)
            objects: Objects = {}
            async for item in listed:
                objects[_key(item)] = _slim(item)
        if objects != self.objects or not self.synced:
            self.objects, self.synced = objects, True
            self._changed()
        return str(listed.resourceVersion)

    async def _watch(self, version: str) -> None:
        # lightkube reads without a timeout, so the clock here is what notices a connection that died silently.
        try:
            async with asyncio.timeout(_WATCH_SECONDS + _GRACE_SECONDS):
                stream = self._client.watch(
                    self._resource,
                    namespace=self._namespace,
                    fields=self._fields,
                    server_timeout=_WATCH_SECONDS,
                    resource_version=version,
                )
                async for kind, item in stream:
                    self._apply(kind, item)
        except TimeoutError:
            return

    def _apply(self, kind: str, item: dict[str, Any]) -> None:
        key = _key(item)
        if kind == "DELETED":
            self.objects.pop(key, None)
        elif kind in ("ADDED", "MODIFIED"):
            self.objects[key] = _slim(item)
        else:
            return
        self._changed()

    def _set_connected(self, connected: bool, why: str) -> None:
        if connected is not self.connected:
            kind = self._resource.__name__
            if connected:
                _log.info("watching %s", kind)
            else:
                _log.warning("cannot read %s, keeping the last state: %s", kind, why)
        self.connected = connected


def _key(item: dict[str, Any]) -> str:
    metadata = item["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def _slim(item: dict[str, Any]) -> dict[str, Any]:
    """Return the object without what is never read (managedFields are most of a small object)."""
    metadata = item["metadata"]
    kept = {key: metadata[key] for key in _KEPT_METADATA if key in metadata}
    return {"metadata": kept, "spec": item.get("spec") or {}, "status": item.get("status") or {}}


def _describe(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
