"""A Hugging Face style config.json -> an architecture.

Only what changes FLOPs, bytes or memory is kept. Each model type says which keys it understands beside the common
ones; a key that could change the costs and is not understood is an error that names the key, so that no figure is
silently wrong. A key whose value is null is as good as absent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from supernode_dataplane.architecture import Architecture, Attention, FeedForward
from supernode_dataplane.config_keys import FAMILIES, HARMLESS, Config, Family
from supernode_dataplane.errors import InvalidModelError
from supernode_dataplane.layer_groups import group_layers
from supernode_dataplane.quantization import read_quantization

__all__ = ["longest_context", "model_from_config", "parse_config"]

_SCALINGS: Final = ("linear", "dynamic", "yarn", "llama3")
"""Scalings of rotations of which a factor says how far they reach."""
_OFF: Final = (None, 0, False)
"""Values that say that there is none of it."""
_WINDOWED_FROM: Final = 28
"""max_window_layers of Qwen2 when it is absent."""
_INDEXED_RATIO: Final = 4
"""Tokens an entry up to which compressed entries have an indexer (DeepSeek-V4: 4, those of 128 have none)."""


@lru_cache(maxsize=256)
def parse_config(text: str) -> Architecture:
    """Return the model that a config.json describes; InvalidModelError names the key that is wrong."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise InvalidModelError(f"model.config is not JSON: {reason}") from None
    if not isinstance(config, dict):
        raise InvalidModelError("model.config must be a JSON object, such as a Hugging Face config.json")
    return model_from_config(config, "custom")


def model_from_config(config: Mapping[str, Any], name: str) -> Architecture:
    """Build a model from the keys of a Hugging Face config; InvalidModelError names the key that is wrong."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        shown = "missing" if kind is None else f"{str(kind)[:40]!r}, which is not modelled"
        raise InvalidModelError(f"model.config.model_type is {shown}; give one of {', '.join(sorted(FAMILIES))}")
    family = FAMILIES[kind]
    _refuse_unknown(config, kind, family)
    read = Config(config, family)
    read.check()
    layers = read.required("num_hidden_layers")
    hidden, vocab = read.required("hidden_size"), read.required("vocab_size")
    attention = _ATTENTIONS[family.attention](read, layers)
    blocks = _blocks(read, layers, family)
    return Architecture(
        name=name,
        hidden=hidden,
        vocab=vocab,
        tied=read.flag("tie_word_embeddings", family.tied),
        groups=group_layers(zip(attention, blocks, strict=True)),
        mtp_layers=_prediction_layers(read),
        learned_positions=(read.number("max_position_embeddings") or 0) if kind == "gpt2" else 0,
    )


def longest_context(config: Mapping[str, Any]) -> int | None:
    """Return the tokens of a sequence that a model was made for; None where its config does not say.

    ``max_position_embeddings``, or more where a rotation is scaled over its original ones (``rope_scaling``, as
    Hugging Face writes it: type, factor, original_max_position_embeddings). What is scaled in another way is unknown.
    """
    stated = config.get("max_position_embeddings")
    if not isinstance(stated, int) or isinstance(stated, bool):
        return None
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    if not scaling:
        return stated
    kind = scaling.get("rope_type", scaling.get("type")) if isinstance(scaling, Mapping) else None
    if kind == "default":
        return stated
    factor = scaling.get("factor") if kind in _SCALINGS else None
    original = scaling.get("original_max_position_embeddings", stated) if factor is not None else None
    if not isinstance(factor, int | float) or not isinstance(original, int | float):
        return None
    return max(stated, int(factor * original))


def _refuse_unknown(config: Mapping[str, Any], kind: str, family: Family) -> None:
    for key in sorted(config):
        value = config[key]
        if key in HARMLESS or key in family.keys or value is None:
            continue
        if "expert" in key and not isinstance(value, list | dict) and value in _OFF:
            continue
        if key == "quantization_config":
            read_quantization(value)
            continue
        if key in ("text_config", "vision_config"):
            raise InvalidModelError(f"model.config.{key} is not understood; give the text model's own config alone")
        raise InvalidModelError(
            f"model.config.{key[:64]} is not understood for model_type {kind} and may change FLOPs, bytes or memory; "
            "leave it out if it does not"
        )


def _prediction_layers(read: Config) -> int:
    return (
        read.number("num_nextn_predict_layers")
        or read.number("mtp_num_hidden_layers")
        or (read.number("num_mtp_modules") or 0) * (read.number("mtp_transformer_layers") or 1)
    )


def _standard(read: Config, layers: int) -> list[Attention]:
    """Return grouped attention: whole, in a window or linear, as layer_types, a pattern or an interval say."""
    full = _grouped(read)
    kinds = _layer_types(read, layers)
    window = read.number("sliding_window")
    if "sliding_attention" in kinds and window is None:
        raise InvalidModelError("model.config.sliding_window is missing: layers with sliding attention need it")
    of_kind = {"full_attention": full}
    if "sliding_attention" in kinds:
        of_kind["sliding_attention"] = _grouped(read, "swa_", window)
    if "linear_attention" in kinds:
        of_kind["linear_attention"] = _linear(read)
    return [of_kind[kind] for kind in kinds]


def _grouped(read: Config, prefix: str = "", window: int | None = None) -> Attention:
    """Return one layer's grouped attention; keys with ``prefix`` count where the config has them."""

    def own(key: str) -> int | None:
        return read.number(prefix + key) or read.number(key)

    hidden, heads = read.required("hidden_size"), own("num_attention_heads") or read.required("num_attention_heads")
    kv_heads, head_dim = own("num_key_value_heads") or heads, own("head_dim")
    if heads % kv_heads:
        raise InvalidModelError(
            f"model.config.num_key_value_heads {kv_heads} does not divide num_attention_heads {heads}"
        )
    if head_dim is None and hidden % heads:
        raise InvalidModelError(
            f"model.config.num_attention_heads {heads} does not divide hidden_size {hidden}; give head_dim"
        )
    head_dim = head_dim or hidden // heads
    return Attention(
        kind="full",
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=own("v_head_dim") or head_dim,
        window=window,
        output_gate=read.flag("attn_output_gate", read.family.gate),
    )


