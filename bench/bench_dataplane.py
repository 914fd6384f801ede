"""Budgets of the model itself, on one core: one operating point, many at once, the validation suite."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np

from rows import Row, median_and_least
from supernode_dataplane.catalogue import load_model
from supernode_dataplane.decode import decode_step
from supernode_dataplane.deployment import Experts, Pool, Speculation
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.inference import InferenceSpec, inference_point
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.planning import healthy_costs
from supernode_dataplane.profile import load_profile
from supernode_dataplane.stacks import load_stack
from supernode_dataplane.suite import validate
from supernode_dataplane.training import Plan, plan_training, training_step

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
    how = f"DeepSeek-R1 decode, 160 packages, with memory; median of 300, warm; least {least * 1e3:.2f} ms"
    yield Row("one operating point of inference", median * 1e3, "ms", 1.0, how)
    batches = itertools.count(1)
    machine, llama = load_profile("cloudmatrix-384"), load_model("llama-3.1-405b")

    def train() -> None:
        # Another batch each time, so that no cached plan answers.
        spec = TrainingSpec(llama, "vendor-tuned", 8192, 6 * next(batches), tensor=16, pipeline=8, virtual_pipeline=4)
        plan = plan_training(machine, spec, 768)
        if isinstance(plan, Plan):
            training_step(machine, plan, healthy_costs(machine, spec, 768))

    median, least = median_and_least(train, 300)
    how = f"LLaMA-3.1-405B on 384 packages, another batch each time; median of 300; least {least * 1e3:.2f} ms"
    yield Row("one operating point of training", median * 1e3, "ms", 1.0, how)
    batch, context = np.linspace(4, 96, POINTS), np.linspace(1024, 8192, POINTS)
    median, _ = median_and_least(lambda: decode_step(pool, batch, context), 5)
    rate = POINTS / median
    how = f"{rate:,.0f} points/s, {POINTS:,} decode steps as arrays; the budget is 5,000 points/s"
    yield Row("200 us for each of many operating points", median / POINTS * 1e6, "us", 200.0, how)
    start = time.perf_counter()
    rows = validate().rows
    seconds = time.perf_counter() - start
    yield Row("the whole validation suite", seconds, "s", 20.0, f"{len(rows)} rows with their intervals, one run")
