"""Models: a catalogue of architectures, and configs of one's own in the form of a Hugging Face config.json.

Only what changes FLOPs, bytes or memory is kept. A key that could change them and is not understood is an error that
names the key, so that no figure is silently wrong. N, the parameters that the 6 N of MFU counts, includes embeddings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Final

from supernode_dataplane.errors import InvalidModelError, ModelNotFoundError

__all__ = ["Model", "load_model", "model_from_config", "model_names", "parse_config"]

_GATED: Final = {"llama": True, "mistral": True, "qwen2": True, "qwen3": True, "gpt2": False}
"""model_type -> whether the feed-forward block has three matrices (gate, up, down) rather than two."""
_TIED: Final = {"gpt2": True}
_BOUNDS: Final = {
    "hidden_size": (1, 1 << 18),
    "num_hidden_layers": (1, 4096),
    "num_attention_heads": (1, 8192),
    "num_key_value_heads": (1, 8192),
    "head_dim": (1, 8192),
    "intermediate_size": (1, 1 << 20),
    "vocab_size": (1, 1 << 24),
    "max_position_embeddings": (1, 1 << 30),
}
_REQUIRED: Final = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_EXPERT_KEYS: Final = frozenset(
    {
        "num_experts",
        "num_local_experts",
        "n_routed_experts",
        "n_shared_experts",
        "num_shared_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
        "first_k_dense_replace",
        "moe_layer_freq",
        "decoder_sparse_step",
        "moe_num_experts",
    }
)
_HARMLESS: Final = frozenset(
    {
        "_name_or_path", "activation_function", "architectures", "attention_bias", "attention_dropout",
        "attn_pdrop", "auto_map", "bos_token_id", "dtype", "embd_pdrop", "eos_token_id", "hidden_act",
        "id2label", "initializer_range", "label2id", "layer_norm_eps", "layer_norm_epsilon",
        "max_window_layers", "mlp_bias", "model_type", "pad_token_id", "pretraining_tp", "resid_pdrop",
        "rms_norm_eps", "rope_parameters", "rope_scaling", "rope_theta", "scale_attn_weights",
        "tie_word_embeddings", "tokenizer_class", "torch_dtype", "transformers_version", "unk_token_id",
        "use_cache",
    }
)  # fmt: skip
"""Change neither FLOPs nor bytes by more than a rounding, or are read below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A dense transformer, by what training it costs."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    gated: bool
    vocab: int
    tied: bool
    learned_positions: int = 0

    @property
    def attention_parameters(self) -> tuple[int, int]:
        """Of one layer: query and output projections, key and value projections."""
        return 2 * self.hidden * self.heads * self.head_dim, 2 * self.hidden * self.kv_heads * self.head_dim

    @property
    def ffn_parameters(self) -> int:
        """Of one layer's feed-forward block."""
        return (3 if self.gated else 2) * self.hidden * self.ffn

    @property
    def layer_parameters(self) -> int:
        """Of one layer, norms included."""
        return sum(self.attention_parameters) + self.ffn_parameters + 2 * self.hidden

    @property
    def embedding_parameters(self) -> int:
        """Of the input embedding."""
        return (self.vocab + self.learned_positions) * self.hidden

    @property
    def parameters(self) -> int:
        """Of the whole model, embeddings included."""
        heads = 0 if self.tied else self.vocab * self.hidden
        return self.layers * self.layer_parameters + self.embedding_parameters + heads + self.hidden

    def attention_flops(self, sequence_length: int) -> float:
        """Return causal attention FLOPs per token and layer, forward: 2 x heads x head size x sequence."""
        return 2.0 * self.heads * self.head_dim * sequence_length

    def training_flops_per_token(self, sequence_length: int) -> float:
        """Return 6 N + causal attention, the FLOPs per token that MFU counts (no recompute)."""
        return 6.0 * self.parameters + 3.0 * self.layers * self.attention_flops(sequence_length)


def model_names() -> tuple[str, ...]:
    """Return the names in the catalogue, sorted."""
    return tuple(sorted(_catalogue()))


