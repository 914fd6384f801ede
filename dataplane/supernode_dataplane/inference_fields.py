"""A SuperNodeWorkload's spec.inference as a deployment plan: fields read with the API's bounds, and rules across them.

Shares are in percent in the API and from 0 to 1 here.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from operator import mul
from typing import Any, Final, get_args

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.deployment import Experts, Precision, Speculation, Split, Streams
from supernode_dataplane.deployment_plan import DeploymentPlan, PoolPlan
from supernode_dataplane.errors import ModelError
from supernode_dataplane.hardware import Format
from supernode_dataplane.inference import Mode
from supernode_dataplane.quantization import Quantization, quantization_of
from supernode_dataplane.raw_fields import FieldError, read_choice, read_mapping, read_model, read_number, read_whole
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
        return Problem(error.reason, error.field, error.of_spec)
    except FieldError as error:
        return error.problem


def _plan(spec: Mapping[str, Any], raw: Mapping[str, Any]) -> DeploymentPlan:
    mode: Mode = read_choice(raw, "mode", _PATH, get_args(Mode))
    given = {key for key, value in raw.items() if value is not None}
    _check_fields(raw, mode, given)
    cache = read_mapping(raw, "cache", _PATH, {})
    load, batch = (read_mapping(raw, key, _PATH, {}) for key in ("load", "batch"))
    prefill, model = read_mapping(raw, "prefill", _PATH, {}), read_mapping(spec, "model", "spec")
    architecture, config = read_model(model), model.get("config")
    said = None if config is None else quantization_of(config)
    return DeploymentPlan(
        model=architecture,
        stack=read_choice(spec, "stack", "spec", stack_names(), "vendor-tuned"),
        mode=mode,
        input_tokens=read_whole(raw, "inputTokens", _PATH, _TOKENS),
        output_tokens=1 if mode == "Prefill" else read_whole(raw, "outputTokens", _PATH, _TOKENS),
        precision=_precision(read_mapping(raw, "precision", _PATH, {}), said, architecture),
        decode=None if mode == "Prefill" else _pool(raw, "decode"),
        prefill=_pool(raw, "prefill") if mode in ("Prefill", "Disaggregated") else None,
        prefill_nodes=_prefill_nodes(prefill, mode),
        prefill_dies=None if prefill.get("dies") is None else read_whole(prefill, "dies", f"{_PATH}.prefill", 1 << 16),
        sequences_per_card=read_whole(batch, "sequencesPerCard", f"{_PATH}.batch", 1 << 16)
        if "batch" in given
        else None,
        concurrency=_concurrency(load) if "load" in given else None,
        prompts=read_whole(raw, "promptsPerBatch", _PATH, 4096, 1),
        speculation=_speculation(raw),
        cached_share=read_whole(cache, "reusePercent", f"{_PATH}.cache", 99, 0, least=0) / 100,
        cache_domain_dies=None if cache.get("domainDies") is None else _domain(cache, mode),
        cache_bytes_per_second=None if cache.get("gigabytesPerSecond") is None else _loading(cache, mode),
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
    for key, noun in (("nodes", "node"), ("dies", "die")):
        if mode == "Prefill" and read_mapping(raw, "prefill", _PATH, {}).get(key) is not None:
            raise FieldError(f"{_PATH}.prefill.{key}", f"is for mode Disaggregated: mode Prefill uses every {noun}")
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


def _prefill_nodes(prefill: Mapping[str, Any], mode: Mode) -> int:
    """Return the ranks that read prompts; 0 where the pool counts its dies."""
    if mode != "Disaggregated":
        return 0
    if prefill.get("dies") is None:
        return read_whole(prefill, "nodes", f"{_PATH}.prefill", 1023)
    if prefill.get("nodes") is not None:
        raise FieldError(f"{_PATH}.prefill.dies", "and nodes: give one of both")
    return 0


def _concurrency(load: Mapping[str, Any]) -> int:
    for key in ("rate", "trace", "preset"):
        if load.get("concurrency") is None and load.get(key) is not None:
            raise FieldError(
                f"{_PATH}.load.{key}",
                "says when requests arrive, and what arrives queues: serve-sim simulates that; for the steady state "
                "give load.concurrency, how many are in flight, or batch",
            )
    return read_whole(load, "concurrency", f"{_PATH}.load", _TOKENS)


def _domain(cache: Mapping[str, Any], mode: Mode) -> int:
    _check_reads(mode, "domainDies")
    return read_whole(cache, "domainDies", f"{_PATH}.cache", 1 << 20)


def _loading(cache: Mapping[str, Any], mode: Mode) -> float:
    _check_reads(mode, "gigabytesPerSecond")
    return read_number(cache, "gigabytesPerSecond", f"{_PATH}.cache", 1e5, least=1e-3) * 1e9


def _check_reads(mode: Mode, key: str) -> None:
    if mode == "Decode":
        raise FieldError(f"{_PATH}.cache.{key}", "is not for mode Decode, which reads no prompts: leave it out")


def _precision(raw: Mapping[str, Any], said: Quantization | None, architecture: Architecture) -> Precision:
    """Return the formats: as given, else as the model's config says, else those of the machine's usual deployments.

    Who gives the format of weights gives that of every class that is not given beside it.
    """
    path, usual = f"{_PATH}.precision", said or Quantization("int8", "int8")
    if raw.get("experts") is not None and not architecture.moe_layers:
        raise FieldError(f"{path}.experts", f"is not for {architecture.name}, which has no experts: leave it out")
    apart = usual if raw.get("weights") is None else Quantization(usual.weights, usual.activations)
    return Precision(
        attention=_own(raw, "attention", path, apart.attention),
        experts=_own(raw, "experts", path, apart.experts),
        weights=read_choice(raw, "weights", path, get_args(Format), usual.weights),
        activations=read_choice(raw, "activations", path, _ACTIVATIONS, usual.activations),
        kv_cache=read_choice(raw, "kvCache", path, _CACHES, usual.kv_cache or "bf16"),
        head=read_choice(raw, "head", path, _HEADS, usual.head or "bf16"),
    )


def _own(raw: Mapping[str, Any], key: str, path: str, usual: Format | None) -> Format | None:
    """Return the format of a class that may say its own."""
    return usual if raw.get(key) is None else read_choice(raw, key, path, get_args(Format))


def _pool(raw: Mapping[str, Any], role: str) -> PoolPlan:
    path = f"{_PATH}.{role}"
    pool = read_mapping(raw, role, _PATH, {})
    layout, experts = read_mapping(pool, "parallelism", path, {}), read_mapping(pool, "experts", path, {})
    even = experts.get("imbalancePercent") is None
    imbalance = None if even else read_whole(experts, "imbalancePercent", f"{path}.experts", 10000, least=100) / 100
    per_die = experts.get("perDie")
    if per_die is not None and experts.get("redundant"):
        raise FieldError(f"{path}.experts.perDie", "and redundant: perDie fills every rank; give one of both")
    decodes = role == "decode"
    in_flight, share = (owner.get(key) for owner, key in ((layout, "inFlight"), (pool, "attentionCorePercent")))
    return PoolPlan(
        tensor=read_whole(layout, "tensor", f"{path}.parallelism", 4096, 1),
        expert=None if layout.get("expert") is None else read_whole(layout, "expert", f"{path}.parallelism", 4096),
        experts=Experts(
            redundant=read_whole(experts, "redundant", f"{path}.experts", 1 << 16, 0, least=0),
            shared_ranks=read_whole(experts, "sharedRanks", f"{path}.experts", 4095, 0, least=0),
            imbalance=imbalance,
        ),
        experts_per_die=None if per_die is None else read_whole(experts, "perDie", f"{path}.experts", 1 << 16),
        streams=read_choice(pool, "microBatches", path, get_args(Streams), "auto"),
        expert_tensor=read_whole(layout, "expertTensor", f"{path}.parallelism", 256, 1),
        pipeline=read_whole(layout, "pipeline", f"{path}.parallelism", 4096, 1),
        in_flight=read_whole(layout, "inFlight", f"{path}.parallelism", 4096) if decodes and in_flight else None,
        context=1 if decodes else read_whole(layout, "context", f"{path}.parallelism", 4096, 1),
        sequence_parallel=layout.get("sequence") is True,
        attention_share=read_whole(pool, "attentionCorePercent", path, 99) / 100 if decodes and share else None,
        split=_split(read_mapping(pool, "split", path)) if decodes and pool.get("split") is not None else None,
    )


def _split(raw: Mapping[str, Any]) -> Split:
    path = f"{_PATH}.decode.split"
    return Split(
        expert_dies=read_whole(raw, "expertDies", path, 1 << 20), domains=read_whole(raw, "domains", path, 4096, 1)
    )


def _speculation(raw: Mapping[str, Any]) -> Speculation:
    if raw.get("speculation") is None:
        return Speculation()
    path = f"{_PATH}.speculation"
    given = read_mapping(raw, "speculation", _PATH)
    drafts = read_whole(given, "drafts", path, 16)
    chances, mean = given.get("acceptancePercent"), given.get("tokensPerStep")
    if mean is not None:
        if chances is not None:
            raise FieldError(f"{path}.tokensPerStep", "and acceptancePercent: give one of both")
        return Speculation(drafts=drafts, accepted=read_number(given, "tokensPerStep", path, drafts + 1, least=1) - 1)
    if not isinstance(chances, list | tuple) or len(chances) != drafts:
        raise FieldError(f"{path}.acceptancePercent", f"must be a list of {drafts} percentages, one for each draft")
    every = {str(number): chance for number, chance in enumerate(chances)}
    shares = [read_whole(every, key, f"{path}.acceptancePercent", 100, least=0) / 100 for key in every]
    return Speculation(drafts=drafts, accepted=sum(accumulate(shares, mul)))
