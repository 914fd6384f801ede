"""`supernode plan --failed`: the machine that failures leave, and the plan of it as a scenario."""

from __future__ import annotations

from typing import Any

from supernode_cli.errors import CliError, ScenarioError
from supernode_cli.evaluation import parse_failed
from supernode_cli.failed import servers_with_failures
from supernode_cli.plan_scenario import Document
from supernode_cli.yaml_documents import DuplicateKeyError, read_yaml
from supernode_dataplane.errors import ImpossibleFailureError
from supernode_dataplane.profile import Profile, load_profile
from supernode_dataplane.remaining import remaining_machine

__all__ = ["machine_left", "with_failures"]


def machine_left(machine: str, failed: str | None) -> Profile:
    """Return a machine by its name, with ``failed`` (YAML) what that leaves of it.

    Raises CliError for failures that cannot be, or that leave nothing; ProfileNotFoundError for the name.
    """
    profile = load_profile(machine)
    if failed is None:
        return profile
    try:
        broken = servers_with_failures(parse_failed(_read(failed)), profile)
        return remaining_machine(profile, broken)
    except ImpossibleFailureError as error:
        raise CliError(f"plan: --failed {error.kind}: {error}") from None
    except ScenarioError as error:
        raise CliError(f"plan: --failed {error}") from None


def with_failures(scenario: Document | str, failed: str | None, left: Profile) -> Document | str:
    """Return a plan's scenario with the failures that it was made for, or why it is none."""
    if failed is None or isinstance(scenario, str):
        return scenario
    if left.servers < load_profile(left.name).servers:
        return (
            "servers with broken dies are left out of a plan, and a scenario is on the first ones of a machine: "
            "give --failed without servers and dies, and fewer --cards"
        )
    return {**scenario, "machine": {**scenario["machine"], "failed": _read(failed)}}


def _read(failed: str) -> Any:
    import yaml

    try:
        documents = read_yaml(failed)
    except DuplicateKeyError as error:
        raise CliError(f"plan: --failed: {error}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise CliError(f"plan: --failed is not YAML: {' '.join(str(error).split())[:200]}") from None
    return documents[0] if documents else None
