"""A SuperNodeWorkload's spec.inference as a deployment plan: fields read with the API's bounds, and rules across them.

Shares are in percent in the API and from 0 to 1 here.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from operator import mul
from typing import Any, Final, get_args

from supernode_dataplane.deployment import Experts, Precision, Speculation, Streams
from supernode_dataplane.deployment_plan import DeploymentPlan, PoolPlan
from supernode_dataplane.errors import ModelError
from supernode_dataplane.hardware import Format
from supernode_dataplane.inference import Mode
from supernode_dataplane.raw_fields import FieldError, read_choice, read_mapping, read_model, read_whole
from supernode_dataplane.stacks import stack_names
from supernode_dataplane.state import Problem

__all__ = ["parse_inference"]

_PATH: Final = "spec.inference"
_TOKENS: Final = 1 << 24
_TARGET: Final = (1 << 53) - 1
_ACTIVATIONS: Final[tuple[Format, ...]] = ("bf16", "int8", "fp8")
_CACHES: Final[tuple[Format, ...]] = ("bf16", "int8", "fp8")
_HEADS: Final[tuple[Format, ...]] = ("bf16", "int8")


def parse_inference(spec: Mapping[str, Any]) -> DeploymentPlan | Problem:
    """Return the deployment that a spec describes, or what is wrong with it."""
    try:
        return _plan(spec, read_mapping(spec, "inference", "spec"))
    except ModelError as error:
        return Problem(error.reason, error.field, str(error))
    except FieldError as error:
        return error.problem


def _plan(spec: Mapping[str, Any], raw: Mapping[str, Any]) -> DeploymentPlan:
    mode: Mode = read_choice(raw, "mode", _PATH, get_args(Mode))
    given = {key for key, value in raw.items() if value is not None}
    _check_fields(raw, mode, given)
    cache = read_mapping(raw, "cache", _PATH, {})
    load, batch = (read_mapping(raw, key, _PATH, {}) for key in ("load", "batch"))
    prefill = read_mapping(raw, "prefill", _PATH, {})
    return DeploymentPlan(
        model=read_model(read_mapping(spec, "model", "spec")),
        stack=read_choice(spec, "stack", "spec", stack_names(), "vendor-tuned"),
        mode=mode,
        input_tokens=read_whole(raw, "inputTokens", _PATH, _TOKENS),
        output_tokens=1 if mode == "Prefill" else read_whole(raw, "outputTokens", _PATH, _TOKENS),
        precision=_precision(read_mapping(raw, "precision", _PATH, {})),
        decode=None if mode == "Prefill" else _pool(raw, "decode"),
        prefill=_pool(raw, "prefill") if mode in ("Prefill", "Disaggregated") else None,
        prefill_nodes=read_whole(prefill, "nodes", f"{_PATH}.prefill", 1023) if mode == "Disaggregated" else 0,
        sequences_per_card=read_whole(batch, "sequencesPerCard", f"{_PATH}.batch", 1 << 16)
        if "batch" in given
        else None,
        concurrency=read_whole(load, "concurrency", f"{_PATH}.load", _TOKENS) if "load" in given else None,
        prompts=read_whole(raw, "promptsPerBatch", _PATH, 4096, 1),
        speculation=_speculation(raw),
        cached_share=read_whole(cache, "reusePercent", f"{_PATH}.cache", 99, 0, least=0) / 100,
        memory_fraction=read_whole(cache, "memoryFractionPercent", f"{_PATH}.cache", 95, 90) / 100,
    )


def _check_fields(raw: Mapping[str, Any], mode: Mode, given: set[str]) -> None:
    """Check what a mode takes; the API's rules say the same."""
    if mode == "Prefill" and "decode" in given:
        raise FieldError(f"{_PATH}.decode", "is not for mode Prefill: describe the prefill pool")
    if mode in ("Decode", "Colocated") and "prefill" in given:
        raise FieldError(f"{_PATH}.prefill", f"is not for mode {mode}, which has one pool: describe it as decode")
    if mode == "Prefill" and "outputTokens" in given:
        raise FieldError(f"{_PATH}.outputTokens", "is not for mode Prefill, which generates nothing: leave it out")
    if mode == "Prefill" and read_mapping(raw, "prefill", _PATH, {}).get("nodes") is not None:
        raise FieldError(f"{_PATH}.prefill.nodes", "is for mode Disaggregated: mode Prefill uses every node")
    loads = {"batch", "load"} & given
    if mode == "Prefill" and loads:
        raise FieldError(f"{_PATH}.{min(loads)}", "is for decoding: mode Prefill takes neither batch nor load")
    if mode != "Prefill" and len(loads) != 1:
        raise FieldError(f"{_PATH}.load", "or batch: decoding needs exactly one of both")
    if mode == "Decode" and "promptsPerBatch" in given:
        raise FieldError(f"{_PATH}.promptsPerBatch", "is not for mode Decode, which reads no prompts: leave it out")
    if mode == "Decode" and read_mapping(raw, "cache", _PATH, {}).get("reusePercent"):
        raise FieldError(f"{_PATH}.cache.reusePercent", "is not for mode Decode, which reads no prompts: leave it out")
    if {"tokens", "requests"} <= given:
        raise FieldError(f"{_PATH}.requests", "and tokens: give one of both")
    for key, most in (("tokens", _TARGET), ("requests", 1 << 32)):
        if key in given:
            read_whole(raw, key, _PATH, most)


