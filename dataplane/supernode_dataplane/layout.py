"""How a model is split over dies, and whether that is legal: the arithmetic that users get wrong.

tensor x context x pipeline x data = dies; the dies of a job in rank order are numbered tensor first, then context, data
and pipeline. Context and data together are the replicas of a weight; ``expert`` consecutive replicas share the routed
experts, of which each tensor group holds its part tensor / expertTensor times.
"""

from __future__ import annotations

import math
from functools import lru_cache

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.numeric import Number
from supernode_dataplane.state import Problem

__all__ = [
    "check_layout",
    "data_parallel",
    "divides_evenly",
    "expert_replicas",
    "layers_by_stage",
    "replicas",
    "stage_kinds",
    "stage_layers",
]

_FIELD = "spec.training.parallelism"


def data_parallel(spec: TrainingSpec, dies: int) -> int:
    """Return the data parallel degree: as given, else dies / (tensor x context x pipeline)."""
    return spec.data if spec.data is not None else dies // (spec.tensor * spec.context * spec.pipeline)


def replicas(spec: TrainingSpec, dies: int) -> int:
    """Return how many dies hold the same weights: data x context."""
    return data_parallel(spec, dies) * spec.context


def expert_replicas(spec: TrainingSpec, dies: int) -> int:
    """Return how many dies hold the same part of the same routed experts."""
    return replicas(spec, dies) // spec.expert * (spec.tensor // spec.expert_tensor)


