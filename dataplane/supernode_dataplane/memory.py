"""HBM of one die in training: what each pipeline stage holds, and how much must be recomputed to fit.

Weights and gradients of the die's own share, optimizer states sharded over the replicas (of routed experts over fewer),
activations in flight, and buffers. ``zero3`` shards weights and gradients as well and gathers two layers at a time.
1F1B holds ``stages - i`` micro-batches on stage i; interleaving holds 2 (stages - i - 1) + (v - 1) stages + 1 of the v
times smaller chunks. Recomputing a share r of the layers keeps their input only and one layer's working set.
Lengths and batches of the spec may be arrays of points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from supernode_dataplane.constants import BUFFER_BYTES, LOGIT_BYTES, OPTIMIZER_BYTES, WEIGHT_BYTES
from supernode_dataplane.layout import data_parallel, expert_replicas, replicas, stage_kinds
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.numeric import Number, any_true, at_least, at_most, choose, element
from supernode_dataplane.shares import LayerShare, layer_shares
from supernode_dataplane.state import Problem

__all__ = [
    "Fitted",
    "Memory",
    "StageParameters",
    "die_parameters",
    "does_not_fit",
    "fitted_memory",
    "in_flight",
    "plan_memory",
    "stage_parameters",
]

_GIB = 2.0**30
_GATHERED_LAYERS = 2.0
"""Layers whose weights a die holds whole with zero3: the one at work and the next."""


@dataclass(frozen=True, slots=True)
class StageParameters:
    """Parameters of a die of one stage."""

    dense: float
    """All but the routed experts."""
    expert: float

    @property
    def total(self) -> float:
        """Both."""
        return self.dense + self.expert


@dataclass(frozen=True, slots=True)
class Memory:
    """HBM of a die of each stage, and the share of activations that is recomputed so that the fullest fits."""

    recompute: Number
    used_bytes: tuple[Number, ...]
    parameters: tuple[StageParameters, ...]


@dataclass(frozen=True, slots=True)
class _Held:
    """Bytes on a die of one stage."""

    weights: float
    gradients: float
    optimizer: float
    logits: Number
    whole: Number
    """Activations with nothing recomputed."""
    saved: Number
    """Of these, what recomputing every layer saves."""
    working: Number
    """What the layer whose backward pass runs needs back."""

    @property
    def fixed(self) -> Number:
        """All but activations."""
        return self.weights + self.gradients + self.optimizer + self.logits + BUFFER_BYTES

    def total(self, recompute: Number) -> Number:
        """All, with a share of the layers recomputed."""
        return self.fixed + self.whole - self.saved * recompute + choose(recompute > 0, self.working, 0.0)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Memory at one point or at many, and whether it fits; where it does not, nothing is to be read from it."""

    memory: Memory
    fits: Number
    held: tuple[_Held, ...]
    """Of each stage."""

    def held_at(self, point: int) -> tuple[_Held, ...]:
        """Return what stages hold at one of many points."""
        return tuple(_Held(*(element(getattr(stage, name), point) for name in _Held.__slots__)) for stage in self.held)


def stage_parameters(spec: TrainingSpec) -> tuple[StageParameters, ...]:
    """Return the parameters of a die of each stage; key-value heads are replicated where tensor exceeds them."""
    return _parameters(spec, layer_shares(spec))


def _parameters(spec: TrainingSpec, shares: Sequence[LayerShare]) -> tuple[StageParameters, ...]:
    model, tp, stages = spec.model, spec.tensor, spec.pipeline
    dense, expert = [], []
    for counts in stage_kinds(spec):
        dense.append(sum(count * share.dense_parameters for count, share in zip(counts, shares, strict=True)))
        expert.append(sum(count * share.expert_parameters for count, share in zip(counts, shares, strict=True)))
    dense[0] += model.embedding_parameters / tp
    if not model.tied or stages > 1:
        dense[-1] += model.head_parameters / tp
    # Multi-token prediction joins a state with an embedding (2 h to h), and reads the embedding where it runs.
    dense[-1] += spec.mtp_layers * 2.0 * model.hidden**2 / tp
    if spec.mtp_layers and stages > 1:
        dense[-1] += model.embedding_parameters / tp
    return tuple(StageParameters(*both) for both in zip(dense, expert, strict=True))


def die_parameters(spec: TrainingSpec) -> tuple[float, ...]:
    """Return all parameters of a die of each stage."""
    return tuple(parameters.total for parameters in stage_parameters(spec))


def in_flight(spec: TrainingSpec, micro_batches: Number) -> tuple[Number, ...]:
    """Return the micro-batches whose activations a stage holds at most (fractions: chunks of them)."""
    stages, chunks = spec.pipeline, spec.virtual_pipeline
    if chunks == 1:
        return tuple(1.0 * at_most(micro_batches, stages - i) for i in range(stages))
    most = [2 * (stages - i - 1) + (chunks - 1) * stages + 1 for i in range(stages)]
    return tuple(at_most(micro_batches * chunks, n) / chunks for n in most)


