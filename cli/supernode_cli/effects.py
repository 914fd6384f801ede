"""What a scenario says that changes nothing of its answer: an error, or a note beside the answer.

    an error   the model or the mode has no such thing, or the field that it is about is not given
    a note     the field that it is about is given, as a number that leaves it nothing to do: one supernode, no reuse;
               a sweep over that number needs no scenario of its own for this point

A field that says what is so without it (``microBatches: auto``, ``oversubscription: 1``) is neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from supernode_api.inference import MicroBatches
from supernode_cli.errors import ScenarioError
from supernode_cli.scenario import Machine, Scenario, ScenarioTraining
from supernode_cli.scenario_inference import ScenarioInference
from supernode_dataplane.changed_profile import far_figures
from supernode_dataplane.deployment_plan import DeploymentPlan
from supernode_dataplane.exchange import over_network_card
from supernode_dataplane.hardware import Hardware, hardware_of
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.profile import Profile
from supernode_dataplane.stacks import load_stack

__all__ = ["effects"]

_ABOUT: Final = (("burst", "rate", "burst"), ("trace_format", "trace", "traceFormat"), ("speed", "trace", "speed"))
"""What in a load is about another field of it."""


def effects(scenario: Scenario, plan: DeploymentPlan | TrainingSpec | None, profile: Profile) -> tuple[str, ...]:
    """Return notes on what a scenario that runs says without effect; ScenarioError for what can have none."""
    notes = [*_of_machine(scenario.machine)]
    if scenario.training is not None and isinstance(plan, TrainingSpec):
        notes += _of_training(scenario.training, plan)
    if scenario.inference is not None and isinstance(plan, DeploymentPlan):
        notes += _of_inference(scenario.inference, plan)
        for role in ("decode", "prefill"):
            pool = getattr(scenario.inference, role)
            if pool is not None:
                notes += _of_pool(pool, plan, f"inference.{role}", hardware_of(profile))
    return tuple(notes)


def _of_machine(machine: Machine) -> Iterator[str]:
    yield from (f"machine.figures.{words}" for words in far_figures(machine.profile, machine.figures))
    if machine.oversubscription > 1 and machine.supernodes == 1:
        yield _idle(
            "machine.oversubscription",
            "is about the network between supernodes",
            "machine.supernodes above 1" if "supernodes" not in machine.model_fields_set else "",
            "there is one",
        )


def _of_training(training: ScenarioTraining, spec: TrainingSpec) -> Iterator[str]:
    if not spec.model.is_moe:
        if (training.expert_imbalance or 1.0) > 1.0:
            raise _impossible("training.expertImbalance", spec.model.name)
        if training.overlap_exchange:
            raise _impossible("training.overlapExchange", spec.model.name)
    elif training.overlap_exchange and spec.expert == 1:
        yield _idle(
            "training.overlapExchange",
            "is about the exchange of tokens with experts on other dies",
            "training.parallelism.expert above 1" if "expert" not in training.parallelism.model_fields_set else "",
            "parallelism.expert is 1",
        )


def _of_inference(inference: ScenarioInference, plan: DeploymentPlan) -> Iterator[str]:
    if plan.mode == "Prefill" and inference.speculation is not None:
        raise ScenarioError("inference.speculation", "is not for mode Prefill, which generates nothing: leave it out")
    cache = inference.cache
    for name, value in (("domainDies", cache.domain_dies), ("gigabytesPerSecond", cache.gigabytes_per_second)):
        if value is not None and not cache.reuse_percent:
            yield _idle(
                f"inference.cache.{name}",
                "is about prompts whose beginnings are cached",
                "inference.cache.reusePercent" if "reuse_percent" not in cache.model_fields_set else "",
                "reusePercent is 0",
            )
    load = inference.load
    for name, other, said in _ABOUT if load is not None else ():
        if getattr(load, name) is not None and getattr(load, other) is None:
            raise ScenarioError(f"inference.load.{said}", f"is about a {other}: give load.{other} too, or leave it out")
    if load is not None and load.prompts is not None:
        yield "inference.load.prompts is for supernode serve-sim: these figures are the steady state"
    named = sorted(_said(inference.engine))
    if named:
        what = "is" if len(named) == 1 else "are"
        fields = ", ".join(f"inference.engine.{name}" for name in named)
        yield f"{fields} {what} for supernode serve-sim: these figures are the steady state"


def _of_pool(pool: Any, plan: DeploymentPlan, path: str, hardware: Hardware) -> Iterator[str]:
    model, layout, experts = plan.model, pool.parallelism, pool.experts
    share = getattr(pool, "attention_core_percent", None)
    two = pool.micro_batches == MicroBatches.TWO
    if not model.is_moe:
        for given, name in (
            (layout.expert_tensor > 1, "parallelism.expertTensor"),
            (two, "microBatches"),
            (share is not None, "attentionCorePercent"),
        ):
            if given:
                raise _impossible(f"{path}.{name}", model.name)
        return
    alone = layout.expert == 1
    for given, name, about in (
        (two, "microBatches", "hides the exchange of tokens with experts on other dies"),
        (share is not None, "attentionCorePercent", "is about experts that run beside attention"),
        (experts.imbalance_percent is not None and path.endswith("decode"), "experts.imbalancePercent", _RANKS),
    ):
        if given and alone:
            yield _idle(f"{path}.{name}", about, "", "parallelism.expert is 1")
    stack = load_stack(plan.stack)
    if share is not None and not alone and over_network_card(hardware, stack):
        yield _idle(f"{path}.attentionCorePercent", "shares cores", "", f"stack {stack.name} exchanges tokens without")
    elif share is not None and not alone and not two and not stack.two_streams and pool.split is None:
        reason = f"stack {stack.name} runs one micro-batch; give microBatches two"
        yield _idle(f"{path}.attentionCorePercent", "is about two micro-batches", "", reason)


_RANKS: Final = "is about expert ranks"


def _said(model: Any) -> list[str]:
    """Return what a model is given that is not its default, by its names in a file."""
    fields = type(model).model_fields
    given = (name for name in model.model_fields_set if getattr(model, name) != fields[name].default)
    return [fields[name].alias or name for name in given]


def _impossible(field: str, model: str) -> ScenarioError:
    return ScenarioError(field, f"{model} has no experts: leave it out")


def _idle(field: str, about: str, wanted: str, reason: str) -> str:
    """Return the note on a field without effect; ScenarioError when what it needs (``wanted``) is not given at all."""
    if wanted:
        raise ScenarioError(field, f"{about}: give {wanted}, or leave it out")
    return f"{field} changes nothing here: it {about}, and {reason}"
