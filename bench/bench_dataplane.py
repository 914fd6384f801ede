"""Budgets of the model itself, on one core: one operating point, many at once, the validation suite."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from rows import Row, median_and_least
from supernode_cli.evaluation import evaluate
from supernode_dataplane.catalogue import load_model
from supernode_dataplane.decode import decode_step
from supernode_dataplane.deployment import Experts, Pool, Speculation
from supernode_dataplane.deployment_plan import inference_spec
from supernode_dataplane.expected_error import ROW_CLASSES, constants_of, half_width, plan_error_percent
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.inference import InferenceSpec, inference_point
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.planning import healthy_costs
from supernode_dataplane.profile import load_profile
from supernode_dataplane.solving import linked_deployment
from supernode_dataplane.stacks import Stack, load_stack
from supernode_dataplane.suite import validate
from supernode_dataplane.training import Plan, plan_training, training_step
from support.deployments import R1_DECODE, R1_PREFILL, with_fields

POINTS = 100_000


def measure() -> Iterator[Row]:
    """Measure DeepSeek-R1 decode on 160 packages, then every row of the suite with its interval."""
    pool = Pool(
        architecture=load_model("deepseek-r1"),
        hardware=hardware_of(load_profile("cloudmatrix-384")),
        stack=load_stack("vendor-tuned"),
        dies=320,
        expert=320,
        experts=Experts(redundant=32, shared_ranks=32),
        speculation=Speculation(drafts=1, accepted=0.7),
    )
    spec = InferenceSpec(mode="Decode", input_tokens=4096.0, output_tokens=256.0, decode=pool, sequences=48.0)
    median, least = median_and_least(lambda: inference_point(spec), 300)
    how = f"DeepSeek-R1 decode, 160 packages, with memory; CPU, median of 300, warm; least {least * 1e3:.2f} ms"
    yield Row("one operating point of inference", median * 1e3, "ms", 1.0, how)

    def rate(stack: Stack) -> float:
        return float(inference_point(replace(spec, decode=replace(pool, stack=stack))).tokens_per_second)

    moved = constants_of(pool.stack, training=False)
    yield _with_error_bar("inference", lambda: half_width(rate, pool.stack, ROW_CLASSES["Decode"], moved))
    yield _slowest_layout()
    batches = itertools.count(1)
    machine, llama = load_profile("cloudmatrix-384"), load_model("llama-3.1-405b")

    def train() -> Plan | None:
        # Another batch each time, so that no cached plan answers.
        spec = TrainingSpec(llama, "vendor-tuned", 8192, 6 * next(batches), tensor=16, pipeline=8, virtual_pipeline=4)
        plan = plan_training(machine, spec, 768)
        if not isinstance(plan, Plan):
            return None
        training_step(machine, plan, healthy_costs(machine, spec, 768))
        return plan

    def train_with_error() -> None:
        if (plan := train()) is not None:
            plan_error_percent(machine, plan, 768)

    median, least = median_and_least(train, 300)
    how = f"LLaMA-3.1-405B on 384 packages, another batch each time; CPU, median of 300; least {least * 1e3:.2f} ms"
    yield Row("one operating point of training", median * 1e3, "ms", 1.0, how)
    yield _with_error_bar("training", train_with_error)
    batch, context = np.linspace(4, 96, POINTS), np.linspace(1024, 8192, POINTS)
    median, _ = median_and_least(lambda: decode_step(pool, batch, context), 5)
    how = f"{POINTS / median:,.0f} points/s, {POINTS:,} decode steps as arrays, CPU; the budget is 5,000 points/s"
    yield Row("200 us for each of many operating points", median / POINTS * 1e6, "us", 200.0, how)
    start = time.perf_counter()
    rows = validate().rows
    seconds = time.perf_counter() - start
    yield Row("the whole validation suite", seconds, "s", 20.0, f"{len(rows)} rows with their intervals, one run")


def _slowest_layout() -> Row:
    """Measure the other layouts of experts and attention; the slowest is the row."""
    apart = {"decode__parallelism": {}, "decode__experts": {}, "decode__split": {"expertDies": 64}}
    staged = {"decode__parallelism": {"pipeline": 4, "expert": 80}, "decode__experts": {"redundant": 64}}
    medians = {
        "decode with attention and experts apart": _layout_seconds(R1_DECODE, 20, apart),
        "decode in 4 stages": _layout_seconds(R1_DECODE, 20, staged),
        "prefill in context rings": _layout_seconds(
            R1_PREFILL, 4, {"prefill__parallelism": {"expert": 32, "context": 4}}
        ),
    }
    slowest = max(medians, key=lambda layout: medians[layout])
    how = f"DeepSeek-R1, {slowest}; CPU, median of 100, warm; the slowest of {', '.join(medians)}"
    return Row("one operating point of inference, other layouts", medians[slowest] * 1e3, "ms", 1.0, how)


def _layout_seconds(base: dict[str, Any], nodes: int, fields: dict[str, Any]) -> float:
    found = evaluate({"machine": {"nodes": nodes}, **with_fields(base, **fields)})
    (workload,) = found.inputs.workloads
    deployment = linked_deployment(found.profile, found.inputs.compute_nodes, workload)
    if deployment is None:
        raise SystemExit("the bench's own layout is refused")
    spec = inference_spec(deployment)
    return median_and_least(lambda: inference_point(spec), 100)[0]


def _with_error_bar(what: str, point: Callable[[], object]) -> Row:
    """Measure the point above once more with its error bar: it is computed again with each constant moved."""
    median, least = median_and_least(point, 100)
    how = f"the same with its error bar, each constant moved in turn; CPU, median of 100; least {least * 1e3:.2f} ms"
    return Row(f"one operating point of {what}, with its error bar", median * 1e3, "ms", None, how)