def stage_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Return the layers of each pipeline stage, as even as possible.

    The last stage (which has the output head), then the first (which has the embedding and the most activations) get
    one less, as LLaMA 3 was trained (arXiv 2407.21783, 3.3.2); then from the end on.
    """
    more = layers // stages + 1
    short = stages * more - layers
    order = [stages - 1, 0, *range(stages - 2, 0, -1)][:stages]
    shorter = set(order[:short]) if stages > 1 else {0}
    return tuple(more - 1 if stage in shorter else more for stage in range(stages))


def layers_by_stage(spec: TrainingSpec) -> tuple[int, ...]:
    """Return the layers of each stage as the spec says, else as even as possible."""
    return spec.stage_layers if spec.stage_layers is not None else stage_layers(spec.model.layers, spec.pipeline)


def stage_kinds(spec: TrainingSpec) -> tuple[tuple[int, ...], ...]:
    """Return for each stage how many layers of each of the model's kinds it has.

    With virtual stages a stage has a chunk of layers from each turn through the pipeline. Layers for multi-token
    prediction are the last stage's, beside those that :func:`layers_by_stage` counts.
    """
    return _stage_kinds(spec.model, layers_by_stage(spec), spec.virtual_pipeline, spec.mtp_layers)


@lru_cache(maxsize=1024)
def _stage_kinds(
    model: Architecture, counts: tuple[int, ...], chunks: int, mtp_layers: int
) -> tuple[tuple[int, ...], ...]:
    index = {(kind.attention, kind.feed_forward): number for number, kind in enumerate(model.kinds)}
    order: list[int] = []
    for group in model.groups:
        order += [index[group.attention, group.feed_forward]] * group.count
    found = [[0] * len(model.kinds) for _ in counts]
    at = 0
    for chunk in range(chunks):
        for stage, count in enumerate(counts):
            size = count // chunks + (1 if chunk < count % chunks else 0)
            for kind in order[at : at + size]:
                found[stage][kind] += 1
            at += size
    found[-1][order[-1]] += mtp_layers
    return tuple(tuple(kinds) for kinds in found)


def divides_evenly(spec: TrainingSpec, dies: int) -> Number:
    """Return whether the sequence and the batch divide evenly: all that :func:`check_layout` asks of them.

    Their numbers may be arrays; what else is wrong with a layout is the same for all of them.
    """
    data = max(1, dies // (spec.tensor * spec.context * spec.pipeline))
    return (_sequence_rest(spec) == 0) & (_batch_rest(spec, data) == 0)


def check_layout(spec: TrainingSpec, dies: int, dies_text: str) -> Problem | None:
    """Return what is wrong with the split over ``dies`` (``dies_text`` says how they came about), or None."""
    tp, pp, cp = spec.tensor, spec.pipeline, spec.context
    context = f" x context {cp}" if cp > 1 else ""
    whole = tp * pp * cp
    product = f"tensor {tp}{context} x pipeline {pp} = {whole}"
    if spec.data is not None and whole * spec.data != dies:
        return _bad(
            "data",
            f"tensor {tp}{context} x pipeline {pp} x data {spec.data} = {whole * spec.data} is not {dies_text}; "
            "leave data out or change one of them",
        )
    if dies < whole or dies % whole:
        return _bad("tensor", f"{product} does not divide {dies_text}; choose degrees whose product divides it")
    return (
        _check_model(spec)
        or _check_stages(spec)
        or _check_experts(spec, replicas(spec, dies))
        or _check_batch(spec, dies // whole)
    )


def _check_model(spec: TrainingSpec) -> Problem | None:
    model, tp = spec.model, spec.tensor
    for kind in model.kinds:
        attention, block = kind.attention, kind.feed_forward
        if tp > attention.heads:
            return _bad("tensor", f"tensor {tp} is more than the {attention.heads} attention heads of {model.name}")
        if attention.heads % tp:
            return _bad("tensor", f"tensor {tp} does not divide the {attention.heads} attention heads of {model.name}")
        if attention.kv_heads % tp and tp % attention.kv_heads:
            return _bad(
                "tensor",
                f"tensor {tp} and the {attention.kv_heads} key-value heads of {model.name} do not divide one another",
            )
        for width in (block.width, block.shared_width):
            if width % tp:
                return _bad("tensor", f"tensor {tp} does not divide the feed-forward size {width} of {model.name}")
    if _sequence_rest(spec):
        with_context = f" x context {spec.context}" if spec.context > 1 else ""
        return _bad(
            "tensor",
            f"tensor {tp}{with_context} does not divide sequenceLength {spec.sequence_length}, which sequence "
            "parallelism splits",
        )
    return None


def _check_stages(spec: TrainingSpec) -> Problem | None:
    model, pp, vpp = spec.model, spec.pipeline, spec.virtual_pipeline
    if pp > model.layers:
        return _bad("pipeline", f"pipeline {pp} is more than the {model.layers} layers of {model.name}")
    if pp * vpp > model.layers:
        return _bad(
            "virtualPipeline",
            f"virtualPipeline {vpp} is more than the {model.layers // pp} layers that each of {pp} stages of "
            f"{model.name} has",
        )
    if vpp > 1 and pp == 1:
        return _bad("virtualPipeline", f"virtualPipeline {vpp} needs a pipeline of at least 2 stages")
    given = spec.stage_layers
    if given is None:
        return None
    field = "spec.training.stageLayers"
    if len(given) != pp:
        return Problem("InvalidParallelism", field, f"stageLayers has {len(given)} entries for pipeline {pp}")
    if sum(given) != model.layers:
        message = f"stageLayers sum to {sum(given)}, and {model.name} has {model.layers} layers"
        return Problem("InvalidParallelism", field, message)
    if min(given) < vpp:
        message = f"stageLayers has a stage of {min(given)} layers, fewer than virtualPipeline {vpp}"
        return Problem("InvalidParallelism", field, message)
    return None


def _check_experts(spec: TrainingSpec, members: int) -> Problem | None:
    model, ep, etp = spec.model, spec.expert, spec.expert_tensor
    if not model.is_moe:
        for name, degree in (("expert", ep), ("expertTensor", etp)):
            if degree > 1:
                return _bad(name, f"{name} {degree} needs a model with routed experts, and {model.name} has none")
        return None
    if members % ep:
        data = members // spec.context
        over = f"data {data}" if spec.context == 1 else f"data {data} x context {spec.context} = {members}"
        return _bad("expert", f"expert {ep} does not divide {over}, over which experts are spread")
    if spec.context > 1 and math.gcd(ep, spec.context) not in (ep, spec.context):
        return _bad("expert", f"expert {ep} and context {spec.context} do not divide one another")
    if spec.tensor % etp:
        return _bad("expertTensor", f"expertTensor {etp} does not divide tensor {spec.tensor}")
    for kind in model.kinds:
        block = kind.feed_forward
        if block.experts % ep:
            return _bad("expert", f"expert {ep} does not divide the {block.experts} experts of {model.name}")
        if block.expert_width % etp:
            return _bad(
                "expertTensor",
                f"expertTensor {etp} does not divide the expert size {block.expert_width} of {model.name}",
            )
    return None


def _check_batch(spec: TrainingSpec, data: int) -> Problem | None:
    if _batch_rest(spec, data):
        return Problem(
            "InvalidParallelism",
            "spec.training.globalBatchSize",
            f"globalBatchSize {spec.global_batch_size} is not divisible by data {data} x microBatchSize "
            f"{spec.micro_batch_size} = {data * spec.micro_batch_size}",
        )
    return None


def _sequence_rest(spec: TrainingSpec) -> Number:
    return spec.sequence_length % (spec.tensor * spec.context)


def _batch_rest(spec: TrainingSpec, data: int) -> Number:
    return spec.global_batch_size % (data * spec.micro_batch_size)


def _bad(name: str, message: str) -> Problem:
    return Problem("InvalidParallelism", f"{_FIELD}.{name}", message)
