"""Which pod is which rank of a workload, and what it holds.

Rank = Job completion index, pod index (StatefulSet), LeaderWorkerSet index, else name order. A replaced pod may still
terminate beside its successor: the newest that is not terminating stands for the rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from supernode_api.conditions import Reason
from supernode_api.names import LINKS_ALL
from supernode_api.ranges import format_ranges
from supernode_api.workload import MAX_RANK, MAX_RANKS
from supernode_operator.domain.accept import Rejection
from supernode_operator.domain.allocations import Holding
from supernode_operator.domain.objects import (
    Object,
    age_key,
    is_deleting,
    labels,
    name,
    natural_key,
    node_is_ready,
    owner,
)

__all__ = ["assign_ranks", "build_placement", "claim_pods", "reject_ranks"]

_JOB_INDEX: Final = "batch.kubernetes.io/job-completion-index"
_POD_INDEX: Final = "apps.kubernetes.io/pod-index"
_LWS_WORKER: Final = "leaderworkerset.sigs.k8s.io/worker-index"
_LWS_GROUP: Final = "leaderworkerset.sigs.k8s.io/group-index"
_LWS_SIZE: Final = "leaderworkerset.sigs.k8s.io/size"
_MOST_DIGITS: Final = 18
"""Of an index; what is longer is none."""


def claim_pods(
    pods: Iterable[Object], mine: Callable[[Object], bool], elders: Sequence[tuple[str, Callable[[Object], bool]]]
) -> tuple[list[Object], list[tuple[str, str]]]:
    """Return the pods that a workload has, and (pod, elder) for those that an older workload has.

    Terminal pods are nobody's.
    """
    claimed: list[Object] = []
    contested: list[tuple[str, str]] = []
    for pod in pods:
        if pod["status"].get("phase") in ("Succeeded", "Failed") or not mine(pod):
            continue
        elder = next((who for who, has in elders if has(pod)), None)
        if elder is None:
            claimed.append(pod)
        else:
            contested.append((name(pod), elder))
    return claimed, contested


def assign_ranks(pods: Iterable[Object]) -> dict[int, Object]:
    """Give each pod its rank; one pod for each rank."""
    pods = list(pods)
    groups: dict[int, list[Object]] = {}
    loose: list[Object] = []
    for pod in pods:
        index = _index(pod)
        if index is None:
            loose.append(pod)
        else:
            groups.setdefault(index, []).append(pod)
    if any(_owners_differ(group) for group in groups.values()):
        groups, loose = {}, pods  # two Jobs under one selector: their indices mean nothing to each other
    ranks = {index: max(group, key=lambda p: (not is_deleting(p), age_key(p))) for index, group in groups.items()}
    number = 0
    for pod in sorted(loose, key=lambda p: natural_key(name(p))):
        while number in ranks:
            number += 1
        ranks[number] = pod
    return dict(sorted(ranks.items()))


def reject_ranks(ranks: Mapping[int, Object]) -> Rejection | None:
    """Return why pods cannot be a workload's: ``status.placement.ranks`` has a bound, and the API server keeps it."""
    if len(ranks) > MAX_RANKS:
        return Rejection(
            Reason.TOO_MANY_PODS,
            f"spec.pods.selector matches {len(ranks)} pods, and a workload has at most {MAX_RANKS}: delete what should "
            "not be there, or create the workload anew with a narrower selector",
        )
    highest = max(ranks, default=0)
    if highest <= MAX_RANK:
        return None
    return Rejection(
        Reason.INVALID_RANK,
        f"pod {name(ranks[highest])} has index {highest}, and the highest rank is {MAX_RANK}: create it with a lower "
        "index, or leave it out of spec.pods.selector in a new workload",
    )


def build_placement(
    ranks: Mapping[int, Object], holdings: Iterable[Holding], nodes: Mapping[str, Object], servers_per_cabinet: int
) -> dict[str, Any]:
    """Build ``status.placement``: every rank that has a pod, whether it works, and its dies and links by server."""
    by_pod: dict[tuple[str, str], list[Holding]] = {}
    for holding in holdings:
        by_pod.setdefault((holding.namespace, holding.pod), []).append(holding)
    rows: list[dict[str, Any]] = []
    dies: set[tuple[int, int]] = set()
    for rank, pod in ranks.items():
        held = by_pod.get((pod["metadata"].get("namespace", ""), name(pod)), [])
        dies.update((h.server, die) for h in held for die in h.dies)
        rows.append({"rank": rank, "pod": name(pod), "running": _works(pod, held, nodes), "parts": _parts(held)})
    servers = {server for server, _ in dies}
    return {
        "nodes": len(servers),
        "dies": len(dies),
        "cabinets": len({server // servers_per_cabinet for server in servers}),
        "ranks": rows,
    }


def _index(pod: Object) -> int | None:
    present = {**(pod["metadata"].get("annotations") or {}), **labels(pod)}
    if _LWS_WORKER not in present:
        numbers = (_number(present.get(key)) for key in (_JOB_INDEX, _POD_INDEX))
        return next((number for number in numbers if number is not None), None)
    worker = _number(present[_LWS_WORKER])
    if worker is None:
        return None
    return worker + (_number(present.get(_LWS_GROUP)) or 0) * (_number(present.get(_LWS_SIZE)) or 0)


def _number(text: object) -> int | None:
    """Return an index as a number; anybody may have written anything."""
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        return None
    return int(text)


def _owners_differ(group: list[Object]) -> bool:
    uids = {(owner(pod) or {}).get("uid") for pod in group if not is_deleting(pod)}
    return len(uids) > 1


def _works(pod: Object, held: Sequence[Holding], nodes: Mapping[str, Object]) -> bool:
    """Bound to a Ready node, not terminating, and every container that holds dies runs."""
    containers = {h.container for h in held if h.dies}
    if not containers or is_deleting(pod) or not node_is_ready(nodes.get(pod["spec"].get("nodeName", ""))):
        return False
    running = {c["name"] for c in pod["status"].get("containerStatuses") or []}
    return containers <= running


def _parts(held: Sequence[Holding]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for server in sorted({h.server for h in held}):
        here = [h for h in held if h.server == server]
        dies = {die for h in here for die in h.dies}
        everything = all(h.links is None for h in here)
        links = LINKS_ALL if everything else format_ranges(_links(here))
        parts.append({"server": server, "dies": format_ranges(dies), "links": links})
    return parts


def _links(here: Sequence[Holding]) -> set[int]:
    # A container without links beside one with links: nothing says which are its own, so only held ones count.
    return {link for h in here for link in h.links or ()}
