"""`evaluate`: one scenario, given as a plain document, to what the machine makes of it. What every command builds on.

Pure but for packaged data: reads no file and prints nothing. An impossible scenario raises ScenarioError with the field
and the remedy; whatever comes back ran.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from supernode_api.names import API_VERSION
from supernode_api.ranges import format_ranges
from supernode_cli.completion import completion_note
from supernode_cli.context_limit import context_note
from supernode_cli.defaults import on_machine
from supernode_cli.effects import effects
from supernode_cli.errors import ScenarioError
from supernode_cli.failed import Failed, fault_entries, servers_with_failures, untouched_failures
from supernode_cli.inference_notes import inference_notes
from supernode_cli.refusals import checked
from supernode_cli.scenario import Machine, Scenario
from supernode_dataplane.changed_profile import changed_profile
from supernode_dataplane.errors import InvalidFigureError, ProfileNotFoundError
from supernode_dataplane.figures import counted, workload_performance
from supernode_dataplane.inputs import Inputs, check_workload, machine_inputs, solve_inputs, whole_server_ranks
from supernode_dataplane.machine import ServerInput
from supernode_dataplane.profile import Profile
from supernode_dataplane.stacks import stack_names
from supernode_dataplane.state import MachineState, WorkloadResult

__all__ = [
    "Evaluation",
    "Prepared",
    "ScenarioError",
    "dies_in_use",
    "evaluate",
    "machine_profile",
    "parse_failed",
    "parse_scenario",
    "prepare",
]

_NAME = "scenario"
_KEY = f"default/{_NAME}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scenario with its machine, before anything is solved; it may be one that cannot run."""

    given: Scenario
    """As written."""
    scenario: Scenario
    """With the machine's stack and formats where it was open."""
    profile: Profile
    dies: int
    """Dies in use."""
    workload: Mapping[str, Any]
    """The SuperNodeWorkload, as JSON."""
    inputs: Inputs

    @property
    def nodes(self) -> int:
        """Servers in use, the last one maybe in part."""
        return -(-self.dies // self.profile.dies_per_server)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One operating point: the scenario as understood, its machine, and the machine's state with it."""

    scenario: Scenario
    """With the machine's stack and formats where it was open."""
    profile: Profile
    nodes: int
    """Servers in use, the last one maybe in part."""
    dies: int
    """Dies in use."""
    workload: Mapping[str, Any]
    """The SuperNodeWorkload that was solved, as JSON."""
    inputs: Inputs
    """What was solved."""
    state: MachineState
    """Of the first supernode, where there are several."""
    result: WorkloadResult
    given: Scenario
    """As written."""
    notes: tuple[str, ...] = ()
    """What of the scenario does not concern the workload, for people."""

    @property
    def performance(self) -> dict[str, Any]:
        """The figures, exactly as in the status of the same workload on a cluster."""
        return workload_performance(self.result)


def parse_scenario(document: Mapping[str, Any]) -> Scenario:
    """Return a document as a scenario; ScenarioError for what is missing, unknown or out of range."""
    scenario = checked(Scenario, document)
    training, kernel = scenario.training, scenario.kernel
    if [training, scenario.inference, kernel].count(None) != 2:
        raise ScenarioError("", "give exactly one of training and inference, or a kernel instead")
    if kernel is None and "model" not in scenario.model_fields_set:
        raise ScenarioError("model", "is missing: give a name of the catalogue, or a config")
    if training is not None and training.tokens is not None and training.steps is not None:
        raise ScenarioError("training", "give tokens or steps, not both")
    for field, given in (
        ("machine.supernodes", scenario.machine.supernodes > 1),
        ("reliability", scenario.reliability),
    ):
        if training is None and given:
            this = "inference" if kernel is None else "a kernel"
            raise ScenarioError(field, f"is about a training run, and this is {this}: leave it out")
    if scenario.stack is not None and scenario.stack not in stack_names():
        raise ScenarioError("stack", f"there is no stack {scenario.stack!r}; known: {', '.join(stack_names())}")
    return scenario


def parse_failed(document: Any) -> Failed:
    """Return what has failed, as scenarios have it in ``machine.failed``; ScenarioError with the field there."""
    return checked(Failed, document)


def prepare(document: Mapping[str, Any]) -> Prepared:
    """Return a scenario on the first servers of its machine; ScenarioError for what its fields say wrong."""
    given = parse_scenario(document)
    if given.kernel is not None:
        raise ScenarioError("kernel", "is for supernode simulate and sweep alone: give training or inference instead")
    profile = machine_profile(given.machine)
    scenario = on_machine(given, profile)
    dies = dies_in_use(scenario.machine, profile)
    workload = _workload(scenario, profile, dies)
    super_node = {
        "apiVersion": API_VERSION,
        "metadata": {"name": _NAME},
        "spec": {"profile": profile.name, "superPodID": 0},
    }
    broken = _broken(scenario.machine, profile)
    inputs = machine_inputs(super_node, _faulty_nodes(broken), [workload], profile=profile)
    return Prepared(given, scenario, profile, dies, workload, inputs)


def evaluate(document: Mapping[str, Any]) -> Evaluation:
    """Return what a machine makes of a scenario on its first servers; ScenarioError when it cannot run there."""
    ready = prepare(document)
    given, scenario, profile, nodes, dies = ready.given, ready.scenario, ready.profile, ready.nodes, ready.dies
    workload, inputs = ready.workload, ready.inputs
    state, result = _solved(scenario.machine, inputs, nodes)
    problem = result.problem
    if problem is None and result.waiting and dies % profile.dies_per_server:
        # Pods without a size may wait for more dies; a scenario has all that it will have.
        problem = check_workload(profile, workload["spec"], dies)
    if problem is not None:
        raise ScenarioError(problem.field.removeprefix("spec."), problem.message.removeprefix("spec."))
    if result.tokens_per_second <= 0:
        raise ScenarioError("machine.failed", result.waiting or "nothing moves on this machine")
    beyond = untouched_failures(scenario.machine.failed, dies, profile.dies_per_server)
    (run,) = inputs.workloads
    notes = (
        *beyond,
        *inference_notes(scenario, run.inference, profile),
        *effects(given, run.inference or run.training, profile),
    )
    notes = (*notes, *context_note(scenario), *completion_note(scenario, result))
    return Evaluation(scenario, profile, nodes, dies, workload, inputs, state, result, given, notes)


def dies_in_use(machine: Machine, profile: Profile) -> int:
    """Return how many dies of the machine a scenario has; ScenarioError when it has no such number."""
    if machine.dies is None:
        nodes = machine.nodes or profile.servers
        if nodes > profile.servers:
            all_of = counted(profile.servers, "server")
            remedy = f"give at most {profile.servers}, or another machine with figures.servers"
            raise ScenarioError("machine.nodes", f"{nodes} is more than the {all_of} of {profile.name}: {remedy}")
        return nodes * profile.dies_per_server
    if machine.nodes is not None:
        raise ScenarioError("machine.dies", "machine.dies and machine.nodes: give one of both")
    if machine.supernodes > 1:
        remedy = "with supernodes give nodes, which each of them has"
        raise ScenarioError("machine.dies", f"is about one machine: {remedy}")
    if machine.dies > profile.dies:
        remedy = f"give at most {profile.dies}, or another machine with figures.servers"
        raise ScenarioError(
            "machine.dies", f"{machine.dies} is more than the {profile.dies} dies of {profile.name}: {remedy}"
        )
    return machine.dies


def _workload(scenario: Scenario, profile: Profile, dies: int) -> dict[str, Any]:
    """Return the scenario as a SuperNodeWorkload on the first dies, a rank for each server.

    On whole servers it is a managed one, as a cluster has it; pods with a part of a server are somebody's own.
    """
    servers, rest = divmod(dies, profile.dies_per_server)
    ranks = whole_server_ranks(profile, range(servers))
    pods: dict[str, Any] = {"managed": {"nodes": servers}}
    if rest:
        pods = {"selector": {}}
        part = {"server": servers, "dies": format_ranges(range(rest)), "links": "all"}
        ranks.append({"rank": servers, "pod": f"rank-{servers}", "running": True, "parts": [part]})
    return {
        "metadata": {"name": _NAME, "namespace": "default"},
        "spec": {"superNode": _NAME, **scenario.workload_spec(), "pods": pods},
        "status": {"placement": {"ranks": ranks}},
    }


def _solved(machine: Machine, inputs: Inputs, nodes: int) -> tuple[MachineState, WorkloadResult]:
    training = inputs.workloads[0].training
    if machine.supernodes == 1 or training is None:
        state = solve_inputs(inputs)
        result = state.workload(_KEY)
        assert result is not None
        return state, result
    from supernode_cli.spanning import spanning_result  # late: few scenarios need it

    count, over = machine.supernodes, machine.oversubscription
    # What solves one supernode has not seen how many there are.
    digest = hashlib.sha256(f"{inputs.digest} x {count} at 1:{over}".encode()).hexdigest()[: len(inputs.digest)]
    inputs = replace(inputs, digest=digest)
    try:
        return spanning_result(inputs.profile, inputs, training, nodes=nodes, supernodes=count, oversubscription=over)
    except ValueError as error:
        raise ScenarioError("machine", str(error)) from None


def machine_profile(machine: Machine) -> Profile:
    """Return the machine of a scenario with its changed figures; ScenarioError when there is none such."""
    try:
        return changed_profile(machine.profile, machine.figures)
    except ProfileNotFoundError as error:
        raise ScenarioError("machine.profile", str(error)) from None
    except InvalidFigureError as error:
        raise ScenarioError(f"machine.figures.{error.figure}", str(error)) from None


def _broken(machine: Machine, profile: Profile) -> tuple[ServerInput, ...]:
    try:
        return servers_with_failures(machine.failed, profile)
    except ScenarioError as error:
        raise error.under("machine.failed") from None


def _faulty_nodes(broken: tuple[ServerInput, ...]) -> list[dict[str, Any]]:
    """Return ComputeNodes with what has failed; servers without faults need none."""
    return [
        {
            "spec": {
                "superNode": _NAME,
                "serverIndex": entry.server,
                "faults": [
                    {"name": f"fault-{number}", "level": "SeparateNPU", "code": "", **fault}
                    for number, fault in enumerate(fault_entries(entry))
                ],
            }
        }
        for entry in broken
    ]
