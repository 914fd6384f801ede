"""Whether a SuperNode or a workload makes sense at all; if not, which condition reason says so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from supernode_api import SuperNode, SuperNodeWorkload
from supernode_api.conditions import Reason
from supernode_dataplane.profile import profile_names, supernode_profile_names
from supernode_operator.domain.objects import Object, age_key, is_deleting, name

__all__ = ["Rejection", "parse_super_node", "parse_workload", "reject_super_node"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why something is not done: a stable reason and what a person can do."""

    reason: Reason
    message: str


_PARSED: Final[OrderedDict[int, tuple[Object, SuperNode | Rejection]]] = OrderedDict()
"""What was read last, by identity: objects of the cache do not change, and each SuperNode looks at all older ones."""
_REMEMBERED: Final = 1024


def parse_super_node(raw: Object) -> SuperNode | Rejection:
    """Read a SuperNode; the CRD refuses most of what is wrong, an older CRD may not have."""
    before, parsed = _PARSED.get(id(raw), (None, None))
    if before is raw and parsed is not None:
        return parsed
    parsed = _parse_super_node(raw)
    _PARSED[id(raw)] = (raw, parsed)
    while len(_PARSED) > _REMEMBERED:
        _PARSED.popitem(last=False)
    return parsed


def _parse_super_node(raw: Object) -> SuperNode | Rejection:
    try:
        return SuperNode.model_validate({"metadata": raw["metadata"], "spec": raw.get("spec")})
    except ValidationError as error:
        return _invalid(error)


def parse_workload(raw: Object) -> SuperNodeWorkload | Rejection:
    """Read a workload, without its status."""
    try:
        return SuperNodeWorkload.model_validate({"metadata": raw["metadata"], "spec": raw.get("spec")})
    except ValidationError as error:
        return _invalid(error)


def reject_super_node(raw: Object, everyone: Iterable[Object]) -> Rejection | None:
    """Return why a SuperNode cannot be: unknown profile, or a superPodID that an older one has."""
    parsed = parse_super_node(raw)
    if isinstance(parsed, Rejection):
        return parsed
    profile, number = parsed.spec.profile, parsed.spec.super_pod_id
    if profile not in supernode_profile_names():
        known = ", ".join(supernode_profile_names())
        why = (
            f"{profile} is there to be compared with only" if profile in profile_names() else f"there is no {profile!r}"
        )
        return Rejection(
            Reason.PROFILE_NOT_FOUND,
            f"spec.profile: {why}; profiles of a SuperNode are {known}. "
            "Delete the SuperNode and create it with one of them",
        )
    for other in everyone:
        if name(other) == name(raw) or is_deleting(other) or age_key(other) > age_key(raw):
            continue
        if (other.get("spec") or {}).get("superPodID", 0) == number:
            return Rejection(
                Reason.SUPER_POD_ID_TAKEN,
                f"spec.superPodID: {number} belongs to SuperNode {name(other)}; "
                "delete one of the two, or create this one with another number",
            )
    return None


def _invalid(error: ValidationError) -> Rejection:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return Rejection(
        Reason.INVALID_OBJECT, f"{where}: {first['msg']}; apply the CRDs of this version and correct the object"
    )
