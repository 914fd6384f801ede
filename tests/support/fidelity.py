"""The validation section of docs/fidelity.md, from the suite itself: `python tests/support/fidelity.py` writes it.

`make gen` runs it; a test compares. What the first run of the test rows gave is history, and stands in the page's own
words outside of the generated part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supernode_dataplane.claims import all_claims, definition_rows
from supernode_dataplane.suite import RowReport, SuiteReport, validate

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fidelity.md"
_SECTION = re.compile(r"(<!-- suite -->\n).*?(<!-- end -->)", re.DOTALL)


def section(report: SuiteReport, defined: Sequence[Mapping[str, Any]]) -> str:
    """Return the generated part in Markdown."""
    all_of = report.informative
    lines = [
        f"Over the {all_of.rows} informative test rows (`*`): median absolute error {all_of.median:.1f} % (aim 10), "
        f"P90 {all_of.p90:.1f} % (aim 20);",
        f"the 90 % intervals cover {all_of.coverage:.0f} % of them (aim 65 to 95), "
        f"with a median half width of {all_of.median_half_width:.1f} % (aim at most 20).",
        *_variants(report),
        "",
        "An interval of ±18 % is a half width in logarithms: a factor of e^0.18 either way, 20 % up and 16 % down. Of "
        "ratios (C-T3, H-T2, H-P3)",
        "the constants are moved in both parts at once, so that what is common cancels; the part from leave-one-out is "
        "a single rate's and does not.",
        "`read back`: nothing is computed, the model takes the published figures as they are; no statistic counts "
        "such a row, nor the components in brackets.",
        "",
        "| row | what | published | computed | error | gate | interval | |",
        "|---|---|---|---|---:|---:|---:|---|",
    ]
    lines += [_line(row) for row in report.rows]
    lines += ["", "| set/class | rows | median error | P90 | covered | half width |", "|---|---:|---:|---:|---:|---:|"]
    for name, group in report.groups.items():
        figures = f"{group.median:.1f} % | {group.p90:.1f} % | {group.coverage:.0f} % | {group.median_half_width:.1f} %"
        lines.append(f"| {name} | {group.rows} | {figures} |")
    lines += [
        "",
        "Rows by definition, which no statistic counts: published claims, with the reading that is ours "
        "(`supernode claims` has every reading):",
        "",
        "| row | what | by | published | computed | error | gate | |",
        "|---|---|---|---|---:|---:|---:|---|",
    ]
    lines += [_definition(row) for row in defined]
    lines += _constants(report)
    return "\n".join(lines) + "\n"


def _constants(report: SuiteReport) -> list[str]:
    """Return the constants that were fitted, and those taken from one measurement."""
    lines = [
        "",
        f"{len(report.fitted)} constants are fitted on calibration rows; {len(report.measured)} more are calibrated "
        "too, each taken as it is from one measurement;",
        "every other one is derived from a source or assumed (`data/stacks.yaml`, `constants.py`). Fitted:",
        "",
        "| stack | constant | value | standard error | unit | identified by |",
        "|---|---|---:|---:|---|---|",
    ]
    for figure in report.fitted:
        value = f"{figure.value:.3g} | {figure.error:.2g} | {figure.unit} | {', '.join(figure.rows)}"
        lines.append(f"| {figure.stack} | `{figure.name}` | {value} |")
    lines += [
        "",
        "Taken from one measurement (`all`: the same for every stack):",
        "",
        "| stack | constant | value | error | unit | row | measurement |",
        "|---|---|---:|---:|---|---|---|",
    ]
    for figure in report.measured:
        error = f"{figure.error:.2g}" if figure.error else ""
        value = f"{figure.value:.3g} | {error} | {figure.unit} | {', '.join(figure.rows)} | {figure.source}"
        lines.append(f"| {figure.stack} | `{figure.name}` | {value} |")
    return lines


def page(text: str, report: SuiteReport) -> str:
    """Return the page with its generated part made anew."""
    defined = definition_rows(all_claims())
    return _SECTION.sub(lambda match: f"{match[1]}{section(report, defined)}{match[2]}", text)


def _variants(report: SuiteReport) -> list[str]:
    """Return what the row whose input is not stated would be with others, and the statistics then."""
    if not report.variants:
        return []
    lines = [
        "",
        "They rest on an input that no source states and that was chosen after the first run:",
        "",
        "| row | with | error | median | P90 | covered |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for found in report.variants:
        all_of = found.informative
        figures = f"{all_of.median:.1f} % | {all_of.p90:.1f} % | {all_of.coverage:.0f} %"
        lines.append(f"| {found.row} | {found.text} | {found.error_percent:+.1f} % | {figures} |")
    return lines


def _line(row: RowReport) -> str:
    inner = set(row.read_back) if row.computes else set()
    published = ", ".join(
        f"({name} {value:g})" if name in inner else f"{name} {value:g}" for name, value in row.published.items()
    )
    computed = ", ".join(
        f"({row.computed[name]:.3g})" if name in inner else f"{row.computed[name]:.3g}" for name in row.published
    )
    error = (
        ""
        if row.gate == "sign" or not row.computes
        else f"{row.error_percent:+.1f}{' pp' if row.gate.endswith('pp') else ' %'}"
    )
    gate = row.gate if row.gate == "sign" or row.gate.endswith("pp") else f"{row.gate} %"
    width = "" if row.interval_percent is None else f"±{row.interval_percent:.0f} %"
    name = f"{row.id}{'*' if row.informative else ''}"
    mark = "passed" if row.passed else "**missed**"
    mark = mark if row.computes else "read back"
    return f"| {name} | {row.text} | {published} | {computed} | {error} | {gate} | {width} | {mark} |"


def _definition(row: Mapping[str, Any]) -> str:
    published = " to ".join(f"{value:g}" for value in row["published"].values())
    verdict = row["verdict"] if row["verdict"] != "holds" else "passed" if row["passed"] else "**missed**"
    what = f"{row['text']}, {row['unit']} | {row['readings'][0]['definition']}"
    figures = f"{published} | {row['ours']:.4g} | {row['errorPercent']:+.1f} % | {row['gate']} %"
    return f"| {row['id']} | {what} | {figures} | {verdict} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), validate()), encoding="utf-8")
