"""Traces: what a span says, whose child it is, and that a collector costs the work nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from structlog.testing import capture_logs

from supernode_operator.config import Config
from supernode_operator.engine.client import Client
from supernode_operator.engine.kinds import COMPUTE_NODE, LEASE, Key
from supernode_operator.engine.metrics import Metrics
from supernode_operator.engine.queue import WorkQueue
from supernode_operator.engine.store import Store
from supernode_operator.engine.tracing import Tracing, start_tracing, url_template
from supernode_operator.loop import Loop
from supernode_operator.reconcilers.context import Context
from support.operator_world import OperatorProcess, World, free_ports, wait_for
from support.span_receiver import Received, SpanReceiver, span_receiver

ROOT = Path(__file__).resolve().parents[2]
RESULT, REASON = "supernode.reconcile.result", "supernode.reconcile.requeue.reason"
SECONDS = "supernode.reconcile.requeue.seconds"
NOWHERE = "http://127.0.0.1:1"
ERROR = 2  # opentelemetry.proto.trace.v1.Status.STATUS_CODE_ERROR
CLIENT = 3  # opentelemetry.proto.trace.v1.Span.SPAN_KIND_CLIENT


def variables(endpoint: str, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **more}


def orphan(name: str = "cn-1", **spec: Any) -> dict[str, Any]:
    """A ComputeNode without its SuperNode: a reconcile deletes it."""
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
    return {"kind": "ComputeNode", "metadata": metadata, "spec": {"superNode": "gone", **spec}}


@dataclass
class Bench:
    """The real loop, queue, cache and client on a scripted API server."""

    client: Client
    tracing: Tracing
    port: int
    metrics: Metrics
    store: Store = field(default_factory=Store)
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 200

    def __post_init__(self) -> None:
        self.queue = WorkQueue(self.metrics, settle_seconds=0.0, pause_seconds=0.0)
        self.context = Context(self.store, self.client, Config(), lambda key, seconds, reason: None)
        self.loop = Loop(self.context, self.queue, self.metrics, self.tracing)

    async def answer(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        reason = {409: "Conflict", 503: "ServiceUnavailable"}.get(self.status, "")
        body = {"kind": "Status", "metadata": {}, "reason": reason, "message": "as scripted"}
        return web.json_response(body, status=self.status)

    async def reconcile(self, *objects: dict[str, Any]) -> None:
        """Put ComputeNodes into the cache and work until each was looked at once."""
        wanted = self.reconciled() + len(objects)
        for one in objects:
            self.store.put(COMPUTE_NODE, one)
            self.queue.add(COMPUTE_NODE.key(one))
        work = asyncio.create_task(self.loop.run())
        try:
            async with asyncio.timeout(20):
                while self.reconciled() < wanted:
                    await asyncio.sleep(0.002)
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    def reconciled(self) -> int:
        samples = next(iter(self.metrics.reconciles.collect())).samples
        return int(sum(one.value for one in samples if one.name.endswith("_total")))


@asynccontextmanager
async def bench(environment: dict[str, str], status: int = 200) -> AsyncIterator[Bench]:
    (port,) = free_ports(1)
    configuration, metrics = Configuration(), Metrics()
    configuration.host = f"http://127.0.0.1:{port}"
    configuration.retries = None
    tracing = start_tracing(environment, "operator-a")
    async with Client(configuration, metrics, tracing) as client:
        made = Bench(client, tracing, port, metrics, status=status)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", made.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        if status:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield made
        finally:
            await tracing.close()
            await runner.cleanup()


async def traced(status: int, *objects: dict[str, Any]) -> tuple[SpanReceiver, Bench]:
    """Reconcile ComputeNodes with an API server that answers so (0: not at all); all spans have arrived."""
    with span_receiver() as receiver:
        async with bench(variables(receiver.endpoint), status) as made:
            with capture_logs():
                await made.reconcile(*objects)
    return receiver, made


def only(receiver: SpanReceiver) -> tuple[Received, Received]:
    """Return the one reconcile and the one request that there are."""
    (root,) = receiver.roots("reconcile ComputeNode")
    (child,) = receiver.children(root)
    assert len(receiver.spans) == 2
    return root, child


def test_without_an_endpoint_for_traces_nothing_of_opentelemetry_is_loaded() -> None:
    environments = [
        {},
        variables(NOWHERE, OTEL_SDK_DISABLED="true"),
        variables(NOWHERE, OTEL_TRACES_EXPORTER="none"),
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": NOWHERE},
    ]
    program = (
        "import sys, supernode_operator.main\n"
        "from supernode_operator.engine.tracing import Tracing, start_tracing\n"
        f"assert all(type(start_tracing(one, 'a')) is Tracing for one in {environments!r})\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry', 'grpc', 'google.protobuf'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_a_reconcile_is_a_span_and_its_request_a_child() -> None:
    receiver, made = await traced(200, orphan())
    root, child = only(receiver)
    assert root.attributes == {
        "supernode.object.kind": "ComputeNode",
        "supernode.object.name": "cn-1",
        RESULT: "success",
    }
    assert root.resource["service.name"] == "supernode-operator"
    assert root.resource["service.instance.id"] == "operator-a"
    template = "/apis/supernode.io/v1alpha1/computenodes/{name}"
    assert (child.name, child.span.kind) == (f"DELETE {template}", CLIENT)
    assert child.attributes == {
        "http.request.method": "DELETE",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": made.port,
        "url.full": f"http://127.0.0.1:{made.port}/apis/supernode.io/v1alpha1/computenodes/cn-1",
        "url.template": template,
    }
    span, parent = child.span, root.span
    assert parent.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
    assert span.end_time_unix_nano <= parent.end_time_unix_nano


async def test_the_api_server_is_told_which_span_a_request_belongs_to() -> None:
    receiver, made = await traced(200, orphan())
    _, child = only(receiver)
    assert made.headers[0]["traceparent"].startswith(f"00-{child.span.trace_id.hex()}-{child.span.span_id.hex()}-")


async def test_a_conflict_is_no_error_of_the_reconcile_and_says_why_and_when_it_looks_again() -> None:
    receiver, _ = await traced(409, orphan())
    root, child = only(receiver)
    assert (root.attributes[RESULT], root.attributes[REASON], root.attributes[SECONDS]) == ("requeue", "Conflict", 0.2)
    assert root.span.status.code != ERROR
    assert (child.attributes["http.response.status_code"], child.attributes["error.type"]) == (409, "409")
    assert child.span.status.code == ERROR


@pytest.mark.parametrize(("status", "reason", "type_"), [(503, "ServiceUnavailable", "503"), (0, "Unreachable", None)])
async def test_an_api_server_that_cannot_is_an_error(status: int, reason: str, type_: str | None) -> None:
    receiver, _ = await traced(status, orphan())
    root, child = only(receiver)
    assert (root.attributes[RESULT], root.attributes[REASON]) == ("error", reason)
    assert (root.span.status.code, child.span.status.code) == (ERROR, ERROR)
    assert child.attributes["error.type"] == type_ or "ClientConnector" in child.attributes["error.type"]


async def test_a_defect_is_recorded_with_its_traceback() -> None:
    broken = orphan()
    del broken["spec"]
    receiver, _ = await traced(200, broken)
    (root,) = receiver.roots("reconcile ComputeNode")
    assert (root.attributes[RESULT], root.attributes[REASON]) == ("error", "KeyError")
    (event,) = root.span.events
    recorded = {pair.key: pair.value.string_value for pair in event.attributes}
    assert recorded["exception.type"] == "KeyError"
    assert "reconcile_compute_node" in recorded["exception.stacktrace"]


async def test_reconciles_side_by_side_are_traces_of_their_own() -> None:
    receiver, _ = await traced(200, *(orphan(f"cn-{i}") for i in range(20)))
    roots = receiver.roots("reconcile ComputeNode")
    assert len({root.span.trace_id for root in roots}) == 20
    for root in roots:
        (child,) = receiver.children(root)
        assert child.attributes["url.full"].endswith("/" + root.attributes["supernode.object.name"])


async def test_a_request_outside_of_a_reconcile_is_no_span() -> None:
    with span_receiver() as receiver:
        async with bench(variables(receiver.endpoint)) as made:
            await made.client.get(LEASE, "supernode-operator", "supernode-system")
            assert "traceparent" not in made.headers[0]
    assert not receiver.spans


async def test_log_lines_of_a_reconcile_carry_the_ids_of_its_spans() -> None:
    with span_receiver() as receiver:
        async with bench(variables(receiver.endpoint)) as made:
            with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
                await made.reconcile(orphan())
            assert structlog.contextvars.get_contextvars() == {}
    root, _ = only(receiver)
    (line,) = [line for line in lines if line["event"] == "delete"]
    assert (line["trace_id"], line["span_id"]) == (root.span.trace_id.hex(), root.span.span_id.hex())


async def test_the_sampler_the_headers_and_the_resource_are_what_the_variables_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with span_receiver() as receiver:
        more = {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-team=a%20b", "OTEL_SERVICE_NAME": "mine"}
        async with bench(variables(NOWHERE, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.endpoint, **more)) as made:
            await made.reconcile(orphan())
        assert receiver.headers[0]["x-team"] == "a b"
        root, _ = only(receiver)
        assert root.resource["service.name"] == "mine"
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        async with bench(variables(receiver.endpoint)) as made:
            await made.reconcile(orphan())
    assert len(receiver.spans) == 2


async def paced(environment: dict[str, str]) -> tuple[float, float, list[Any]]:
    """Return the seconds of 300 reconciles with a request each, those of closing, and what was logged."""
    async with bench(environment) as made:
        with capture_logs() as lines:
            began = time.monotonic()
            await made.reconcile(*(orphan(f"cn-{i}") for i in range(300)))
            worked = time.monotonic() - began
            if environment:
                await asyncio.sleep(1.5)
            began = time.monotonic()
            await made.tracing.close()
    return worked, time.monotonic() - began, [line for line in lines if "OTLP" in line["event"]]


@pytest.mark.parametrize("slow", [True, False])
async def test_a_collector_that_is_slow_or_away_slows_nothing_and_is_said_once(
    slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    without, _, _ = await paced({})
    (port,) = free_ports(1)
    with span_receiver(delay_seconds=60) as receiver:
        endpoint = receiver.endpoint if slow else f"http://127.0.0.1:{port}"
        worked, closed, lines = await paced(variables(endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="300"))
    assert worked < 3 * without + 5, "sending 600 spans in the way of the work would take minutes"
    assert closed < 30, "closing waits for a moment, not for a collector"
    assert [line["log_level"] for line in lines] == ["warning"]
    assert ("DEADLINE_EXCEEDED" if slow else "UNAVAILABLE") in lines[0]["error"]


async def test_a_collector_that_comes_back_gets_spans_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    (port,) = free_ports(1)
    async with bench(variables(f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_TIMEOUT="500")) as made:
        with capture_logs() as lines:
            await made.reconcile(orphan())
            await until(lambda: any("does not take" in line["event"] for line in lines))
            with span_receiver(port=port) as receiver:
                for i in range(40):
                    await made.reconcile(orphan(f"cn-{i}"))
                    await asyncio.sleep(0.1)
                    if receiver.spans:
                        break
                await until(lambda: any(line["event"] == "OTLP endpoint takes traces" for line in lines))
    assert receiver.spans


async def until(test: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not test():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://nowhere"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("/nowhere/ca.crt", ""),
        ("max_queue_size", "0"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_and_turns_traces_off(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = variables("https://127.0.0.1:1", **({name: value} if name.startswith("OTEL") else {}))
    if name.startswith("/"):
        environment["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"] = name
    if name == "max_queue_size":
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", value)
    with capture_logs() as lines:
        assert type(start_tracing(environment, "a")) is Tracing
    assert [line["event"] for line in lines] == ["no OTLP traces"]
    assert name in lines[0]["error"]


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/api/v1/nodes", "/api/v1/nodes"),
        ("/api/v1/nodes/a", "/api/v1/nodes/{name}"),
        ("/api/v1/namespaces/default/events", "/api/v1/namespaces/{namespace}/events"),
        ("/apis/batch/v1/namespaces/a/jobs/b", "/apis/batch/v1/namespaces/{namespace}/jobs/{name}"),
        ("/apis/supernode.io/v1alpha1/supernodes/a/status", "/apis/supernode.io/v1alpha1/supernodes/{name}/status"),
        ("/api/v1/namespaces/a", "/api/v1/namespaces/{name}"),
    ],
)
def test_names_of_spans_have_placeholders_for_names_of_objects(path: str, template: str) -> None:
    assert url_template(path) == template


def test_a_machine_that_is_made_shows_as_traces_of_the_operator(
    world: World, start: Callable[..., OperatorProcess]
) -> None:
    with span_receiver() as receiver:
        world.node("node-a")
        operator = start(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_BSP_SCHEDULE_DELAY="200")
        world.super_node()
        named = {"supernode__object__name": "cm384"}
        status = "PATCH /apis/supernode.io/v1alpha1/supernodes/{name}/status"

        def written() -> list[Received]:
            roots = receiver.roots("reconcile SuperNode", **named)
            return [root for root in roots if any(child.name == status for child in receiver.children(root))]

        wait_for(written, "a trace in which the status was written")
        ready = itertools.cycle((False, True))

        def waited() -> list[Received]:
            world.set_ready("node-a", next(ready))  # each is news for the status, which is written once a second
            looks = receiver.roots("reconcile SuperNode", **named)
            return [one for one in looks if one.attributes.get(REASON) == "StatusInterval"]

        assert wait_for(waited, "a reconcile whose status had to wait")[0].attributes[RESULT] == "success"
        made = [one for one in receiver.spans if one.name.startswith("PATCH") and "computenodes/" in one.name]
        assert len({one.attributes["url.full"] for one in made}) == 48
        assert not [one for one in receiver.spans if "leases" in one.name]
        assert operator.stop() == 0
        ids = {line.get("trace_id") for line in operator.lines()}
        assert ids & {one.span.trace_id.hex() for one in receiver.spans}


async def test_the_page_on_telemetry_lists_exactly_what_spans_say() -> None:
    page = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    table = page.partition("<!-- spans -->")[2].partition("<!-- end spans -->")[0]
    listed = set(re.findall(r"^\| `(reconcile|<method>) [^`]*` \| `([a-z0-9_.]+)` \|", table, re.M))
    told: set[tuple[str, str]] = set()
    for status in (200, 409):
        receiver, _ = await traced(status, orphan())
        for one in receiver.spans:
            what = "reconcile" if one.name.startswith("reconcile") else "<method>"
            told |= {(what, name) for name in one.attributes}
    with span_receiver() as receiver:
        async with bench(variables(receiver.endpoint)) as made:
            with made.tracing.reconcile(Key("SuperNodeWorkload", "space", "name")):
                pass
    told |= {("reconcile", name) for name in receiver.spans[0].attributes}
    assert told == listed
