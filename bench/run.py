"""`make bench`: every budget of the design that exists so far, measured here and printed beside its limit.

Times that a real cluster is needed for come from an instance of the development cluster of its own, as a user would
see them (kubectl watches, the audit log); the rest from the product's own functions and processes. One run; how much
of the processors others took is printed, and how long a loop takes, because these figures mean little without it.

    bench/run.py [--quick | --only GROUP ...] [--rest SECONDS] [--write docs/benchmarks.md]

With --only the page keeps the rows of the other groups, and says of which groups rows are newer than the rest.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from pace import Pace
from page import merged, page
from rows import Row, render

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "devcluster"), str(ROOT / "bench")]


def groups(rest_seconds: int) -> dict[str, Callable[[], Iterator[Row]]]:
    """Return what can be measured, by name, the cheap ones first; imported when it is."""

    def module(name: str) -> Callable[[], Iterator[Row]]:
        def measure() -> Iterator[Row]:
            yield from __import__(f"bench_{name}").measure(*([rest_seconds] if name == "cluster" else []))

        return measure

    names = ("processes", "dataplane", "sweep", "serving", "superclusters", "cabinet", "operator", "rivals", "cluster")
    return {name: module(name) for name in names}


def machine(pace: Pace) -> str:
    """Return in words where this is measured, how fast that was, and with what."""
    from supernode_dataplane.solving import MODEL_VERSION

    python = platform.python_version()
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), Python {python}, {pace}, version {MODEL_VERSION} of the model"
    )


def main() -> None:
    """Measure, print, and write the page where asked."""
    known = groups(0)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without clusters, API servers and other tools")
    parser.add_argument("--only", nargs="+", choices=list(known), metavar="GROUP", help=f"of {', '.join(known)}")
    parser.add_argument("--rest", type=int, default=600, help="seconds to watch the cluster at rest (default 600)")
    parser.add_argument("--write", type=Path, help="write the page here")
    arguments = parser.parse_args()
    slow = ("operator", "rivals", "cluster") if arguments.quick else ()
    wanted = arguments.only or [name for name in known if name not in slow]
    found: dict[str, list[Row]] = {}
    machines: dict[str, str] = {}
    whole = Pace()
    for name, measure in groups(arguments.rest).items():
        if name not in wanted:
            continue
        pace = Pace()
        for row in measure():
            found.setdefault(name, []).append(row)
            budget = "no budget" if row.budget is None else f"budget {row.budget:g} {row.unit}"
            print(f"{row.what:70} {row.value:10.4g} {row.unit:6} {budget}  {row.how}", flush=True)
        machines[name] = machine(pace)
        print(f"{name}: {pace}", flush=True)
    rows = [row for several in found.values() for row in several]
    print(f"\n{render(rows)}")
    if not arguments.write:
        return
    before = arguments.write.read_text(encoding="utf-8") if arguments.write.exists() else ""
    if set(wanted) == set(known) or not before:
        text = page(rows, machine(whole), before)
    else:
        text = merged(before, found, machines)
    arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
