"""How a model is split over dies, and whether that is legal: the arithmetic that users get wrong.

tensor x pipeline x data = dies; the dies of a job in rank order are numbered tensor first, then data, then pipeline.
"""

from __future__ import annotations

from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.state import Problem

__all__ = ["check_layout", "data_parallel", "stage_layers"]

_FIELD = "spec.training.parallelism"


def data_parallel(spec: TrainingSpec, dies: int) -> int:
    """Return the data parallel degree: as given, else dies / (tensor x pipeline)."""
    return spec.data if spec.data is not None else dies // (spec.tensor * spec.pipeline)


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


def check_layout(spec: TrainingSpec, dies: int, dies_text: str) -> Problem | None:
    """Return what is wrong with the split over ``dies`` (``dies_text`` says how they came about), or None."""
    tp, pp = spec.tensor, spec.pipeline
    product = f"tensor {tp} x pipeline {pp} = {tp * pp}"
    if spec.data is not None and tp * pp * spec.data != dies:
        return _bad(
            "data",
            f"tensor {tp} x pipeline {pp} x data {spec.data} = {tp * pp * spec.data} is not {dies_text}; "
            "leave data out or change one of them",
        )
    if dies < tp * pp or dies % (tp * pp):
        return _bad("tensor", f"{product} does not divide {dies_text}; choose degrees whose product divides it")
    return _check_model(spec) or _check_batch(spec, dies // (tp * pp))


def _check_model(spec: TrainingSpec) -> Problem | None:
    model, tp, pp, vpp = spec.model, spec.tensor, spec.pipeline, spec.virtual_pipeline
    attention, block = model.groups[0].attention, model.groups[0].feed_forward
    if len(model.groups) > 1 or model.is_moe or attention.kind != "full":
        return Problem(
            "InvalidModel", "spec.model", f"training of {model.name} is not modelled yet: choose a dense one"
        )
    if tp > attention.heads:
        return _bad("tensor", f"tensor {tp} is more than the {attention.heads} attention heads of {model.name}")
    if attention.heads % tp:
        return _bad("tensor", f"tensor {tp} does not divide the {attention.heads} attention heads of {model.name}")
    if attention.kv_heads % tp and tp % attention.kv_heads:
        return _bad(
            "tensor",
            f"tensor {tp} and the {attention.kv_heads} key-value heads of {model.name} do not divide one another",
        )
    if block.width % tp:
        return _bad("tensor", f"tensor {tp} does not divide the feed-forward size {block.width} of {model.name}")
    if spec.sequence_length % tp:
        return _bad(
            "tensor",
            f"tensor {tp} does not divide sequenceLength {spec.sequence_length}, which sequence parallelism splits",
        )
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
    return None


def _check_batch(spec: TrainingSpec, data: int) -> Problem | None:
    if spec.global_batch_size % (data * spec.micro_batch_size):
        return Problem(
            "InvalidParallelism",
            "spec.training.globalBatchSize",
            f"globalBatchSize {spec.global_batch_size} is not divisible by data {data} x microBatchSize "
            f"{spec.micro_batch_size} = {data * spec.micro_batch_size}",
        )
    return None


def _bad(name: str, message: str) -> Problem:
    return Problem("InvalidParallelism", f"{_FIELD}.{name}", message)
