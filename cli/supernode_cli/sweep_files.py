"""Tables of rows as files: CSV, JSON lines or Parquet, by the suffix; and the shards that a table is joined from.

A file is there as a whole or not at all: it is written beside its place and then moved there. A shard is JSON lines and
lies in a folder beside the table, named by the sweep's digest, so that what another version of a sweep or of the model
has left there is never mixed in.
"""

from __future__ import annotations

import csv
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

from supernode_cli.errors import CliError
from supernode_cli.sweep_points import Points, column_kinds
from supernode_cli.sweep_rows import WORDS, Row, columns_of

__all__ = ["Shards", "check_format", "check_table", "write_shard", "write_table"]

_PARQUET_ROWS: Final = 10_000
_SUFFIXES: Final = (".csv", ".jsonl", ".parquet")


def check_table(path: Path) -> None:
    """Check before anything runs that a table can be written there.

    :raises CliError: the format is unknown or not installed, or there is no such folder.
    """
    check_format(path)
    if path.suffix == ".parquet":
        _pyarrow()
    if not path.parent.is_dir():
        raise CliError(f"--output: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise CliError(f"--output: {path} is a folder; name a file")


def check_format(path: Path) -> None:
    """Check that the suffix says a format.

    :raises CliError: it does not.
    """
    if path.suffix not in _SUFFIXES:
        raise CliError(f"--output: {path.name!r} has no known format; end it in {', '.join(_SUFFIXES)}")


def write_table(path: Path, points: Points, rows: Iterable[Row]) -> None:
    """Write rows as a table whose format is that of the suffix. Lists and mappings are JSON text in it."""
    columns = columns_of(points)
    with _whole(path) as file:
        if path.suffix == ".parquet":
            _parquet(file, columns, column_kinds(points), rows)
        elif path.suffix == ".csv":
            _csv(file, columns, rows)
        else:
            _json_lines(file, columns, rows)


def write_shard(path: Path, points: Points, rows: Iterable[Row]) -> None:
    """Write rows as a shard."""
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise CliError(f"{path.parent}: cannot be made: {error.strerror}") from None
    with _whole(path) as file:
        _json_lines(file, columns_of(points), rows)


@dataclass(frozen=True, slots=True)
class Shards:
    """The shards of a table: equal parts of the sweep's points, in order."""

    table: Path
    digest: str
    points: int

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self.table.with_name(f"{self.table.name}.shards")

    def path(self, shard: int, count: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"{self.digest}-{shard:05d}-of-{count:05d}.jsonl"

    def numbers(self, shard: int, count: int) -> range:
        """Return the points of a shard."""
        return range(shard * self.points // count, (shard + 1) * self.points // count)

    def present(self) -> dict[int, list[int]]:
        """Return the shards that are there, by how many there should be."""
        name = re.compile(rf"{self.digest}-(\d{{5}})-of-(\d{{5}})\.jsonl")
        found: dict[int, list[int]] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            if match := name.fullmatch(path.name):
                found.setdefault(int(match[2]), []).append(int(match[1]))
        return found

    def complete(self) -> int | None:
        """Return the number of shards of a set of which all are there, or None."""
        return next((count for count, shards in self.present().items() if len(shards) == count), None)

    def rows(self, count: int) -> Iterator[Row]:
        """Yield the rows of all shards in the order of the points.

        :raises CliError: a shard is not what was written.
        """
        for shard in range(count):
            path, numbers = self.path(shard, count), iter(self.numbers(shard, count))
            try:
                with path.open(encoding="utf-8") as lines:
                    for line in lines:
                        row = json.loads(line)
                        if row["index"] != next(numbers, None):
                            raise ValueError
                        yield row
                if next(numbers, None) is not None:
                    raise ValueError
            except OSError as error:
                raise CliError(f"{path}: cannot be read: {error.strerror}") from None
            except (ValueError, KeyError, TypeError):
                raise CliError(f"{path}: is damaged; delete it and run --shard {shard}/{count} again") from None

    def missing(self) -> str:
        """Return in words which shards are not there."""
        found = self.present()
        if not found:
            return f"there is no shard of this sweep in {self.folder}; run it with --shard i/n first"
        count = max(found, key=lambda n: len(found[n]))
        absent = [str(shard) for shard in range(count) if shard not in found[count]]
        names = ", ".join(absent[:10]) + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")
        return f"{len(absent)} of {count} shards are missing in {self.folder}: {names}; run --shard i/{count} for each"

    def remove_leftovers(self) -> None:
        """Delete what killed processes had begun to write."""
        for path in self.folder.glob(".*.part"):
            with suppress(OSError):
                path.unlink()


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` and move it there when all is written; on an error nothing is left."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise CliError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _cell(value: Any) -> Any:
    """Return a value as it is in a table."""
    if isinstance(value, bool | list | dict):
        return json.dumps(value)
    return value


def _csv(file: IO[bytes], columns: Sequence[str], rows: Iterable[Row]) -> None:
    import io

    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if row[name] is None else _cell(row[name]) for name in columns])
    text.flush()
    text.detach()


def _json_lines(file: IO[bytes], columns: Sequence[str], rows: Iterable[Row]) -> None:
    for row in rows:
        file.write(json.dumps({name: row[name] for name in columns}).encode() + b"\n")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise CliError(
            "--output: Parquet needs pyarrow, which the extra sweep has (pip install '.[sweep]' in a checkout); or end "
            "the name in .csv or .jsonl"
        ) from None
    return pyarrow, pyarrow.parquet


def _parquet(file: IO[bytes], columns: Sequence[str], kinds: Mapping[str, type], rows: Iterable[Row]) -> None:
    pyarrow, parquet = _pyarrow()
    names = {int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_(), str: pyarrow.string()}
    known = {**dict.fromkeys(columns, float), "index": int, **kinds, **dict.fromkeys((*WORDS, "error"), str)}
    schema = pyarrow.schema([(name, names[known[name]]) for name in columns])

    def typed(row: Row) -> Row:
        return {
            name: json.dumps(value) if known[name] is str and not isinstance(value, str | None) else value
            for name, value in row.items()
        }

    with parquet.ParquetWriter(file, schema) as writer:
        remaining = iter(rows)
        while batch := [typed(row) for row in islice(remaining, _PARQUET_ROWS)]:
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
