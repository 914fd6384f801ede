"""Which keys of a Hugging Face config each model type understands, their bounds, and how a value is read.

Everything else is refused by :mod:`supernode_dataplane.model_config`, unless it is listed as harmless here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from supernode_dataplane.errors import InvalidModelError
from supernode_dataplane.wording import given

__all__ = ["FAMILIES", "HARMLESS", "Config", "Family"]

HARMLESS: Final = frozenset(
    {
        "_name_or_path", "activation_function", "add_full_attention_sink_bias", "add_swa_attention_sink_bias",
        "architectures", "attention_bias", "attention_dropout", "attention_value_scale", "attn_pdrop",
        "aux_loss_alpha", "auto_map", "bos_token_id", "dtype", "embd_pdrop", "eos_token_id", "ep_size", "hidden_act",
        "id2label", "indexer_rope_interleave", "initializer_range", "label2id", "layer_norm_eps",
        "layer_norm_epsilon", "layernorm_epsilon", "mlp_bias", "model_type", "moe_router_dtype", "n_group",
        "norm_topk_prob", "output_router_logits", "pad_token_id", "partial_rotary_factor", "pretraining_tp",
        "qk_norm_type", "qkv_bias", "resid_pdrop", "rms_norm_eps", "rope_interleave", "rope_parameters",
        "rope_scaling", "rope_theta", "rotary_dim", "routed_scaling_factor", "router_aux_loss_coef",
        "router_jitter_noise", "scale_attn_weights", "scoring_func", "seq_aux", "swa_rope_theta", "tokenizer_class",
        "topk_group", "topk_method", "torch_dtype", "transformers_version", "unk_token_id", "use_cache",
        "use_qk_norm", "use_routing_bias",
    }
)  # fmt: skip
"""Change neither FLOPs nor bytes by more than a rounding (norms, biases, rotations, how experts are chosen)."""

_SIZE: Final = (1, 1 << 20)
_MANY: Final = (1, 8192)
_NONE_OR_SIZE: Final = (0, 1 << 20)
_NONE_OR_MANY: Final = (0, 8192)
_BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "hidden_size": (1, 1 << 18), "num_hidden_layers": (1, 4096), "num_attention_heads": _MANY,
    "num_key_value_heads": _MANY, "head_dim": _MANY, "v_head_dim": _MANY, "intermediate_size": _SIZE,
    "vocab_size": (1, 1 << 24), "max_position_embeddings": (1, 1 << 30), "sliding_window": (1, 1 << 30),
    "max_window_layers": _NONE_OR_MANY, "full_attention_interval": _MANY, "swa_num_attention_heads": _MANY,
    "swa_num_key_value_heads": _MANY, "swa_head_dim": _MANY, "swa_v_head_dim": _MANY, "q_lora_rank": _NONE_OR_SIZE,
    "kv_lora_rank": _SIZE, "qk_nope_head_dim": _MANY, "qk_rope_head_dim": _MANY, "index_n_heads": _NONE_OR_MANY,
    "index_head_dim": _NONE_OR_MANY, "index_topk": (0, 1 << 30), "o_lora_rank": _SIZE, "o_groups": _MANY,
    "linear_num_key_heads": _MANY, "linear_num_value_heads": _MANY, "linear_key_head_dim": _MANY,
    "linear_value_head_dim": _MANY, "linear_conv_kernel_dim": (0, 64), "num_experts": (0, 1 << 16),
    "num_local_experts": (0, 1 << 16), "n_routed_experts": (0, 1 << 16), "num_experts_per_tok": _NONE_OR_MANY,
    "n_shared_experts": (0, 1024), "moe_intermediate_size": _NONE_OR_SIZE, "first_k_dense_replace": (0, 4096),
    "shared_expert_intermediate_size": _NONE_OR_SIZE, "shared_intermediate_size": _NONE_OR_SIZE,
    "moe_layer_freq": (1, 4096), "decoder_sparse_step": (1, 4096), "num_nextn_predict_layers": (0, 64),
    "mtp_num_hidden_layers": (0, 64), "num_mtp_modules": (0, 64), "mtp_transformer_layers": (0, 64),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """What a model type understands and takes for granted."""

    keys: frozenset[str]
    attention: Literal["standard", "latent", "compressed"] = "standard"
    expert_keys: tuple[str, ...] = ()
    """Where the number of routed experts stands."""
    gated: bool = True
    """Whether a feed-forward block has three matrices (gate, up, down) rather than two."""
    tied: bool = False
    """tie_word_embeddings where it is absent."""
    windowed: bool = True
    """use_sliding_window where it is absent."""
    delta: bool = False
    """Whether layers without full attention have linear attention."""
    gate: bool = False
    """attn_output_gate where it is absent."""


_COMMON: Final = {
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "vocab_size", "max_position_embeddings", "tie_word_embeddings",
}  # fmt: skip
_WINDOW: Final = {"sliding_window", "use_sliding_window", "layer_types"}
_QWEN_EXPERTS: Final = {
    "num_experts", "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size",
    "decoder_sparse_step", "mlp_only_layers",
}  # fmt: skip
_DEEPSEEK_EXPERTS: Final = {
    "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "n_shared_experts", "first_k_dense_replace",
    "moe_layer_freq", "num_nextn_predict_layers",
}  # fmt: skip
_INDEXER: Final = {"index_n_heads", "index_head_dim", "index_topk"}
_DELTA: Final = {
    "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim",
    "linear_conv_kernel_dim", "full_attention_interval", "layer_types", "attn_output_gate", "mtp_num_hidden_layers",
}  # fmt: skip
_LATENT: Final = {"q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"}


def _family(*keys: set[str], **other: Any) -> Family:
    return Family(frozenset(_COMMON.union(*keys)), **other)


_MLA: Final = {"attention": "latent", "expert_keys": ("n_routed_experts",)}
_QWEN_MOE: Final = {"expert_keys": ("num_experts",), "windowed": False}
FAMILIES: Final[Mapping[str, Family]] = {
    "llama": _family(_WINDOW),
    "mistral": _family(_WINDOW),
    # max_window_layers says from which layer on the window holds.
    "qwen2": _family(_WINDOW, {"max_window_layers"}, windowed=False),
    "qwen3": _family(_WINDOW, {"max_window_layers"}, windowed=False),
    "gpt2": _family(_WINDOW, gated=False, tied=True),
    "mixtral": _family(_WINDOW, {"num_local_experts", "num_experts_per_tok"}, expert_keys=("num_local_experts",)),
    "qwen2_moe": _family(_WINDOW, _QWEN_EXPERTS, {"max_window_layers"}, **_QWEN_MOE),
    "qwen3_moe": _family(_WINDOW, _QWEN_EXPERTS, {"num_local_experts"}, **_QWEN_MOE),
    "minimax_m2": _family(
        _WINDOW,
        {"num_local_experts", "num_experts_per_tok", "shared_intermediate_size", "attn_type_list"},
        {"num_mtp_modules", "mtp_transformer_layers"},
        expert_keys=("num_local_experts",),
    ),
    "mimo_v2_flash": _family(
        _DEEPSEEK_EXPERTS,
        {"sliding_window", "hybrid_layer_pattern", "v_head_dim", "swa_num_attention_heads", "swa_num_key_value_heads"},
        {"swa_head_dim", "swa_v_head_dim"},
        expert_keys=("n_routed_experts",),
    ),
    "glm4_moe": _family(_WINDOW, _DEEPSEEK_EXPERTS, expert_keys=("n_routed_experts",)),
    "deepseek_v2": _family(_LATENT, _DEEPSEEK_EXPERTS, **_MLA),
    "deepseek_v3": _family(_LATENT, _DEEPSEEK_EXPERTS, **_MLA),
    "deepseek_v32": _family(_LATENT, _DEEPSEEK_EXPERTS, _INDEXER, **_MLA),
    "glm_moe_dsa": _family(_LATENT, _DEEPSEEK_EXPERTS, _INDEXER, **_MLA),
    "kimi_k2": _family(_LATENT, _DEEPSEEK_EXPERTS, **_MLA),
    "deepseek_v4": _family(
        _DEEPSEEK_EXPERTS,
        _INDEXER,
        {"q_lora_rank", "qk_rope_head_dim", "sliding_window", "compress_ratios", "o_lora_rank", "o_groups"},
        attention="compressed",
        expert_keys=("n_routed_experts",),
    ),
    "qwen3_next": _family(_DELTA, _QWEN_EXPERTS, delta=True, gate=True, expert_keys=("num_experts",)),
    "qwen3_5_text": _family(_DELTA, delta=True, gate=True),
    "qwen3_5_moe_text": _family(_DELTA, _QWEN_EXPERTS, delta=True, gate=True, expert_keys=("num_experts",)),
}
"""model_type -> what it understands."""


class Config:
    """A config of a family: values are checked when they are read; keys of other families read as absent."""

    def __init__(self, values: Mapping[str, Any], family: Family) -> None:
        self._values = values
        self.family = family

    def check(self) -> None:
        """Refuse a number out of bounds anywhere, whether or not it would count here."""
        for key in sorted(self.family.keys & _BOUNDS.keys()):
            if not isinstance(self.raw(key), list) or key != "moe_layer_freq":
                self.number(key)

    def raw(self, key: str) -> Any:
        """Return what stands there, None where the family has no such key."""
        return self._values.get(key) if key in self.family.keys else None

    def number(self, key: str) -> int | None:
        """Return a whole number within its bounds, or None when it is absent."""
        value = self.raw(key)
        if value is None:
            return None
        low, high = _BOUNDS[key]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidModelError(
                f"model.config.{key} must be a whole number from {low} to {high}, not {given(value)}"
            )
        return value

    def required(self, key: str) -> int:
        """Return a whole number that must be there and above 0."""
        value = self.number(key)
        if value is None:
            raise InvalidModelError(f"model.config.{key} is missing")
        if value == 0:
            raise InvalidModelError(f"model.config.{key} must be above 0")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidModelError(f"model.config.{key} must be true or false")
        return value

    def items(self, key: str, count: int | None = None, *, least: bool = False) -> list[Any] | None:
        """Return a list of ``count`` items (with ``least`` at least so many), None when it is absent."""
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise InvalidModelError(f"model.config.{key} must be a list")
        if count is not None and (len(value) < count or (len(value) > count and not least)):
            raise InvalidModelError(f"model.config.{key} has {len(value)} items for {count} layers")
        return value
