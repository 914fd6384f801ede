"""TelemetryExported: what a series of exports says about the OTLP endpoint.

One lost export is no news and a collector that restarts is not down: what is said changes after exports in a row that
agree. It then stays word for word as it is, however many exports follow, so a machine at rest writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from supernode_api.conditions import ConditionType, Reason, find_condition
from supernode_api.otlp import Signal
from supernode_operator.domain.objects import Object
from supernode_operator.domain.verdicts import Verdict, fine

__all__ = ["AGREEING", "Export", "SignalHealth", "judge_telemetry", "note_export"]

AGREEING: Final = 3
"""So many exports in a row must agree before something else is said of an endpoint."""
_OK: Final = "OK"
_DETAIL_CHARACTERS: Final = 200
_WHAT: Final[dict[Signal, str]] = {"METRICS": "metrics", "TRACES": "traces"}
# Codes and their meaning: gRPC's own list of status codes, and what OTLP says of them.
_PLAIN: Final = {
    "UNAVAILABLE": "nothing answers there",
    "DEADLINE_EXCEEDED": "it is too slow or lets nobody through: no answer within the timeout",
    "UNIMPLEMENTED": "what answers there takes none: no OTLP/gRPC receiver for them",
    "UNAUTHENTICATED": "it wants a login",
    "PERMISSION_DENIED": "it does not accept our login",
    "RESOURCE_EXHAUSTED": "it has no room for more",
    "INVALID_ARGUMENT": "they cannot be sent as it is set up",
}
_UNREACHABLE: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})


@dataclass(frozen=True, slots=True)
class Export:
    """How one export ended: the name of a gRPC status code, and what came with it."""

    code: str = _OK
    detail: str = ""

    @property
    def reason(self) -> Reason:
        """The reason that a condition gives for it."""
        if self.code == _OK:
            return Reason.AS_EXPECTED
        return Reason.OTLP_ENDPOINT_UNREACHABLE if self.code in _UNREACHABLE else Reason.OTLP_EXPORT_REFUSED


@dataclass(frozen=True, slots=True)
class SignalHealth:
    """What is known of the endpoint of one signal."""

    signal: Signal
    target: str
    """host:port, as the variables say."""
    said: Export | None = None
    """What stands; None: not known yet."""
    recent: tuple[Export, ...] = ()
    """The last exports, at most AGREEING, oldest first."""
    problem: str = ""
    """Why nothing is sent at all: a variable that cannot be used."""


def note_export(health: SignalHealth, export: Export) -> SignalHealth:
    """Return what is known after one more export; ``said`` is another object only when there is news."""
    recent = (*health.recent, export)[-AGREEING:]
    reasons = {one.reason for one in recent}
    said, full = health.said, len(recent) == AGREEING
    works = said is not None and said.reason is Reason.AS_EXPECTED
    if said is None and export.reason is Reason.AS_EXPECTED:
        said = export
    elif full and (said is None or works) and Reason.AS_EXPECTED not in reasons:
        said = export  # lost for whichever reasons
    elif full and said is not None and reasons == {export.reason} and said.reason is not export.reason:
        said = export
    return replace(health, said=said, recent=recent)


def judge_telemetry(raw: Object, signals: Sequence[SignalHealth]) -> Verdict | None:
    """Judge the exports of all signals; None: OTLP is off, or nothing is known and nothing was ever said."""
    if not signals:
        return None
    broken = next((one for one in signals if one.problem), None)
    if broken is not None:
        message = f"no {_WHAT[broken.signal]} are sent: {broken.problem}; correct the chart's otel values"
        return Verdict(ConditionType.TELEMETRY_EXPORTED, False, Reason.INVALID_OTLP_SETTINGS, message)
    for health in signals:
        if health.said is not None and health.said.reason is not Reason.AS_EXPECTED:
            message = _describe(health, health.said)
            return Verdict(ConditionType.TELEMETRY_EXPORTED, False, health.said.reason, message)
    if any(health.said is None for health in signals):
        return _as_before(raw)
    what = ", ".join(f"{_WHAT[health.signal]} to {health.target}" for health in signals)
    return fine(ConditionType.TELEMETRY_EXPORTED, what)


def _describe(health: SignalHealth, export: Export) -> str:
    plain = _PLAIN.get(export.code, "it refuses them")
    detail = " ".join(export.detail.split())[:_DETAIL_CHARACTERS]
    remedy = "start the collector there, or correct otel.endpoint of the chart (OTEL_EXPORTER_OTLP_ENDPOINT)"
    if export.reason is Reason.OTLP_EXPORT_REFUSED:
        remedy = "correct the collector's receivers, or otel.endpoint and otel.headers of the chart"
    return (
        f"{health.target} takes no {_WHAT[health.signal]}: {plain} ({export.code}{': ' + detail if detail else ''}), "
        f"{AGREEING} exports in a row. The machine works on, telemetry is lost meanwhile; {remedy}"
    )


def _as_before(raw: Object) -> Verdict | None:
    """Repeat what another run of the operator said, until there is something to say."""
    type_ = ConditionType.TELEMETRY_EXPORTED
    old = find_condition((raw.get("status") or {}).get("conditions") or [], type_)
    if old is None or old.get("reason") not in list(Reason):
        return None
    status = {"True": True, "False": False}.get(str(old.get("status")))
    return Verdict(type_, status, Reason(old["reason"]), str(old.get("message") or ""))
