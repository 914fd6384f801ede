"""TelemetryExported: what is said of an OTLP endpoint that is down, slow or refuses; saying it costs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from supernode_api.conditions import ConditionType, Reason, find_condition
from supernode_api.supernode import SuperNodeStatus
from supernode_dataplane.profile import load_profile
from supernode_operator.domain.accept import parse_super_node
from supernode_operator.domain.events import build_events
from supernode_operator.domain.nodes import NodeChoice
from supernode_operator.domain.supernode_status import MachineView, build_super_node_status
from supernode_operator.domain.telemetry import AGREEING, Export, SignalHealth, judge_telemetry, note_export
from supernode_operator.engine.otlp_watch import OtlpWatch
from supernode_operator.hooks import describe_conditions
from support.kube_proxy import KubeProxy
from support.operator_world import OperatorProcess, ScriptedAgent, World, free_ports, wait_for
from support.otlp_endpoint import otlp_endpoint
from support.told import told_once

DOWN = Export("UNAVAILABLE", "failed to connect to all addresses;\n Connection refused")
SLOW = Export("DEADLINE_EXCEEDED", "Deadline Exceeded")
REFUSED = Export("UNAUTHENTICATED", "no token")
FINE = Export()
METRICS = SignalHealth("METRICS", "collector:4317")
TRACES = SignalHealth("TRACES", "collector:4317")


def after(*exports: Export, signal: SignalHealth = METRICS) -> SignalHealth:
    for export in exports:
        signal = note_export(signal, export)
    return signal


def status_of(*signals: SignalHealth, old: dict[str, Any] | None = None, now: str = "t") -> dict[str, Any]:
    """The status of a machine with nothing but these signals."""
    spec = {"profile": "cloudmatrix-384", "nodes": {"selector": {"matchLabels": {"pool": "a"}}}}
    raw = {"metadata": {"name": "m", "uid": "u", "generation": 1}, "spec": spec, "status": old or {}}
    view = MachineView(
        raw=raw,
        super_node=parse_super_node(raw),  # type: ignore[arg-type]
        profile=load_profile("cloudmatrix-384"),
        choice=NodeChoice(()),
        compute_nodes=[],
        nodes={},
        stateful_sets=[],
        wanted_cabinets=16,
        holdings=[],
        garbage=[],
        performance={},
        stamp=None,
        telemetry=signals,
    )
    return build_super_node_status(view, now)


def telemetry(status: dict[str, Any]) -> dict[str, Any] | None:
    return find_condition(status["conditions"], ConditionType.TELEMETRY_EXPORTED)


def test_the_condition_is_there_only_while_an_endpoint_is_configured_and_something_is_known_of_it() -> None:
    assert telemetry(status_of()) is None
    assert telemetry(status_of(METRICS)) is None
    works = telemetry(status_of(after(FINE), after(FINE, signal=TRACES)))
    assert works is not None
    assert (works["status"], works["reason"]) == ("True", "AsExpected")
    assert works["message"] == "metrics to collector:4317, traces to collector:4317"
    gone = status_of(old=status_of(after(FINE)))
    assert telemetry(gone) is None, "OTLP was switched off"


@pytest.mark.parametrize(
    ("exports", "reason", "words"),
    [
        ([DOWN] * 3, "OtlpEndpointUnreachable", "nothing answers there (UNAVAILABLE: failed to connect to all"),
        ([SLOW] * 3, "OtlpEndpointUnreachable", "too slow"),
        ([SLOW, DOWN, SLOW], "OtlpEndpointUnreachable", "too slow"),
        ([REFUSED] * 3, "OtlpExportRefused", "wants a login (UNAUTHENTICATED: no token)"),
        ([Export("UNIMPLEMENTED")] * 3, "OtlpExportRefused", "no OTLP/gRPC receiver"),
        ([Export("DATA_LOSS")] * 3, "OtlpExportRefused", "(DATA_LOSS)"),
    ],
)
def test_an_endpoint_that_is_down_slow_or_refuses_is_said_with_the_remedy(
    exports: list[Export], reason: str, words: str
) -> None:
    status = status_of(after(*exports))
    SuperNodeStatus.model_validate(status)
    said = telemetry(status)
    assert said is not None
    assert (said["status"], said["reason"]) == ("False", reason)
    for part in ("collector:4317 takes no metrics", words, f"{AGREEING} exports in a row", "otel.endpoint", "works on"):
        assert part in said["message"]
    assert "\n" not in said["message"]


def test_of_two_signals_the_one_that_is_lost_speaks() -> None:
    said = telemetry(status_of(after(FINE), after(*[REFUSED] * 3, signal=TRACES)))
    assert said is not None
    assert "takes no traces" in said["message"]
    unknown = telemetry(status_of(after(FINE), after(DOWN, signal=TRACES)))
    assert unknown is None, "nothing is known of the traces yet"


def test_what_is_said_changes_after_exports_in_a_row_that_agree_and_then_stays_word_for_word() -> None:
    assert after(FINE, DOWN, DOWN).said == FINE
    assert after(FINE, DOWN, DOWN, FINE, DOWN, DOWN).said == FINE
    assert after(FINE, DOWN, REFUSED, DOWN).said == DOWN, "lost for whichever reasons"
    down = after(FINE, *[DOWN] * 3)
    assert after(*[replace(DOWN, detail=f"try {i}") for i in range(9)], SLOW, signal=down).said is down.said
    assert after(FINE, FINE, signal=down).said is down.said
    assert after(FINE, FINE, FINE, signal=down).said == FINE
    assert after(REFUSED, REFUSED, DOWN, REFUSED, signal=down).said is down.said
    assert after(*[REFUSED] * 3, signal=down).said == REFUSED
    assert after(DOWN, DOWN, FINE).said == FINE, "the first that gets through is news"


def test_telemetry_neither_makes_a_machine_ready_nor_unready() -> None:
    without = status_of()
    for signals in ([after(FINE)], [after(*[DOWN] * 3)], [after(*[REFUSED] * 3)]):
        status = status_of(*signals)
        assert [c for c in status["conditions"] if c["type"] != "TelemetryExported"] == without["conditions"]
    assert "collector" not in describe_conditions({"status": status})


def test_a_setting_that_cannot_be_used_is_a_condition_that_names_the_variable() -> None:
    watch = OtlpWatch({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://nowhere"}, lambda: None)
    said = telemetry(status_of(*watch.health))
    assert said is not None
    assert (said["status"], said["reason"]) == ("False", "InvalidOtlpSettings")
    assert "no metrics are sent: OTEL_EXPORTER_OTLP_ENDPOINT is 'ftp://nowhere'" in said["message"]


def test_the_next_run_of_the_operator_repeats_what_the_last_said_until_it_knows() -> None:
    before = status_of(after(*[DOWN] * 3), now="2026-01-01T00:00:00Z")
    again = status_of(METRICS, old=before, now="2026-01-01T00:09:00Z")
    assert again["conditions"] == before["conditions"]
    known = status_of(after(*[DOWN] * 3), old=before, now="2026-01-01T00:09:00Z")
    assert known["conditions"] == before["conditions"]
    for garbage in ([{"type": "TelemetryExported", "reason": "Nonsense"}], []):
        assert judge_telemetry({"status": {"conditions": garbage}}, [METRICS]) is None


def test_there_is_an_event_when_it_is_lost_and_one_when_it_is_back() -> None:
    def reasons(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str]]:
        raw = {"metadata": {"name": "m", "uid": "u", "resourceVersion": "7"}}
        events = build_events("SuperNode", raw, old.get("conditions", []), new["conditions"], "t")
        return [(e["type"], e["reason"]) for e in events if e["action"] == "TelemetryExported"]

    down, fine = status_of(after(*[DOWN] * 3)), status_of(after(FINE))
    assert reasons({}, fine) == []
    assert reasons({}, down) == [("Warning", "OtlpEndpointUnreachable")]
    assert reasons(fine, down) == [("Warning", "OtlpEndpointUnreachable")]
    assert reasons(down, status_of(after(*[SLOW] * 3))) == []
    assert reasons(down, fine) == [("Normal", "AsExpected")]


@dataclass
class Watched:
    """A watch that looks 50 times a second, and what it had to say."""

    watch: OtlpWatch
    said: list[str] = field(default_factory=list)

    def note(self) -> None:
        self.said += [str(one.said.reason) for one in self.watch.health if one.said is not None]

    async def says(self, reason: Reason, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.said) < count:
                await asyncio.sleep(0.01)
        assert self.said[count - 1 :] == [str(reason)]


@asynccontextmanager
async def watching(endpoint: str, **more: str) -> AsyncIterator[Watched]:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "none", **more}
    made = Watched(OtlpWatch(environment, lambda: made.note(), interval_seconds=0.02, doubt_seconds=0.02))
    task = asyncio.create_task(made.watch.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.asyncio(loop_scope="session")
async def test_an_endpoint_that_is_closed_and_then_opened_is_said_once_each_time() -> None:
    (port,) = free_ports(1)
    async with watching(f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_HEADERS="x-team=a%20b") as watched:
        await watched.says(Reason.OTLP_ENDPOINT_UNREACHABLE, 1)
        message = telemetry(status_of(*watched.watch.health))["message"]
        assert f"127.0.0.1:{port} takes no metrics: nothing answers there (UNAVAILABLE" in message
        assert "Connection refused" in message
        with otlp_endpoint(port) as endpoint:
            await watched.says(Reason.AS_EXPECTED, 2)
            await asyncio.sleep(0.3)
            assert len(endpoint.received) > AGREEING
            assert set(endpoint.received) == {("METRICS", b"")}, "nothing is what is exported"
            assert endpoint.headers[0]["x-team"] == "a b"
        await watched.says(Reason.OTLP_ENDPOINT_UNREACHABLE, 3)
        await asyncio.sleep(0.3)
        assert len(watched.said) == 3


@pytest.mark.asyncio(loop_scope="session")
async def test_an_endpoint_that_takes_longer_than_the_timeout_is_slow() -> None:
    with otlp_endpoint(delay_seconds=0.5) as endpoint:
        target = f"http://127.0.0.1:{endpoint.port}"
        async with watching(target, OTEL_EXPORTER_OTLP_TIMEOUT="100") as watched:
            await watched.says(Reason.OTLP_ENDPOINT_UNREACHABLE, 1)
            assert "too slow" in telemetry(status_of(*watched.watch.health))["message"]


@pytest.mark.asyncio(loop_scope="session")
async def test_an_endpoint_that_refuses_or_lacks_the_signal_is_no_unreachable_one() -> None:
    with otlp_endpoint(refuse=grpc.StatusCode.PERMISSION_DENIED) as endpoint:
        async with watching(f"http://127.0.0.1:{endpoint.port}") as watched:
            await watched.says(Reason.OTLP_EXPORT_REFUSED, 1)
            assert "not you" in telemetry(status_of(*watched.watch.health))["message"]
    with otlp_endpoint(signals=("METRICS",)) as endpoint:
        environment = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none"}
        async with watching(f"http://127.0.0.1:{endpoint.port}", **environment) as watched:
            await watched.says(Reason.OTLP_EXPORT_REFUSED, 1)
            assert "takes no traces" in telemetry(status_of(*watched.watch.health))["message"]


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.crt"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=%0A")]
)
@pytest.mark.asyncio(loop_scope="session")
async def test_what_cannot_even_be_sent_is_refused_and_ends_nothing(name: str, value: str) -> None:
    scheme = "https" if name.endswith("CERTIFICATE") else "http"
    with otlp_endpoint() as endpoint:
        async with watching(f"{scheme}://127.0.0.1:{endpoint.port}", **{name: value}) as watched:
            await watched.says(Reason.OTLP_EXPORT_REFUSED, 1)


def test_without_an_endpoint_nothing_is_watched_and_nothing_of_grpc_is_loaded() -> None:
    program = (
        "import asyncio, sys, supernode_operator.main\n"
        "from supernode_operator.engine.otlp_watch import OtlpWatch\n"
        "for one in ({}, {'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://a', 'OTEL_SDK_DISABLED': 'true'}):\n"
        "    watch = OtlpWatch(one, print)\n"
        "    asyncio.run(watch.run())\n"
        "    assert watch.health == ()\n"
        "print([m for m in sys.modules if m.startswith('grpc')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.timeout(240)
def test_a_machine_says_that_its_otlp_endpoint_is_down_and_that_it_is_back_and_stays_ready(
    world: World,
    start: Callable[..., OperatorProcess],
    agent: ScriptedAgent,
    proxy: KubeProxy,
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    world.node("node-a")
    world.super_node(cabinetsPerPod=16)
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    operator = start(proxy.kubeconfig(tmp_path), **variables)
    said = world.wait_condition(world.get_super_node, "TelemetryExported", "False", "OtlpEndpointUnreachable", 60)
    assert f"127.0.0.1:{port} takes no metrics: nothing answers there" in said["message"]
    world.cabinets_ready()
    world.wait_condition(world.get_super_node, "Ready", "True", "AsExpected")
    assert told_once(world, "cm384", "OtlpEndpointUnreachable")
    at_rest = len(proxy.writes)
    time.sleep(20)  # longer than a look at the endpoint takes to come round
    assert len(proxy.writes) == at_rest
    operator.kill()
    world.forget_lease()
    start(proxy.kubeconfig(tmp_path), name="operator-b", **variables)
    time.sleep(25)
    assert len(proxy.writes) == at_rest, "the next operator finds the same"
    with otlp_endpoint(port):
        world.wait_condition(world.get_super_node, "TelemetryExported", "True", "AsExpected", 60)
    wait_for(lambda: world.events("cm384", "AsExpected"), "an Event that it is back")
    assert world.condition(world.get_super_node(), "Ready")["status"] == "True"
    assert len(world.events("cm384", "OtlpEndpointUnreachable")) == 1
