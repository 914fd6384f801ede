"""The traditional cluster that a supernode is compared with, frozen before it was compared.

Same model, sequence length, global and micro-batch, stack and virtual pipeline, on as many cards of the profile
atlas-a2-cluster as the supernode's share has dies (a 910B is one die); tensor parallelism at most inside a server of 8
and a pipeline that keeps tensor x pipeline the same; recompute as memory demands; no fault, whole servers. For
LLaMA-3.1-405B on 768 dies this is TP8 PP16 DP6, the frozen scenario of ``data/scenarios/baseline.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from supernode_dataplane.layout import check_layout
from supernode_dataplane.machine import PartInput, RankInput, TrainingSpec, WorkloadInput
from supernode_dataplane.packaged import read_data
from supernode_dataplane.profile import Profile, load_profile
from supernode_dataplane.solving import solve
from supernode_dataplane.spec import parse_training
from supernode_dataplane.state import Problem, WorkloadResult

__all__ = [
    "BASELINE_PROFILE",
    "baseline_ratio",
    "baseline_result",
    "baseline_scenario",
    "baseline_training",
    "ratio_to_baseline",
]

BASELINE_PROFILE: Final = "atlas-a2-cluster"


def baseline_scenario() -> dict[str, Any]:
    """Return the frozen scenario: machine, model, stack and training as in a scenario file."""
    scenario: dict[str, Any] = read_data("scenarios", "baseline.yaml")
    return scenario


def baseline_training(training: TrainingSpec) -> TrainingSpec:
    """Return the same training laid out for servers of 8 cards."""
    most = min(training.tensor, load_profile(BASELINE_PROFILE).dies_per_server)
    product, model = training.tensor * training.pipeline, training.model
    heads = {group.attention.heads for group in model.kinds}
    tensor = next(t for t in range(most, 0, -1) if product % t == 0 and all(n % t == 0 for n in heads))
    pipeline = product // tensor
    chunks = min(training.virtual_pipeline, max(1, model.layers // pipeline)) if pipeline > 1 else 1
    stages = training.stage_layers if pipeline == training.pipeline else None
    experts = training.expert_tensor if tensor % training.expert_tensor == 0 else 1
    return replace(
        training,
        tensor=tensor,
        pipeline=pipeline,
        virtual_pipeline=chunks,
        data=None,
        stage_layers=stages,
        expert_tensor=experts,
    )


def baseline_result(training: TrainingSpec, dies: int) -> WorkloadResult | None:
    """Return what the same training gets on the traditional cluster; None when it has no layout or does not fit."""
    profile = load_profile(BASELINE_PROFILE)
    spec = baseline_training(training)
    if dies > profile.dies or check_layout(spec, dies, "the dies") is not None:
        return None
    per_server = profile.dies_per_server
    parts = [(server, min(per_server, dies - server * per_server)) for server in range(-(-dies // per_server))]
    ranks = tuple(RankInput(server, True, (PartInput(server, tuple(range(count))),)) for server, count in parts)
    result = solve(profile, (), (WorkloadInput("baseline/baseline", spec, ranks),)).workloads[0]
    return result if result.tokens_per_second > 0 else None


def baseline_ratio(training: TrainingSpec, dies: int, tokens_per_second_per_card: float) -> tuple[float, str] | None:
    """Return rate per card over the baseline's, with the baseline in words; None when there is none."""
    result = baseline_result(training, dies)
    if result is None or tokens_per_second_per_card <= 0:
        return None
    spec = baseline_training(training)
    data = dies // (spec.tensor * spec.pipeline)
    words = (
        f"{dies} x Ascend 910B in servers of 8 with RoCE, TP{spec.tensor} PP{spec.pipeline} DP{data} "
        f"VPP{spec.virtual_pipeline}, {result.tokens_per_second_per_card:.1f} tokens/s a card, "
        f"{result.recompute_fraction * 100:.0f} % of activations recomputed"
    )
    return tokens_per_second_per_card / result.tokens_per_second_per_card, words


def ratio_to_baseline(profile: Profile, spec: Mapping[str, Any], result: WorkloadResult) -> tuple[float, str] | None:
    """Return a result's ratio to the traditional cluster, for a SuperNodeWorkload.spec; None when there is none."""
    training = parse_training(spec)
    if isinstance(training, Problem) or profile.name == BASELINE_PROFILE:
        return None
    return baseline_ratio(training, result.dies, result.tokens_per_second_per_card)
