"""Why a placed workload makes no tokens: the reason comes from what the machine found, and not from its words."""

from __future__ import annotations

from typing import Any

import pytest

from supernode_api.conditions import find_condition
from supernode_operator.domain.progressing import ProgressPlan
from supernode_operator.domain.workload_status import WorkloadView, build_workload_status
from support.deployments import R1_DECODE, deployment
from support.machines import SMALL, only, ranks_of_parts, run, workload

DIES = {3: [{"die": 4}], 7: [{"die": 5}]}
BARE = {server: [{"diePort": {"die": 4, "plane": plane}} for plane in range(7)] for server in (3, 7)}
L1 = {server: [{"l1": {"plane": plane}} for plane in range(7)] for server in (3, 7)}
APART = {
    3: [{"diePort": {"die": 0, "plane": plane}} for plane in range(4)]
    + [{"diePort": {"die": 2, "plane": plane}} for plane in range(4, 7)]
}
NO_LINKS = ranks_of_parts([[(3, "0-15", "")]])

STANDS: dict[str, tuple[dict[str, Any], dict[int, list[dict[str, Any]]], str, str]] = {
    "broken dies, training": (
        workload("a", [3], SMALL, tensor=16),
        DIES,
        "DiesFaulty",
        "1 of its dies are broken, so that no data parallel replica is whole; the first is server 3 die 4",
    ),
    "broken dies, inference": (
        deployment("a", range(20), R1_DECODE),
        DIES,
        "DiesFaulty",
        "2 dies of its decode pool are broken, so that none of 1 instances is whole; the first is server 3 die 4",
    ),
    "a die without a link, training": (
        workload("a", [3], SMALL),
        BARE,
        "LinksFaulty",
        "1 of its dies have no working bus link; the first is server 3 die 4",
    ),
    "dies without a link, inference": (
        deployment("a", range(20), R1_DECODE),
        BARE,
        "LinksFaulty",
        "2 of its dies have no working bus link; the first is server 3 die 4",
    ),
    "every L1 chip of a server": (
        workload("a", [3], SMALL),
        L1,
        "LinksFaulty",
        "16 of its dies have no working bus link; the first is server 3 die 0",
    ),
    "no plane in common": (
        workload("a", [3], SMALL),
        APART,
        "LinksFaulty",
        "two of its dies that must talk have no working plane in common",
    ),
    "no links held": (
        workload("a", ranks=NO_LINKS, base=SMALL),
        {},
        "LinksMismatch",
        "its containers hold no bus link of 16 of its dies; the first is server 3 die 0",
    ),
    "links held on different planes": (
        workload("a", ranks=ranks_of_parts([[(3, "0-7", "0-3,7-13,18-55")]]), base=SMALL),
        {},
        "LinksMismatch",
        "its containers hold no links on one plane of two of its dies that must talk",
    ),
    "too few dies": (
        workload("a", [3], SMALL, tensor=16, pipeline=2),
        {},
        "Incomplete",
        "its pods hold 1 x 16 = 16 dies, and tensor x pipeline = 32 needs more",
    ),
}


@pytest.mark.parametrize("case", STANDS)
def test_the_reason_is_that_of_what_is_wrong(case: str) -> None:
    raw, faults, reason, message = STANDS[case]
    result = only(run(raw, faults=faults))
    ranks = [{"rank": 0, "pod": "p", "running": True, "parts": []}]
    view = WorkloadView(
        raw=raw,
        rejection=None,
        suspended=False,
        pods=[],
        contested=[],
        placement={"nodes": 1, "dies": 16, "cabinets": 1, "ranks": ranks},
        expected_ranks=1,
        result=result,
        stamp=None,
        progress=ProgressPlan(None),
    )
    conditions = build_workload_status(view, "2026-01-01T00:00:00Z")["conditions"]
    ready = find_condition(conditions, "Ready") or {}
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", reason, message)
