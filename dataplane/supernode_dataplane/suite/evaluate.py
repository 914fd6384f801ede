"""What the model says of a row: one function for each kind, from what is given to a value for each component.

Constants come as stacks by name, so that the same row can be evaluated at other values of them: for the fit, and for
the error bar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from supernode_dataplane.catalogue import load_model
from supernode_dataplane.decode import DecodeStep, decode_step
from supernode_dataplane.deployment import Experts, Pool, Precision, Speculation
from supernode_dataplane.exchange import combine, dispatch, one_shot_seconds, point_to_point_seconds, ring_seconds
from supernode_dataplane.hardware import BYTES, Hardware, hardware_of
from supernode_dataplane.inference import InferenceSpec, inference_point
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.planning import healthy_costs
from supernode_dataplane.power import full_load_watts
from supernode_dataplane.prefill import PrefillStep, prefill_step
from supernode_dataplane.profile import load_profile
from supernode_dataplane.split import split_step
from supernode_dataplane.stacks import Stack
from supernode_dataplane.state import Problem
from supernode_dataplane.suite.rows import Row
from supernode_dataplane.suite.serving_rows import serving_row
from supernode_dataplane.training import plan_training, training_step

__all__ = ["Stacks", "evaluate_row"]

Stacks = Mapping[str, Stack]
Given = Mapping[str, Any]
Values = dict[str, float]
_SAME_SIZE: Final = 1.01
"""Sizes so close are one: where the faster of two all-reduces changes."""


def evaluate_row(row: Row, stacks: Stacks) -> Values:
    """Return the computed value of each component of a row at these constants."""
    return _KINDS[row.kind](row.given, stacks)


def _hardware(given: Given) -> Hardware:
    return hardware_of(load_profile(given["machine"]))


def _pool(given: Given, stacks: Stacks, **changes: Any) -> Pool:
    weights = given.get("weights", given.get("format", "int8"))
    activations = given.get("activations", "int8" if weights == "int4" else weights)
    pool = Pool(
        architecture=load_model(given["model"]),
        hardware=_hardware(given),
        stack=stacks[given["stack"]],
        dies=given["dies"],
        tensor=given.get("tensor", 1),
        expert=given.get("expert", 1),
        precision=Precision(weights=weights, activations=activations),
        experts=Experts(
            redundant=given.get("redundant", 0),
            shared_ranks=given.get("sharedRanks", 0),
            imbalance=1.0 if given.get("balance") == "perfect" else None,
        ),
        speculation=Speculation(drafts=given.get("drafts", 0), accepted=given.get("accepted", 0.0)),
        streams=given.get("microBatches", "auto"),
    )
    return replace(pool, **changes) if changes else pool


def _exchange(given: Given, stacks: Stacks) -> Values:
    hardware, stack = _hardware(given), stacks[given["stack"]]
    tokens, copies, hidden, kind = given["tokens"], given["copies"], given["hidden"], given["format"]
    values: Values = {}
    for name, width in (("dispatch", BYTES[kind]), ("combine", BYTES["bf16"])):
        for ranks in given["ranks"]:
            if name == "dispatch":
                seconds = float(dispatch(hardware, stack, tokens, copies, hidden, ranks, kind).seconds())
            else:
                seconds = float(combine(hardware, stack, tokens, copies, hidden, ranks).seconds())
            moved = tokens * copies * hidden * width
            in_time = given["unit"] == "microseconds"
            values[f"{name} EP{ranks}"] = seconds * 1e6 if in_time else moved / seconds / 1e9
    return values | _efficiencies(given, stacks)


def _point_to_point(given: Given, stacks: Stacks) -> Values:
    hardware, stack = _hardware(given), stacks[given["stack"]]
    slow, fast = (point_to_point_seconds(hardware, stack, 9e6, cores) for cores in (2, 48))
    return {"ratio": slow / fast, "microseconds": point_to_point_seconds(hardware, stack, 1e6, 2) * 1e6}


def _efficiencies(given: Given, stacks: Stacks) -> Values:
    stack = stacks[given["stack"]]
    return {
        "attention of peak": stack.attention_efficiency,
        "attention of HBM": stack.attention_bandwidth,
        "products of peak": stack.gemm_efficiency,
    }


def _step(pool: Pool, given: Given, per_card: float) -> DecodeStep:
    each = per_card / pool.hardware.dies_per_card * pool.tensor
    context = given.get("context") or given["input"] + given["output"] / 2
    return decode_step(pool, each, context)


def _decode(given: Given, stacks: Stacks) -> Values:
    pool = _pool(given, stacks)
    seconds = float(_step(pool, given, given["perCard"]).seconds)
    tpot = seconds / pool.speculation.tokens
    return {"step ms": seconds * 1e3, "TPOT ms": tpot * 1e3, "tokens/s/card": given["perCard"] / tpot}


def _decode_pair(given: Given, stacks: Stacks) -> Values:
    values = {}
    for name, kind in (("BF16", "bf16"), ("W8A8", "int8")):
        pool = _pool({**given, "weights": kind}, stacks)
        values[f"{name} TPOT ms"] = float(_step(pool, given, given["perCard"]).seconds) * 1e3
    return values


def _streams(given: Given, stacks: Stacks) -> Values:
    values = {}
    for per_card in given["perCard"]:
        step = _step(_pool(given, stacks, streams="auto"), given, per_card)
        values[f"gain at {per_card}"] = (float(step.one_stream_seconds / step.two_stream_seconds) - 1.0) * 100
    return values


def _drafts(given: Given, stacks: Stacks) -> Values:
    """Return what a draft token gains, percent, and the gain of the smallest batch over that of the largest."""
    values = {}
    for per_card in given["perCard"]:
        pool = _pool(given, stacks)
        plain = replace(pool, speculation=Speculation())
        faster = float(_step(plain, given, per_card).seconds / _step(pool, given, per_card).seconds)
        values[f"gain at {per_card}"] = (faster * float(pool.speculation.tokens) - 1.0) * 100
    gains = list(values.values())
    values["smallest over largest batch"] = gains[0] / gains[-1]
    return values


def _prefill_step(given: Given, stacks: Stacks, balance: str) -> tuple[Pool, PrefillStep]:
    pool = _pool({**given, "balance": balance}, stacks)
    tokens = given["input"] * given["prompts"]
    return pool, prefill_step(pool, float(tokens), given["input"] / 2, given["prompts"])


def _prefill(given: Given, stacks: Stacks) -> Values:
    values = {}
    for balance in given["balance"]:
        pool, step = _prefill_step(given, stacks, balance)
        seconds = float(step.seconds)
        per_card = given["input"] * given["prompts"] * pool.hardware.dies_per_card
        values[balance] = seconds * 1e3 if given["unit"] == "milliseconds" else per_card / seconds
    return values


def _cache(given: Given, stacks: Stacks) -> Values:
    pool = _pool({**given, "balance": given["balance"][0]}, stacks)
    spec = InferenceSpec(mode="Prefill", input_tokens=float(given["input"]), prompts=given["prompts"], prefill=pool)
    without, with_cache = inference_point(spec), inference_point(replace(spec, cached_share=given["share"]))
    return {
        "throughput ratio": float(with_cache.tokens_per_second / without.tokens_per_second),
        "TTFT ratio": float(with_cache.ttft_seconds / without.ttft_seconds),
    }


def _split(given: Given, stacks: Stacks) -> Values:
    pool = _pool(given, stacks)
    each = float(given["perDie"])
    step = split_step(pool, given["expert"], given["domains"], each, given["input"] + given["output"] / 2)
    tpot = float(step.seconds) / pool.speculation.tokens
    return {"TPOT ms": tpot * 1e3, "tokens/s/card": each * float(pool.dies) / tpot / float(step.cards)}


def _gpu(given: Given, stacks: Stacks) -> Values:
    pool = _pool({**given, "expert": given["dies"]}, stacks)
    tpot = float(_step(pool, given, given["perCard"]).seconds) / pool.speculation.tokens
    values = {"TPOT ms": tpot * 1e3, "tokens/s/card": given["perCard"] / tpot}
    if "prefillDies" in given:
        dies = given["prefillDies"]
        prefill = replace(pool, dies=dies, expert=dies, speculation=Speculation())
        step = prefill_step(prefill, 4.0 * given["context"], given["context"] / 2, 4.0)
        values["prefill tokens/s/card"] = 4.0 * given["context"] / float(step.seconds)
    return values


def _all_reduce(given: Given, stacks: Stacks) -> Values:
    hardware, stack, ranks = _hardware(given), stacks[given["stack"]], given["ranks"]

    def mesh_over_ring(size: float) -> float:
        return float(ring_seconds(hardware, size, ranks) / one_shot_seconds(hardware, size, ranks, stack))

    small, large = 65536.0, 67108864.0
    values = {"mesh over ring at 64 KiB": mesh_over_ring(small), "ring over mesh at 64 MiB": 1 / mesh_over_ring(large)}
    while large / small > _SAME_SIZE:
        middle = math.sqrt(small * large)
        small, large = (middle, large) if mesh_over_ring(middle) > 1 else (small, middle)
    return {**values, "crossover KiB": small / 1024}


def _trained(given: Given, stacks: Stacks, cards: int, batch: int) -> float:
    """Return tokens per second and card of the layout that the row's source runs."""
    profile, stack = load_profile(given["machine"]), stacks[given["stack"]]
    stages = given.get("stages")
    spec = TrainingSpec(
        model=load_model(given["model"]),
        stack=stack.name,
        sequence_length=given["sequence"],
        global_batch_size=batch,
        micro_batch_size=given.get("micro", 1),
        tensor=given["tensor"],
        pipeline=given["pipeline"],
        virtual_pipeline=given.get("virtual", 1),
        expert=given.get("expert", 1),
        stage_layers=tuple(stages) if stages else None,
        optimizer_sharding=given["sharding"],
        recompute=given.get("recompute", "auto"),
        overlap_exchange=given.get("overlapExchange", False),
        mtp_layers=given.get("mtp", 0),
    )
    dies = cards * profile.dies_per_package
    plan = plan_training(profile, spec, dies, stack)
    if isinstance(plan, Problem):
        raise ValueError(plan.message)
    seconds = training_step(profile, plan, healthy_costs(profile, spec, dies)).seconds
    return float(batch * spec.sequence_length / seconds / cards)


