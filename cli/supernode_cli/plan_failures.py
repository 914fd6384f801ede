"""`supernode plan --failed`: the machine that failures leave, and the plan of it as a scenario."""

from __future__ import annotations

from typing import Any

from supernode_cli.errors import CliError, ScenarioError
from supernode_cli.evaluation import parse_failed
from supernode_cli.failed import servers_with_failures
from supernode_cli.plan_scenario import Document
from supernode_cli.yaml_documents import DuplicateKeyError, read_yaml
from supernode_dataplane.errors import ImpossibleFailureError
from supernode_dataplane.profile import Profile
from supernode_dataplane.remaining import remaining_machine

__all__ = ["machine_left", "read_failed", "with_failures"]


def machine_left(healthy: Profile, failed: Any, said: str = "plan: --failed") -> Profile:
    """Return what ``failed``, as a scenario has it, leaves of a machine; ``said`` is where, for errors.

    Raises CliError for failures that cannot be, or that leave nothing.
    """
    if failed is None:
        return healthy
    try:
        broken = servers_with_failures(parse_failed(failed), healthy)
        return remaining_machine(healthy, broken)
    except ImpossibleFailureError as error:
        raise CliError(f"{said} {error.kind}: {error}") from None
    except ScenarioError as error:
        raise CliError(f"{said} {error}") from None


def with_failures(scenario: Document | str, failed: Any, healthy: Profile, left: Profile) -> Document | str:
    """Return a plan's scenario with the failures that it was made for, or why it is none."""
    if failed is None or isinstance(scenario, str):
        return scenario
    if left.servers < healthy.servers:
        return (
            "servers with broken dies are left out of a plan, and a scenario is on the first ones of a machine: "
            "give --failed without servers and dies, and fewer --cards"
        )
    return {**scenario, "machine": {**scenario["machine"], "failed": failed}}


def read_failed(failed: str | None) -> Any:
    """Return the YAML of ``--failed``; None without it, CliError for what is none."""
    if failed is None:
        return None
    import yaml

    try:
        documents = read_yaml(failed)
    except DuplicateKeyError as error:
        raise CliError(f"plan: --failed: {error}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise CliError(f"plan: --failed is not YAML: {' '.join(str(error).split())[:200]}") from None
    return documents[0] if documents else {}
