"""From API objects to the mathematics, and the digest of exactly what was read.

Read are SuperNode.spec.profile, ComputeNode.spec, SuperNodeWorkload.spec and .status.placement.ranks; nothing else, so
whatever stands in a ComputeNode's status changes neither figures nor digest. Objects are JSON dictionaries: what agents
and users may have garbled is left out with a note rather than refused, because one bad part must not take the figures
of the whole machine away.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from supernode_api.ranges import format_ranges, parse_ranges
from supernode_dataplane.changed_profile import changes
from supernode_dataplane.deployment_plan import DeploymentPlan, deployment_of, memory_problem
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.inference_fields import parse_inference
from supernode_dataplane.machine import PartInput, RankInput, ServerInput, TrainingSpec, WorkloadInput
from supernode_dataplane.placing import describe_dies
from supernode_dataplane.profile import Profile, load_profile, profile_names
from supernode_dataplane.solving import solve
from supernode_dataplane.spec import check_training, expected_ranks, parse_training
from supernode_dataplane.state import MachineState, Problem

__all__ = [
    "HARMLESS_LEVELS",
    "Inputs",
    "check_workload",
    "load_profile",
    "machine_inputs",
    "profile_names",
    "solve",
    "solve_inputs",
    "whole_server_ranks",
]

HARMLESS_LEVELS: Final = frozenset({"NotHandleFault", "SubHealthFault", "RestartRequest"})
"""Fault levels that leave a device in use; equals supernode_api's FaultLevel.is_unhealthy (a test says so)."""
_MOST_NOTES: Final = 3


@dataclass(frozen=True, slots=True)
class Inputs:
    """What :func:`supernode_dataplane.solve` takes, and the digest of it."""

    profile: Profile
    compute_nodes: tuple[ServerInput, ...]
    workloads: tuple[WorkloadInput, ...]
    digest: str


def machine_inputs(
    super_node: Mapping[str, Any],
    compute_nodes: Iterable[Mapping[str, Any]],
    workloads: Iterable[Mapping[str, Any]],
    *,
    profile: Profile | None = None,
) -> Inputs:
    """Return the inputs of one SuperNode from raw API objects; objects of other SuperNodes are left out.

    ``profile`` is used instead of the built-in one that spec.profile names: a machine with changed figures.
    Tuples, with dies and servers by number; what a spec says wrong stands in its workload as a Problem. Raises
    ProfileNotFoundError when spec.profile names no built-in profile. Source of the fields: docs/objects.md.
    """
    name = _mapping(super_node.get("metadata")).get("name")
    if profile is None:
        profile = load_profile(str(_mapping(super_node.get("spec")).get("profile")))
    nodes = [spec for node in compute_nodes if (spec := _mapping(node.get("spec"))).get("superNode") == name]
    nodes.sort(key=lambda spec: (_integer(spec.get("serverIndex"), -1), _canonical(spec)))
    jobs = []
    for workload in workloads:
        spec = _mapping(workload.get("spec"))
        if spec.get("superNode") == name:
            placement = _mapping(_mapping(workload.get("status")).get("placement"))
            ranks, notes = _ranks(profile, placement.get("ranks"))
            jobs.append((_key(workload), spec, ranks, notes))
    jobs.sort(key=lambda job: job[0])
    return Inputs(
        profile=profile,
        compute_nodes=_servers(profile, nodes),
        workloads=tuple(_workload(profile, *job) for job in jobs),
        digest=_digest(profile, nodes, [(key, spec, ranks) for key, spec, ranks, _ in jobs]),
    )


def solve_inputs(inputs: Inputs) -> MachineState:
    """Solve with the digest in the result; shapes, units (seconds, bytes, tokens) and sources as of ``solve``.

    What cannot run is a Problem of its workload's result and no error; raises as ``solve``.
    """
    return solve(inputs.profile, inputs.compute_nodes, inputs.workloads, digest=inputs.digest)


def check_workload(profile: Profile, spec: Mapping[str, Any], dies: int) -> Problem | None:
    """Return why a SuperNodeWorkload.spec can never run on so many dies, or None.

    Checked are the spec's fields, the model, the parallelism and whether it fits into HBM; no pod need exist. Prefill
    nodes are whole servers here.
    """
    plan = _parse(spec)
    return plan if isinstance(plan, Problem) else _check(profile, plan, dies)


def whole_server_ranks(profile: Profile, servers: Iterable[int]) -> list[dict[str, Any]]:
    """Return placement ranks of pods that have one whole server each, as the operator writes them."""
    dies = format_ranges(range(profile.dies_per_server))
    return [
        {
            "rank": rank,
            "pod": f"rank-{rank}",
            "running": True,
            "parts": [{"server": server, "dies": dies, "links": "all"}],
        }
        for rank, server in enumerate(servers)
    ]


def _workload(
    profile: Profile, key: str, spec: Mapping[str, Any], ranks: Sequence[RankInput], notes: Sequence[str]
) -> WorkloadInput:
    plan = _parse(spec)
    expected = expected_ranks(spec)
    problem = plan if isinstance(plan, Problem) else None
    if not isinstance(plan, Problem) and expected is not None:
        # A managed job's size is known before its pods are: a layout that cannot be is said at once.
        problem = _check(profile, plan, expected * profile.dies_per_server)
    return WorkloadInput(
        key=key,
        training=plan if isinstance(plan, TrainingSpec) else None,
        inference=plan if isinstance(plan, DeploymentPlan) else None,
        ranks=tuple(ranks),
        expected_ranks=expected,
        problem=problem,
        notes=tuple(notes[:_MOST_NOTES]),
    )


