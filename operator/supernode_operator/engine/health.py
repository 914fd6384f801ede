"""Two small HTTP servers: health on one port, metrics on another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from supernode_operator.engine.metrics import CONTENT_TYPE_LATEST, Metrics

__all__ = ["Report", "serve"]

Report = Callable[[], tuple[bool, dict[str, Any]]]
"""Returns whether all is well, and what to show."""


async def serve(
    health_port: int, metrics_port: int, healthy: Report, ready: Report, metrics: Metrics
) -> list[web.AppRunner]:
    """Serve ``/healthz`` and ``/readyz`` on one port and ``/metrics`` on the other; clean the runners up at the end."""

    def answer(report: Report) -> Callable[[web.Request], Any]:
        async def handle(_: web.Request) -> web.Response:
            well, details = report()
            return web.json_response(details, status=200 if well else 503)

        return handle

    async def expose(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    health = web.Application()
    health.add_routes([web.get("/healthz", answer(healthy)), web.get("/readyz", answer(ready))])
    exposition = web.Application()
    exposition.add_routes([web.get("/metrics", expose)])
    runners = []
    for app, port in ((health, health_port), (exposition, metrics_port)):
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        # The kubelet probes and Prometheus scrapes the pod's address.
        await web.TCPSite(runner, "0.0.0.0", port).start()  # noqa: S104
        runners.append(runner)
    return runners
