"""A fault-injecting HTTP proxy in front of the real API server.

It counts writes, can cut the operator off after the k-th of them (the write itself goes through, its answer does not),
and can spoil watches: close them all with 410 Gone, deliver events twice, late, or an old state after a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from support.apiserver import ApiServer

__all__ = ["KubeProxy"]

_HOP = {"transfer-encoding", "connection", "content-length", "content-encoding", "host", "accept-encoding"}


class KubeProxy:
    """One proxy on a port of its own, in a thread of its own; use as a context manager."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.writes: list[tuple[str, str, Any]] = []
        """(method, path, body) of every write but those of leases."""
        self.cut_after: int | None = None
        self.counts: Callable[[str], bool] = lambda path: True
        """Which writes count towards the cut, by path."""
        self.on_cut: Callable[[], None] = lambda: None
        self.spoil = ""
        """'', 'double', 'late' or 'stale': what happens to watch events."""
        self.watches_to_refuse = 0
        """So many watches from now on are answered 410 Gone."""
        self.down = False
        self._watching: set[asyncio.Task[Any]] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def __enter__(self) -> KubeProxy:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def kubeconfig(self, folder: Path) -> Path:
        """Write a kubeconfig that leads here."""
        cluster = {"server": f"http://127.0.0.1:{self.port}"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": cluster}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "users": [{"name": "proxy", "user": {}}],
        }
        path = folder / f"proxy-{self.port}.kubeconfig"
        path.write_text(json.dumps(document))
        return path

    def break_watches(self, refuse: int = 0) -> None:
        """Close every open watch; the next ``refuse`` ones are answered 410 Gone."""
        self.watches_to_refuse = refuse
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in list(self._watching)])

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        connector = aiohttp.TCPConnector(ssl=self._server._context, limit=0)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=True, read_bufsize=2**22
        ) as self._session:
            app = web.Application(client_max_size=2**26)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            self._started.set()
            await self._stop.wait()
            for task in list(self._watching):
                task.cancel()
            await runner.cleanup()
        await asyncio.sleep(0.1)  # closed and aborted transports say goodbye in the loop's next rounds

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            return self._drop(request)
        body = await request.read()
        write = request.method != "GET" and "/leases" not in request.path
        if write:
            entry = (request.method, request.path_qs, json.loads(body) if body else None)
            self.writes.append(entry)
            number = sum(self.counts(path) for _, path, _ in self.writes)
            if self.cut_after is not None and self.counts(request.path_qs) and number > self.cut_after:
                self.writes.pop()
                return self._drop(request)  # the one before it is still under way: it never comes to this one
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        url = self._server.url + request.path_qs
        if request.query.get("watch"):
            return await self._watch(request, url, headers)
        async with self._session.request(request.method, url, data=body or None, headers=headers) as answer:
            data = await answer.read()
        if write and request.method == "POST" and answer.status == web.HTTPConflict.status_code:
            self.writes.remove(entry)  # it was there: nothing was written
        elif write and self.cut_after is not None and self.counts(request.path_qs) and number >= self.cut_after:
            self.down = True
            self.on_cut()
            return self._drop(request)
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
        return web.Response(status=answer.status, body=data, headers=kept)

    def _drop(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)

    async def _watch(self, request: web.Request, url: str, headers: dict[str, str]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if self.watches_to_refuse > 0:
            self.watches_to_refuse -= 1
            status = {"kind": "Status", "code": 410, "reason": "Expired", "status": "Failure", "message": "too old"}
            await response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            return response
        task = asyncio.ensure_future(self._stream(response, url, headers))
        self._watching.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError, ConnectionError, aiohttp.ClientError):
                await task
        finally:
            self._watching.discard(task)
        return response

    async def _stream(self, response: web.StreamResponse, url: str, headers: dict[str, str]) -> None:
        last: dict[str, bytes] = {}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(url, headers=headers, timeout=timeout) as answer:
            async for line in answer.content:
                if self.spoil == "late":
                    await asyncio.sleep(0.3)
                await response.write(line)
                event = json.loads(line)
                key = str(event["object"].get("metadata", {}).get("uid", ""))
                if self.spoil == "double":
                    await response.write(line)
                elif self.spoil == "stale" and key in last and event["type"] == "MODIFIED":
                    await response.write(last[key])
                last[key] = line
