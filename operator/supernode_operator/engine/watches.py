"""Watching, by Kopf: low-level event handlers that feed the cache and do nothing else.

Kopf lists, watches, resumes and logs in; no handler of ours makes it write anything (no finalizers, annotations,
status or Events of Kopf). What a low-level handler is not told is when a list was complete and what vanished while a
watch was broken: for that the cache is filled by our own lists before work starts, and compared with a list of
metadata after each restart of a watch and every few minutes.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import kopf
import structlog
from kubernetes.aio.client.configuration import Configuration

from supernode_operator.engine.client import Client
from supernode_operator.engine.errors import ApiError, NotFoundError
from supernode_operator.engine.kinds import WATCHED, Kind
from supernode_operator.engine.metrics import Metrics
from supernode_operator.engine.store import Store

__all__ = ["Watches"]

log = structlog.get_logger(__name__)

RESYNC_SECONDS: Final = 300.0
"""Between two comparisons of the cache with the API server."""
RELIST_GRACE_SECONDS: Final = 2.0
"""After the first event of a restarted watch, so that its whole list has been taken in."""
SERVER_TIMEOUT_SECONDS: Final = 290
CRD_RETRY_SECONDS: Final = 5.0


class Watches:
    """The watches of all our kinds, and how fresh they are."""

    def __init__(self, client: Client, store: Store, metrics: Metrics) -> None:
        self._client = client
        self._store = store
        self._metrics = metrics
        self._last_event = {kind.name: time.monotonic() for kind in WATCHED}
        self._stale: dict[str, int] = {}
        self._relisted: set[str] = set()
        self._started = 0.0
        self._check = asyncio.Event()
        self.synced = False

    async def fill(self) -> None:
        """List every kind into the cache; waits for our CRDs when they are not installed yet."""
        for kind in WATCHED:
            while True:
                try:
                    items, _ = await self._client.list_all(kind)
                    break
                except NotFoundError:
                    log.warning("kind not installed: apply the CRDs", kind=kind.name)
                except ApiError as error:
                    log.warning("cannot list", kind=kind.name, error=str(error))
                await asyncio.sleep(CRD_RETRY_SECONDS)
            for item in items:
                self._store.put(kind, item)
        self.synced = True

    async def run(self, configuration: Configuration, stop: asyncio.Event) -> None:
        """Run Kopf until it is told to stop; an error of a watch ends it with an exception."""
        self._started = time.monotonic()
        # Unused without peering; Kopf's own needs the name of a user, which a UID may lack.
        identity: Any = "supernode-operator"
        await kopf.operator(
            registry=self._registry(configuration),
            settings=_settings(),
            clusterwide=True,
            standalone=True,
            identity=identity,
            stop_flag=stop,
        )

    async def resync(self) -> None:
        """Compare the cache with the API server, after each restart of a watch and every few minutes."""
        await asyncio.sleep(RELIST_GRACE_SECONDS)  # what was deleted between our list and Kopf's
        names = {kind.name for kind in WATCHED}
        while True:
            for kind in (k for k in WATCHED if k.name in names):
                await self._compare(kind)
            self._check.clear()
            names = {kind.name for kind in WATCHED}
            try:
                async with asyncio.timeout(RESYNC_SECONDS):
                    await self._check.wait()
                await asyncio.sleep(RELIST_GRACE_SECONDS)
                names, self._relisted = self._relisted, set()
            except TimeoutError:
                pass

    def ages(self) -> dict[str, float]:
        """Seconds since the last event of each kind."""
        now = time.monotonic()
        return {name: round(now - moment, 1) for name, moment in self._last_event.items()}

    def dead(self) -> list[str]:
        """Kinds whose watch has stopped: twice in a row the API server knew newer objects than the cache."""
        return sorted(name for name, count in self._stale.items() if count >= 2)

    async def _compare(self, kind: Kind) -> None:
        try:
            listed, version = await self._client.list_all(kind, metadata_only=True)
            gone, stale = self._store.retain(kind, listed, version)
        except ApiError as error:
            log.warning("cannot compare the cache", kind=kind.name, error=str(error))
            return
        self._metrics.objects.labels(kind.name).set(self._store.count(kind))
        self._stale[kind.name] = self._stale.get(kind.name, 0) + 1 if stale else 0
        if gone or stale:
            log.info("cache compared", kind=kind.name, gone=gone, stale=stale)
        if stale:  # events may just be on their way: look again soon
            self._relisted.add(kind.name)
            asyncio.get_running_loop().call_later(10 * RELIST_GRACE_SECONDS, self._check.set)

    def _registry(self, configuration: Configuration) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        async def login(**_: Any) -> kopf.ConnectionInfo:
            return await _connection(configuration)

        kopf.on.login(registry=registry, id="login")(login)
        for kind in WATCHED:
            kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id="cache", param=kind)(
                self._on_event
            )
        return registry

    async def _on_event(self, *, event: Any, param: Any = None, **_: Any) -> None:
        kind: Kind = param
        type_, obj = event["type"], event["object"]
        self._last_event[kind.name] = time.monotonic()
        self._metrics.watch_events.labels(kind.name, type_ or "LISTED").inc()
        if type_ == "DELETED":
            self._store.remove(kind, obj)
        else:  # the items of a list carry no kind of their own; the watch is per kind
            self._store.put(kind, obj)
        self._metrics.objects.labels(kind.name).set(self._store.count(kind))
        if type_ is None and time.monotonic() - self._started > 5 * RELIST_GRACE_SECONDS:
            if kind.name not in self._relisted:
                self._metrics.watch_restarts.labels(kind.name).inc()
                self._relisted.add(kind.name)
            self._check.set()


class _NoDiffs(kopf.DiffBaseStorage):
    """No handler of ours asks what has changed: without this Kopf copies every object for each of its events."""

    def build(self, **_: object) -> kopf.BodyEssence:
        """Return nothing to compare."""
        return kopf.BodyEssence({})

    def fetch(self, **_: object) -> kopf.BodyEssence | None:
        """Return nothing: nothing was kept."""
        return None

    def store(self, **_: object) -> None:
        """Keep nothing."""


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.watching.server_timeout = SERVER_TIMEOUT_SECONDS
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.watching.reconnect_backoff = 0.5
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 60
    settings.networking.error_backoffs = (0.5, 1, 2, 3, 5, 8, 13, 21)
    settings.networking.enforce_retry_after = True
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 0.5
    settings.process.ultimate_exiting_timeout = 10
    settings.persistence.diffbase_storage = _NoDiffs()
    for kind in WATCHED:
        if kind.label_selector:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = kind.label_selector
    return settings


async def _connection(configuration: Configuration) -> kopf.ConnectionInfo:
    """Translate the official client's configuration, so that one login serves both."""
    header = await configuration.get_api_key_with_prefix("BearerToken")
    scheme, _, token = (header or "").rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
