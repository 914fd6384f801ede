"""What `supernode plan` says of each phase: the best layouts with their expected errors, and what was rejected."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from supernode_cli.errors import CliError
from supernode_cli.inference_notes import format_notes
from supernode_cli.plan_failures import with_failures
from supernode_cli.plan_request import PlanRequest
from supernode_cli.plan_scenario import Document, inference_scenario, training_scenario
from supernode_cli.sources import sources_of
from supernode_dataplane.deployment_plan import Deployment
from supernode_dataplane.expected_error import deployment_error_percent, training_error_percent
from supernode_dataplane.figures import counted
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.planning import TrainingPlan, fewest_servers, search_training
from supernode_dataplane.planning_disaggregated import DisaggregatedLayout, plan_disaggregated
from supernode_dataplane.planning_inference import (
    MOST_PROMPTS,
    MOST_SEQUENCES,
    Rejected,
    layout_deployment,
    plan_inference,
)
from supernode_dataplane.pool_rates import deployment_rates
from supernode_dataplane.profile import Profile

__all__ = ["Planned", "planned"]

_GIB = 2.0**30
_ORDER = {"throughput": "most tokens/s first", "latency": "fastest first", "cards": "fewest cards first"}
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Planned:
    """The answer of a plan."""

    rows: Rows
    """The best layouts, as many as asked for."""
    legal: int
    rejected: Rows
    scenario: Document | str
    """The best layout as a scenario, or why it is none."""
    words: str
    """Stack and formats."""
    order: str
    sources: dict[str, Any]
    notes: tuple[str, ...] = ()
    """What held the batches of the layouts that are shown, beside memory and limits."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "stackAndFormats": self.words,
            "order": self.order,
            "layouts": self.rows,
            "legal": self.legal,
            "rejected": self.rejected,
            "notes": list(self.notes),
            "sources": self.sources,
        }


def planned(request: PlanRequest, top: int) -> Planned:
    """Return the best layouts of what is asked; CliError for cards that the machine does not have."""
    goal, profile = request.goal, request.profile
    if goal is None:
        return _training(request, top)
    hardware, stack, model = hardware_of(profile), request.stack, request.model
    rows: Rows
    if request.phase == "disaggregated":
        pairs, rejected = plan_disaggregated(model, hardware, stack, request.dies, goal)
        rows = [_pair(pair, request) for pair in pairs[:top]]
        shown, legal = [pair.deployment for pair in pairs[:top]], len(pairs)
    else:
        found, rejected = plan_inference(model, hardware, stack, request.dies, goal)
        shown, legal = [layout_deployment(layout, goal) for layout in found[:top]], len(found)
        rows = [_layout(each, layout.cards, request) for each, layout in zip(shown, found, strict=False)]
    scenario = inference_scenario(profile, model.name, shown[0]) if shown else "there is none"
    formats = goal.precision
    words = f"{stack.name}, weights {formats.weights}, activations {formats.activations}, KV cache {formats.kv_cache}"
    return Planned(
        rows,
        legal,
        [_rejection(entry) for entry in rejected],
        _as_asked(scenario, request),
        words,
        _ORDER[request.objective],
        sources_of(profile.name, [stack.name], request.figures),
        (*request.notes, *format_notes(formats, profile), *_caps(shown), *_equal(rows, request.objective)),
    )


def _as_asked(scenario: Document | str, request: PlanRequest) -> Document | str:
    """Return a plan's scenario with the machine, the model and the training of the file that it was made for."""
    scenario = with_failures(scenario, request.failed, request.healthy, request.profile)
    if isinstance(scenario, str):
        return scenario
    machine = {**scenario["machine"], **({"figures": request.figures} if request.figures else {})}
    scenario = {**scenario, "machine": machine, "model": request.model_section}
    if "training" in scenario:
        scenario["training"] = {**request.training_section, **scenario["training"]}
    return scenario


