"""What to know about a simulated deployment's figures: queues that they do not have, formats that run as others."""

from __future__ import annotations

from supernode_cli.scenario import Scenario
from supernode_dataplane.deployment import Precision
from supernode_dataplane.deployment_plan import DeploymentPlan
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.profile import Profile

__all__ = ["format_notes", "inference_notes"]


def inference_notes(scenario: Scenario, plan: DeploymentPlan | None, profile: Profile) -> tuple[str, ...]:
    """Return notes for people; none for training."""
    inference = scenario.inference
    if inference is None or plan is None:
        return ()
    load = inference.load
    notes = [
        f"inference.load.{name} makes queues, which need supernode serve-sim: these figures are the steady state with "
        f"{load.concurrency} in flight"
        for name in ("rate", "trace", "preset")
        if load is not None and getattr(load, name) is not None
    ]
    if plan.cached_share and plan.cache_bytes_per_second is None:
        notes.append(
            "the context cache is loaded at the rate of the links, an upper bound: published gains are far smaller "
            "(H-P3 and H-P4 of supernode validate); inference.cache.gigabytesPerSecond says what a die gets from it"
        )
    return (*notes, *format_notes(plan.precision, profile))


def format_notes(precision: Precision, profile: Profile) -> tuple[str, ...]:
    """Return which format products run in where the dies lack the one that is asked for."""
    kind = precision.activations
    runs = hardware_of(profile).multiplied(kind)
    return () if runs == kind else (f"the dies of {profile.name} do not multiply in {kind}: products run in {runs}",)
