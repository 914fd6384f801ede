"""The tables of ``docs/telemetry.md``, written from the catalogue: ``python3 -m supernode_cabinet.tables FILE``.

What stands between the two marks of a table is replaced; the rest of the page is written by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from supernode_cabinet.catalogue import INSTRUMENTS, ROWS
from supernode_cabinet.entities import ATTRIBUTE_OF_LABEL
from supernode_cabinet.histograms import HISTOGRAMS
from supernode_cabinet.metric import SCOPES_OF_DETAIL, Scope
from supernode_cabinet.npu_exporter import npu_exporter_fidelity, npu_exporter_metrics

__all__ = ["LABELS_OF_SCOPE", "buckets_table", "fill_page", "labelled_table", "labels_table", "npu_exporter_table"]

_PLACE: Final = ("supernode", "cabinet", "server")
_WORKLOAD: Final = ("supernode", "namespace", "workload")
LABELS_OF_SCOPE: Final = {
    Scope.DIE: (*_PLACE, "die"),
    Scope.HOLDER: (*_PLACE, "die", "namespace", "pod", "container"),
    Scope.DIE_PORT: (*_PLACE, "die", "plane"),
    Scope.L1_CHIP: (*_PLACE, "plane"),
    Scope.UPLINK: (*_PLACE, "plane", "port"),
    Scope.L2_CHIP: ("supernode", "cabinet", "plane", "chip"),
    Scope.L2_PORT: ("supernode", "cabinet", "plane", "chip", "port"),
    Scope.MODULE: ("supernode", "cabinet", "plane", "chip", "module"),
    Scope.SERVER: _PLACE,
    Scope.WORKLOAD: _WORKLOAD,
    Scope.REQUEST: (*_WORKLOAD, "gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
    Scope.MACHINE: ("supernode",),
    Scope.MODEL: ("supernode", "profile", "digest", "version"),
}
_NO_HARDWARE: Final = frozenset({Scope.WORKLOAD, Scope.REQUEST, Scope.MACHINE, Scope.MODEL})


def labelled_table() -> str:
    """Return the table of OpenTelemetry and ``supernode_*`` names, one line for each row of the catalogue."""
    lines = [
        "| scope, detail | OpenTelemetry name, instrument, unit | own attributes | Prometheus | meaning | fidelity |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        instrument = INSTRUMENTS[row.otel]
        more = ", ".join(f"`{key}={value}`" for key, value in row.attributes.items())
        prometheus = f"`{row.prometheus}`" if row.prometheus else ""
        otel = f"`{row.otel}` {instrument.kind} `{instrument.unit}`"
        lines.append(
            f"| {row.scope}, {_detail(row.scope)} | {otel} | {more} | {prometheus} | {row.help} | {row.fidelity} |"
        )
    for histogram in HISTOGRAMS:
        otel = f"`{histogram.otel}` {INSTRUMENTS[histogram.otel].kind} `{INSTRUMENTS[histogram.otel].unit}`"
        where, names = f"{Scope.REQUEST}, {_detail(Scope.REQUEST)}", f"`{histogram.prometheus}`"
        lines.append(f"| {where} | {otel} |  | {names} | {histogram.help} | modelled |")
    return "\n".join(lines) + "\n"


def buckets_table() -> str:
    """Return the table of the upper bounds of each histogram's buckets."""
    lines = ["| histogram | upper bounds, s |", "|---|---|"]
    lines += [f"| `{row.otel}` | {', '.join(f'{bound:g}' for bound in row.bounds)} |" for row in HISTOGRAMS]
    return "\n".join(lines) + "\n"


def labels_table() -> str:
    """Return the table of labels and attributes of each scope."""
    lines = ["| scope | Prometheus labels | OpenTelemetry attributes |", "|---|---|---|"]
    for scope, labels in LABELS_OF_SCOPE.items():
        hardware = () if scope in _NO_HARDWARE else ("hw.id", "hw.parent")
        attributes = ", ".join(f"`{name}`" for name in (*hardware, *(ATTRIBUTE_OF_LABEL[label] for label in labels)))
        lines.append(f"| {scope} | {', '.join(f'`{label}`' for label in labels)} | {attributes} |")
    return "\n".join(lines) + "\n"


def npu_exporter_table() -> str:
    """Return the table of npu-exporter names."""
    lines = ["| name | meaning, unit | fidelity |", "|---|---|---|"]
    for name, text in npu_exporter_metrics().items():
        lines.append(f"| `{name}` | {text} | {npu_exporter_fidelity(name)} |")
    return "\n".join(lines) + "\n"


def fill_page(page: str) -> str:
    """Return the page with its tables as they are now; ValueError names a mark that is missing."""
    tables = {
        "labelled": labelled_table(),
        "buckets": buckets_table(),
        "labels": labels_table(),
        "npu": npu_exporter_table(),
    }
    for name, table in tables.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"the page needs the marks {begin.strip()} and {end} once each")
        before, _, rest = page.partition(begin)
        page = before + begin + table + end + rest.partition(end)[2]
    return page


def _detail(scope: Scope) -> str:
    return next(str(detail) for detail, scopes in SCOPES_OF_DETAIL.items() if scope in scopes)


def main(arguments: list[str]) -> int:
    """Rewrite the tables of the page named on the command line."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python3 -m supernode_cabinet.tables docs/telemetry.md\n")
        return 2
    path = Path(arguments[0])
    path.write_text(fill_page(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
