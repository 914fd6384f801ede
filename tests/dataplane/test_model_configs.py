"""Configs of one's own: what is understood, what is refused by name, and no traceback whatever the JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernode_dataplane import InvalidModelError, ModelNotFoundError, load_model, model_names, packaged
from supernode_dataplane.catalogue import Architecture, parse_config
from supernode_dataplane.config_keys import FAMILIES

LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 128000,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 8.0, "rope_type": "llama3"},
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.42.3",
    "use_cache": True,
    "vocab_size": 128256,
}


PUBLISHED = [LLAMA_8B, *(entry["config"] for entry in packaged.read_data("models.yaml")["models"].values())]


def parse(**changes: Any) -> Architecture:
    config = {**LLAMA_8B, **changes}
    return parse_config(json.dumps({key: value for key, value in config.items() if value is not ...}))


def test_a_config_as_published_is_the_model_of_the_catalogue():
    model, known = parse(), load_model("llama-3.1-8b")
    assert model.parameters == known.parameters
    assert model.training_flops_per_token(4096) == known.training_flops_per_token(4096)


def test_every_model_of_the_catalogue_can_be_read():
    assert len(model_names()) == 27
    for name in model_names():
        assert load_model(name).parameters > 5e8
        assert load_model(name).name == name


def test_an_unknown_name_lists_near_ones():
    with pytest.raises(ModelNotFoundError, match="near: qwen3-8b"):
        load_model("qwen3-7b")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kv_lora_rank": 512}, "kv_lora_rank is not understood"),
        ({"full_attention_interval": 4}, "full_attention_interval is not understood"),
        ({"quantization_config": {"bits": 4}}, "quantization_config.quant_method is missing; known: awq"),
        ({"quantization_config": {"quant_method": "nvfp4"}}, "'nvfp4' is not understood; known: awq"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, "quantization_config.bits 3 is not modelled"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config.bits is missing; give 4 or 8"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "lm_head": True}}, "a head of 4 bits"),
        ({"quantization_config": {"quant_method": "fp8", "activation_scheme": "odd"}}, "activation_scheme 'odd'"),
        (
            {"quantization_config": {"quant_method": "fp8", "ignored_layers": ["model.layers.0.self_attn"]}},
            "ignored_layers: 'model.layers.0.self_attn' means single layers; leave quantization_config out",
        ),
        (
            {"quantization_config": {"quant_method": "fp8", "ignored_layers": ["re:.*self_attn.[qk]_proj"]}},
            "is an expression that is not understood",
        ),
        (
            {"quantization_config": {"quant_method": "fp8", "ignored_layers": ["re:.*q_proj"]}},
            "attention's weights in bf16 and fp8 at once are not modelled",
        ),
        ({"quantization_config": {"quant_method": "fp8", "ignored_layers": ["blocks"]}}, "means no layers that are"),
        (
            {"quantization_config": {"quant_method": "fp8", "ignored_layers": ["re:" + "(a|a)" * 40 + "$"]}},
            "is an expression that is not understood",
        ),
        (
            {"quantization_config": {"quant_method": "compressed-tensors"}},
            "config_groups must be an object with a group",
        ),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {
                        "experts": {"weights": {"num_bits": 4, "type": "int"}},
                        "attention": {"weights": {"num_bits": 8, "type": "int"}},
                    },
                }
            },
            "config_groups: experts (int4) and attention (int8) mean the same layers",
        ),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {
                        "a": {"weights": {"num_bits": 8}, "targets": ["re:.*experts.*"]},
                        "b": {"weights": {"num_bits": 8}, "input_activations": {"num_bits": 8}},
                    },
                }
            },
            "config_groups: activations of several formats (a bf16, b int8) are not modelled",
        ),
        ({"quantization_config": "fp8"}, "quantization_config must be an object"),
        ({"num_nextn_predict_layers": 1}, "num_nextn_predict_layers is not understood for model_type llama"),
        ({"moe_intermediate_size": 768}, "moe_intermediate_size is not understood for model_type llama"),
        ({"quantization_config": {}}, "say precision beside the model"),
        ({"text_config": {}}, "give the text model's own config alone"),
        ({"sliding_window": 0}, "sliding_window must be a whole number from 1"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types has 2 items for 32 layers"),
        ({"layer_types": ["sliding_attention"] * 32}, "sliding_window is missing"),
        ({"layer_types": ["linear_attention"] * 32}, "'linear_attention' is not one of full_attention"),
        ({"layer_types": [[]] * 32}, "layer_types: '[]' is not one of"),
        ({"layer_types": "full_attention"}, "layer_types must be a list"),
        ({"model_type": "mixtral", "num_local_experts": 8}, "num_experts_per_tok is missing"),
        ({"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 9}, "9 is more than the 8 experts"),
        ({"model_type": "mixtral", "num_local_experts": -8}, "num_local_experts must be a whole number from 0"),
        ({"model_type": "mixtral"}, "num_local_experts is missing; 0 says that there are none"),
        (
            {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "mlp_only_layers": [True]},
            "mlp_only_layers must hold layer numbers",
        ),
        ({"model_type": "qwen3", "max_window_layers": -1}, "max_window_layers must be a whole number from 0"),
        ({"model_type": "deepseek_v3"}, "qk_rope_head_dim is missing"),
        ({"model_type": "deepseek_v4"}, "compress_ratios is missing"),
        ({"model_type": "qwen3_5_text"}, "linear_num_key_heads is missing"),
        ({"model_type": "mimo_v2_flash", "hybrid_layer_pattern": [2] * 32}, "hybrid_layer_pattern must hold 0"),
        ({"model_type": "minimax_m2", "attn_type_list": [0] * 32}, "attn_type_list: only 1"),
        ({"model_type": "mamba"}, "model_type is 'mamba', which is not modelled"),
        ({"model_type": ...}, "model_type is missing"),
        ({"model_type": 3}, "model_type is '3'"),
        ({"hidden_size": ...}, "hidden_size is missing"),
        ({"hidden_size": 0}, "hidden_size must be a whole number from 1"),
        ({"hidden_size": 1 << 60}, "hidden_size must be a whole number"),
        ({"vocab_size": "128256"}, "vocab_size must be a whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a whole number"),
        ({"intermediate_size": 14336.5}, "intermediate_size must be a whole number"),
        ({"num_attention_heads": 33}, "num_key_value_heads 8 does not divide num_attention_heads 33"),
        ({"num_attention_heads": 24, "num_key_value_heads": 8}, "24 does not divide hidden_size 4096; give head_dim"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false"),
    ],
)
def test_what_is_wrong_or_changes_the_costs_is_named(change: dict[str, Any], words: str):
    with pytest.raises(InvalidModelError) as caught:
        parse(**change)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"sliding_window": None},
        {"sliding_window": 131072, "use_sliding_window": False},
        {"layer_types": ["full_attention"] * 32},
        {"num_experts": None},
        {"num_experts": 0},
        {"tie_word_embeddings": True},
        {"num_key_value_heads": ...},
        {"head_dim": 64},
    ],
)
def test_what_changes_nothing_or_is_understood_is_taken(change: dict[str, Any]):
    assert parse(**change).hidden == 4096


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"a"', "[" * 16000, "9" * 5000, '{"hidden_size": NaN}', "\x00"]
)
def test_what_is_no_config_is_refused(text: str):
    with pytest.raises(InvalidModelError):
        parse_config(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 1 << 70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(sorted({*LLAMA_8B, *(key for family in FAMILIES.values() for key in family.keys)}))
KINDS = st.sampled_from(sorted(FAMILIES)) | VALUES


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PUBLISHED), st.dictionaries(KEYS | st.text(max_size=6), VALUES, max_size=4), st.data())
def test_any_json_is_a_model_or_one_clear_error(base: dict[str, Any], changes: dict[str, Any], data: st.DataObject):
    config = {**base, **changes}
    dropped = data.draw(st.sets(st.sampled_from(sorted(base)), max_size=2))
    if data.draw(st.booleans()):
        config["model_type"] = data.draw(KINDS)
    text = json.dumps({key: value for key, value in config.items() if key not in dropped})
    try:
        model = parse_config(text)
    except InvalidModelError as error:
        message = str(error)
    else:
        assert 0 < model.active_parameters <= model.parameters
        assert model.kv_bytes(4096.0) >= 0
        assert model.training_flops_per_token(4096.0) > 0
        message = f"model.config has {model.parameters} parameters"
    assert message.startswith("model.config")
    assert len(message) < 400


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_model_or_one_clear_error(text: str):
    with pytest.raises(InvalidModelError):
        parse_config(text)


def test_a_value_is_shown_as_it_stands_in_a_config() -> None:
    with pytest.raises(InvalidModelError, match="hidden_size must be a whole number from 1 to 262144, not true"):
        parse_config('{"model_type": "llama", "hidden_size": true, "num_hidden_layers": 2, "vocab_size": 9}')