def _parse(spec: Mapping[str, Any]) -> TrainingSpec | DeploymentPlan | Problem:
    """Return what a spec runs, or what is wrong with it."""
    if spec.get("inference") is None:
        return parse_training(spec)
    if spec.get("training") is not None:
        return Problem("InvalidObject", "spec.training", "spec.training and spec.inference: give one of both")
    return parse_inference(spec)


def _check(profile: Profile, plan: TrainingSpec | DeploymentPlan, dies: int) -> Problem | None:
    text = describe_dies(profile, dies)
    if isinstance(plan, TrainingSpec):
        return check_training(profile, plan, dies, text)
    prefill = plan.prefill_nodes * profile.dies_per_server if plan.prefill_dies is None else plan.prefill_dies
    deployment = deployment_of(plan, hardware_of(profile), dies, prefill, text)
    return deployment if isinstance(deployment, Problem) else memory_problem(deployment)


def _servers(profile: Profile, specs: Iterable[Mapping[str, Any]]) -> tuple[ServerInput, ...]:
    """Return what is broken on each server; of two ComputeNodes for one server the first counts."""
    servers: dict[int, ServerInput] = {}
    for spec in specs:
        server = _integer(spec.get("serverIndex"), -1)
        if not 0 <= server < profile.servers or server in servers:
            continue
        dies, ports, uplinks, chips = [], [], [], []
        for fault in _list(spec.get("faults")):
            entry = _mapping(fault)
            if entry.get("level") in HARMLESS_LEVELS:
                continue
            port, uplink, chip = (_mapping(entry.get(key)) for key in ("diePort", "uplink", "l1"))
            dies.append((_integer(entry.get("die"), -1),))
            ports.append((_integer(port.get("die"), -1), _integer(port.get("plane"), -1)))
            uplinks.append((_integer(uplink.get("plane"), -1), _integer(uplink.get("port"), -1)))
            chips.append((_integer(chip.get("plane"), -1),))
        servers[server] = ServerInput(
            server=server,
            dies=tuple(sorted({die for (die,) in dies if die >= 0})),
            ports=tuple(sorted({port for port in ports if min(port) >= 0})),
            uplinks=tuple(sorted({uplink for uplink in uplinks if min(uplink) >= 0})),
            l1=tuple(sorted({chip for (chip,) in chips if chip >= 0})),
        )
    return tuple(servers[server] for server in sorted(servers))


def _ranks(profile: Profile, raw: Any) -> tuple[list[RankInput], list[str]]:
    """Return the ranks that can be read, by number, and notes on what cannot."""
    ranks: dict[int, RankInput] = {}
    notes: list[str] = []
    for item in _list(raw):
        entry = _mapping(item)
        number = _integer(entry.get("rank"), -1)
        if number < 0 or number in ranks:
            notes.append(f"placement: a rank without a number of its own is left out: {str(entry.get('rank'))[:20]!r}")
            continue
        parts = []
        for part in _list(entry.get("parts")):
            read = _part(profile, _mapping(part))
            if isinstance(read, str):
                notes.append(f"placement: a part of rank {number} is left out: {read}")
            else:
                parts.append(read)
        parts.sort(key=lambda part: (part.server, part.dies))
        ranks[number] = RankInput(number, entry.get("running") is True, tuple(parts))
    return [ranks[number] for number in sorted(ranks)], notes


def _part(profile: Profile, part: Mapping[str, Any]) -> PartInput | str:
    server = _integer(part.get("server"), -1)
    if not 0 <= server < profile.servers:
        return f"server {str(part.get('server'))[:20]!r} is not in the machine"
    dies, links = part.get("dies"), part.get("links", "all")
    if not isinstance(dies, str) or not isinstance(links, str):
        return "dies and links must be text"
    try:
        numbers = parse_ranges(dies, profile.dies_per_server)
        held = None if links == "all" else tuple(parse_ranges(links, profile.dies_per_server * profile.planes))
    except ValueError as error:
        return str(error)[:120]
    return PartInput(server, tuple(numbers), held)


def _digest(
    profile: Profile,
    nodes: Sequence[Mapping[str, Any]],
    jobs: Sequence[tuple[str, Mapping[str, Any], Sequence[RankInput]]],
) -> str:
    """Return 16 hex digits over canonical JSON of what was read; the order of objects and list maps does not matter."""
    text = json.dumps(
        {
            "profile": [profile.name, profile.version, *([changed] if (changed := changes(profile)) else [])],
            "computeNodes": [_canonical(node) for node in nodes],
            "workloads": [[key, _canonical(spec), [_rank_value(rank) for rank in ranks]] for key, spec, ranks in jobs],
        },
        separators=(",", ":"),
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(spec: Mapping[str, Any]) -> str:
    faults = spec.get("faults")
    if isinstance(faults, list):
        spec = {**spec, "faults": sorted(json.dumps(fault, sort_keys=True) for fault in faults)}
    return json.dumps(spec, sort_keys=True, separators=(",", ":"))


def _rank_value(rank: RankInput) -> list[Any]:
    parts = [
        [part.server, format_ranges(part.dies), "all" if part.links is None else format_ranges(part.links)]
        for part in rank.parts
    ]
    return [rank.rank, rank.running, parts]


def _key(workload: Mapping[str, Any]) -> str:
    metadata = _mapping(workload.get("metadata"))
    return f"{metadata.get('namespace') or 'default'}/{metadata.get('name')}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _integer(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