def _training(given: Given, stacks: Stacks) -> Values:
    return {"tokens/s/card": _trained(given, stacks, given["cards"], given["batch"])}


def _traditional(given: Given, stacks: Stacks) -> Values:
    """Return the rate of a card over that of a card of the traditional cluster, by virtual stages there."""
    here, there = _training(given, stacks)["tokens/s/card"], {**given, **given["traditional"]}
    return {
        f"ratio at VPP {chunks}": here / _training({**there, "virtual": chunks}, stacks)["tokens/s/card"]
        for chunks in there["virtuals"]
    }


def _tiers(given: Given, stacks: Stacks) -> Values:
    del stacks  # definitions: nothing of a stack is in them
    hardware = _hardware(given)
    values: Values = {}
    for tier in ("package", "node", "pod"):
        values[f"{tier} GB/s"] = getattr(hardware, f"{tier}_bytes_per_second") / 1e9
        values[f"{tier} us"] = getattr(hardware, f"{tier}_latency_seconds") * 1e6
    return values


def _linearity(given: Given, stacks: Stacks) -> Values:
    """Return the rate of a card over that of the smallest cluster, percent, and the points that the last step loses."""
    # Linearity is of a cluster that grows with its work: the sequences of a step grow with the cards.
    cards, batch = given["cards"], given["batch"]
    rates = [_trained(given, stacks, count, batch * count // cards[0]) for count in cards]
    values = {f"linearity at {count} %": 100 * rate / rates[0] for count, rate in zip(cards, rates, strict=True)}
    values[f"points lost from {cards[-2]} to {cards[-1]}"] = 100 * (rates[-2] - rates[-1]) / rates[0]
    return values


def _power(given: Given, stacks: Stacks) -> Values:
    del stacks
    profile = load_profile(given["machine"])
    return {
        "parts at full load kW": full_load_watts(profile) / 1e3,
        "idle package W": profile.package_idle_watts,
        "rated kW": profile.rated_watts / 1e3,
    }


_KINDS: Final[Mapping[str, Callable[[Given, Stacks], Values]]] = {
    "all_reduce": _all_reduce,
    "cache": _cache,
    "decode": _decode,
    "decode_pair": _decode_pair,
    "drafts": _drafts,
    "efficiencies": _efficiencies,
    "exchange": _exchange,
    "gpu": _gpu,
    "linearity": _linearity,
    "point_to_point": _point_to_point,
    "power": _power,
    "prefill": _prefill,
    "serving": serving_row,
    "split": _split,
    "streams": _streams,
    "tiers": _tiers,
    "traditional": _traditional,
    "training": _training,
}