@lru_cache(maxsize=256)
def load_model(name: str) -> Model:
    """Return a model of the catalogue; ModelNotFoundError lists near names."""
    entry = _catalogue().get(name)
    if entry is None:
        raise ModelNotFoundError(name, _catalogue())
    return model_from_config(entry["config"], name)


@lru_cache(maxsize=256)
def parse_config(text: str) -> Model:
    """Return the model that a config.json describes; InvalidModelError names the key that is wrong."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise InvalidModelError(f"model.config is not JSON: {reason}") from None
    if not isinstance(config, dict):
        raise InvalidModelError("model.config must be a JSON object, such as a Hugging Face config.json")
    return model_from_config(config, "custom")


def model_from_config(config: Mapping[str, Any], name: str) -> Model:
    """Build a model from the keys of a Hugging Face config."""
    kind = config.get("model_type")
    experts = sorted(key for key in config if key in _EXPERT_KEYS and config[key] not in (None, 0, False))
    if experts:
        raise InvalidModelError(f"model.config.{experts[0]}: mixture-of-experts training is not modelled yet")
    if not isinstance(kind, str) or kind not in _GATED:
        shown = "missing" if kind is None else f"{str(kind)[:40]!r}, which is not modelled"
        raise InvalidModelError(f"model.config.model_type is {shown}; give one of {', '.join(sorted(_GATED))}")
    _refuse_unknown(config)
    numbers = {key: _number(config, key) for key in _BOUNDS}
    for key in _REQUIRED:
        if numbers[key] is None:
            raise InvalidModelError(f"model.config.{key} is missing")
    hidden, heads = numbers["hidden_size"] or 0, numbers["num_attention_heads"] or 0
    kv_heads = numbers["num_key_value_heads"] or heads
    if heads % kv_heads:
        raise InvalidModelError(
            f"model.config.num_key_value_heads {kv_heads} does not divide num_attention_heads {heads}"
        )
    if numbers["head_dim"] is None and hidden % heads:
        raise InvalidModelError(
            f"model.config.num_attention_heads {heads} does not divide hidden_size {hidden}; give head_dim"
        )
    tied = config.get("tie_word_embeddings", _TIED.get(kind, False))
    if not isinstance(tied, bool):
        raise InvalidModelError("model.config.tie_word_embeddings must be true or false")
    return Model(
        name=name,
        hidden=hidden,
        layers=numbers["num_hidden_layers"] or 0,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=numbers["head_dim"] or hidden // heads,
        ffn=numbers["intermediate_size"] or 0,
        gated=_GATED[kind],
        vocab=numbers["vocab_size"] or 0,
        tied=tied,
        learned_positions=(numbers["max_position_embeddings"] or 0) if kind == "gpt2" else 0,
    )


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    for key in sorted(config):
        value = config[key]
        if key in _HARMLESS or key in _BOUNDS or key in _EXPERT_KEYS:
            continue
        if key in ("sliding_window", "use_sliding_window"):
            if not value or not config.get("use_sliding_window", key == "sliding_window"):
                continue
            raise InvalidModelError(f"model.config.{key}: sliding-window attention is not modelled yet")
        if key == "layer_types":
            if isinstance(value, list) and all(kind == "full_attention" for kind in value):
                continue
            raise InvalidModelError("model.config.layer_types: only full_attention is modelled")
        raise InvalidModelError(
            f"model.config.{key[:64]} is not understood and may change FLOPs, bytes or memory; "
            "leave it out if it does not"
        )


def _number(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    if value is None:
        return None
    low, high = _BOUNDS[key]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidModelError(
            f"model.config.{key} must be a whole number from {low} to {high}, not {str(value)[:40]}"
        )
    return value


@cache
def _catalogue() -> dict[str, dict[str, Any]]:
    import yaml  # late: only the first use of the catalogue pays for it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = files("supernode_dataplane").joinpath("data", "models.yaml").read_text(encoding="utf-8")
    models: dict[str, dict[str, Any]] = yaml.load(text, Loader=loader)["models"]  # noqa: S506 - a safe loader
    return models
