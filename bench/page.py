"""docs/benchmarks.md: the table of a run, or of single groups put into the table that is there. Text in, text out.

What people wrote below the table stays. Rows are told apart by what they measure; one that is new follows the row
measured before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rows import Row, render, render_row

__all__ = ["merged", "page"]

_INTRODUCTION = """# Benchmarks

`make bench` measures every budget of the design and prints it beside its limit; this page is
the output of `bench/run.py --write docs/benchmarks.md`, with `--only GROUP` of single groups. A ratio of at most 1 is
within the budget; beside another tool the budget is what that one takes; a row without a budget says what the same
takes with its error bar, or as the command does it. The machine is shared and noisy: read the ratios, not the digits.
"""
_MEASURED = "Measured on "
_APART = "- since then, "


def page(rows: Sequence[Row], machine: str, before: str = "") -> str:
    """Return the page of a whole run; what stood below the table of ``before`` stays."""
    below = _parts(before)[2]
    return _joined(f"{_MEASURED}{machine}.", render(rows).splitlines(), below)


def merged(before: str, groups: Mapping[str, Sequence[Row]], machines: Mapping[str, str]) -> str:
    """Return a page with the rows of some groups anew, and a line for each group: the machine that they are from."""
    head, table, below = _parts(before)
    for rows in groups.values():
        after = len(table)
        for row in rows:
            line, key = render_row(row), _key(row.what)
            places = [number for number, old in enumerate(table) if _key(old) == key]
            if places:
                table[places[0]] = line
            else:
                table.insert(after, line)
            after = (places[0] if places else after) + 1
    lines = [line for line in head.splitlines() if not line.startswith(tuple(f"{_APART}{name}:" for name in groups))]
    lines += [f"{_APART}{name}: {machines[name]}" for name in groups]
    return _joined("\n".join(lines), table, below)


def _joined(head: str, table: Sequence[str], below: str) -> str:
    text = f"{_INTRODUCTION}\n{head.strip()}\n\n" + "\n".join(table) + "\n"
    return f"{text}\n{below.strip()}\n" if below.strip() else text


def _parts(text: str) -> tuple[str, list[str], str]:
    """Return what a page says of where it was measured, the lines of its table, and what stands below."""
    lines = text.splitlines()
    table = [number for number, line in enumerate(lines) if line.startswith("|")]
    if not table:
        return "", render([]).splitlines(), ""
    first = next((number for number, line in enumerate(lines) if line.startswith(_MEASURED)), table[0])
    head = "\n".join(line for line in lines[first : table[0]])
    return head, lines[table[0] : table[-1] + 1], "\n".join(lines[table[-1] + 1 :])


def _key(line: str) -> str:
    """Return what a row measures, without the version of whatever it is measured with."""
    return line.strip("| ").partition(" |")[0].strip()
