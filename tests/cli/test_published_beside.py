"""Published figures stand beside answers about the machine and the workload that were published, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from supernode_cli.evaluation import evaluate
from supernode_cli.report import report_evaluation
from support.refusals import DENSE, PREFILL, decode
from support.scenarios import changed


def published_beside(document: Any) -> tuple[set[str], set[str]]:
    """The figures of the machine, and of its workload, that have a published one beside them."""
    report = report_evaluation(evaluate(document))
    (workload,) = report.workloads
    of_machine, of_workload = report.machine.figures, workload.figures
    return {f.key for f in of_machine if f.published}, {f.key for f in of_workload if f.published}


RATES = {"tokensPerSecondPerCard", "tpotSeconds"}
MACHINE = {
    "ratedPetaflops", "hbmTebibytes", "hbmBandwidthTerabytesPerSecond", "busBandwidthTerabytesPerSecond",
    "powerKilowatts",
}  # fmt: skip


def test_published_figures_are_beside_what_was_published() -> None:
    assert published_beside(decode()) == (MACHINE, RATES)
    assert published_beside(PREFILL) == (MACHINE, {"tokensPerSecondPerCard"})
    assert published_beside(DENSE) == (MACHINE, {"tokensPerSecondPerCard", "ratioToTraditional"})
    assert published_beside(changed(decode(), machine__nodes=40))[1] == RATES, "two alike, the rates are of a card"


def test_a_changed_machine_has_no_published_figure_beside_it() -> None:
    for base in (decode(), PREFILL, DENSE):
        assert published_beside(changed(base, machine__figures={"rdmaGigabytesPerSecond": 50})) == (set(), set())


def test_the_bandwidth_of_a_broken_bus_has_no_published_one_beside_it() -> None:
    broken = changed(DENSE, machine__failed={"planes": [0]})
    assert published_beside(broken) == (MACHINE - {"busBandwidthTerabytesPerSecond"}, set())


@pytest.mark.parametrize(
    ("base", "fields"),
    [
        (decode(), {"inference__speculation": ...}),
        (decode(), {"inference__speculation__acceptancePercent": [90]}),
        (decode(), {"inference__precision": {"kvCache": "int8"}}),
        (decode(), {"inference__decode__experts__sharedRanks": 0, "inference__decode__experts__redundant": 64}),
        (decode(), {"inference__decode__experts__imbalancePercent": 150}),
        (decode(), {"inference__decode__microBatches": "one"}),
        (decode(), {"inference__decode__attentionCorePercent": 50}),
        (PREFILL, {"inference__promptsPerBatch": 1}),
        (PREFILL, {"inference__cache": {"reusePercent": 50}}),
        (PREFILL, {"inference__precision": {"activations": "bf16"}}),
        (DENSE, {"machine__nodes": 40, "training__globalBatchSize": 200}),
        (DENSE, {"machine__supernodes": 2}),
        (DENSE, {"training__mtpLayers": 1}),
        (DENSE, {"stack": "open-source"}),
    ],
)
def test_another_setting_than_the_published_one_has_none_beside_it(base: Any, fields: dict[str, Any]) -> None:
    assert published_beside(changed(base, **fields))[1] == set()