def _equal(rows: Rows, objective: str) -> tuple[str, ...]:
    """Return how many of the first layouts differ by less than what is known of them."""
    if not rows or objective == "cards":
        return ()
    times = [name for name in ("tpotMilliseconds", "ttftMilliseconds") if name in rows[0]]
    ranked = times[0] if objective == "latency" and times else "tokensPerSecond"
    best, error = rows[0][ranked], rows[0]["expectedErrorPercent"]
    same = sum(abs(row[ranked] - best) <= best * error / 100 for row in rows)
    if same < 2:
        return ()
    return (f"the first {same} differ by less than the expected error, {error:.0f} %: equal within it",)


def _caps(shown: list[Deployment]) -> tuple[str, ...]:
    """Return what held the batches that neither memory nor a limit did."""
    reading = [each.plan.prompts for each in shown if each.prefill is not None]
    running = [
        (each.plan.concurrency or 0) + float(each.decode.pool.groups) * each.decode.instances
        for each in shown
        if each.decode is not None
    ]
    notes = []
    if max(reading, default=0) >= MOST_PROMPTS:
        notes.append(
            f"a tensor group reads no more than {MOST_PROMPTS:,} prompts at once, promptsPerBatch of a workload"
        )
    if max(running, default=0) > MOST_SEQUENCES:
        notes.append(f"no more than {MOST_SEQUENCES:,} sequences run in all, load.concurrency of a workload")
    return tuple(notes)


def _name(pool: Any) -> str:
    parts = [counted(pool.dies, "die"), f"TP{pool.tensor}", f"DP{int(pool.groups)}"]
    if pool.expert > 1:
        parts.append(f"EP{pool.expert}")
        extra = [f"{int(pool.experts.redundant)} redundant"] if pool.experts.redundant else []
        extra += [f"{int(pool.experts.shared_ranks)} shared"] if pool.experts.shared_ranks else []
        parts[-1] += f" ({', '.join(extra)})" if extra else ""
    return " ".join(parts)


def _layout(deployment: Deployment, cards: int, request: PlanRequest) -> dict[str, Any]:
    """Return a row with the figures that a workload of this deployment has in its steady state."""
    (found,) = deployment.pools
    decodes = deployment.decode is not None
    rates = deployment_rates(deployment, 0 if decodes else found.instances, found.instances if decodes else 0)
    batch = float(rates.sequences) if decodes else deployment.plan.prompts
    return {
        "layout": _name(found.pool),
        "instances": found.instances,
        "cards": cards,
        "batchPerCard": round(batch * float(found.pool.groups) / float(found.pool.cards), 3),
        **_rate(float(rates.tokens_per_second), cards),
        "expectedErrorPercent": _error(deployment, request.healthy),
        **({"tpotMilliseconds": round(float(rates.tpot_seconds) * 1e3, 3)} if decodes else {}),
        **({"ttftMilliseconds": round(float(rates.ttft_seconds) * 1e3, 3)} if request.phase != "decode" else {}),
        "hbmGibibytesPerDie": _hbm(request.profile, float(rates.fullest.used_bytes)),
    }


def _error(deployment: Deployment, profile: Profile) -> float:
    """Return the expected error, percent: that of a healthy machine, as workloads have it."""
    hardware = hardware_of(profile)
    pools = {found.role: replace(found, pool=replace(found.pool, hardware=hardware)) for found in deployment.pools}
    return round(
        deployment_error_percent(replace(deployment, prefill=pools.get("prefill"), decode=pools.get("decode"))), 1
    )


def _rate(tokens_per_second: float, cards: int) -> dict[str, float]:
    """Return a rate in all and on each card that works."""
    return {
        "tokensPerSecond": round(tokens_per_second, 2),
        "tokensPerSecondPerCard": round(tokens_per_second / cards, 2),
    }


def _hbm(profile: Profile, used_bytes: float) -> float:
    """Return the HBM of the fullest die, of which an idle one has some in use too."""
    return round(max(profile.hbm_idle_bytes, used_bytes) / _GIB, 2)


