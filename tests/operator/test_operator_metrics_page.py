"""docs/telemetry.md has a table of the operator's metrics: exactly those it exposes, with their types and labels."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from supernode_operator.engine.kinds import POD
from supernode_operator.engine.metrics import Metrics
from supernode_operator.engine.store import Store

PAGE = Path(__file__).resolve().parents[2] / "docs" / "telemetry.md"


def table() -> list[list[str]]:
    """Cells of each row."""
    text = PAGE.read_text(encoding="utf-8")
    part = text.partition("<!-- operator metrics -->")[2].partition("<!-- end operator metrics -->")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.strip().splitlines()[2:]]


def with_a_series_each(metrics: Metrics) -> str:
    """Return the exposition once every instrument has a series, whatever labels it takes."""
    for instrument in vars(metrics).values():
        for labels in range(1, 4):
            if isinstance(instrument, Counter | Gauge | Histogram):
                with contextlib.suppress(ValueError):  # another number of labels
                    instrument.labels(*["some"] * labels)
    return metrics.render().decode()


def test_the_table_has_exactly_what_is_exposed() -> None:
    exposed = []
    for family in text_string_to_metric_families(with_a_series_each(Metrics())):
        if family.name.endswith("_created"):
            continue
        assert family.samples, f"{family.name} has no series to take labels from"
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        name = family.name + ("_total" if family.type == "counter" else "")
        exposed.append((name, family.type, labels, family.documentation))
    listed = [(row[0].strip("`"), row[1], set(re.findall(r"`(\w+)`", row[2])), row[4]) for row in table()]
    order = [row[0] for row in listed]
    assert sorted(exposed, key=lambda row: order.index(row[0]) if row[0] in order else -1) == listed


def test_every_row_has_a_unit_that_agrees_with_its_name() -> None:
    for name, _, _, unit, meaning in table():
        assert re.fullmatch(r"`(s|By|1|\{[a-z]+\})`", unit), name
        bare = name.strip("`").removesuffix("_total")
        assert (unit == "`s`") == bare.endswith("_seconds"), name
        assert (unit == "`By`") == bare.endswith("_bytes"), name
        assert meaning.endswith("."), name


def test_the_cache_counts_its_objects() -> None:
    store = Store()
    assert store.count(POD) == 0
    pods = [{"metadata": {"name": "p", "namespace": space, "uid": space, "resourceVersion": "1"}} for space in "ab"]
    for pod in pods:
        store.put(POD, {**pod, "spec": {}, "status": {}})
    assert store.count(POD) == 2
    store.remove(POD, {**pods[0], "spec": {}, "status": {}})
    assert store.count(POD) == 1
