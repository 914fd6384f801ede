"""Figures that somebody else has published about the same thing, to print beside ours.

Only figures whose definition matches the row they stand in; where definitions differ, the note says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["PUBLISHED", "Published", "published"]


@dataclass(frozen=True, slots=True)
class Published:
    """A published value of one figure, with where it is from and what it means."""

    profile: str
    figure: str
    value: str
    source: str
    model: str | None = None
    """Catalogue name and what it does: Training or a mode of inference."""
    note: str = ""
    given: tuple[tuple[str, Any], ...] = ()
    """What the spec must say for the figure to be about the same thing: dotted path and value."""


_DECODE: Final = (
    ("stack", "vendor-tuned"),
    ("inference.inputTokens", 4096),
    ("inference.outputTokens", 256),
    ("inference.batch.sequencesPerCard", 96),
    ("inference.decode.parallelism.expert", 320),
)
_PREFILL: Final = (("stack", "vendor-tuned"), ("inference.inputTokens", 4096))
_TRAINING: Final = (("stack", "vendor-tuned"),)
_PRESS: Final = "press on Supernode 384, April to July 2025"
_PAPER: Final = "arXiv 2506.12708"
PUBLISHED: Final = (
    Published("cloudmatrix-384", "ratedPetaflops", "300", _PRESS, note="rounded up from 384 x 752 TFLOPS FP16"),
    Published("cloudmatrix-384", "hbmTebibytes", "48 TB", _PRESS, note="TiB, printed as TB"),
    Published("cloudmatrix-384", "hbmBandwidthTerabytesPerSecond", "1229", "SemiAnalysis, CloudMatrix 384"),
    Published(
        "cloudmatrix-384",
        "busBandwidthTerabytesPerSecond",
        "269 both ways",
        "SemiAnalysis, CloudMatrix 384",
        note="counts 400G payload; by lane rate 301 both ways",
    ),
    Published("cloudmatrix-384", "powerKilowatts", "559 at full load", "SemiAnalysis, CloudMatrix 384"),
    Published(
        "cloudmatrix-384",
        "tokensPerSecondPerCard",
        "132",
        _PRESS,
        model="llama-3.1-405b Training",
        given=_TRAINING,
        note="no layout or sequence length published",
    ),
    Published(
        "cloudmatrix-384",
        "ratioToTraditional",
        "2.5",
        _PRESS,
        model="llama-3.1-405b Training",
        given=_TRAINING,
        note="per card; a card has two dies here and one there",
    ),
    Published(
        "cloudmatrix-384",
        "tokensPerSecondPerCard",
        "1943",
        _PAPER,
        model="deepseek-r1 Decode",
        given=_DECODE,
        note="EP320, 96 sequences a card, 4,096 in and 256 out",
    ),
    Published(
        "cloudmatrix-384",
        "tpotSeconds",
        "49.4 ms",
        _PAPER,
        model="deepseek-r1 Decode",
        given=_DECODE,
        note="EP320, 96 sequences a card, 4,096 in and 256 out",
    ),
    Published(
        "cloudmatrix-384",
        "tokensPerSecondPerCard",
        "5655 to 6688",
        _PAPER,
        model="deepseek-r1 Prefill",
        given=_PREFILL,
        note="EP32, 16,384 tokens of 4K prompts a card; experts unevenly and evenly loaded",
    ),
)


def published(
    profile: str, figure: str, model: str | None = None, spec: Mapping[str, Any] | None = None
) -> Published | None:
    """Return the published value of a machine's figure (``model`` None) or of a workload's with this spec."""
    wanted = (profile, figure, model)
    for entry in PUBLISHED:
        same = (entry.profile, entry.figure, entry.model) == wanted
        if same and all(_at(spec or {}, path) == value for path, value in entry.given):
            return entry
    return None


def _at(spec: Mapping[str, Any], path: str) -> Any:
    value: Any = {"stack": "vendor-tuned", **spec}
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
