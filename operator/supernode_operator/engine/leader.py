"""Leader election by Lease: two replicas, one works.

The algorithm of client-go: a lease that has not changed for its duration, by our own monotonic clock, may be taken;
writes carry the resourceVersion, so two never win. A leader that shuts down gives the lease back at once.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from supernode_operator.engine.client import Client
from supernode_operator.engine.errors import ApiError, ConflictError, LeaseLostError, NotFoundError
from supernode_operator.engine.kinds import LEASE

__all__ = ["Elector", "LeaseTimes"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds: how long a silent leader is respected, when a leader gives up, how often to try."""

    duration_seconds: int = 15
    renew_deadline_seconds: float = 10.0
    retry_seconds: float = 2.0


class Elector:
    """One candidate for one Lease."""

    def __init__(
        self, client: Client, namespace: str, name: str, identity: str, times: LeaseTimes | None = None
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._times = times or LeaseTimes()
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = time.monotonic()
        self.leading = False

    async def acquire(self) -> None:
        """Return when this replica leads."""
        while not await self._try():  # noqa: ASYNC110 - polls the API server, nothing here could set an event
            await asyncio.sleep(self._times.retry_seconds)
        self.leading = True

    async def hold(self) -> None:
        """Renew until it fails for too long; raises :class:`LeaseLostError`."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._times.retry_seconds)
            deadline = renewed + self._times.renew_deadline_seconds
            try:
                async with asyncio.timeout(max(0.1, deadline - time.monotonic())):
                    done = await self._try()
            except TimeoutError:
                done = False
            if done:
                renewed = time.monotonic()
            elif self._seen[0] != self._identity or time.monotonic() >= deadline:
                self.leading = False
                raise LeaseLostError(f"lease {self._name} lost to {self._seen[0] or 'nobody'}")

    async def release(self) -> None:
        """Give the lease back, so that the other replica need not wait for it to expire."""
        if not self.leading:
            return
        self.leading = False
        try:
            lease = await self._client.get(LEASE, self._name, self._namespace)
            if lease.get("spec", {}).get("holderIdentity") == self._identity:
                lease["spec"].update({"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()})
                await self._put(lease)
        except ApiError as error:
            log.warning("lease not given back", error=str(error))

    async def _try(self) -> bool:
        """Take or renew the lease once; False when somebody else has it or the API server does not answer."""
        try:
            return await self._take()
        except ConflictError:
            return False
        except ApiError as error:
            log.warning("lease not reached", lease=self._name, error=str(error))
            return False

    async def _take(self) -> bool:
        try:
            lease = await self._client.get(LEASE, self._name, self._namespace)
        except NotFoundError:
            meta = {"name": self._name, "namespace": self._namespace}
            body = {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": meta, "spec": self._spec({})}
            await self._client.request("POST", LEASE.path(self._namespace), body=body)
            self._seen = (self._identity, "")
            return True
        spec: dict[str, Any] = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        seen = (holder, str(spec.get("renewTime", "")))
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        if holder not in ("", self._identity):
            expired = time.monotonic() - self._seen_at >= (
                spec.get("leaseDurationSeconds") or self._times.duration_seconds
            )
            if not expired:
                return False
        lease["spec"] = self._spec(spec)
        await self._put(lease)
        self._seen = (self._identity, lease["spec"]["renewTime"])
        return True

    def _spec(self, old: dict[str, Any]) -> dict[str, Any]:
        mine = old.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._times.duration_seconds,
            "acquireTime": old.get("acquireTime") if mine and old.get("acquireTime") else _now(),
            "renewTime": _now(),
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if mine or not old else 1),
        }

    async def _put(self, lease: dict[str, Any]) -> None:
        await self._client.request("PUT", LEASE.path(self._namespace, self._name), body=lease)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