def plan_memory(spec: TrainingSpec, dies: int, hbm_bytes: float) -> Memory | Problem:
    """Return what each stage uses with as much recompute as the spec says, or why it does not fit."""
    found = fitted_memory(spec, dies, hbm_bytes, layer_shares(spec))
    return found.memory if found.fits else does_not_fit(spec, dies, hbm_bytes, found.held)


def fitted_memory(spec: TrainingSpec, dies: int, hbm_bytes: float, shares: Sequence[LayerShare]) -> Fitted:
    """Return what each stage uses, and whether it fits, at one point or at many.

    ``shares`` are those of the spec (:func:`~supernode_dataplane.shares.shares_of`), arrays where its numbers are.
    """
    parameters = _parameters(spec, shares)
    held = _held(spec, dies, parameters, shares)
    recompute: Number = {"auto": 0.0, "none": 0.0, "full": 1.0}[spec.recompute]
    for stage in held if spec.recompute == "auto" else ():
        full = stage.total(0.0)
        if any_true(full > hbm_bytes):
            # One layer is whole again while its backward pass runs.
            needed = (full + stage.working - hbm_bytes) / stage.saved
            recompute = at_least(recompute, choose(full > hbm_bytes, needed, 0.0))
    share = at_most(recompute, 1.0)
    least = [stage.total(share) for stage in held]
    fits = recompute <= 1.0
    if spec.recompute != "auto":
        fits = reduce(at_least, least) <= hbm_bytes
    memory = Memory(share, tuple(at_most(size, hbm_bytes) for size in least), parameters)
    return Fitted(memory, fits, tuple(held))


def _held(
    spec: TrainingSpec, dies: int, parameters: Sequence[StageParameters], shares: Sequence[LayerShare]
) -> list[_Held]:
    shards, expert_shards = replicas(spec, dies), expert_replicas(spec, dies)
    micro_batches = spec.global_batch_size // (data_parallel(spec, dies) * spec.micro_batch_size)
    tokens = spec.sequence_length * spec.micro_batch_size / spec.context
    sharding = spec.optimizer_sharding
    held = []
    for stage, (own, flight, counts) in enumerate(
        zip(parameters, in_flight(spec, micro_batches), stage_kinds(spec), strict=True)
    ):
        sharded = own.dense / shards + own.expert / expert_shards
        present = sharded if sharding == "zero3" else own.total
        mine = [(count, share) for count, share in zip(counts, shares, strict=True) if count]
        largest = max((share.dense_parameters + share.expert_parameters for _, share in mine), default=0.0)
        gathered = _GATHERED_LAYERS * largest if sharding == "zero3" else 0.0
        last = stage == len(parameters) - 1
        held.append(
            _Held(
                weights=WEIGHT_BYTES * (present + gathered),
                gradients=spec.gradient_bytes * present,
                optimizer=OPTIMIZER_BYTES * (own.total if sharding == "none" else sharded),
                logits=LOGIT_BYTES * tokens * spec.model.vocab / spec.tensor if last else 0.0,
                whole=flight * sum(count * share.activation_bytes for count, share in mine),
                saved=flight * sum(count * (share.activation_bytes - share.kept_bytes) for count, share in mine),
                working=reduce(at_least, (share.activation_bytes - share.kept_bytes for _, share in mine), 0.0),
            )
        )
    return held


def does_not_fit(spec: TrainingSpec, dies: int, hbm_bytes: float, held: Sequence[_Held]) -> Problem:
    """Return that a point does not fit, with the arithmetic of what its fullest stage holds."""
    least = [stage.total(0.0 if spec.recompute == "none" else 1.0) for stage in held]
    stage = max(range(len(least)), key=least.__getitem__)
    mine = held[stage]
    over = "" if spec.optimizer_sharding == "none" else f" over data {replicas(spec, dies)}"
    parts = {
        "weights": mine.weights,
        "gradients": mine.gradients,
        f"optimizer{over}": mine.optimizer,
        "logits": mine.logits,
        "buffers": BUFFER_BYTES,
        "activations": least[stage] - mine.fixed,
    }
    arithmetic = " + ".join(f"{name} {size / _GIB:.1f}" for name, size in parts.items())
    how, field = "even with full recompute", "spec.training.parallelism"
    remedy = f"raise tensor, pipeline{', expert' if spec.model.is_moe else ''} or the number of dies"
    if spec.recompute == "none":
        how, field, remedy = "without recompute", "spec.training.recompute", f"let recompute be auto, {remedy}"
    return Problem(
        "DoesNotFit",
        field,
        f"{spec.model.name} needs {least[stage] / _GIB:.1f} GiB on a die of stage {stage} {how}, "
        f"and a die has {hbm_bytes / _GIB:.0f} GiB: {arithmetic}; {remedy}, or shorten sequenceLength or "
        "microBatchSize",
    )
