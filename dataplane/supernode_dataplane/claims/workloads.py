"""Claims about workloads: training as solve() has it, decode as its step has it, a served load as the loop has it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from supernode_dataplane.baseline import baseline_result, baseline_training
from supernode_dataplane.catalogue import load_model
from supernode_dataplane.claims.claim import Claim, Reading
from supernode_dataplane.decode import decode_step
from supernode_dataplane.deployment import Experts, Pool, Speculation
from supernode_dataplane.expected_error import constants_of, half_width, training_error_percent
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.machine import PartInput, RankInput, TrainingSpec, WorkloadInput
from supernode_dataplane.planning import healthy_costs, search_training
from supernode_dataplane.profile import Profile, load_profile
from supernode_dataplane.solving import solve
from supernode_dataplane.stacks import Stack, load_stack
from supernode_dataplane.state import Problem, WorkloadResult
from supernode_dataplane.suite.rows import load_rows
from supernode_dataplane.suite.serving_rows import serving_row
from supernode_dataplane.training import plan_training, training_step

__all__ = ["workload_claims"]

_PRESS: Final = "press on Supernode 384, April to July 2025"
_PAPER: Final = "arXiv 2506.12708"
_KEYNOTE: Final = "Huawei Connect 2025: 4.91M and 19.6M tokens/s for 17 and 26.5 times an Atlas 900 A3"
_BATCH: Final = 1536
"""Sequences a step where nothing is stated: two for each die, about 6 Mi tokens at 4K."""
_CARDS: Final = "tokens/s/card"
_BATCHES: Final = (192, 96, 384, 768)


@dataclass(frozen=True, slots=True)
class _Decoding:
    tokens_per_second_per_card: float
    tpot_seconds: float


def workload_claims() -> tuple[Claim, ...]:
    """Return the claims about training and decode."""
    return (*_llama(), _within_reach(), *_other_training(), *_decode(), _pangu(), _equal_dies())


def _llama() -> tuple[Claim, ...]:
    machine, training = load_profile("cloudmatrix-384"), _llama_training()
    ours = _trained(machine, training, machine.dies)
    model = training.model
    card = machine.dies_per_package * machine.bf16_flops_per_die
    mfu = 132 * model.training_flops_per_token(8192) / card
    smaller = 132 * load_model("llama-3.1-70b").training_flops_per_token(8192) / card
    theirs = {chunks: _baseline_rate(replace(training, virtual_pipeline=chunks)) for chunks in (4, 1)}
    frozen = baseline_training(training)
    base_mfu = theirs[4] * model.training_flops_per_token(8192) / load_profile("atlas-a2-cluster").bf16_flops_per_die
    rate, error = ours.tokens_per_second_per_card, _ratio_error(machine, training, frozen)
    return (
        Claim(
            id="7.4",
            subject="LLaMA 3 training",
            unit=_CARDS,
            published=(132.0, 132.0),
            source=_PRESS,
            readings=(
                Reading(
                    "LLaMA-3.1-405B at 8K, batch 192, TP16 PP8 VPP4, all 384 cards", rate, ours.expected_error_percent
                ),
            ),
            definition=f"Training of the 405B model: 132 is {mfu:.1%} of the BF16 peak; read as 70B it would be "
            f"{smaller:.0%}.",
            tolerance=0.15,
        ),
        Claim(
            id="7.5",
            subject="LLaMA 3 training over a traditional cluster",
            unit="x",
            published=(2.5, 2.5),
            source=_PRESS,
            readings=(
                Reading(f"768 x 910B, TP{frozen.tensor} PP{frozen.pipeline}, VPP4 there", rate / theirs[4], error),
                Reading("the same, VPP1 there", rate / theirs[1], error),
                Reading("per die", rate / machine.dies_per_package / theirs[4], error),
            ),
            definition=f"Per card: {machine.dies_per_package} dies against one, "
            f"times {ours.mfu / base_mfu:.2f} in MFU, which is what the bus gives.",
            tolerance=0.2,
        ),
    )


def _within_reach() -> Claim:
    machine = load_profile("cloudmatrix-384")
    results = {batch: _trained(machine, _llama_training(batch), machine.dies) for batch in _BATCHES}
    return Claim(
        id="7.6",
        subject="132 tokens/s/card within reach",
        unit=_CARDS,
        published=(132.0, 132.0),
        source=_PRESS,
        readings=tuple(
            Reading(f"batch {batch}", found.tokens_per_second_per_card, found.expected_error_percent)
            for batch, found in results.items()
        ),
        definition="The layout is not published; ours is fixed and the batch varies.",
        tolerance=0.15,
    )


def _other_training() -> tuple[Claim, ...]:
    names = {"Qwen2.5-72B": "qwen2.5-72b", "DeepSeek-V3": "deepseek-v3", "Qwen3-235B": "qwen3-235b-a22b"}
    readings = tuple(Reading(f"{shown} at 4K, best layout", *_best(name)) for shown, name in names.items())
    one_number = "One number cannot serve models of such different size: ask for each model."
    decode = _r1(96, 4096, 256).tokens_per_second_per_card
    errors = [math.hypot(_r1_error(), reading.expected_error_percent or 0.0) for reading in readings]
    return (
        Claim(
            id="7.7",
            subject="Qwen and DeepSeek training",
            unit=_CARDS,
            published=(600.0, 750.0),
            source=_PRESS,
            readings=readings,
            definition=one_number,
        ),
        Claim(
            id="H-T3",
            subject="Qwen2.5-72B and DeepSeek-V3 training",
            unit=_CARDS,
            published=(600.0, 750.0),
            source=f"{_PRESS}; MindSpeed-LLM measured 915 for DeepSeek-V3",
            readings=readings[:2],
            definition=one_number,
        ),
        Claim(
            id="7.9",
            subject="1,920 beside 600 to 750 tokens/s/card",
            unit="x",
            published=(1920 / 750, 1920 / 600),
            source=_PRESS,
            readings=(
                Reading("decode over training of DeepSeek", decode / readings[1].value, errors[1]),
                Reading("decode of DeepSeek-R1 over training of Qwen2.5-72B", decode / readings[0].value, errors[0]),
            ),
            definition="Decode against training, two workloads, no conflict; our training is faster (7.7).",
        ),
        Claim(
            id="HC25 training",
            subject="training implied by the vendor's keynote",
            unit=_CARDS,
            published=(752.0, 752.0),
            source=_KEYNOTE,
            readings=readings,
            definition="The model is not stated.",
        ),
    )


def _decode() -> tuple[Claim, ...]:
    machine = load_profile("cloudmatrix-384")
    point = _r1(96, 4096, 256)
    rate = point.tokens_per_second_per_card
    per_flop = rate / (machine.dies_per_package * machine.int8_ops_per_die / 1e12)
    words = f"EP320, 96 a card, 4K in, 256 out, one draft accepted at 70 %: {point.tpot_seconds * 1e3:.1f} ms a token"
    published = (
        ("7.8", (1920.0, 1943.0), f"{_PRESS}; {_PAPER}"),
        ("H-D3", (1920.0, 1926.0), f"{_PRESS}; {_KEYNOTE}"),
        ("HC25 inference", (1926.0, 1926.0), _KEYNOTE),
    )
    definition = (
        f"Decode of one card at about 50 ms a token, {per_flop:.2f} tokens/s per INT8 TFLOPS; "
        "H100 and H800 are published at 1,850 to 2,325 a card, at most 1.17 per FP8 TFLOPS."
    )
    return tuple(
        Claim(
            id=name,
            subject="DeepSeek-R1 decode",
            unit=_CARDS,
            published=values,
            source=source,
            readings=(Reading(words, rate, _r1_error()),),
            definition=definition,
            tolerance=0.1,
        )
        for name, values, source in published
    )


def _pangu() -> Claim:
    rate, cards, active = 1.46e6, 6144, 39e9  # published: tokens/s, "6K" cards, active parameters
    peak = load_profile("atlas-a2-cluster").bf16_flops_per_die
    return Claim(
        id="7.15",
        subject="Pangu Ultra MoE, MFU",
        unit="%",
        published=(30.0, 30.0),
        source="Pangu Ultra MoE report: 30.0 % at 1.46M tokens/s on 6K cards",
        readings=(Reading("6 x active parameters over the BF16 peak", 100 * rate / cards * 6 * active / peak),),
        definition="Their definition of MFU is not stated; with 6 N over the BF16 peak it cannot be reproduced.",
    )


def _equal_dies() -> Claim:
    served = next(row for row in load_rows() if row.id == "C-S1").given
    stack = load_stack("open-source")
    names = constants_of(stack, training=False, experts=False)

    def ratio(moved: Stack, **changes: int) -> float:
        before, after = (
            serving_row({**served, **changes, "machine": machine}, {stack.name: moved})["TPOT ms"]
            for machine in ("atlas-a2-cluster", "cloudmatrix-384")
        )
        return before / after

    def fewer(moved: Stack) -> float:
        return ratio(moved, requests=2 * served["inSystem"])  # how far it moves, not where it is

    return Claim(
        id="H-S6",
        subject="A2 and A3 at equal dies, time per token",
        unit="x",
        published=(0.95, 1.0),
        source="sgl-project/sglang, Ascend best practice: 48.97 and 49.24 ms",
        readings=(
            Reading(
                "Qwen3-32B W8A8 on 4 dies, 78 in the system, 3.5K in, 1.5K out, as served",
                ratio(stack),
                100.0 * half_width(fewer, stack, "S", names),
            ),
        ),
        definition="Inside a server a die of a 910C is a 910B, on links of another shape; "
        "what the machine gains comes from the bus and from two dies a card.",
        tolerance=0.03,
    )


def _llama_training(batch: int = 192) -> TrainingSpec:
    return TrainingSpec(
        model=load_model("llama-3.1-405b"),
        stack="vendor-tuned",
        sequence_length=8192,
        global_batch_size=batch,
        tensor=16,
        pipeline=8,
        virtual_pipeline=4,
    )


def _baseline_rate(training: TrainingSpec) -> float:
    result = baseline_result(training, load_profile("cloudmatrix-384").dies)
    return result.tokens_per_second_per_card if result is not None else float("nan")


@cache
def _best(name: str) -> tuple[float, float]:
    """Return the rate of the best layout on a card, as `supernode plan training` has it, and its expected error, %."""
    machine = load_profile("cloudmatrix-384")
    wanted = TrainingSpec(load_model(name), "vendor-tuned", 4096, _BATCH)
    found = search_training(machine, wanted, machine.dies).best[0]
    return found.tokens_per_second / machine.packages, training_error_percent(machine, found.spec, machine.dies)


def _ratio_error(machine: Profile, here: TrainingSpec, there: TrainingSpec) -> float:
    """Return the expected error of a ratio of two training rates, percent: what moves both moves it less."""
    before = load_profile("atlas-a2-cluster")
    stack = load_stack(here.stack)

    def rate(profile: Profile, spec: TrainingSpec, moved: Stack) -> float:
        plan = plan_training(profile, spec, machine.dies, moved)
        if isinstance(plan, Problem):
            return float("nan")
        return 1.0 / float(training_step(profile, plan, healthy_costs(profile, spec, machine.dies)).seconds)

    def ratio(moved: Stack) -> float:
        return rate(machine, here, moved) / rate(before, there, moved)

    return 100.0 * half_width(ratio, stack, "T", constants_of(stack, training=True))


def _trained(profile: Profile, training: TrainingSpec, dies: int) -> WorkloadResult:
    ranks = tuple(_whole_servers(profile, dies))
    return solve(profile, (), (WorkloadInput("claims/claims", training, ranks),)).workloads[0]


def _whole_servers(profile: Profile, dies: int) -> Iterable[RankInput]:
    each = tuple(range(profile.dies_per_server))
    for server in range(dies // profile.dies_per_server):
        yield RankInput(server, True, (PartInput(server, each),))


@cache
def _r1(per_card: float, prompt: int, output: int, stack: Stack | None = None) -> _Decoding:
    """DeepSeek-R1 on 160 cards as in the paper: 256 routed, 32 redundant and 32 shared expert ranks."""
    pool = Pool(
        architecture=load_model("deepseek-r1"),
        hardware=hardware_of(load_profile("cloudmatrix-384")),
        stack=stack or load_stack("vendor-tuned"),
        dies=320,
        expert=320,
        experts=Experts(redundant=32, shared_ranks=32),
        speculation=Speculation(drafts=1, accepted=0.7),
    )
    step = decode_step(pool, per_card / pool.hardware.dies_per_card, prompt + output / 2)
    tpot = float(step.seconds) / float(pool.speculation.tokens)
    return _Decoding(per_card / tpot, tpot)


@cache
def _r1_error() -> float:
    """Return the expected error of that decode rate, percent."""
    stack = load_stack("vendor-tuned")

    def rate(moved: Stack) -> float:
        return _r1(96, 4096, 256, moved).tokens_per_second_per_card

    return 100.0 * half_width(rate, stack, "D", constants_of(stack, training=False))
