"""The load of a scenario on a machine that it was not written for: as many sequences in all, wherever it runs.

A card has one die here and two there, so a batch of so many sequences a card is another load on every machine. What is
kept is what clients see: the sequences of the whole deployment. Of a number of cards that is given for all machines it
is the sequences of so many. The pool that reads prompts keeps its dies; of fewer or more dies in all it has the same
share, in whole servers where the machine has several.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supernode_cli.evaluation import machine_profile, parse_scenario
from supernode_cli.plan_scenario import reading_dies
from supernode_cli.scenario import Scenario
from supernode_cli.scenario_inference import ScenarioInference
from supernode_dataplane.deployment_plan import DeploymentPlan
from supernode_dataplane.figures import counted
from supernode_dataplane.profile import Profile

__all__ = ["keep_load", "load_words", "running_sequences"]

Document = Mapping[str, Any]


def keep_load(
    asked: dict[str, Any],
    scenario: Scenario,
    own: Profile,
    other: Profile,
    *,
    has: int,
    dies: int,
    cards: int | None,
) -> None:
    """Put the load of ``scenario``, ``has`` dies of its ``own`` machine, into ``asked``, which has ``dies`` of another.

    Sequences of all are those a card times the cards that decode, at least one.
    """
    inference = scenario.inference
    if inference is None:
        return
    section, reading = dict(asked["inference"]), _reading(inference, own)
    if reading:
        kept = {key: value for key, value in section["prefill"].items() if key not in ("nodes", "dies")}
        section["prefill"] = {**kept, **reading_dies(other, _scaled(reading, has, dies, other))}
    if inference.batch is not None:
        of_all = has / own.dies_per_package if cards is None else cards
        sequences = inference.batch.sequences_per_card * of_all * (has - reading) / has
        del section["batch"]
        section["load"] = {"concurrency": max(1, round(sequences))}
    asked["inference"] = section


def load_words(document: Document, plan: DeploymentPlan | None, dies: int, profile: Profile) -> tuple[str, ...]:
    """Return what is different about pools and sequences: these a card where the scenario counts so, else in all."""
    scenario = parse_scenario(document)
    given = scenario.inference
    running = None if plan is None else running_sequences(plan, dies, profile)
    if plan is None or given is None or running is None:
        return ()
    changed = []
    here, there = _reading(given, machine_profile(scenario.machine)), _planned_reading(plan, profile)
    if here != there:
        changed.append(f"{counted(there, 'die')} that read prompts instead of {here}")
    if given.batch is not None:
        each, wanted = running / _decoding_cards(plan, dies, profile), given.batch.sequences_per_card
        if abs(each - wanted) > 1e-9 * wanted:
            changed.append(f"{counted(float(f'{each:.4g}'), 'sequence')} a card instead of {wanted}")
    elif given.load is not None and running != given.load.concurrency:
        changed.append(f"{running:,.0f} sequences in all instead of {given.load.concurrency:,}")
    return tuple(changed)


def running_sequences(plan: DeploymentPlan, dies: int, profile: Profile) -> float | None:
    """Return the sequences that decode at once on all of ``dies``; None where nothing decodes."""
    if plan.mode == "Prefill":
        return None
    if plan.sequences_per_card is None:
        return float(plan.concurrency or 0)
    return plan.sequences_per_card * _decoding_cards(plan, dies, profile)


def _decoding_cards(plan: DeploymentPlan, dies: int, profile: Profile) -> float:
    """Return the cards of the decode pool; a die is its part of one."""
    return (dies - _planned_reading(plan, profile)) / profile.dies_per_package


def _planned_reading(plan: DeploymentPlan, profile: Profile) -> int:
    return plan.prefill_dies or plan.prefill_nodes * profile.dies_per_server


def _reading(inference: ScenarioInference, own: Profile) -> int:
    """Return the dies that read prompts alone; 0 without a pool of such."""
    pool = inference.prefill
    if pool is None:
        return 0
    return pool.dies or (pool.nodes or 0) * own.dies_per_server


def _scaled(reading: int, has: int, dies: int, other: Profile) -> int:
    """Return the same share of other dies, so that some are left to decode."""
    share = max(1, round(reading * dies / has))
    size = other.dies_per_server
    if dies > size and share != reading:
        share = min(max(1, round(share / size)), -(-dies // size) - 1) * size
    return share
