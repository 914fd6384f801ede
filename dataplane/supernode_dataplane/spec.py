"""A SuperNodeWorkload's spec as a training run: fields read with the API's bounds, then model, layout, memory checked.

The API server validates objects with the same bounds; scenario files and objects from elsewhere meet them here. No
pydantic: building the API's models would double the cold start of every process that only computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar, get_args

from supernode_dataplane.architecture import Architecture
from supernode_dataplane.catalogue import load_model, parse_config
from supernode_dataplane.constants import FIXED_LAYER_SECONDS
from supernode_dataplane.errors import ModelError
from supernode_dataplane.layout import check_layout
from supernode_dataplane.machine import GradientType, OptimizerSharding, Recompute, TrainingSpec
from supernode_dataplane.profile import Profile
from supernode_dataplane.state import Problem
from supernode_dataplane.training import plan_training

__all__ = ["check_training", "expected_ranks", "parse_training"]

_MAX_CONFIG: Final = 16384
_MAX_IMBALANCE: Final = 1000.0
_LAYOUT: Final = "spec.training.parallelism"
T = TypeVar("T", bound=str)


class _FieldError(Exception):
    def __init__(self, field: str, message: str) -> None:
        self.problem = Problem("InvalidObject", field, f"{field} {message}")
        super().__init__(message)


def parse_training(spec: Mapping[str, Any]) -> TrainingSpec | Problem:
    """Return the training run that a spec describes, or what is wrong with it."""
    try:
        training = _mapping(spec, "training", "spec")
        layout = _mapping(training, "parallelism", "spec.training", {})
        model = _model(_mapping(spec, "model", "spec"))
        stack = spec.get("stack", "vendor-tuned")
        if not isinstance(stack, str) or stack not in FIXED_LAYER_SECONDS:
            raise _FieldError("spec.stack", f"must be one of {', '.join(sorted(FIXED_LAYER_SECONDS))}")
        return TrainingSpec(
            model=model,
            stack=stack,
            sequence_length=_whole(training, "sequenceLength", "spec.training", 1 << 24),
            global_batch_size=_whole(training, "globalBatchSize", "spec.training", 1 << 20),
            micro_batch_size=_whole(training, "microBatchSize", "spec.training", 4096, 1),
            tensor=_whole(layout, "tensor", _LAYOUT, 4096, 1),
            pipeline=_whole(layout, "pipeline", _LAYOUT, 4096, 1),
            virtual_pipeline=_whole(layout, "virtualPipeline", _LAYOUT, 256, 1),
            data=None if layout.get("data") is None else _whole(layout, "data", _LAYOUT, 1 << 16),
            expert=_whole(layout, "expert", _LAYOUT, 4096, 1),
            expert_tensor=_whole(layout, "expertTensor", _LAYOUT, 4096, 1),
            context=_whole(layout, "context", _LAYOUT, 4096, 1),
            optimizer_sharding=_choice(training, "optimizerSharding", get_args(OptimizerSharding), "zero1"),
            gradient_type=_choice(training, "gradientType", get_args(GradientType), "fp32"),
            recompute=_choice(training, "recompute", get_args(Recompute), "auto"),
            stage_layers=_stage_layers(training),
            expert_imbalance=_imbalance(training),
        )
    except ModelError as error:
        return Problem(error.reason, error.field, str(error))
    except _FieldError as error:
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


def _model(ref: Mapping[str, Any]) -> Architecture:
    name, config = ref.get("name"), ref.get("config")
    if (name is None) == (config is None):
        raise _FieldError("spec.model", "needs exactly one of name and config")
    if name is not None:
        if not isinstance(name, str):
            raise _FieldError("spec.model.name", "must be text")
        return load_model(name)
    if not isinstance(config, str) or len(config) > _MAX_CONFIG:
        raise _FieldError("spec.model.config", f"must be a config.json as text of at most {_MAX_CONFIG} characters")
    return parse_config(config)


def _mapping(
    owner: Mapping[str, Any], key: str, path: str, default: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    value = owner.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, Mapping):
        raise _FieldError(f"{path}.{key}", "is missing" if value is None else "must be an object")
    return value


def _choice(owner: Mapping[str, Any], key: str, known: tuple[T, ...], default: T) -> T:
    value = owner.get(key)
    if value is None:
        return default
    for choice in known:
        if value == choice:
            return choice
    raise _FieldError(f"spec.training.{key}", f"must be one of {', '.join(known)}, not {str(value)[:40]}")


def _stage_layers(training: Mapping[str, Any]) -> tuple[int, ...] | None:
    given = training.get("stageLayers")
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not 1 <= len(given) <= 4096:
        raise _FieldError("spec.training.stageLayers", "must be a list of layers, one number for each pipeline stage")
    stages = {str(stage): layers for stage, layers in enumerate(given)}
    return tuple(_whole(stages, stage, "spec.training.stageLayers", 4096) for stage in stages)


def _imbalance(training: Mapping[str, Any]) -> float:
    """Return the load of the hottest expert parallel die over the mean; text too, as the API has no floats."""
    value = training.get("expertImbalance")
    if value is None:
        return 1.0
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 1.0 <= number <= _MAX_IMBALANCE:
        raise _FieldError(
            "spec.training.expertImbalance", f"must be from 1 (even) to {_MAX_IMBALANCE:.0f}, not {str(value)[:40]}"
        )
    return number


def _whole(owner: Mapping[str, Any], key: str, path: str, most: int, default: int | None = None) -> int:
    value = owner.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        shown = "is missing" if value is None else f"must be a whole number from 1 to {most}, not {str(value)[:40]}"
        raise _FieldError(f"{path}.{key}", shown)
    return value
