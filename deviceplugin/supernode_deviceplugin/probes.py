"""``/healthz`` and ``/readyz`` for the kubelet's probes: health is that our own sockets answer when they are called."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from supernode_deviceplugin.v1beta1 import api_pb2, api_pb2_grpc

__all__ = ["ProbeServer", "dial"]

_TIMEOUT_SECONDS: Final = 2.0
_log = logging.getLogger(__name__)

Check = Callable[[], Awaitable[str]]
"""Returns what is wrong, or nothing."""


async def dial(sockets: Iterable[Path]) -> str:
    """Call every one of our sockets; return what is wrong with the first that fails, or an empty text."""
    for path in sockets:
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            stub = api_pb2_grpc.DevicePluginStub(channel)
            try:
                await stub.GetDevicePluginOptions(api_pb2.Empty(), timeout=_TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError as error:
                return f"{path.name}: {error.details() or error.code().name}"
    return ""


class ProbeServer:
    """A few lines of HTTP/1.1: GET on known paths, 200 or 503 with the reason."""

    def __init__(self, port: int, checks: dict[str, Check]) -> None:
        self._port = port
        self._checks = checks
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on all addresses."""
        self._server = await asyncio.start_server(self._serve, None, self._port, limit=8192)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS * 3):
                request = await reader.readuntil(b"\r\n\r\n")
                status, text = await self._answer(request.split(b"\r\n", 1)[0].decode("latin-1"))
                body = f"{text}\n".encode()
                head = (
                    f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            _log.debug("a probe did not complete")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: str) -> tuple[str, str]:
        method, _, rest = line.partition(" ")
        check = self._checks.get(rest.split(" ")[0].split("?")[0])
        if check is None:
            return "404 Not Found", "not found"
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", "use GET"
        problem = await check()
        return ("503 Service Unavailable", problem) if problem else ("200 OK", "ok")
