"""A status that the API server refuses is said, counted, and tried again ever more rarely; its Event is told once."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from structlog.testing import capture_logs

from supernode_operator.config import Config
from supernode_operator.engine.client import Client
from supernode_operator.engine.kinds import WORKLOAD
from supernode_operator.engine.metrics import Metrics
from supernode_operator.engine.queue import WorkQueue
from supernode_operator.engine.store import Store
from supernode_operator.loop import Loop
from supernode_operator.reconcilers.context import Context
from support.machines import SMALL, workload
from support.operator_world import free_ports


async def refuse(request: web.Request) -> web.Response:
    if request.path.endswith("/events"):
        return web.json_response(await request.json(), status=201)
    body = {"kind": "Status", "metadata": {}, "reason": "Invalid", "message": "status.placement.ranks: too many"}
    return web.json_response(body, status=422)


async def test_a_status_that_is_refused_is_tried_again_ever_more_rarely_and_counted() -> None:
    (port,) = free_ports(1)
    configuration, metrics, store = Configuration(), Metrics(), Store()
    configuration.host = f"http://127.0.0.1:{port}"
    configuration.retries = None
    queue = WorkQueue(metrics, settle_seconds=0.0, pause_seconds=0.0)
    raw = workload("train", [3], SMALL)
    raw["metadata"] |= {"uid": "u", "resourceVersion": "1", "generation": 1}
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with Client(configuration, metrics) as client:
        again = lambda key, seconds, reason: queue.add_after(key, seconds)  # noqa: E731
        loop = Loop(Context(store, client, Config(), again), queue, metrics)
        store.put(WORKLOAD, raw)
        queue.add(WORKLOAD.key(raw))
        with capture_logs() as lines:
            work = asyncio.create_task(loop.run())
            async with asyncio.timeout(20):
                while sum(line["event"] == "refused" for line in lines) < 3:
                    await asyncio.sleep(0.01)
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
    await runner.cleanup()
    refused = [line for line in lines if line["event"] == "refused"]
    assert [(line["log_level"], line["retry_seconds"]) for line in refused] == [
        ("error", 0.2),
        ("error", 0.4),
        ("error", 0.8),
    ]
    assert "status.placement.ranks: too many" in refused[0]["error"]
    assert [line["reason"] for line in lines if line["event"] == "transition"] == ["SuperNodeNotFound"]
    page = metrics.render().decode()
    assert 'controller_runtime_reconcile_total{controller="SuperNodeWorkload",result="error"} 3.0' in page
    assert 'controller_runtime_reconcile_errors_total{controller="SuperNodeWorkload"} 3.0' in page
    assert 'rest_client_requests_total{code="422",method="PATCH"} 3.0' in page
