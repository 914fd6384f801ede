"""API objects of small and whole machines for tests of the data plane: JSON as the API server holds it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from supernode_dataplane import (
    MachineState,
    WorkloadResult,
    load_profile,
    machine_inputs,
    solve_inputs,
    whole_server_ranks,
)

__all__ = ["LLAMA", "SMALL", "SMALL_MOE", "compute_nodes", "only", "ranks_of_parts", "run", "super_node", "workload"]

LLAMA: dict[str, Any] = {
    "model": {"name": "llama-3.1-405b"},
    "training": {
        "sequenceLength": 8192,
        "globalBatchSize": 192,
        "parallelism": {"tensor": 16, "pipeline": 8, "virtualPipeline": 4},
    },
}
"""The run that the published 132 tokens/s a card is read as."""
SMALL: dict[str, Any] = {
    "model": {"name": "llama-2-7b"},
    "training": {"sequenceLength": 4096, "globalBatchSize": 16, "parallelism": {"tensor": 8, "pipeline": 1}},
}
"""Fits on one server or more: tensor groups of 8 dies."""
SMALL_MOE: dict[str, Any] = {
    "model": {
        "config": json.dumps(
            {
                "model_type": "deepseek_v3", "hidden_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 32,
                "intermediate_size": 8192, "moe_intermediate_size": 1024, "n_routed_experts": 64,
                "num_experts_per_tok": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "kv_lora_rank": 512,
                "q_lora_rank": 1024, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
                "vocab_size": 32000,
            }
        )
    },
    "training": {"sequenceLength": 4096, "globalBatchSize": 64, "parallelism": {}},
}  # fmt: skip
"""Latent attention, one dense layer, then 64 experts: fits on any die."""


def super_node(profile: str = "cloudmatrix-384") -> dict[str, Any]:
    return {"metadata": {"name": "cm"}, "spec": {"profile": profile}}


def compute_nodes(count: int = 48, faults: dict[int, list[dict[str, Any]]] | None = None) -> list[dict[str, Any]]:
    """ComputeNodes with faults by server."""
    return [
        {
            "metadata": {"name": f"cm-{server:02d}"},
            "spec": {
                "superNode": "cm",
                "cabinet": server // 4,
                "serverIndex": server,
                "faults": [
                    {"name": f"f{i}", "level": "SeparateNPU", **fault}
                    for i, fault in enumerate((faults or {}).get(server, []))
                ],
            },
        }
        for server in range(count)
    ]


def ranks_of_parts(parts: Iterable[Sequence[tuple[int, str] | tuple[int, str, str]]]) -> list[dict[str, Any]]:
    """Ranks from parts (server, dies[, links])."""
    return [
        {
            "rank": rank,
            "pod": f"pod-{rank}",
            "running": True,
            "parts": [{"server": p[0], "dies": p[1], "links": p[2] if len(p) > 2 else "all"} for p in of_rank],
        }
        for rank, of_rank in enumerate(parts)
    ]


def workload(
    name: str,
    servers: Iterable[int] = (),
    base: dict[str, Any] = LLAMA,
    *,
    ranks: list[dict[str, Any]] | None = None,
    profile: str = "cloudmatrix-384",
    managed: bool = False,
    **parallelism: int,
) -> dict[str, Any]:
    """A workload on whole servers, or with these ranks."""
    held = list(servers)
    placed = ranks if ranks is not None else whole_server_ranks(load_profile(profile), held)
    training = {**base["training"], "parallelism": {**base["training"]["parallelism"], **parallelism}}
    pods: dict[str, Any] = (
        {"managed": {"nodes": len(held)}} if managed else {"selector": {"matchLabels": {"app": name}}}
    )
    return {
        "metadata": {"namespace": "team", "name": name},
        "spec": {
            "superNode": "cm",
            "model": base["model"],
            "stack": "vendor-tuned",
            "training": training,
            "pods": pods,
        },
        "status": {"placement": {"ranks": placed}},
    }


def run(
    *workloads: dict[str, Any], faults: dict[int, list[dict[str, Any]]] | None = None, profile: str = "cloudmatrix-384"
) -> MachineState:
    """Solve the whole machine with these workloads and faults."""
    return solve_inputs(
        machine_inputs(super_node(profile), compute_nodes(load_profile(profile).servers, faults), workloads)
    )


def only(state: MachineState) -> WorkloadResult:
    """The result of the machine's one workload."""
    (result,) = state.workloads
    return result