def _layer_types(read: Config, layers: int) -> list[str]:
    """Return the kind of each layer's attention, by whichever key the family says it with."""
    given = read.items("layer_types", layers)
    if given is not None:
        known = ["full_attention", "sliding_attention", *(["linear_attention"] if read.family.delta else [])]
        for kind in given:
            if not isinstance(kind, str) or kind not in known:
                raise InvalidModelError(
                    f"model.config.layer_types: {str(kind)[:40]!r} is not one of {', '.join(known)}"
                )
        return given
    pattern = read.items("hybrid_layer_pattern", layers) or read.items("attn_type_list", layers)
    if pattern is not None:
        return _pattern(read, pattern)
    interval = read.number("full_attention_interval")
    if read.family.delta:
        interval = interval or 4
        return ["linear_attention" if (layer + 1) % interval else "full_attention" for layer in range(layers)]
    if read.number("sliding_window") is None or not read.flag("use_sliding_window", read.family.windowed):
        return ["full_attention"] * layers
    first = 0
    if "max_window_layers" in read.family.keys:
        given_first = read.number("max_window_layers")
        first = _WINDOWED_FROM if given_first is None else given_first
    return ["sliding_attention" if layer >= first else "full_attention" for layer in range(layers)]


def _pattern(read: Config, pattern: list[Any]) -> list[str]:
    if "attn_type_list" in read.family.keys:
        if any(kind != 1 or isinstance(kind, bool) for kind in pattern):
            raise InvalidModelError("model.config.attn_type_list: only 1, full attention, is modelled")
        return ["full_attention"] * len(pattern)
    if any(isinstance(kind, bool) or kind not in (0, 1) for kind in pattern):
        raise InvalidModelError("model.config.hybrid_layer_pattern must hold 0 (full) or 1 (sliding) for each layer")
    return ["sliding_attention" if kind else "full_attention" for kind in pattern]


def _linear(read: Config) -> Attention:
    keys, values = read.required("linear_num_key_heads"), read.required("linear_num_value_heads")
    if values % keys:
        raise InvalidModelError(
            f"model.config.linear_num_key_heads {keys} does not divide linear_num_value_heads {values}"
        )
    kernel = read.number("linear_conv_kernel_dim")
    return Attention(
        kind="linear",
        heads=values,
        kv_heads=keys,
        head_dim=read.required("linear_key_head_dim"),
        value_dim=read.required("linear_value_head_dim"),
        conv_kernel=4 if kernel is None else kernel,
    )


def _latent(read: Config, layers: int) -> list[Attention]:
    """Return multi-head latent attention, with an indexer where the config has one."""
    rope, index = read.required("qk_rope_head_dim"), _indexer(read)
    return [
        Attention(
            kind="mla",
            heads=read.required("num_attention_heads"),
            kv_heads=1,
            head_dim=read.required("qk_nope_head_dim") + rope,
            value_dim=read.required("v_head_dim"),
            q_lora=read.number("q_lora_rank") or 0,
            kv_lora=read.required("kv_lora_rank"),
            rope_dim=rope,
            index_heads=index[0],
            index_dim=index[1],
            index_topk=index[2],
        )
    ] * layers


