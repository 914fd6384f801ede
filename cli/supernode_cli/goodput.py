"""What failures leave of a training rate: availability, the interval between checkpoints, waste, goodput.

The model is :mod:`supernode_dataplane.reliability`. What a scenario's ``reliability`` does not give is a published
figure, or an assumption, and the report says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supernode_cli.scenario import Reliability, Scenario
from supernode_dataplane import reliability as model
from supernode_dataplane.figures import decimal
from supernode_dataplane.numeric import Number
from supernode_dataplane.state import WorkloadResult

__all__ = ["Assumption", "TrainingGoodput", "goodput_figures", "training_figures", "training_goodput"]

_CLUSTER = "UB-Mesh, arXiv 2503.20377"


@dataclass(frozen=True, slots=True)
class Assumption:
    """One input of the model of failures."""

    key: str
    label: str
    seconds: Number
    status: str
    """``scenario``, ``published`` or ``assumed``."""
    source: str

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"seconds": self.seconds, "status": self.status, "source": self.source}


@dataclass(frozen=True, slots=True)
class TrainingGoodput:
    """A training run over a long time."""

    figures: dict[str, str]
    """By the names of the report."""
    assumptions: tuple[Assumption, ...]


def training_goodput(result: WorkloadResult, given: Reliability | None) -> TrainingGoodput:
    """Return what is left of a running training's rate."""
    inputs = _assumptions(result.cards, given or Reliability.model_construct())
    figures = _figures(result.tokens_per_second, result.cards, inputs)
    return TrainingGoodput({name: decimal(float(value)) for name, value in figures.items()}, inputs)


def goodput_figures(tokens_per_second: Number, cards: int, given: Reliability | None) -> dict[str, Number]:
    """Return the figures of a goodput by name; the rate, and fields of ``given``, may be arrays of points."""
    return _figures(tokens_per_second, cards, _assumptions(cards, given or Reliability()))


def training_figures(scenario: Scenario, result: WorkloadResult) -> dict[str, str]:
    """Return the figures of a scenario's goodput by name; none where nothing is trained."""
    return {} if scenario.training is None else training_goodput(result, scenario.reliability).figures


def _figures(tokens_per_second: Number, cards: int, inputs: Sequence[Assumption]) -> dict[str, Number]:
    mtbf, mttr, checkpoint, restart = (entry.seconds for entry in inputs)
    found = model.goodput(tokens_per_second, mtbf, mttr, checkpoint=checkpoint, restart=restart)
    return {
        "goodputTokensPerSecondPerCard": found.tokens_per_second / cards,
        "availabilityPercent": 100.0 * found.availability,
        "checkpointIntervalSeconds": found.checkpoint_interval_seconds,
        "wastePercent": 100.0 * found.waste,
    }


def _assumptions(cards: int, given: Reliability) -> tuple[Assumption, ...]:
    scaled = f"{_CLUSTER}: 13.8 h for 8,192 NPUs on a Clos; that it goes by cards is assumed"
    rows = (
        ("mtbf", "MTBF", given.mtbf_hours, 3600.0, model.job_mtbf(cards), "assumed", scaled),
        ("mttr", "MTTR", given.mttr_minutes, 60.0, model.MTTR_SECONDS, "published", _CLUSTER),
        ("checkpoint", "checkpoint", given.checkpoint_seconds, 1.0, model.CHECKPOINT_SECONDS, "assumed", "no source"),
        (
            "restart",
            "restart",
            given.restart_seconds,
            1.0,
            model.RESTART_SECONDS,
            "published",
            "the vendor's reliability report, in the press: below 10 min",
        ),
    )
    return tuple(
        Assumption(key, label, usual, status, source)
        if value is None
        else Assumption(key, label, value * unit, "scenario", "reliability of the scenario")
        for key, label, value, unit, usual, status, source in rows
    )
