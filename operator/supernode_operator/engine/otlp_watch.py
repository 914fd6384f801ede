"""Watches whether the OTLP endpoint takes what cabinets and operator send, by an empty export now and then.

The operator's own spans would not do: a machine at rest has none, and its collector may go, and come back, unseen.
Nothing waits for an export here, and nothing of gRPC is imported unless an endpoint is set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from supernode_api.otlp import OtlpConfig, OtlpConfigError, Signal, read_otlp_config, wants_otlp
from supernode_operator.domain.telemetry import Export, SignalHealth, note_export

__all__ = ["OtlpWatch"]

log = structlog.get_logger(__name__)

INTERVAL_SECONDS: Final = 15.0
DOUBT_SECONDS: Final = 5.0
"""The pause while the last exports do not confirm what is said."""
_SIGNALS: Final[tuple[Signal, ...]] = ("METRICS", "TRACES")


class OtlpWatch:
    """Exports nothing, again and again; ``health`` is what came of it, empty while OTLP is off."""

    def __init__(
        self,
        environment: Mapping[str, str],
        changed: Callable[[], None],
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        doubt_seconds: float = DOUBT_SECONDS,
    ) -> None:
        """Read the OTEL_* variables; ``changed`` is called when there is news."""
        self._changed = changed
        self._interval_seconds = interval_seconds
        self._doubt_seconds = doubt_seconds
        self._configs: dict[Signal, OtlpConfig] = {}
        self._health: dict[Signal, SignalHealth] = {}
        for signal in _SIGNALS:
            if not wants_otlp(environment, signal):
                continue
            try:
                config = read_otlp_config(environment, signal)
            except OtlpConfigError as error:
                self._health[signal] = SignalHealth(signal, "", problem=str(error))
                continue
            self._configs[signal] = config
            self._health[signal] = SignalHealth(signal, config.target)

    @property
    def health(self) -> tuple[SignalHealth, ...]:
        """What is known of each signal that is on, metrics first."""
        return tuple(self._health[signal] for signal in _SIGNALS if signal in self._health)

    async def run(self) -> None:
        """Watch until cancelled; return at once when there is nothing to watch."""
        if not self._configs:
            return
        # gRPC takes about ten megabytes: only those who use it pay.
        from supernode_operator.engine.otlp_channel import prepare, send_nothing

        prepare()
        while True:
            for signal, config in self._configs.items():
                try:
                    self._note(signal, await send_nothing(config, signal))
                except Exception:  # the loop's edge: telemetry must not end the operator
                    log.exception("cannot look at the OTLP endpoint", signal=signal)
            await asyncio.sleep(self._interval_seconds if self._sure() else self._doubt_seconds)

    def _note(self, signal: Signal, export: Export) -> None:
        old = self._health[signal]
        new = self._health[signal] = note_export(old, export)
        if new.said is not old.said:
            log.info("OTLP endpoint", signal=signal, endpoint=new.target, code=export.code, detail=export.detail[:300])
            self._changed()

    def _sure(self) -> bool:
        watched = (self._health[signal] for signal in self._configs)
        return all(one.said is not None and one.recent[-1].reason is one.said.reason for one in watched)
