"""`supernode plan`: the best parallelism and batch for a model on a machine, and what was rejected and why."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

import click

from supernode_cli.errors import CliError

if TYPE_CHECKING:
    from supernode_dataplane.planning import TrainingPlan
    from supernode_dataplane.planning_inference import InferenceLayout, Rejected

__all__ = ["plan"]

_GIB = 2.0**30
Rows = list[dict[str, Any]]


@click.command()
@click.argument("phase", type=click.Choice(["decode", "prefill", "training"]))
@click.option("--model", required=True, help="Name in the catalogue.")
@click.option("--machine", default="cloudmatrix-384", show_default=True, help="Hardware profile.")
@click.option("--stack", default="vendor-tuned", show_default=True, help="Software stack.")
@click.option("--cards", type=click.IntRange(1, 65536), help="Packages; absent: the whole machine.")
@click.option("--input", "input_tokens", type=click.IntRange(1, 10_000_000), default=4096, show_default=True)
@click.option("--output-tokens", type=click.IntRange(1, 10_000_000), default=256, show_default=True)
@click.option("--tpot-ms", type=click.FloatRange(0, min_open=True), help="Decode: limit of the time per output token.")
@click.option("--ttft-ms", type=click.FloatRange(0, min_open=True), help="Prefill: limit for a prompt in an idle pool.")
@click.option("--drafts", type=click.IntRange(0, 16), default=0, show_default=True, help="Draft tokens of a step.")
@click.option(
    "--accepted", type=click.FloatRange(0, 16), default=0.0, show_default=True, help="Accepted of them, mean."
)
@click.option("--weights", type=click.Choice(["int8", "bf16", "fp8", "int4"]), default="int8", show_default=True)
@click.option("--sequence-length", type=click.IntRange(1, 16_777_216), default=4096, show_default=True)
@click.option("--global-batch-size", type=click.IntRange(1, 1_048_576), default=1536, show_default=True)
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="Layouts to show.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def plan(phase: str, output: str, top: int, **wanted: Any) -> None:
    """Find the fastest legal layout of PHASE, with the memory arithmetic of what does not fit."""
    for name, phase_of_it in (("tpot_ms", "decode"), ("ttft_ms", "prefill")):
        limit = wanted[name]
        if limit is None:
            continue
        flag = f"--{name.replace('_', '-')}"
        if not math.isfinite(limit):
            raise CliError(f"plan: {flag} must be a number of milliseconds, not {limit}")
        if phase != phase_of_it:
            raise CliError(f"plan: {flag} is a limit of {phase_of_it}, not of {phase}: leave it out")
    try:
        rows, rejected = _training(wanted) if phase == "training" else _inference(phase, wanted)
    except _known_errors() as error:
        raise CliError(f"plan: {error}") from None
    if not rows:
        raise CliError(f"plan: no layout is possible; {_why(rejected)}")
    if output == "json":
        click.echo(json.dumps({"layouts": rows[:top], "legal": len(rows), "rejected": rejected}, indent=2))
        return
    _print(phase, wanted, rows, rejected, top)


def _known_errors() -> tuple[type[Exception], ...]:
    from supernode_dataplane.errors import DataplaneError

    return (DataplaneError,)


def _why(rejected: Rows) -> str:
    if not rejected:
        return "no split of the lattice divides these cards and this batch; change --cards or --global-batch-size"
    last = rejected[-1]
    return f"the largest one, {last['layout']}: {last['why']}; give more cards, fewer tokens or a looser limit"


def _dies(wanted: dict[str, Any]) -> int:
    from supernode_dataplane.profile import load_profile

    profile = load_profile(wanted["machine"])
    cards = wanted["cards"] or profile.packages
    if cards > profile.packages:
        raise CliError(f"plan: --cards {cards} is more than the {profile.packages} of {profile.name}")
    return int(cards * profile.dies_per_package)


def _inference(phase: str, wanted: dict[str, Any]) -> tuple[Rows, Rows]:
    from supernode_dataplane.catalogue import load_model
    from supernode_dataplane.deployment import Precision, Speculation
    from supernode_dataplane.hardware import hardware_of
    from supernode_dataplane.planning_inference import InferenceGoal, plan_inference
    from supernode_dataplane.profile import load_profile
    from supernode_dataplane.stacks import load_stack

    if wanted["accepted"] > wanted["drafts"]:
        raise CliError(f"plan: --accepted {wanted['accepted']:g} is more than --drafts {wanted['drafts']}")
    weights = wanted["weights"]
    goal = InferenceGoal(
        phase=phase,
        input_tokens=wanted["input_tokens"],
        output_tokens=wanted["output_tokens"],
        tpot_seconds=(wanted["tpot_ms"] or float("inf")) / 1e3,
        ttft_seconds=(wanted["ttft_ms"] or float("inf")) / 1e3,
        speculation=Speculation(drafts=wanted["drafts"], accepted=wanted["accepted"]),
        precision=Precision(weights=weights, activations="int8" if weights == "int4" else weights),
    )
    hardware = hardware_of(load_profile(wanted["machine"]))
    model, stack = load_model(wanted["model"]), load_stack(wanted["stack"])
    found, rejected = plan_inference(model, hardware, stack, _dies(wanted), goal)
    return [_layout(layout, phase) for layout in found], [_rejection(entry) for entry in rejected]


def _name(pool: Any) -> str:
    parts = [f"{pool.dies} dies", f"TP{pool.tensor}", f"DP{int(pool.groups)}"]
    if pool.expert > 1:
        parts.append(f"EP{pool.expert}")
        extra = [f"{int(pool.experts.redundant)} redundant"] if pool.experts.redundant else []
        extra += [f"{int(pool.experts.shared_ranks)} shared"] if pool.experts.shared_ranks else []
        parts[-1] += f" ({', '.join(extra)})" if extra else ""
    return " ".join(parts)


def _layout(layout: InferenceLayout, phase: str) -> dict[str, Any]:
    per_card = layout.batch * float(layout.pool.groups) / float(layout.pool.cards)
    return {
        "layout": _name(layout.pool),
        "instances": layout.instances,
        "batchPerCard": round(per_card, 3),
        "tokensPerSecondPerCard": round(layout.tokens_per_second_per_card, 2),
        "tpotMilliseconds" if phase == "decode" else "ttftMilliseconds": round(layout.seconds * 1e3, 3),
        "hbmGibibytesPerDie": round(layout.hbm_bytes / _GIB, 2),
    }


def _rejection(entry: Rejected) -> dict[str, Any]:
    return {"layout": _name(entry.pool), "reason": entry.reason, "why": entry.message}


def _training(wanted: dict[str, Any]) -> tuple[Rows, Rows]:
    from supernode_dataplane.catalogue import load_model
    from supernode_dataplane.machine import TrainingSpec
    from supernode_dataplane.planning import training_plans
    from supernode_dataplane.profile import load_profile
    from supernode_dataplane.stacks import load_stack

    profile, dies = load_profile(wanted["machine"]), _dies(wanted)
    stack, model = load_stack(wanted["stack"]), load_model(wanted["model"])
    spec = TrainingSpec(
        model=model,
        stack=wanted["stack"],
        sequence_length=wanted["sequence_length"],
        global_batch_size=wanted["global_batch_size"],
        expert_imbalance=stack.expert_imbalance if model.is_moe else 1.0,
    )
    plans = list(training_plans(profile, spec, dies))
    cards = dies / profile.dies_per_package
    found = sorted((p for p in plans if p.problem is None), key=lambda p: -p.tokens_per_second)
    rows = [_trained(p, dies, cards) for p in found]
    rejected = [
        {"layout": _split(p, dies), "reason": "memory", "why": p.problem.message}
        for p in plans
        if p.problem is not None
    ]
    return rows, rejected


def _split(found: TrainingPlan, dies: int) -> str:
    spec = found.spec
    data = dies // (spec.tensor * spec.pipeline)
    expert = f" EP{spec.expert}" if spec.expert > 1 else ""
    chunks = f"VPP{spec.virtual_pipeline} micro-batch {spec.micro_batch_size}"
    return f"TP{spec.tensor} PP{spec.pipeline} DP{data}{expert} {chunks}"


def _trained(found: TrainingPlan, dies: int, cards: float) -> dict[str, Any]:
    return {
        "layout": _split(found, dies),
        "tokensPerSecondPerCard": round(found.tokens_per_second / cards, 2),
        "stepSeconds": round(found.step.seconds, 3) if found.step else None,
        "recomputePercent": round(found.recompute * 100, 1),
        "hbmGibibytesPerDie": round(found.hbm_bytes / _GIB, 2),
    }


def _print(phase: str, wanted: dict[str, Any], rows: Rows, rejected: Rows, top: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    title = f"{phase} of {wanted['model']} on {wanted['machine']}, {wanted['stack']}: {len(rows)} layouts, best first"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "layout" else "right")
    for row in rows[:top]:
        table.add_row(*(f"{value:g}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
    for reason, text in (("memory", "do not fit into HBM"), ("limit", "miss the limit")):
        members = [entry for entry in rejected if entry["reason"] == reason]
        if members:
            console.print(f"\n{len(members)} more {text}; the last of them:")
            console.print(f"  {members[-1]['layout']}: {members[-1]['why']}")
