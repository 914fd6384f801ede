"""The arithmetic of architectures against published figures: parameters, FLOPs, cache bytes; and its own laws."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernode_dataplane.architecture import Architecture, Attention, FeedForward
from supernode_dataplane.catalogue import load_model, model_from_config, model_names, model_source
from supernode_dataplane.layer_groups import group_layers

PANGU_ULTRA = {
    "model_type": "llama", "hidden_size": 12288, "num_hidden_layers": 94, "num_attention_heads": 96,
    "num_key_value_heads": 8, "intermediate_size": 28672, "vocab_size": 153376, "tie_word_embeddings": False,
}  # fmt: skip
"""arXiv 2504.07866, tables 1 and 2."""
TABLE = [
    ("llama-3.1-8b", "8.03", "8.03", "15.0", "2.15", 131072),
    ("llama-3.1-70b", "70.55", "70.55", "139.0", "10.7", 327680),
    ("llama-3.1-405b", "405.85", "405.85", "807.5", "33.8", 516096),
    ("qwen2.5-72b", "72.7", "72.7", "142.9", "10.7", 327680),
    ("qwen3-8b", "8.19", "8.19", "15.1", "2.4", 147456),
    ("qwen3-32b", "32.76", "32.76", "64.0", "8.6", 262144),
    ("qwen3-30b-a3b", "30.5", "3.35", "6.1", "3.2", 98304),
    ("qwen3-235b-a22b", "235.1", "22.2", "43.1", "12.6", 192512),
    ("deepseek-v3", "671.0", "37.55", "73.2", "20.5", 70272),
    ("deepseek-r1", "671.0", "37.55", "73.2", "20.5", 70272),
    ("mixtral-8x7b", "46.7", "12.9", "25.5", "2.1", 131072),
    ("mixtral-8x22b", "140.6", "39.2", "77.9", "5.6", 229376),
    ("kimi-k2", "1026", "32.9", "63.4", "10.2", 70272),
]
"""Billions of parameters, all and active; GFLOPs a token of products and of attention over 4,096 keys; cache bytes."""


def near(value: float, printed: str) -> bool:
    """Within 0.5 %, or equal to all digits that are printed where those say less."""
    figure = Decimal(printed)
    half_digit = 0.5 * 10.0 ** int(figure.as_tuple().exponent)
    return abs(value - float(figure)) <= max(0.005 * float(figure), half_digit * 1.001)


@pytest.mark.parametrize(("name", "total", "active", "products", "attention", "cache"), TABLE)
def test_models_have_their_published_figures(
    name: str, total: str, active: str, products: str, attention: str, cache: int
):
    model = load_model(name)
    assert near(model.parameters / 1e9, total)
    assert near(model.active_parameters / 1e9, active)
    assert near(model.matmul_flops_per_token / 1e9, products)
    assert near(model.attention_flops(4096.0) / 1e9, attention)
    assert model.kv_bytes_per_token() == cache


def test_pangu_ultra_has_its_published_figures():
    model = model_from_config(PANGU_ULTRA, "pangu-ultra")
    assert near(model.parameters / 1e9, "133.9")
    assert model.kv_bytes_per_token() == 385024


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("qwen3-coder-480b-a35b", 480, 35), ("qwen3.5-397b-a17b", 397, 17), ("qwen3.5-27b", 27, 27),
        ("deepseek-v3.2", 671, 37), ("deepseek-v4-flash", 284, 13), ("glm-5", 744, 40), ("minimax-m2.7", 229, 10),
        ("mimo-v2-flash", 309, 15), ("kimi-k2.5", 1000, 32), ("qwen3-0.6b", 0.6, 0.6),
    ],
)  # fmt: skip
def test_models_weigh_what_their_names_and_cards_say(name: str, total: float, active: float):
    model = load_model(name)
    assert model.parameters / 1e9 == pytest.approx(total, rel=0.03)
    assert model.active_parameters / 1e9 == pytest.approx(active, rel=0.12), "cards round, and leave embeddings out"


def test_latent_attention_and_experts_of_deepseek_v3_have_their_known_sizes():
    model = load_model("deepseek-v3")
    dense, sparse = model.groups
    assert (dense.count, sparse.count, model.moe_layers, model.mtp_layers) == (3, 58, 58, 1)
    assert sparse.attention.parameters(7168) / 1e6 == pytest.approx(187.1, abs=0.05)
    assert sparse.feed_forward.expert_parameters(7168) / 1e6 == pytest.approx(44.04, abs=0.005)
    assert sparse.attention.cached_values * 2 == 1152
    assert sparse.attention.decode_core_flops(1000.0) == 2 * 128 * 1000 * (2 * 512 + 64)
    assert sparse.attention.prefill_core_flops(1000.0) == 2 * 128 * 1000 * (192 + 128)
    assert sparse.attention.key_value_parameters(7168) == 7168 * 576, "what every die of a tensor group holds"


def test_a_repository_name_is_as_good_as_the_name_in_the_catalogue():
    assert load_model("deepseek-ai/DeepSeek-R1") is not None
    assert load_model("DeepSeek-R1").name == "deepseek-r1"
    assert load_model("meta-llama/Meta-Llama-3.1-405B").name == "llama-3.1-405b"
    assert load_model("meta-llama/Llama-3.1-405B").name == "llama-3.1-405b"


def test_every_model_says_where_its_figures_come_from():
    for name in model_names():
        assert len(model_source(name)) > 20


def test_an_indexer_scores_every_key_and_the_core_reads_the_best():
    attention = load_model("deepseek-v3.2").groups[-1].attention
    assert attention.effective_context(100000.0) == 2048
    assert attention.effective_context(1000.0) == 1000
    grown = attention.decode_core_flops(64000.0) - attention.decode_core_flops(32000.0)
    assert grown == 2 * 64 * 128 * 32000, "beyond its choice only the indexer's work grows"
    assert attention.index_values == 128
    plain = load_model("deepseek-v3").kv_bytes_per_token()
    assert load_model("deepseek-v3.2").kv_bytes_per_token() - plain == 61 * 128 * 2
    assert load_model("deepseek-v3.2").kv_bytes_per_token(2.0, 1.0) - plain == 61 * 128


def test_windows_bound_cache_and_reads_on_the_layers_that_have_them():
    model = load_model("mimo-v2-flash")
    windowed = [group for group in model.kinds if group.attention.window]
    assert sum(group.count for group in windowed) == 39
    assert windowed[0].attention.effective_context(9000.0) == 128
    short, long = model.kv_bytes(128.0), model.kv_bytes(1128.0)
    assert short == 128 * model.kv_bytes_per_token()
    assert long - short == 1000 * 9 * 4 * (192 + 128) * 2, "only the nine layers with whole attention grow"


def test_linear_attention_holds_a_state_that_does_not_grow():
    model = load_model("qwen3.5-27b")
    linear, full = (next(g for g in model.kinds if g.attention.kind == kind) for kind in ("linear", "full"))
    assert (linear.count, full.count) == (48, 16)
    assert model.groups[0].count == 3, "every fourth layer has whole attention"
    assert linear.attention.cached_values == 0
    assert linear.attention.decode_core_flops(10.0) == linear.attention.decode_core_flops(1e6) > 0
    assert model.kv_bytes_per_token() == 16 * 4 * 512 * 2
    assert model.kv_bytes(0.0) == 48 * linear.attention.state_values * 2
    assert linear.attention.state_values == 48 * 128 * 128 + 3 * (2 * 16 * 128 + 48 * 128)


def test_compressed_entries_stand_for_several_tokens():
    layers = load_model("deepseek-v4-flash").kinds
    window, chosen, heavy = (layer.attention for layer in layers)
    assert [layer.count for layer in layers] == [2, 21, 20]
    assert window.effective_context(10000.0) == 128
    assert chosen.effective_context(100000.0) == 128 + 512
    assert chosen.effective_context(400.0) == 128 + 100
    assert heavy.effective_context(12800.0) == 128 + 100
    assert heavy.sequence_values(12800.0) == 512 * (100 + 128)
    assert (chosen.index_values, heavy.index_values) == (32, 0)


@pytest.mark.parametrize("name", model_names())
def test_an_array_of_contexts_gives_what_each_of_them_gives(name: str):
    model = load_model(name)
    contexts = np.array([1.0, 100.0, 128.0, 5000.0, 1e6])
    functions: list[Any] = [
        model.attention_flops, model.causal_attention_flops, model.kv_bytes, model.training_flops_per_token,
        *(getattr(g.attention, f) for g in model.kinds for f in ("decode_core_flops", "effective_context")),
    ]  # fmt: skip
    for function in functions:
        many = function(contexts)
        assert many.shape == contexts.shape
        assert [function(float(context)) for context in contexts] == pytest.approx(many.tolist(), rel=1e-12)


@pytest.mark.parametrize("name", model_names())
def test_the_causal_mean_is_the_mean_over_positions(name: str):
    length = 6000
    for group in load_model(name).kinds:
        attention = group.attention
        mean = attention.prefill_core_flops(np.arange(length, dtype=np.float64) + 0.5).mean()
        assert attention.causal_core_flops(float(length)) == pytest.approx(mean, rel=2e-3)


BLOCKS = st.builds(FeedForward, width=st.sampled_from([8, 16]), gated=st.booleans())
ATTENTIONS = st.builds(
    Attention,
    kind=st.just("full"),
    heads=st.just(4),
    kv_heads=st.sampled_from([1, 4]),
    head_dim=st.just(8),
    value_dim=st.just(8),
)


@given(st.lists(st.tuples(ATTENTIONS, BLOCKS), min_size=1, max_size=12))
def test_grouping_layers_keeps_their_order_and_their_sums(layers: list[tuple[Attention, FeedForward]]):
    model = Architecture(name="any", hidden=32, vocab=100, tied=False, groups=group_layers(layers))
    unfolded = [(g.attention, g.feed_forward) for g in model.groups for _ in range(g.count)]
    assert unfolded == layers
    assert all(a.attention != b.attention or a.feed_forward != b.feed_forward
               for a, b in zip(model.groups, model.groups[1:], strict=False))  # fmt: skip
    assert model.layers == len(layers) == sum(kind.count for kind in model.kinds)
    expected = sum(a.parameters(32) + f.parameters(32) + 64 for a, f in layers) + 2 * 100 * 32 + 32
    assert model.parameters == model.active_parameters == expected
    assert hash(model) == hash(Architecture(name="any", hidden=32, vocab=100, tied=False, groups=model.groups))
