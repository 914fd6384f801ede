"""The load of `supernode serve-sim`: a trace file, a generator, or what the scenario's load says.

Files are opened here and nowhere else in serving; what is in them is read by :mod:`supernode_dataplane.serving`. Every
error is one sentence that names the flag or the scenario's field, or the file and its line. Flags override the
scenario: one that says when requests come takes the place of all that the scenario says about it.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic.alias_generators import to_camel

from supernode_cli.errors import CliError
from supernode_cli.scenario_inference import ScenarioLoad
from supernode_dataplane.figures import counted
from supernode_dataplane.serving import (
    PRESETS,
    AtOnce,
    ClosedLoop,
    Fixed,
    InvalidServingError,
    LogNormal,
    OpenLoop,
    Requests,
    TraceError,
    generate,
    read_azure,
    read_mooncake,
)
from supernode_dataplane.serving.requests import MAX_TOKENS

__all__ = ["LoadFlags", "ServingLoad", "read_load", "with_scenario"]

DEFAULT_PROMPTS: Final = 1000
_SUFFIXES: Final = {".csv": "azure", ".jsonl": "mooncake", ".json": "mooncake"}
_GZIP: Final = b"\x1f\x8b"
_MAX_SEED: Final = 2**63
_ARRIVALS: Final = ("trace", "preset", "rate", "concurrency")
"""What says when requests come; --at-once does too."""
_ABOUT: Final = {"trace_format": "trace", "speed": "trace", "burst": "rate"}
"""What is about another one, and goes with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFlags:
    """What the command line says about the load; None where it says nothing.

    ``input_tokens`` and ``output_tokens`` are ``mean[:variation[:most]]``: a fixed length, or a lognormal one.
    ``fields`` are those that come from a scenario, with their paths.
    """

    trace: str | None = None
    trace_format: str | None = None
    speed: float | None = None
    preset: str | None = None
    rate: float | None = None
    burst: float | None = None
    concurrency: int | None = None
    at_once: bool = False
    input_tokens: str | None = None
    output_tokens: str | None = None
    prompts: int | None = None
    seed: int = 0
    fields: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    file: str = ""
    """Where the scenario is read from; empty: nowhere that has a name."""

    def named(self, name: str) -> str:
        """Return how people write a field: as a flag, or as the scenario has it, with the file that it is in."""
        path = self.fields.get(name)
        if path is not None:
            return f"{self.file}: {path}" if self.file else path
        return f"--{'format' if name == 'trace_format' else name.replace('_', '-')}"

    def sibling(self, name: str, beside: str) -> str:
        """Return how people write a field where they have written another one: as a flag, or in the scenario."""
        return f"inference.load.{to_camel(name)}" if beside in self.fields else f"--{name.replace('_', '-')}"

    def give(self, name: str, beside: str) -> str:
        """Return the remedy of a field that is about another one: to give that too, where it stands itself."""
        return f"give {self.sibling(name, beside)} too" + (", or leave it out" if beside in self.fields else "")


@dataclass(frozen=True, slots=True)
class ServingLoad:
    """Requests, and in words where they come from."""

    requests: Requests
    source: str
    notes: tuple[str, ...] = ()
    """What to know about it, for people."""


def read_load(flags: LoadFlags, *, input_tokens: int, output_tokens: int, concurrency: int | None) -> ServingLoad:
    """Return the load that the flags describe; lengths and clients that they do not name are the scenario's.

    :raises CliError: flags that exclude one another or are out of range, a file or a line that cannot be read.
    """
    _check(flags)
    if flags.trace is not None:
        return _from_trace(flags, flags.trace)
    try:
        return _generated(flags, input_tokens, output_tokens, concurrency)
    except InvalidServingError as error:
        name, _, rest = str(error).partition(": ")
        raise CliError(f"{flags.named(name.removeprefix('load.'))}: {rest}") from None


def with_scenario(flags: LoadFlags, load: ScenarioLoad | None, folder: Path) -> LoadFlags:
    """Return the flags with what they leave to the scenario; a trace's path there is from ``folder``."""
    if load is None:
        return flags
    said: dict[str, Any] = {}
    for name in (*_ARRIVALS, *_ABOUT, "prompts"):
        value = getattr(load, name)
        if value is not None and getattr(flags, name) is None:
            said[name] = value
    if flags.at_once or any(getattr(flags, name) is not None for name in _ARRIVALS):
        said = {name: value for name, value in said.items() if name not in _ARRIVALS}
    # What is about something that a flag has replaced goes too.
    about = {name: other for name, other in _ABOUT.items() if name in said and other not in said}
    said = {name: value for name, value in said.items() if name not in about or getattr(load, about[name]) is None}
    fields = {name: f"inference.load.{to_camel(name)}" for name in said}
    if "trace" in said:
        said["trace"] = str(folder / said["trace"])
    return replace(flags, **said, fields=fields)


