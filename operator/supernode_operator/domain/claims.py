"""Which pods a workload has a claim to, and whether it is valid at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from supernode_api import SuperNodeWorkload
from supernode_api.conditions import Reason
from supernode_api.names import WORKLOAD_LABEL, managed_job_name
from supernode_dataplane.inputs import check_workload
from supernode_dataplane.profile import Profile
from supernode_operator.domain.accept import Rejection, parse_workload
from supernode_operator.domain.objects import Object, age_key, is_deleting, labels, namespaced_name, owner, selects, uid

__all__ = ["claim_of", "elder_claims", "reject_workload"]

_BEFORE_PODS = frozenset({"ModelNotFound", "InvalidModel", "InvalidObject"})


def claim_of(workload: SuperNodeWorkload) -> Callable[[Object], bool]:
    """Return the predicate that says whether a pod is this workload's, were it alone."""
    namespace, name = workload.metadata.namespace or "", workload.metadata.name
    selector = workload.spec.pods.selector

    def has(pod: Object) -> bool:
        if pod["metadata"].get("namespace", "") != namespace:
            return False
        if selector is not None:
            return selects(selector, labels(pod))
        controller = owner(pod) or {}
        job = (controller.get("kind"), controller.get("name")) == ("Job", managed_job_name(name))
        return job and labels(pod).get(WORKLOAD_LABEL) == name

    return has


def elder_claims(raw: Object, everyone: Iterable[Object]) -> list[tuple[str, Callable[[Object], bool]]]:
    """Return the claims of older workloads of the namespace that still run, oldest first."""
    claims = []
    for other in sorted(everyone, key=age_key):
        done = (other.get("status") or {}).get("completionTime")
        if uid(other) == uid(raw) or is_deleting(other) or done or age_key(other) > age_key(raw):
            continue
        parsed = parse_workload(other)
        if not isinstance(parsed, Rejection):
            claims.append((namespaced_name(other), claim_of(parsed)))
    return claims


def reject_workload(
    raw: Object,
    workload: SuperNodeWorkload,
    super_node: Object | None,
    refused: Rejection | None,
    profile: Profile | None,
    *,
    allowed: bool,
) -> Rejection | None:
    """Return why a workload is not accepted; ``refused`` is what is wrong with its SuperNode."""
    wanted = workload.spec.super_node
    if super_node is None:
        return Rejection(
            Reason.SUPER_NODE_NOT_FOUND,
            f"spec.superNode: there is no SuperNode {wanted}; create it, or name another in a new workload",
        )
    if refused is not None or profile is None:
        why = refused.message if refused is not None else "no profile"
        return Rejection(
            refused.reason if refused is not None else Reason.PROFILE_NOT_FOUND, f"SuperNode {wanted} is refused: {why}"
        )
    managed = workload.spec.pods.managed
    if managed is not None and not allowed:
        return Rejection(
            Reason.NAMESPACE_NOT_ALLOWED,
            f"managed pods may not be created in namespace {workload.metadata.namespace}: "
            "add it to the chart's workloads.namespaces, or use pods.selector",
        )
    training = workload.spec.training
    dies, sized = profile.dies_per_server, managed is not None
    if managed is not None:
        dies = managed.nodes * profile.dies_per_server
    elif training is not None:
        layout = training.parallelism
        dies, sized = layout.tensor * layout.pipeline * (layout.data or 1), layout.data is not None
    problem = check_workload(profile, raw["spec"], dies)
    if problem is None:
        return None
    if not sized and problem.reason not in _BEFORE_PODS:
        return None  # how many dies there will be is for its pods to say
    named = problem.message.startswith(problem.field)
    return Rejection(Reason(problem.reason), problem.message if named else f"{problem.field}: {problem.message}")
