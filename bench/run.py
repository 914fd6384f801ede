"""`make bench`: every budget of the design that exists so far, measured here and printed beside its limit.

Times that a real cluster is needed for come from an instance of the development cluster of its own, as a user would
see them (kubectl watches, the audit log); the rest from the product's own functions and processes. One run; the
machine's load is printed because these figures mean little without it.

    bench/run.py [--quick] [--rest SECONDS] [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from rows import Row

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "devcluster"), str(ROOT / "bench")]


def collect(quick: bool, rest_seconds: int) -> Iterator[Row]:
    """Run the measurements, the cheap ones first."""
    import bench_cluster
    import bench_dataplane
    import bench_processes
    import bench_serving
    import bench_superclusters

    yield from bench_processes.measure()
    yield from bench_dataplane.measure()
    yield from bench_serving.measure()
    yield from bench_superclusters.measure()
    if not quick:
        yield from bench_cluster.measure(rest_seconds)


def render(rows: list[Row]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| what | measured | budget | ratio | how |",
        "|---|---:|---:|---:|---|",
    ]
    for row in rows:
        mark = "" if row.ratio <= 1 else " **over**"
        figures = f"{row.value:.4g} {row.unit} | {row.budget:g} {row.unit} | {row.ratio:.2f}{mark}"
        lines.append(f"| {row.what} | {figures} | {row.how} |")
    return "\n".join(lines)


def page(table: str) -> str:
    """Return docs/benchmarks.md."""
    return f"""# Benchmarks

`make bench` measures every budget of the design that exists so far and prints it beside its limit; this page is
the output of `bench/run.py --write docs/benchmarks.md`. A ratio of at most 1 is within the budget. The machine is
shared and noisy: read the ratios, not the digits.

Measured on {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, load
{os.getloadavg()[0]:.1f} at the end.

{table}
"""


def main() -> None:
    """Measure, print, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without a cluster")
    parser.add_argument("--rest", type=int, default=600, help="seconds to watch the cluster at rest (default 600)")
    parser.add_argument("--write", type=Path, help="write the page here")
    arguments = parser.parse_args()
    rows = []
    for row in collect(arguments.quick, arguments.rest):
        rows.append(row)
        print(f"{row.what:70} {row.value:10.4g} {row.unit:6} budget {row.budget:g} {row.unit}  {row.how}", flush=True)
    table = render(rows)
    print(f"\n{table}")
    if arguments.write:
        arguments.write.write_text(page(table), encoding="utf-8")


if __name__ == "__main__":
    main()
