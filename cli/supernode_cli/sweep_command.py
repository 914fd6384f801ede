"""`supernode sweep`: many scenarios into one table; here on all cores, or in shards, one for each pod of a Job."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from supernode_cli.errors import CliError

if TYPE_CHECKING:
    from supernode_cli.sweep_points import Points
    from supernode_cli.sweep_rows import Row

__all__ = ["sweep"]

_MOST_BYTES: Final = 256 << 20
_MOST_JOBS: Final = 1024
_MOST_SHARDS: Final = 99_999
_SHOWN: Final = 16
_OF_MANIFEST: Final = ("shards", "parallelism", "claim", "image", "name", "namespace")
_INDEX: Final = "JOB_COMPLETION_INDEX"


@click.command()
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    help="A grid, or scenarios: YAML documents or JSON lines (.jsonl); - is standard input.",
)
@click.option("-o", "--output", required=True, help="The table: .csv, .jsonl, or .parquet (needs pyarrow).")
@click.option("--jobs", type=int, help="Processes; else one for each core, with --manifest one in each pod.")
@click.option("--strict", is_flag=True, help="Stop at the first scenario that cannot run; else its row has the error.")
@click.option("--shard", help="Compute part i of n, as i/n; n alone takes i from JOB_COMPLETION_INDEX.")
@click.option("--collect", is_flag=True, help="Join the shards; with --shard, when it was the last one.")
@click.option("--manifest", is_flag=True, help="Print an Indexed Job that computes the shards on a cluster.")
@click.option("--shards", type=int, default=16, show_default=True, help="With --manifest: how many.")
@click.option("--parallelism", type=int, default=8, show_default=True, help="With --manifest: pods at a time.")
@click.option("--claim", help="With --manifest: the PersistentVolumeClaim that gets the table.")
@click.option("--image", help="With --manifest: the image, as the chart's.")
@click.option("--name", default="sweep", show_default=True, help="With --manifest: what its names begin with.")
@click.option("-n", "--namespace", help="With --manifest: the namespace; else that of kubectl.")
def sweep(path: str, output: str, manifest: bool, collect: bool, shard: str | None, **flags: Any) -> None:
    """Evaluate a grid or a file of scenarios into a table, one row for each, in order.

    A shard that is there already is not computed again, so a run that was killed goes on where it was.
    """
    from supernode_cli.sweep_files import Shards, check_table
    from supernode_cli.sweep_points import parse_points, sweep_digest
    from supernode_cli.sweep_rows import FIGURES
    from supernode_dataplane.solving import MODEL_VERSION

    _check_manifest_flags(manifest, output)
    text = _read(path)
    points = parse_points(path, text)
    _check_fields(path, points)
    # What another version has left has other columns, or other values in them.
    digest = sweep_digest(points, " ".join((MODEL_VERSION, *FIGURES)))
    shards = Shards(Path(output), digest, len(points))
    if manifest:
        if shard is not None or collect:
            raise CliError("--manifest: the Job's pods compute shards and join them; leave out --shard and --collect")
        _print_manifest(path, text, shards.table, shards.digest, flags)
        return
    check_table(shards.table)
    jobs = _jobs(flags["jobs"])
    if shard is not None:
        _compute_shard(points, shards, shard, jobs, flags)
    if collect:
        _collect(points, shards, optional=shard is not None)
    elif shard is None:
        from supernode_cli.sweep_files import write_table

        count = _Count(len(points))
        write_table(shards.table, points, count.whole(_computed(points, range(len(points)), jobs, count, flags)))
        click.echo(f"{shards.table}: {len(points):,} rows{count.speed}", err=True)
        count.report()


def _compute_shard(points: Points, shards: Any, text: str, jobs: int, flags: dict[str, Any]) -> None:
    from supernode_cli.sweep_files import write_shard

    number, count = _shard(text)
    path, numbers = shards.path(number, count), shards.numbers(number, count)
    if path.is_file():
        click.echo(f"{path}: is complete", err=True)
        return
    counted = _Count(len(numbers))
    # A shard whose points all fail is a shard: whether the sweep says anything is known when all are joined.
    write_shard(path, points, counted.watched(_computed(points, numbers, jobs, counted, flags)))
    click.echo(f"{path}: {len(numbers):,} rows{counted.speed}", err=True)
    counted.report()


def _collect(points: Points, shards: Any, *, optional: bool) -> None:
    from supernode_cli.sweep_files import write_table

    count = shards.complete()
    if count is None:
        if optional:
            return
        raise CliError(shards.missing())
    counted = _Count(len(points))
    write_table(shards.table, points, counted.whole(shards.rows(count)))
    shards.remove_leftovers()
    click.echo(f"{shards.table}: {len(points):,} rows of {count} shards", err=True)
    counted.report()


def _computed(points: Points, numbers: range, jobs: int, count: _Count, flags: dict[str, Any]) -> Iterator[Row]:
    """Yield the rows with a progress bar where somebody looks; with --strict the first error ends it."""
    from supernode_cli.sweep_rows import rows_of

    start = time.perf_counter()
    for row in _progress(rows_of(points, numbers, jobs), len(numbers)):
        if flags["strict"] and row["error"] is not None:
            raise CliError(f"point {row['index']}: {row['error']}")
        yield row
        count.seconds = time.perf_counter() - start


@dataclass(slots=True)
class _Count:
    """What became of the points of a table or a shard, as they pass."""

    points: int
    failed: int = 0
    first: str = ""
    """The first error, with its point."""
    seconds: float = 0.0

    @property
    def speed(self) -> str:
        """Points per second, their writing included, in words."""
        return f", {self.points / self.seconds:,.0f} points/s" if self.seconds else ""

    def watched(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows, and count those that have errors."""
        for row in rows:
            if row["error"] is not None:
                self.failed, self.first = self.failed + 1, self.first or f"point {row['index']}: {row['error']}"
            yield row

    def whole(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The same of a whole table, which is none without a point that runs."""
        yield from self.watched(rows)
        if self.failed == self.points:
            raise CliError(f"none of {self.points:,} points can run, so nothing is written; the first is {self.first}")

    def report(self) -> None:
        """Say how many have errors, where some have."""
        if self.failed:
            click.echo(
                f"{self.failed:,} of {self.points:,} points cannot run, as their column error says; the first is "
                f"{self.first}",
                err=True,
            )


def _progress(rows: Iterable[Row], total: int) -> Iterator[Row]:
    import sys

    if not sys.stderr.isatty():
        yield from rows
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:  # not in the image, whose pods have no terminal
        yield from rows
        return
    columns = (TextColumn("points"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("points", total=total)
        for done, row in enumerate(rows, 1):
            yield row
            # Each time costs as much as a point that is evaluated with others.
            if done % _SHOWN == 0 or done == total:
                bar.update(task, completed=done)


def _shard(text: str) -> tuple[int, int]:
    """Return (i, n) of ``i/n``, or of ``n`` with i from the environment."""
    match = re.fullmatch(r"(?:(\d{1,6})/)?(\d{1,6})", text)
    if match is None:
        raise CliError(f"--shard: {text[:40]!r} is no part of a whole; give i/n with i from 0 to n - 1, such as 0/16")
    index = match[1] if match[1] is not None else os.environ.get(_INDEX, "")
    if not (index.isascii() and index.isdecimal()):
        raise CliError(f"--shard: which of {match[2]} is not said; give i/{match[2]}, or set {_INDEX}")
    number, count = int(index), int(match[2])
    if not 0 <= number < count <= _MOST_SHARDS:
        raise CliError(f"--shard: there is no part {number} of {count}; give i/n with i from 0 to n - 1")
    return number, count


def _jobs(given: int | None) -> int:
    from supernode_cli.sweep_rows import available_cores

    if given is not None and not 1 <= given <= _MOST_JOBS:
        raise CliError(f"--jobs: {given} is out of range; give 1 to {_MOST_JOBS}")
    return given or available_cores()


def _check_fields(path: str, points: Points) -> None:
    """Check that the schema knows the fields of a grid, which otherwise would make every row the same error."""
    from supernode_cli.evaluation import ScenarioError, parse_scenario
    from supernode_cli.sweep_points import Grid

    if not isinstance(points, Grid):
        return
    try:
        parse_scenario(points.document(0))
    except ScenarioError as error:
        if str(error).startswith("unknown field"):
            raise CliError(f"{path}: {error}") from None


def _read(path: str) -> str:
    import sys

    if not path:
        raise CliError("--file: names no file; give one, or - for standard input")
    file = Path(path)
    try:
        if path == "-":
            return sys.stdin.read(_MOST_BYTES)
        if file.stat().st_size > _MOST_BYTES:
            raise CliError(f"{path}: is larger than {_MOST_BYTES >> 20} MiB; split it, or say it as a grid")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise CliError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CliError(f"{path}: is not UTF-8 text") from None
    except ValueError as error:
        raise CliError(f"{path!r}: cannot be read: {error}") from None


def _check_manifest_flags(manifest: bool, output: str) -> None:
    """Check that what is about the Job is given with it, and that the table is one of the claim."""
    if manifest:
        if Path(output).name != output:
            raise CliError(f"--output: {output[:60]!r}: the pods write into the claim; give the table's name alone")
        return
    context = click.get_current_context()
    for name in _OF_MANIFEST:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise CliError(f"--{name}: is about the Job; give --manifest too, or leave it out")


def _print_manifest(path: str, text: str, table: Path, digest: str, flags: dict[str, Any]) -> None:
    from importlib.metadata import version

    import yaml

    from supernode_cli.sweep_files import check_format
    from supernode_cli.sweep_manifest import JobSettings, build_manifest

    if flags["claim"] is None:
        raise CliError("--claim: name a PersistentVolumeClaim of the namespace; all pods of the Job mount it")
    if table.suffix == ".parquet" and flags["image"] is None:
        raise CliError("--output: the chart's image has no pyarrow; end the name in .csv or .jsonl, or give an --image")
    check_format(table)
    for name, text_ in (("--name", flags["name"]), ("--claim", flags["claim"]), ("--namespace", flags["namespace"])):
        most = 50 if name == "--name" else 63
        if text_ is not None and not re.fullmatch(rf"[a-z0-9]([-a-z0-9]{{0,{most - 2}}}[a-z0-9])?", text_):
            raise CliError(f"{name}: {text_!r} is no name; give up to {most} lower-case letters, digits and hyphens")
    if flags["parallelism"] < 1:
        raise CliError(f"--parallelism: {flags['parallelism']} is out of range; give at least 1 pod")
    settings = JobSettings(
        name=flags["name"],
        image=flags["image"] or f"docker.io/library/supernode:{version('supernode')}",
        shards=flags["shards"],
        parallelism=flags["parallelism"],
        claim=flags["claim"],
        jobs=1 if flags["jobs"] is None else _jobs(flags["jobs"]),
        namespace=flags["namespace"],
    )
    name = "sweep.jsonl" if path.endswith(".jsonl") else "sweep.yaml"
    documents = build_manifest(text, file_name=name, table=table.name, digest=digest, settings=settings)
    click.echo(yaml.dump_all(documents, Dumper=_dumper(), sort_keys=False), nl=False)


def _dumper() -> Any:
    """Return a dumper that writes texts of several lines as they are and repeats what occurs twice."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return Dumper