def _check(flags: LoadFlags) -> None:
    arrivals = [flags.named(name) for name in ("rate", "concurrency") if getattr(flags, name) is not None]
    if flags.at_once and arrivals:
        raise CliError(f"--at-once: requests arrive in one way; leave out {arrivals[0]}, or this")
    arrivals += ["--at-once"] if flags.at_once else []
    named = (("--input-tokens", flags.input_tokens), ("--output-tokens", flags.output_tokens))
    lengths = [name for name, text in named if text is not None]
    preset = [] if flags.preset is None else [flags.named("preset")]
    if flags.trace is not None and arrivals + preset + lengths:
        names = ", ".join(arrivals + preset + lengths)
        raise CliError(f"{flags.named('trace')}: a trace has its own times and lengths; leave out {names}")
    if flags.preset is not None and lengths:
        raise CliError(f"{lengths[0]}: a preset has its own lengths; leave out {preset[0]}, or this")
    if flags.burst is not None and flags.rate is None:
        raise CliError(
            f"{flags.named('burst')}: is about requests that arrive at a rate; {flags.give('rate', 'burst')}"
        )
    if flags.trace is None and flags.trace_format is not None:
        raise CliError(f"{flags.named('trace_format')}: is about a trace; {flags.give('trace', 'trace_format')}")
    if flags.trace is None and flags.speed is not None:
        remedy = f"{flags.give('trace', 'speed')}, or change {flags.sibling('rate', 'speed')}"
        raise CliError(f"{flags.named('speed')}: is about a trace; {remedy}")
    if flags.speed is not None and not (math.isfinite(flags.speed) and flags.speed > 0):
        problem = f"{flags.speed:g} is not a factor above 0; 2 plays the trace twice as fast"
        raise CliError(f"{flags.named('speed')}: {problem}")
    if flags.prompts is not None and flags.prompts < 1:
        problem = f"{flags.prompts} is not a number of requests; give at least 1"
        raise CliError(f"{flags.named('prompts')}: {problem}")
    if not 0 <= flags.seed < _MAX_SEED:
        raise CliError(f"--seed: {flags.seed} is out of range; give a whole number from 0 to below 2^63")


def _from_trace(flags: LoadFlags, path: str) -> ServingLoad:
    kind = flags.trace_format or _format_of(path)
    try:
        with _opened(path) as lines:
            requests = read_azure(lines) if kind == "azure" else read_mooncake(lines)
    except TraceError as error:
        raise CliError(f"{path}: {error}") from None
    except OSError as error:
        # gzip's own errors are OSErrors without a strerror.
        reason = error.strerror or "is not a whole gzip file; pack it again"
        raise CliError(f"{path}: cannot be read: {reason}") from None
    except (EOFError, zlib.error):
        raise CliError(f"{path}: cannot be read: is not a whole gzip file; pack it again") from None
    except ValueError as error:
        raise CliError(f"{path}: cannot be read: {error}") from None
    count = len(requests) if flags.prompts is None else min(flags.prompts, len(requests))
    prefixes = None if requests.prefixes is None else requests.prefixes[:count]
    requests = replace(
        requests,
        arrivals=requests.arrivals[:count] / (flags.speed or 1.0),
        inputs=requests.inputs[:count],
        outputs=requests.outputs[:count],
        prefixes=prefixes,
    )
    speed = "" if flags.speed in (None, 1.0) else f", {flags.speed:g} times as fast"
    return ServingLoad(requests, f"{kind} trace {path}{speed}")


def _format_of(path: str) -> str:
    name = path.lower().removesuffix(".gz")
    for suffix, kind in _SUFFIXES.items():
        if name.endswith(suffix):
            return kind
    raise CliError(f"{path}: its format is unknown; name it .csv (azure) or .jsonl (mooncake), or give --format")


