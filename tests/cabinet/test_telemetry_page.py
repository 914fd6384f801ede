"""docs/telemetry.md says what is emitted, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

from cabinet.collector import messages, metrics
from cabinet.machines import deployed, nodes, snapshot
from supernode_cabinet.entities import ATTRIBUTE_OF_LABEL, labels_of
from supernode_cabinet.health import HealthMetrics
from supernode_cabinet.npu_exporter import render_server
from supernode_cabinet.otlp_layout import Layout
from supernode_cabinet.prometheus import render_histograms, render_metrics
from supernode_cabinet.served import Served
from supernode_cabinet.snapshot import Snapshot
from supernode_cabinet.tables import LABELS_OF_SCOPE, fill_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "telemetry.md"
FAULTS = {0: [{"name": f"f{n}", "die": 0, "code": f"80E1840{n % 10}"} for n in range(12)]}


def served(seen: Snapshot) -> Served:
    made = Served(1, 0)
    made.follow(seen, 0)
    return made


def _part(name: str) -> str:
    return PAGE.read_text().partition(f"<!-- begin {name} -->")[2].partition(f"<!-- end {name} -->")[0]


def test_the_tables_are_those_of_the_catalogue() -> None:
    text = PAGE.read_text()
    assert fill_page(text) == text, "run: python3 -m supernode_cabinet.tables docs/telemetry.md"


def test_what_is_emitted_over_otlp_is_what_the_page_says() -> None:
    documented = set(
        re.findall(
            r"\| `((?:hw|gen_ai|supernode)\.[a-z0-9_.]+)` (?:Gauge|UpDownCounter|Counter|Histogram) ", _part("labelled")
        )
    )
    emitted = set()
    for role in ("compute", "bus"):
        seen = snapshot(role, workloads=[deployed()])
        for raw in Layout({}, seen, 1, 1, served(seen)).requests(2, 2):
            emitted |= {metric.name for metric in metrics(messages.ExportMetricsServiceRequest.FromString(raw))}
    assert emitted == documented


def test_what_is_emitted_for_prometheus_is_what_the_page_says() -> None:
    documented = set(re.findall(r"`((?:supernode|gen_ai)_[a-z0-9_]+)`", _part("labelled")))
    seen = snapshot("compute", workloads=[deployed()])
    text = render_metrics(seen) + render_metrics(snapshot("bus")) + render_histograms(served(seen).read(0))
    assert set(re.findall(r"^# TYPE (\S+)", text, re.M)) == documented


def test_the_cabinets_own_metrics_are_on_the_page() -> None:
    own = set(re.findall(r"^# TYPE (\S+)", HealthMetrics().render(), re.M))
    section = PAGE.read_text().partition("### The cabinet itself")[2].partition("\n## ")[0]
    assert own == set(re.findall(r"`((?:supernode_cabinet|process)_[a-z_]+)(?:\{\w+\})?`", section))


def test_npu_exporter_names_are_those_of_the_page() -> None:
    documented = set(re.findall(r"^\| `([a-z0-9_]+)`", _part("npu"), re.M))
    text = "0".join(render_server(snapshot(compute_nodes=nodes(FAULTS)), 0))
    assert set(re.findall(r"^# TYPE (\S+)", text, re.M)) == documented


def test_labels_are_those_of_the_page() -> None:
    for role in ("compute", "bus"):
        seen = snapshot(role, workloads=[deployed()])
        for scope, labels in LABELS_OF_SCOPE.items():
            for text in labels_of(seen, scope)[:1]:
                assert tuple(re.findall(r'(\w+)="', text)) == labels
    assert {label for labels in LABELS_OF_SCOPE.values() for label in labels} == set(ATTRIBUTE_OF_LABEL)