def _indexer(read: Config) -> tuple[int, int, int]:
    """Return the indexer's heads, their size and the keys that it chooses; all or none of them are given."""
    keys = ("index_n_heads", "index_head_dim", "index_topk")
    if not any(read.number(key) for key in keys):
        return 0, 0, 0
    return read.required(keys[0]), read.required(keys[1]), read.required(keys[2])


def _compressed(read: Config, layers: int) -> list[Attention]:
    """Return attention over compressed entries and a window; one key-value head, whose values are its keys."""
    ratios = read.items("compress_ratios", layers, least=True)
    if ratios is None:
        raise InvalidModelError("model.config.compress_ratios is missing: the cache depends on it")
    indexer = _indexer(read)
    chosen: dict[int, Attention] = {}
    for ratio in ratios[:layers]:
        if isinstance(ratio, bool) or not isinstance(ratio, int) or not 0 <= ratio <= 1 << 16:
            raise InvalidModelError("model.config.compress_ratios must hold whole numbers from 0 to 65536")
        if ratio not in chosen:
            dim = read.required("head_dim")
            index = indexer if 0 < ratio <= _INDEXED_RATIO else (0, 0, 0)
            chosen[ratio] = Attention(
                kind="full",
                heads=read.required("num_attention_heads"),
                kv_heads=read.required("num_key_value_heads"),
                head_dim=dim,
                value_dim=dim,
                q_lora=read.number("q_lora_rank") or 0,
                window=read.required("sliding_window"),
                compression=ratio,
                shared_kv=True,
                output_lora=read.required("o_lora_rank"),
                output_groups=read.required("o_groups"),
                index_heads=index[0],
                index_dim=index[1],
                index_topk=index[2],
            )
    return [chosen[ratio] for ratio in ratios[:layers]]


_ATTENTIONS: Final[Mapping[str, Callable[[Config, int], list[Attention]]]] = {
    "standard": _standard,
    "latent": _latent,
    "compressed": _compressed,
}


def _blocks(read: Config, layers: int, family: Family) -> list[FeedForward]:
    experts = 0
    if family.expert_keys:
        given = [n for key in family.expert_keys if (n := read.number(key)) is not None]
        if not given:
            raise InvalidModelError(f"model.config.{family.expert_keys[0]} is missing; 0 says that there are none")
        experts = max(given)
    width = read.number("intermediate_size")
    routed = _routed_layers(read, layers) if experts else [False] * layers
    chosen: dict[bool, FeedForward] = {}
    if not all(routed):
        chosen[False] = FeedForward(width=width or read.required("intermediate_size"), gated=family.gated)
    if any(routed):
        top_k = read.required("num_experts_per_tok")
        if top_k > experts:
            raise InvalidModelError(f"model.config.num_experts_per_tok {top_k} is more than the {experts} experts")
        expert_width = read.number("moe_intermediate_size") or width or read.required("moe_intermediate_size")
        shared = (read.number("n_shared_experts") or 0) * expert_width
        shared += read.number("shared_expert_intermediate_size") or read.number("shared_intermediate_size") or 0
        chosen[True] = FeedForward(
            width=0, gated=family.gated, experts=experts, top_k=top_k, expert_width=expert_width, shared_width=shared
        )
    return [chosen[moe] for moe in routed]


def _routed_layers(read: Config, layers: int) -> list[bool]:
    """Return which layers have experts: a list, the first ones dense, every n-th, or all."""
    given = read.raw("moe_layer_freq")
    if isinstance(given, list):
        flags = read.items("moe_layer_freq", layers) or []
        if any(isinstance(flag, bool) or flag not in (0, 1) for flag in flags):
            raise InvalidModelError("model.config.moe_layer_freq must hold 0 (dense) or 1 (experts) for each layer")
        return [flag == 1 for flag in flags]
    every = (read.number("moe_layer_freq") if given is not None else None) or 1
    first = read.number("first_k_dense_replace") or 0
    step = read.number("decoder_sparse_step") or 1
    dense = read.items("mlp_only_layers") or []  # those without experts
    if any(isinstance(layer, bool) or not isinstance(layer, int) for layer in dense):
        raise InvalidModelError("model.config.mlp_only_layers must hold layer numbers")
    return [
        layer >= first and layer % every == 0 and (layer + 1) % step == 0 and layer not in dense
        for layer in range(layers)
    ]
