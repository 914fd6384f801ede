"""Whether MoE kernels that are made for RDMA leave a server's links alone is a matter of the machine."""

from __future__ import annotations

from typing import Any

import pytest

from supernode_cli.comparison import operating_point
from supernode_cli.evaluation import evaluate
from supernode_cli.kernel_evaluation import evaluate_kernel
from supernode_dataplane import load_profile
from supernode_dataplane.exchange import over_network_card
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.stacks import load_stack

GPU = load_stack("gpu-tuned")
PUBLISHED = {
    "lmsys.org, 2025-06-16": 7583,
    "lmsys.org, 2025-09-25, BF16 attention and FP8 experts": 9087,
}
"""Tokens/s/GPU of SGLang decoding DeepSeek on 48 GPUs of a rack, 2,000 tokens in, no drafts; batches are not stated."""
WITHIN_PERCENT = 30
"""About the half width of the interval of class X, of which no row is a GB200; wide, and no row of the suite."""


def decode(profile: str = "gb200-nvl72", per_card: int = 384, **figures: Any) -> dict[str, Any]:
    return {
        "machine": {"profile": profile, "dies": 48, **({"figures": figures} if figures else {})},
        "model": {"name": "deepseek-r1"},
        "inference": {
            "mode": "Decode",
            "inputTokens": 2000,
            "outputTokens": 2000,
            "batch": {"sequencesPerCard": per_card},
            "decode": {"parallelism": {"expert": 48}, "experts": {"redundant": 32}},
        },
    }


@pytest.mark.parametrize(("profile", "card"), [("h800-cluster", True), ("h100-cluster", True), ("gb200-nvl72", False)])
def test_the_network_card_moves_all_tokens_on_servers_of_eight_and_none_inside_a_rack(profile: str, card: bool):
    hardware = hardware_of(load_profile(profile))
    assert over_network_card(hardware, GPU) is card
    assert not over_network_card(hardware, load_stack("open-source")), "a matter of the stack, too"


@pytest.mark.parametrize("kind", ["Dispatch", "Combine"])
def test_a_kernel_of_few_tokens_inside_a_rack_takes_its_links(kind: str):
    kernel = {"kind": kind, "ranks": 72, "tokens": 128, "form": "LowLatency"}
    found = evaluate_kernel({"machine": {"profile": "gb200-nvl72"}, "model": {"name": "deepseek-r1"}, "kernel": kernel})
    assert found.figures.algorithm == "Direct"
    assert set(found.figures.sent_bytes) == {"server"}


@pytest.mark.parametrize("per_card", [256, 384])
@pytest.mark.parametrize(("source", "published"), list(PUBLISHED.items()))
def test_decoding_on_a_rack_is_near_what_is_published_for_it(source: str, published: int, per_card: int):
    computed = float(evaluate(decode(per_card=per_card)).performance["tokensPerSecondPerCard"])
    off = 100.0 * (computed / published - 1.0)
    assert abs(off) < WITHIN_PERCENT, f"{source}: {published} tokens/s/GPU, computed {computed:g} ({off:+.1f} %)"


def test_simulate_and_compare_agree_that_the_links_of_a_rack_carry_the_tokens():
    simulated = evaluate(decode())
    assert simulated.state.devices.port_tx_bytes_per_second[:48].sum(axis=1).min() > 0, "NVLink is in use"
    compared = operating_point(decode(), "gb200-nvl72")
    assert compared.tokens_per_second == pytest.approx(float(simulated.result.tokens_per_second))
    forced = evaluate(decode(lowLatencyExchange="rdma"))
    assert forced.result.bound == "RDMA"
    assert forced.result.tokens_per_second < 0.75 * simulated.result.tokens_per_second


def test_the_machine_says_which_way_it_is():
    stated = evaluate(decode(lowLatencyExchange="links"))
    assert stated.result.tokens_per_second == evaluate(decode()).result.tokens_per_second
    linked = evaluate(decode("h800-cluster", 64, lowLatencyExchange="links"))
    assert linked.result.tokens_per_second > evaluate(decode("h800-cluster", 64)).result.tokens_per_second
