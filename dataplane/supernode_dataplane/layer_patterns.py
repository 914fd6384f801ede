"""Which weights a pattern of layer names means.

A pattern is a part of a name, where ``*`` stands for any part of it between dots, or ``re:`` and a regular expression
made of plain text, ``.*``, ``\\d+`` and ``(a|b)``. Expressions come from a model's config and are never run as they
are: what is understood is built anew, so none can run for long. Names are those of Hugging Face transformers,
patterns those of its quantisation configs and of compressed-tensors.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from supernode_dataplane.deployment import WeightClass

__all__ = ["NAMES", "PatternError", "is_small", "names_matched"]

_PARTS: Final = ("gate_proj", "up_proj", "down_proj")
NAMES: Final[dict[WeightClass, tuple[str, ...]]] = {
    "attention": tuple(f"model.layers.9.self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "o_proj")),
    "experts": tuple(f"model.layers.9.mlp.experts.7.{part}" for part in _PARTS),
    "others": tuple(f"model.layers.{block}.{part}" for block in ("0.mlp", "9.mlp.shared_experts") for part in _PARTS),
}
"""Names that stand for each class of weights."""
_SMALL: Final = re.compile(
    r"lm_head|embed|norm|router|mlp\.gate$|\.gate$|shared_expert_gate|eh_proj|shared_head|visual|vision|bias"
)
_NUMBERED: Final = re.compile(r"layers\\?\.\d")
_TOKEN: Final = re.compile(r"(\.\*)|(\\d\+|\[0-9\]\+)|\((?:\?:)?([\w|]+)\)|(\\\.|\.)|([\w-]+)")
_LONGEST: Final = 120
_WILDCARDS: Final = 6


class PatternError(ValueError):
    """A pattern that is not understood; its text says how it is not."""


def is_small(pattern: str) -> bool:
    """Say whether it means only what may stay as it is without changing a layer's bytes by more than a rounding."""
    return _SMALL.search(pattern) is not None


@lru_cache(maxsize=512)
def names_matched(pattern: str) -> frozenset[str]:
    """Return which of :data:`NAMES` a pattern means; PatternError where it is none or not understood."""
    if _NUMBERED.search(pattern):
        raise PatternError("means single layers")
    expression = _expression(pattern)
    found = frozenset(name for names in NAMES.values() for name in names if expression.search(name))
    if not found:
        raise PatternError("means no layers that are known")
    return found


def _expression(pattern: str) -> re.Pattern[str]:
    """Return what a pattern means as an expression of ours."""
    if not pattern.startswith("re:"):
        return re.compile(re.escape(pattern).replace(r"\*", r"[^.]*"))
    text = pattern.removeprefix("re:").removeprefix("^")  # matched from the start of a name in any case
    text, end = text.removesuffix("$"), "$" if text.endswith("$") else ""
    built, position = "^", 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None or len(text) > _LONGEST or text.count(".*") > _WILDCARDS:
            raise PatternError("is an expression that is not understood")
        anything, number, choice, dot, word = token.groups()
        if choice:
            built += f"(?:{choice})"
        else:
            built += ".*" if anything else r"\d+" if number else r"\." if dot else re.escape(word)
        position = token.end()
    return re.compile(built + end)
