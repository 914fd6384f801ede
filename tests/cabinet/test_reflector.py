"""Lists and watches against an API server that misbehaves: scripted answers over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from lightkube import AsyncClient
from lightkube.config.kubeconfig import KubeConfig
from lightkube.generic_resource import create_global_resource

from supernode_cabinet.watch import Reflector

NODE = create_global_resource("supernode.io", "v1alpha1", "ComputeNode", "computenodes")


def item(name: str, version: int, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "resourceVersion": str(version), "managedFields": [{"manager": "x"}]}
    return {"apiVersion": "supernode.io/v1alpha1", "kind": "ComputeNode", "metadata": metadata, "spec": spec}


class Script:
    """Answers lists and watches in turn; the last answer of each kind is repeated (watches: silence)."""

    def __init__(self, lists: list[Any], watches: list[list[Any]]) -> None:
        self.lists, self.watches = lists, watches
        self.seen: list[str] = []
        self.tasks: set[asyncio.Task[Any] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        try:
            await self._answer(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            return
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def end(self) -> None:
        for task in filter(None, self.tasks):
            task.cancel()
        await asyncio.gather(*filter(None, self.tasks), return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].decode()
        query = parse_qs(urlsplit(line.split()[1]).query)
        watch = "watch" in query
        self.seen.append(f"watch from {query.get('resourceVersion', ['?'])[0]}" if watch else "list")
        if watch:
            await self._watch(writer)
        else:
            answer = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
            code = 200 if isinstance(answer, dict) else answer
            body = json.dumps(answer if code == 200 else {"kind": "Status", "code": code, "message": "no"}).encode()
            writer.write(_head(code) + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def _watch(self, writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200) + b"\r\n")
        for event in self.watches.pop(0) if self.watches else [3600.0]:
            if isinstance(event, float):
                await asyncio.sleep(event)
            else:
                writer.write(json.dumps(event).encode() + b"\n")
                await writer.drain()


def _head(code: int) -> bytes:
    return f"HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nConnection: close\r\n".encode()


def listed(version: int, *items: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "ComputeNodeList", "metadata": {"resourceVersion": str(version)}, "items": list(items)}


def event(kind: str, one: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": one}


GONE = event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})


@asynccontextmanager
async def reflecting(script: Script) -> AsyncIterator[tuple[Reflector, list[int]]]:
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    cluster, user = {"name": "c", "cluster": {"server": url}}, {"name": "u", "user": {}}
    parts = {"contexts": [context], "clusters": [cluster], "users": [user]}
    client = AsyncClient(config=KubeConfig.from_dict({"current-context": "c", **parts}), trust_env=False)
    changes: list[int] = []
    reflector = Reflector(client, NODE, lambda: changes.append(1), fields={"spec.superNode": "x"}, namespaced=False)
    task = asyncio.create_task(reflector.run())
    try:
        yield reflector, changes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()
        server.close()
        await script.end()
        await server.wait_closed()


async def until(test: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not test():
            await asyncio.sleep(0.01)


async def test_events_change_the_objects_and_nothing_unread_is_kept() -> None:
    watches = [
        [event("MODIFIED", item("a", 6, v=2)), event("ADDED", item("b", 7)), event("DELETED", item("a", 8)), 9.0]
    ]
    async with reflecting(Script([listed(5, item("a", 5, v=1))], watches)) as (reflector, changes):
        await until(lambda: set(reflector.objects) == {"b"})
        assert reflector.objects["b"] == {"metadata": {"name": "b"}, "spec": {}, "status": {}}
        assert len(changes) == 4
        assert reflector.connected


async def test_a_version_that_is_gone_is_listed_anew_at_once() -> None:
    script = Script([listed(5, item("a", 5)), listed(50, item("c", 50))], [[GONE], [9.0]])
    async with reflecting(script) as (reflector, _):
        await until(lambda: set(reflector.objects) == {"c"})
        await until(lambda: len(script.seen) == 4)
        assert script.seen == ["list", "watch from 5", "list", "watch from 50"]


async def test_a_stream_that_ends_is_taken_up_where_it_was() -> None:
    script = Script([listed(5)], [[event("ADDED", item("a", 6))], [event("ADDED", item("b", 7)), 9.0]])
    async with reflecting(script) as (reflector, _):
        await until(lambda: set(reflector.objects) == {"a", "b"})
        assert script.seen[:3] == ["list", "watch from 5", "watch from 6"]


async def test_failures_keep_the_last_state_and_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="supernode_cabinet")
    script = Script([listed(5, item("a", 5)), 500, 403, 503, listed(9, item("a", 5))], [[GONE], [9.0]])
    async with reflecting(script) as (reflector, changes):
        await until(lambda: len(script.seen) >= 5 and not reflector.connected)
        assert set(reflector.objects) == {"a"}
        assert reflector.synced
        await until(lambda: reflector.connected)
        assert len(changes) == 1, "nothing had changed"
    messages = [record.message for record in caplog.records if record.name == "supernode_cabinet.watch"]
    assert [text.split(",")[0] for text in messages] == [
        "watching ComputeNode",
        "cannot read ComputeNode",
        "watching ComputeNode",
    ]


async def test_a_line_that_is_no_event_ends_the_stream_and_not_the_reflector() -> None:
    script = Script([listed(5), listed(9, item("z", 9))], [[{"type": 7}, 9.0], [9.0]])
    async with reflecting(script) as (reflector, _):
        await until(lambda: set(reflector.objects) == {"z"})
