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
    """Catalogue name and what it does: Training or a mode of inference; or the kind of a kernel."""
    note: str = ""
    given: tuple[tuple[str, Any], ...] = ()
    """What the spec must say for the figure to be about the same thing: dotted path and value, or a tuple of values of
    which it must be one; None: nothing. ``cards`` is how many it runs on.
    """


def _plain_pool(role: str, expert: int) -> tuple[tuple[str, Any], ...]:
    """Return what a pool says of its layout when its experts are spread and nothing else is split."""
    way = f"inference.{role}"
    one = dict.fromkeys(("tensor", "expertTensor", "pipeline"), (None, 1))
    layout = {**one, "expert": expert, "sequence": (None, False)}
    said = tuple((f"{way}.parallelism.{name}", wanted) for name, wanted in layout.items())
    return (*said, (f"{way}.microBatches", (None, "auto", "two")), (f"{way}.experts.perDie", None))


_AS_PUBLISHED: Final = (
    ("stack", "vendor-tuned"),
    ("inference.inputTokens", 4096),
    ("inference.precision.weights", (None, "int8")),
    ("inference.precision.activations", (None, "int8")),
    ("inference.precision.attention", (None, "int8")),
    ("inference.precision.experts", (None, "int8")),
    ("inference.precision.kvCache", (None, "bf16")),
    ("inference.precision.head", (None, "bf16")),
)
_DECODE: Final = (
    *_AS_PUBLISHED,
    ("inference.outputTokens", 256),
    ("inference.batch.sequencesPerCard", 96),
    *_plain_pool("decode", expert=320),
    ("inference.decode.experts.redundant", 32),
    ("inference.decode.experts.sharedRanks", 32),
    ("inference.decode.experts.imbalancePercent", (None, 100)),
    ("inference.decode.attentionCorePercent", None),
    ("inference.decode.split", None),
    ("inference.speculation.drafts", 1),
    ("inference.speculation.acceptancePercent", (None, [70])),
    ("inference.speculation.tokensPerStep", (None, 1.7)),
)
_PREFILL: Final = (
    *_AS_PUBLISHED,
    *_plain_pool("prefill", expert=32),
    ("inference.promptsPerBatch", 2),  # of a die: 16,384 tokens on a card
    ("inference.prefill.parallelism.context", (None, 1)),
    ("inference.cache.reusePercent", (None, 0)),
)
_TRAINING: Final = (("stack", "vendor-tuned"), ("cards", 384), ("training.mtpLayers", (None, 0)))
_PRESS: Final = "press on Supernode 384, April to July 2025"
_PAPER: Final = "arXiv 2506.12708"
_DEEP_EP: Final = "sgl-project/sgl-kernel-npu, deep_ep README"


def _exchanges(
    profile: str, stack: str, kind: str, by_ranks: Mapping[int, str], **kernel: Any
) -> tuple[Published, ...]:
    """Return what is published of an exchange of tokens of DeepSeek-R1: 7,168 values to 8 experts."""
    low = kernel["form"] == "LowLatency"
    figure, source = ("timeSeconds", f"{_PAPER}, table 6") if low else ("gigabytesPerSecond", _DEEP_EP)
    said = {"hidden": 7168, "copies": 8, **kernel}
    return tuple(
        Published(
            profile,
            figure,
            value,
            source,
            model=kind,
            given=(
                ("stack", stack),
                ("changed", False),
                ("kernel.ranks", ranks),
                *((f"kernel.{name}", wanted) for name, wanted in said.items()),
            ),
        )
        for ranks, value in by_ranks.items()
    )


_LOW: Final[Mapping[str, Any]] = {"form": "LowLatency", "tokens": 128}
_NORMAL: Final[Mapping[str, Any]] = {"form": "Normal", "tokens": 4096}
_KERNELS: Final = (
    *_exchanges("cloudmatrix-384", "vendor-tuned", "Dispatch", {8: "116 us", 256: "152 us"}, format="int8", **_LOW),
    *_exchanges("cloudmatrix-384", "vendor-tuned", "Combine", {8: "118 us", 256: "149 us"}, **_LOW),
    *_exchanges("h800-cluster", "gpu-tuned", "Dispatch", {8: "163 us", 256: "194 us"}, format="fp8", **_LOW),
    *_exchanges("h800-cluster", "gpu-tuned", "Combine", {8: "318 us", 256: "360 us"}, **_LOW),
    *_exchanges(
        "cloudmatrix-384",
        "open-source",
        "Dispatch",
        {8: "146 GB/s", 16: "107 GB/s", 32: "102 GB/s", 64: "81 GB/s", 128: "57 GB/s"},
        format="int8",
        **_NORMAL,
    ),
    *_exchanges(
        "cloudmatrix-384",
        "open-source",
        "Combine",
        {8: "125 GB/s", 16: "103 GB/s", 32: "95 GB/s", 64: "91 GB/s", 128: "81 GB/s"},
        **_NORMAL,
    ),
)
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
    *_KERNELS,
)


def published(
    profile: str, figure: str, model: str | None = None, spec: Mapping[str, Any] | None = None
) -> Published | None:
    """Return the published value of a figure of a machine as it is built in, a workload or a kernel.

    ``model`` None: of the machine. ``spec`` is what runs, with ``cards``; None: not what anybody has published.
    """
    wanted = (profile, figure, model)
    for entry in PUBLISHED:
        same = (entry.profile, entry.figure, entry.model) == wanted and (model is None or spec is not None)
        if same and all(_is(_at(spec or {}, path), value) for path, value in entry.given):
            return entry
    return None


def _is(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, tuple) else value == wanted


def _at(spec: Mapping[str, Any], path: str) -> Any:
    value: Any = {"stack": "vendor-tuned", **spec}
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