@contextmanager
def _opened(path: str) -> Iterator[Iterable[bytes]]:
    """Open a file, unpacked where it is gzip: by its first bytes, whatever its name."""
    with open(path, "rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if packed:
            with gzip.open(file) as unpacked:
                yield unpacked
        else:
            yield file


def _generated(flags: LoadFlags, input_tokens: int, output_tokens: int, concurrency: int | None) -> ServingLoad:
    count = DEFAULT_PROMPTS if flags.prompts is None else flags.prompts
    preset = None if flags.preset is None else PRESETS.get(flags.preset)
    if flags.preset is not None and preset is None:
        raise CliError(f"{flags.named('preset')}: there is no {flags.preset[:64]!r}; give one of {', '.join(PRESETS)}")
    arrivals = _arrivals(flags) or (preset.arrivals if preset is not None else None)
    if arrivals is None:
        if concurrency is None:
            remedy = "give --trace, --preset, --rate, --concurrency or --at-once, or inference.load in the scenario"
            raise CliError(f"there is no load; {remedy}")
        arrivals = ClosedLoop(concurrency)
    inputs = preset.inputs if preset is not None else _length("--input-tokens", flags.input_tokens, input_tokens)
    outputs = preset.outputs if preset is not None else _length("--output-tokens", flags.output_tokens, output_tokens)
    requests = generate(count, arrivals=arrivals, inputs=inputs, outputs=outputs, seed=flags.seed)
    words = f"{_words(arrivals)}, {_lengths(flags, inputs, outputs)}, seed {flags.seed}"
    return ServingLoad(requests, words, _few(count, arrivals, given=flags.prompts is not None))


def _few(count: int, arrivals: OpenLoop | ClosedLoop | AtOnce, *, given: bool) -> tuple[str, ...]:
    """Return a note where the load ends before all clients have asked."""
    if not isinstance(arrivals, ClosedLoop) or count >= arrivals.concurrency:
        return ()
    which = f"{count:,} requests" if given else f"{count:,} requests, as many as are sent without --prompts,"
    return (
        f"{which} are fewer than the {arrivals.concurrency:,} clients: so many never run at once; "
        f"give --prompts {2 * arrivals.concurrency} or more",
    )


def _arrivals(flags: LoadFlags) -> OpenLoop | ClosedLoop | AtOnce | None:
    pace = None if flags.rate is None else OpenLoop(flags.rate, 1.0 if flags.burst is None else flags.burst)
    if flags.concurrency is not None:
        return ClosedLoop(flags.concurrency, pace)
    if pace is not None:
        return pace
    return AtOnce() if flags.at_once else None


def _length(flag: str, text: str | None, scenario: int) -> Fixed | LogNormal:
    """Return a length of ``mean[:variation[:most]]``."""
    parts = (str(scenario) if text is None else text).split(":")
    try:
        if len(parts) == 1:
            return Fixed(int(parts[0]))
        if len(parts) <= 3:
            return LogNormal(float(parts[0]), float(parts[1]), *(int(part) for part in parts[2:]))
    except InvalidServingError as error:
        raise CliError(f"{flag}: {str(error).partition(': ')[2]}") from None
    except (ValueError, OverflowError):
        pass
    remedy = "give tokens (4096), or mean:variation[:most] (2048:0.9:8192)"
    raise CliError(f"{flag}: {str(text)[:40]!r} is not a length; {remedy}")


def _words(arrivals: OpenLoop | ClosedLoop | AtOnce) -> str:
    match arrivals:
        case OpenLoop(rate, variation):
            return f"{rate:.4g} requests/s" + ("" if variation == 1.0 else f" in bursts of variation {variation:g}")
        case ClosedLoop(concurrency, None):
            return counted(concurrency, "client")
        case ClosedLoop(concurrency, pace) if pace is not None:
            return f"{_words(pace)}, at most {concurrency} in flight"
        case _:
            return "all at once"


def _lengths(flags: LoadFlags, inputs: Fixed | LogNormal, outputs: Fixed | LogNormal) -> str:
    if flags.preset is not None:
        return f"lengths of {flags.preset}"
    return " and ".join(_mean(length, name) for length, name in ((inputs, "input"), (outputs, "output")))


def _mean(length: Fixed | LogNormal, name: str) -> str:
    if isinstance(length, Fixed):
        return f"{length.tokens} {name} tokens"
    # What is cut is shorter than the mean that was asked for.
    cut = "" if length.most == MAX_TOKENS else f" before the cut at {length.most}"
    return f"{length.mean:g} {name} tokens on average{cut}"