def _pair(pair: DisaggregatedLayout, request: PlanRequest) -> dict[str, Any]:
    deployment, rates = pair.deployment, pair.rates
    prefill, decode = deployment.prefill, deployment.decode
    assert prefill is not None
    assert decode is not None
    cards = float(decode.dies) / decode.dies_per_card
    running = rates.sequences * float(decode.pool.groups) * decode.instances
    return {
        "prefill": f"{prefill.instances} x {_name(prefill.pool)}",
        "decode": f"{decode.instances} x {_name(decode.pool)}",
        "cards": pair.cards,
        "batchPerCard": round(running / cards, 3),
        **_rate(float(rates.tokens_per_second), pair.cards),
        "expectedErrorPercent": _error(deployment, request.healthy),
        "requestsPerSecond": round(rates.tokens_per_second / deployment.plan.output_tokens, 3),
        "tpotMilliseconds": round(rates.tpot_seconds * 1e3, 3),
        "ttftMilliseconds": round(rates.ttft_seconds * 1e3, 3),
    }


def _rejection(entry: Rejected) -> dict[str, Any]:
    return {"layout": _name(entry.pool), "reason": entry.reason, "why": entry.message}


def _training(request: PlanRequest, top: int) -> Planned:
    spec, profile, dies, demand = request.spec, request.profile, request.dies, request.demand or 0.0
    assert spec is not None
    if request.objective == "cards":
        most = dies // profile.dies_per_server
        if not most:
            cards = dies // profile.dies_per_package
            raise CliError(f"plan: --cards {cards} is less than a server of {profile.name}; give more")
        servers, found = fewest_servers(profile, spec, most, demand=demand, top=top)
        dies = servers * profile.dies_per_server
    else:
        found = search_training(profile, spec, dies, top=top)
    rows = [_trained(request, best, dies) for best in found.best if best.tokens_per_second >= demand]
    scenario = training_scenario(profile, request.model.name, found.best[0].spec, dies) if rows else "there is none"
    given = counted(dies // profile.dies_per_package, "card")
    rejected = [
        {"layout": _split(plan, dies), "reason": "memory", "why": plan.problem.message}
        for plan in found.rejected
        if plan.problem is not None
    ]
    rejected += [
        {
            "layout": _split(plan, dies),
            "reason": "limit",
            "why": f"makes {plan.tokens_per_second:,.0f} tokens/s on {given}",
        }
        for plan in found.best
        if plan.tokens_per_second < demand
    ]
    return Planned(
        rows,
        found.fitting,
        rejected,
        _as_asked(scenario, request),
        request.stack.name,
        _ORDER[request.objective],
        sources_of(profile.name, [request.stack.name], request.figures),
        _equal(rows, request.objective),
    )


def _split(found: TrainingPlan, dies: int) -> str:
    spec = found.spec
    data = dies // (spec.tensor * spec.pipeline * spec.context)
    more = f" CP{spec.context}" if spec.context > 1 else ""
    more += f" EP{spec.expert}" if spec.expert > 1 else ""
    chunks = f"VPP{spec.virtual_pipeline} micro-batch {spec.micro_batch_size}"
    return f"TP{spec.tensor} PP{spec.pipeline} DP{data}{more} {chunks}"


def _trained(request: PlanRequest, found: TrainingPlan, dies: int) -> dict[str, Any]:
    profile = request.profile
    cards = math.ceil(dies / profile.dies_per_package)
    return {
        "layout": _split(found, dies),
        "cards": cards,
        **_rate(found.tokens_per_second, cards),
        "expectedErrorPercent": round(training_error_percent(request.healthy, found.spec, dies), 1),
        "stepSeconds": round(found.step.seconds, 4) if found.step else None,
        "recomputePercent": round(found.recompute * 100, 1),
        "hbmGibibytesPerDie": _hbm(profile, found.hbm_bytes),
    }
