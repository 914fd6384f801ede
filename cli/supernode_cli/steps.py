"""What a step's time and a die's memory are made of, in the words that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from supernode_dataplane.figures import decimal
from supernode_dataplane.state import WorkloadResult

__all__ = ["Part", "memory_parts", "step_parts"]

_WORDS: Final = {
    "projections": "attention projections",
    "core": "attention core",
    "vector": "vector work",
    "fixed": "fixed cost of layers",
    "all_reduce": "all-reduce of tensor groups",
    "feed_forward": "experts or feed-forward",
    "dispatch": "dispatch to experts",
    "combine": "combine from experts",
    "exchange": "exchange with experts",
    "waiting": "waiting for the slowest rank",
    "experts": "waiting for experts on other dies",
    "ring": "context rings, not hidden",
    "head": "output head",
    "draft": "draft tokens",
    "host": "host",
    "overlap": "hidden by two micro-batches",
    "tensor_parallel": "tensor groups",
    "expert_parallel": "exchange with experts",
    "context_parallel": "context rings",
    "pipeline_p2p": "between pipeline stages",
    "bubble": "pipeline bubble",
    "supernodes": "gradients between supernodes",
    "lost_replicas": "work of lost replicas",
}
_GIB: Final = 2.0**30


@dataclass(frozen=True, slots=True)
class Part:
    """One addend of a sum."""

    key: str
    label: str
    value: str
    unit: str
    percent: str
    """Of the whole."""

    def to_json(self) -> dict[str, str]:
        """Return it as JSON values."""
        return {"value": self.value, "unit": self.unit, "percent": self.percent}


def step_parts(result: WorkloadResult) -> tuple[Part, ...]:
    """Return the step by cause; where a workload decodes and reads prompts, a batch of prompts follows."""
    parts = _seconds(result.breakdown_seconds, "")
    return parts + _seconds(result.prefill_breakdown_seconds, "prefill: ")


def memory_parts(result: WorkloadResult) -> tuple[Part, ...]:
    """Return the HBM of the fullest die by use."""
    memory = result.memory_bytes or {}
    whole = sum(memory.values())
    return tuple(
        Part(key, f"{key} in HBM", decimal(size / _GIB), "GiB", decimal(100.0 * size / whole))
        for key, size in memory.items()
        if size > 0
    )


def _seconds(breakdown: Mapping[str, float] | None, prefix: str) -> tuple[Part, ...]:
    if not breakdown:
        return ()
    whole = sum(breakdown.values())
    return tuple(
        Part(
            f"{prefix.removesuffix(': ')}{cause[0].upper()}{cause[1:]}" if prefix else cause,
            f"{prefix}{_WORDS.get(cause, cause.replace('_', ' '))}",
            decimal(seconds),
            "s",
            decimal(100.0 * seconds / whole),
        )
        for cause, seconds in breakdown.items()
        if decimal(seconds) != "0"
    )
