"""Inference deployments for tests: specs of every mode, and workloads of them on servers or on any dies."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from supernode_dataplane import load_profile, whole_server_ranks
from support.scenarios import changed

__all__ = ["MODES", "QWEN_COLOCATED", "R1_DECODE", "R1_DISAGGREGATED", "R1_PREFILL", "deployment", "with_fields"]

_R1 = {"model": {"name": "deepseek-r1"}, "stack": "vendor-tuned"}
R1_DECODE: dict[str, Any] = {
    **_R1,
    "inference": {
        "mode": "Decode",
        "inputTokens": 4096,
        "outputTokens": 256,
        "decode": {
            "parallelism": {"tensor": 1, "expert": 320},
            "experts": {"redundant": 32, "sharedRanks": 32, "imbalancePercent": 100},
        },
        "batch": {"sequencesPerCard": 96},
        "speculation": {"drafts": 1, "acceptancePercent": [70]},
    },
}
"""arXiv 2506.12708: 160 packages, 49.4 ms and 1,943 tokens/s a card."""
R1_PREFILL: dict[str, Any] = {
    **_R1,
    "inference": {
        "mode": "Prefill",
        "inputTokens": 4096,
        "promptsPerBatch": 2,
        "prefill": {"parallelism": {"expert": 32}, "experts": {"redundant": 32}},
    },
}
R1_DISAGGREGATED: dict[str, Any] = {
    **_R1,
    "inference": {
        "mode": "Disaggregated",
        "inputTokens": 3500,
        "outputTokens": 1500,
        "promptsPerBatch": 2,
        "prefill": {"nodes": 4, "parallelism": {"expert": 32}},
        "decode": {"parallelism": {"expert": 160}, "experts": {"redundant": 64}},
        "load": {"concurrency": 8000},
    },
}
"""On 14 servers: two instances read prompts, one decodes."""
QWEN_COLOCATED: dict[str, Any] = {
    "model": {"name": "qwen3-32b"},
    "stack": "open-source",
    "inference": {
        "mode": "Colocated",
        "inputTokens": 3500,
        "outputTokens": 1500,
        "decode": {"parallelism": {"tensor": 4}},
        "load": {"concurrency": 400},
    },
}
"""Four instances for each server."""
MODES: dict[str, tuple[dict[str, Any], int]] = {
    "Decode": (R1_DECODE, 20),
    "Prefill": (R1_PREFILL, 4),
    "Disaggregated": (R1_DISAGGREGATED, 14),
    "Colocated": (QWEN_COLOCATED, 3),
}
"""A deployment of each mode and its servers."""


def deployment(
    name: str,
    servers: Iterable[int],
    base: dict[str, Any] = R1_DECODE,
    *,
    ranks: list[dict[str, Any]] | None = None,
    managed: bool = False,
    profile: str = "cloudmatrix-384",
) -> dict[str, Any]:
    """A workload on whole servers, or with these ranks."""
    held = list(servers)
    placed = ranks if ranks is not None else whole_server_ranks(load_profile(profile), held)
    pods: dict[str, Any] = (
        {"managed": {"nodes": len(held)}} if managed else {"selector": {"matchLabels": {"app": name}}}
    )
    return {
        "metadata": {"namespace": "team", "name": name},
        "spec": {"superNode": "cm", **deepcopy(base), "pods": pods},
        "status": {"placement": {"ranks": placed}},
    }


def with_fields(base: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The same with fields of inference set by dotted path (``__`` for the dot); None removes one."""
    return changed(base, **{f"inference__{path}": ... if value is None else value for path, value in fields.items()})