def _precision(raw: Mapping[str, Any]) -> Precision:
    path = f"{_PATH}.precision"
    return Precision(
        weights=read_choice(raw, "weights", path, get_args(Format), "int8"),
        activations=read_choice(raw, "activations", path, _ACTIVATIONS, "int8"),
        kv_cache=read_choice(raw, "kvCache", path, _CACHES, "bf16"),
        head=read_choice(raw, "head", path, _HEADS, "bf16"),
    )


def _pool(raw: Mapping[str, Any], role: str) -> PoolPlan:
    path = f"{_PATH}.{role}"
    pool = read_mapping(raw, role, _PATH, {})
    layout, experts = read_mapping(pool, "parallelism", path, {}), read_mapping(pool, "experts", path, {})
    even = experts.get("imbalancePercent") is None
    imbalance = None if even else read_whole(experts, "imbalancePercent", f"{path}.experts", 10000, least=100) / 100
    return PoolPlan(
        tensor=read_whole(layout, "tensor", f"{path}.parallelism", 4096, 1),
        expert=None if layout.get("expert") is None else read_whole(layout, "expert", f"{path}.parallelism", 4096),
        experts=Experts(
            redundant=read_whole(experts, "redundant", f"{path}.experts", 1 << 16, 0, least=0),
            shared_ranks=read_whole(experts, "sharedRanks", f"{path}.experts", 4095, 0, least=0),
            imbalance=imbalance,
        ),
        streams=read_choice(pool, "microBatches", path, get_args(Streams), "auto"),
    )


def _speculation(raw: Mapping[str, Any]) -> Speculation:
    if raw.get("speculation") is None:
        return Speculation()
    path = f"{_PATH}.speculation"
    given = read_mapping(raw, "speculation", _PATH)
    drafts = read_whole(given, "drafts", path, 16)
    chances = given.get("acceptancePercent")
    if not isinstance(chances, list | tuple) or len(chances) != drafts:
        raise FieldError(f"{path}.acceptancePercent", f"must be a list of {drafts} percentages, one for each draft")
    every = {str(number): chance for number, chance in enumerate(chances)}
    shares = [read_whole(every, key, f"{path}.acceptancePercent", 100, least=0) / 100 for key in every]
    return Speculation(drafts=drafts, accepted=sum(accumulate(shares, mul)))
