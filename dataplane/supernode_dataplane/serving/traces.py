"""Public request traces, from their lines.

Azure 2023 (Azure/AzurePublicDataset, ``AzureLLMInferenceTrace_conv.csv`` and ``_code.csv``, CC BY 4.0): a header
``TIMESTAMP,ContextTokens,GeneratedTokens``, then a row per request. Mooncake (kvcache-ai/Mooncake,
``FAST25-release/traces``, Apache-2.0): a JSON object per line with ``timestamp`` in milliseconds, ``input_length``,
``output_length`` and ``hash_ids``, one per block of 512 tokens of the prompt, equal where all up to it is equal.

Readers take any iterable of lines, text or bytes, and open nothing. The first line that cannot be read is one error.
Blank lines are skipped. Requests that are not in order of time are sorted; times start at 0.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from supernode_dataplane.serving.errors import TraceError
from supernode_dataplane.serving.promptblocks import PromptBlocks
from supernode_dataplane.serving.requests import MAX_TOKENS, IntArray, Requests

__all__ = ["read_azure", "read_mooncake"]

_AZURE: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MOONCAKE_BLOCK: Final = 512
_MOONCAKE_HINT: Final = (
    'write {"timestamp": milliseconds, "input_length": tokens, "output_length": tokens, "hash_ids": [...]}'
)


def read_azure(lines: Iterable[str | bytes]) -> Requests:
    """Return the requests of an Azure 2023 trace; nothing is shared between prompts.

    :raises TraceError: the line, counted from 1, and the column that cannot be read.
    """
    stamps: list[str] = []
    inputs: list[int] = []
    outputs: list[int] = []
    numbers: list[int] = []
    rows = _lines(lines)
    first, header = next(rows, (1, ""))
    if tuple(name.strip() for name in header.lstrip("\ufeff").split(",")) != _AZURE:
        raise TraceError(first, "header", f"{header[:60]!r}", f"the first line must be {','.join(_AZURE)}")
    for number, line in rows:
        cells = line.split(",")
        if len(cells) != 3:
            remedy = f"write {','.join(_AZURE)}"
            raise TraceError(number, "row", f"{len(cells)} columns instead of 3", remedy)
        stamps.append(cells[0].strip().removesuffix("+00:00"))
        inputs.append(_tokens(number, _AZURE[1], cells[1]))
        outputs.append(_tokens(number, _AZURE[2], cells[2]))
        numbers.append(number)
    if not stamps:
        raise TraceError(first, "row", "no request follows the header", "give at least one row")
    return _requests(_seconds(stamps, numbers), inputs, outputs, None)


def read_mooncake(lines: Iterable[str | bytes]) -> Requests:
    """Return the requests of a Mooncake trace, with what their prompts share.

    :raises TraceError: the line, counted from 1, and the column that cannot be read.
    """
    times: list[float] = []
    inputs: list[int] = []
    outputs: list[int] = []
    identities, starts = array("q"), [0]
    for number, line in _lines(lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise TraceError(number, "row", f"{line[:60]!r} is not JSON", _MOONCAKE_HINT) from None
        if not isinstance(row, dict):
            raise TraceError(number, "row", f"{line[:60]!r} is not an object", _MOONCAKE_HINT)
        time = row.get("timestamp")
        if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < 1e15:
            problem = f"{_shown(row, 'timestamp')} is not a time"
            raise TraceError(number, "timestamp", problem, "give milliseconds from 0 on")
        times.append(time / 1000)
        inputs.append(_length(number, row, "input_length"))
        outputs.append(_length(number, row, "output_length"))
        identities.fromlist(_blocks(number, row, inputs[-1]))
        starts.append(len(identities))
    if not times:
        raise TraceError(1, "row", "the trace has no request", _MOONCAKE_HINT)
    prefixes = PromptBlocks(np.frombuffer(identities, np.int64), np.array(starts, np.int64))
    return _requests(np.array(times), inputs, outputs, prefixes)


def _lines(lines: Iterable[str | bytes]) -> Iterator[tuple[int, str]]:
    """Yield (number, text) of the lines that are not blank."""
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode() if isinstance(line, bytes) else line
        except UnicodeDecodeError:
            raise TraceError(number, "row", "it is not UTF-8 text", "unpack the file first, if it is packed") from None
        text = text.strip()
        if text:
            yield number, text


def _tokens(number: int, column: str, cell: str) -> int:
    text = cell.strip()
    tokens = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not 1 <= tokens <= MAX_TOKENS:
        raise TraceError(number, column, f"{cell[:30]!r} is not a number of tokens", f"give 1 to {MAX_TOKENS:,}")
    return tokens


def _length(number: int, row: dict[str, object], column: str) -> int:
    tokens = row.get(column)
    if type(tokens) is not int or not 1 <= tokens <= MAX_TOKENS:
        problem = f"{_shown(row, column)} is not a number of tokens"
        raise TraceError(number, column, problem, f"give 1 to {MAX_TOKENS:,}")
    return tokens


def _blocks(number: int, row: dict[str, object], tokens: int) -> list[int]:
    blocks, wanted = row.get("hash_ids"), tokens // _MOONCAKE_BLOCK
    most = -(-tokens // _MOONCAKE_BLOCK)
    if not isinstance(blocks, list) or not set(map(type, blocks)) <= {int}:
        raise TraceError(number, "hash_ids", f"{_shown(row, 'hash_ids')} is not a list of numbers", _MOONCAKE_HINT)
    if len(blocks) < wanted:
        problem = f"{len(blocks)} blocks for a prompt of {tokens} tokens"
        raise TraceError(number, "hash_ids", problem, f"give one per {_MOONCAKE_BLOCK} tokens, {wanted} or more")
    if len(blocks) > most:
        problem = f"{len(blocks)} blocks for a prompt of {tokens} tokens"
        raise TraceError(number, "hash_ids", problem, f"give one per {_MOONCAKE_BLOCK} tokens, {most} at most")
    if blocks and not (min(blocks) >= 0 and max(blocks) < 2**63):
        raise TraceError(number, "hash_ids", "a number is out of range", "give whole numbers from 0 to below 2^63")
    return blocks


def _shown(row: dict[str, object], column: str) -> str:
    return repr(row[column])[:40] if column in row else "nothing"


def _seconds(stamps: list[str], numbers: list[int]) -> np.ndarray:
    """Return seconds after the first; stamps are like 2023-11-16 18:15:46.6805900."""
    try:
        times = np.array(stamps, "datetime64[ns]")
        known = not np.isnat(times).any()
    except ValueError:
        known = False
    if not known:
        number, stamp = next(pair for pair in zip(numbers, stamps, strict=True) if not _is_time(pair[1]))
        remedy = "write it like 2023-11-16 18:15:46.6805900"
        raise TraceError(number, _AZURE[0], f"{stamp[:40]!r} is not a time", remedy)
    return np.asarray((times - times.min()).astype(np.int64) / 1e9)


def _is_time(stamp: str) -> bool:
    try:
        return not np.isnat(np.datetime64(stamp, "ns"))
    except ValueError:
        return False


def _requests(times: np.ndarray, inputs: list[int], outputs: list[int], prefixes: PromptBlocks | None) -> Requests:
    order: IntArray = np.argsort(times, kind="stable")
    return Requests(
        arrivals=times[order] - times.min(),
        inputs=np.array(inputs, np.int64)[order],
        outputs=np.array(outputs, np.int64)[order],
        prefixes=None if prefixes is None else prefixes.of_prompts(order),
        prefix_block_tokens=_MOONCAKE_BLOCK,
    )
