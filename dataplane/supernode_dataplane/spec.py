"""A SuperNodeWorkload's spec as a training run: fields read with the API's bounds, then model, layout, memory checked.

The API server validates objects with the same bounds; scenario files and objects from elsewhere meet them here. No
pydantic: building the API's models would double the cold start of every process that only computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, get_args

from supernode_dataplane.errors import ModelError
from supernode_dataplane.layout import check_layout
from supernode_dataplane.machine import TRAINED_IMBALANCE, GradientType, OptimizerSharding, Recompute, TrainingSpec
from supernode_dataplane.profile import Profile
from supernode_dataplane.raw_fields import FieldError, read_choice, read_mapping, read_model, read_whole
from supernode_dataplane.stacks import stack_names
from supernode_dataplane.state import Problem
from supernode_dataplane.training import plan_training

__all__ = ["check_training", "expected_ranks", "parse_training"]

_MAX_IMBALANCE: Final = 1000.0
_LAYOUT: Final = "spec.training.parallelism"


def parse_training(spec: Mapping[str, Any]) -> TrainingSpec | Problem:
    """Return the training run that a spec describes, or what is wrong with it."""
    try:
        training = read_mapping(spec, "training", "spec")
        layout = read_mapping(training, "parallelism", "spec.training", {})
        model = read_model(read_mapping(spec, "model", "spec"))
        stack = spec.get("stack", "vendor-tuned")
        if not isinstance(stack, str) or stack not in stack_names():
            raise FieldError("spec.stack", f"must be one of {', '.join(stack_names())}")
        return TrainingSpec(
            model=model,
            stack=stack,
            sequence_length=read_whole(training, "sequenceLength", "spec.training", 1 << 24),
            global_batch_size=read_whole(training, "globalBatchSize", "spec.training", 1 << 20),
            micro_batch_size=read_whole(training, "microBatchSize", "spec.training", 4096, 1),
            tensor=read_whole(layout, "tensor", _LAYOUT, 4096, 1),
            pipeline=read_whole(layout, "pipeline", _LAYOUT, 4096, 1),
            virtual_pipeline=read_whole(layout, "virtualPipeline", _LAYOUT, 256, 1),
            data=None if layout.get("data") is None else read_whole(layout, "data", _LAYOUT, 1 << 16),
            expert=read_whole(layout, "expert", _LAYOUT, 4096, 1),
            expert_tensor=read_whole(layout, "expertTensor", _LAYOUT, 4096, 1),
            context=read_whole(layout, "context", _LAYOUT, 4096, 1),
            optimizer_sharding=read_choice(
                training, "optimizerSharding", "spec.training", get_args(OptimizerSharding), "zero1"
            ),
            gradient_type=read_choice(training, "gradientType", "spec.training", get_args(GradientType), "fp32"),
            recompute=read_choice(training, "recompute", "spec.training", get_args(Recompute), "auto"),
            stage_layers=_stage_layers(training),
            expert_imbalance=_imbalance(training),
            overlap_exchange=training.get("overlapExchange") is True,
            mtp_layers=read_whole(training, "mtpLayers", "spec.training", 16, 0, least=0),
            hot_rank=training.get("expertImbalance") is not None,
        )
    except ModelError as error:
        return Problem(error.reason, error.field, error.of_spec)
    except FieldError as error:
        return error.problem


def check_training(profile: Profile, training: TrainingSpec, dies: int, dies_text: str) -> Problem | None:
    """Return why a training run can never work on so many dies, or None."""
    if dies < 1:
        return Problem("InvalidParallelism", "spec.pods", "a training run needs at least one die")
    problem = check_layout(training, dies, dies_text)
    if problem is None:
        plan = plan_training(profile, training, dies)
        problem = plan if isinstance(plan, Problem) else None
    return problem


def expected_ranks(spec: Mapping[str, Any]) -> int | None:
    """Return how many ranks a managed workload must have; None for adopted pods."""
    pods = spec.get("pods")
    managed = pods.get("managed") if isinstance(pods, Mapping) else None
    nodes = managed.get("nodes") if isinstance(managed, Mapping) else None
    return nodes if isinstance(nodes, int) and not isinstance(nodes, bool) and nodes > 0 else None


def _stage_layers(training: Mapping[str, Any]) -> tuple[int, ...] | None:
    given = training.get("stageLayers")
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not 1 <= len(given) <= 4096:
        raise FieldError("spec.training.stageLayers", "must be a list of layers, one number for each pipeline stage")
    stages = {str(stage): layers for stage, layers in enumerate(given)}
    return tuple(read_whole(stages, stage, "spec.training.stageLayers", 4096) for stage in stages)


def _imbalance(training: Mapping[str, Any]) -> float:
    """Return the load of the hottest expert parallel die over the mean; text too, as the API has no floats."""
    value = training.get("expertImbalance")
    if value is None:
        return TRAINED_IMBALANCE
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 1.0 <= number <= _MAX_IMBALANCE:
        raise FieldError(
            "spec.training.expertImbalance", f"must be from 1 (even) to {_MAX_IMBALANCE:.0f}, not {str(value)[:40]}"
        )
    return number
