"""HBM of one die in training: what each pipeline stage holds, and how much must be recomputed to fit.

Weights and gradients of the die's own share, optimizer states sharded over data parallelism, activations in flight, and
buffers. 1F1B holds ``stages - i`` micro-batches on stage i; interleaving holds 2 (stages - i - 1) + (v - 1) stages + 1
of the v times smaller chunks. Recomputing a share r of the layers keeps their input only and one layer's working set.
"""

from __future__ import annotations

from dataclasses import dataclass

from supernode_dataplane.constants import (
    ACTIVATION_BYTES,
    BUFFER_BYTES,
    GRADIENT_BYTES,
    LOGIT_BYTES,
    OPTIMIZER_BYTES,
    RECOMPUTED_BYTES,
    WEIGHT_BYTES,
)
from supernode_dataplane.layout import data_parallel, stage_layers
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.state import Problem

__all__ = ["Memory", "die_parameters", "in_flight", "plan_memory"]

_GIB = 2.0**30


@dataclass(frozen=True, slots=True)
class Memory:
    """HBM of a die of each stage, and the share of activations that is recomputed so that the fullest fits."""

    recompute: float
    used_bytes: tuple[float, ...]
    parameters: tuple[float, ...]
    """Parameters of a die of each stage."""


def die_parameters(spec: TrainingSpec) -> tuple[float, ...]:
    """Return the parameters of a die of each stage; key-value heads are replicated where tensor exceeds them."""
    model, tp, stages = spec.model, spec.tensor, spec.pipeline
    attention, block = model.groups[0].attention, model.groups[0].feed_forward
    split = attention.query_parameters(model.hidden) + block.parameters(model.hidden)
    key_value = attention.key_value_parameters(model.hidden) / min(tp, attention.kv_heads)
    layer = split / tp + key_value + 2 * model.hidden
    result = [layers * layer for layers in stage_layers(model.layers, stages)]
    result[0] += model.embedding_parameters / tp
    if not model.tied or stages > 1:
        result[-1] += model.vocab * model.hidden / tp
    return tuple(result)


def in_flight(spec: TrainingSpec, micro_batches: int) -> tuple[float, ...]:
    """Return the micro-batches whose activations a stage holds at most (fractions: chunks of them)."""
    stages, chunks = spec.pipeline, spec.virtual_pipeline
    if chunks == 1:
        return tuple(float(min(micro_batches, stages - i)) for i in range(stages))
    most = [2 * (stages - i - 1) + (chunks - 1) * stages + 1 for i in range(stages)]
    return tuple(min(micro_batches * chunks, n) / chunks for n in most)


def plan_memory(spec: TrainingSpec, dies: int, hbm_bytes: float) -> Memory | Problem:
    """Return what each stage uses with just enough recompute, or why it does not fit even with all of it."""
    data = data_parallel(spec, dies)
    micro_batches = spec.global_batch_size // (data * spec.micro_batch_size)
    unit = float(spec.sequence_length * spec.micro_batch_size) * spec.model.hidden / spec.tensor
    parameters = die_parameters(spec)
    layers = stage_layers(spec.model.layers, spec.pipeline)
    held = [n * count for n, count in zip(in_flight(spec, micro_batches), layers, strict=True)]
    fixed = [n * (WEIGHT_BYTES + GRADIENT_BYTES + OPTIMIZER_BYTES / data) + BUFFER_BYTES for n in parameters]
    logits = LOGIT_BYTES * spec.sequence_length * spec.micro_batch_size * spec.model.vocab / spec.tensor
    fixed[-1] += logits
    saved = ACTIVATION_BYTES - RECOMPUTED_BYTES
    recompute = 0.0
    for base, count in zip(fixed, held, strict=True):
        if base + count * ACTIVATION_BYTES * unit > hbm_bytes:
            # One layer is whole again while its backward pass runs.
            over = base + (count * ACTIVATION_BYTES + saved) * unit - hbm_bytes
            recompute = max(recompute, over / (count * saved * unit))
    working = saved * unit if recompute > 0 else 0.0
    if recompute > 1.0:
        least = [base + (count * RECOMPUTED_BYTES + saved) * unit for base, count in zip(fixed, held, strict=True)]
        return _does_not_fit(spec, data, hbm_bytes, parameters=parameters, least=least, logits=logits)
    used = tuple(
        base + count * (ACTIVATION_BYTES - saved * recompute) * unit + working
        for base, count in zip(fixed, held, strict=True)
    )
    return Memory(recompute, tuple(min(n, hbm_bytes) for n in used), parameters)


def _does_not_fit(
    spec: TrainingSpec, data: int, hbm_bytes: float, *, parameters: tuple[float, ...], least: list[float], logits: float
) -> Problem:
    stage = max(range(len(least)), key=least.__getitem__)
    held = {
        "weights": parameters[stage] * WEIGHT_BYTES,
        "gradients": parameters[stage] * GRADIENT_BYTES,
        f"optimizer over data {data}": parameters[stage] * OPTIMIZER_BYTES / data,
        "logits": logits if stage == len(least) - 1 else 0.0,
        "buffers": BUFFER_BYTES,
    }
    held["activations"] = least[stage] - sum(held.values())
    arithmetic = " + ".join(f"{name} {size / _GIB:.1f}" for name, size in held.items())
    return Problem(
        "DoesNotFit",
        "spec.training.parallelism",
        f"{spec.model.name} needs {least[stage] / _GIB:.1f} GiB on a die of stage {stage} even with full recompute, "
        f"and a die has {hbm_bytes / _GIB:.0f} GiB: {arithmetic}; raise tensor, pipeline or the number of dies, or "
        "shorten sequenceLength or microBatchSize",
    )
