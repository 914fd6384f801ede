"""Where the dies are, what is broken and who else is there: what it does to a workload's rate."""

from __future__ import annotations

import json

import numpy as np
import pytest

from supernode_dataplane import load_profile, solve
from supernode_dataplane.machine import PartInput, RankInput, ServerInput, WorkloadInput
from support.machines import LLAMA, SMALL, only, ranks_of_parts, run, workload

WHOLE = list(range(48))
TINY = json.dumps(
    {
        "model_type": "llama",
        "hidden_size": 2048,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "intermediate_size": 8192,
        "vocab_size": 32000,
    }
)


def tiny(sequence: int, batch: int) -> dict:
    """A model for one die."""
    training = {"sequenceLength": sequence, "globalBatchSize": batch, "parallelism": {}}
    return {"model": {"config": TINY}, "training": training}


def scattered() -> list[dict]:
    """48 ranks of 16 dies: each has one die on each of 16 servers."""
    parts = []
    for rank in range(48):
        block, die = divmod(rank, 16)
        parts.append([(block * 16 + server, str(die)) for server in range(16)])
    return ranks_of_parts(parts)


def test_scattered_dies_are_slower_than_whole_servers_and_the_note_says_why():
    whole, apart = only(run(workload("a", WHOLE))), only(run(workload("a", ranks=scattered())))
    assert 0.8 * whole.tokens_per_second < apart.tokens_per_second < 0.99 * whole.tokens_per_second
    assert whole.notes == ()
    assert "48 of 48 tensor groups span servers" in apart.notes[0]
    assert apart.spans_servers == tuple(range(48))
    assert whole.spans_servers == ()


def test_one_die_away_from_home_slows_the_whole_workload():
    parts = [[(server, "0-15")] for server in range(46)]
    parts += [[(46, "0-14"), (47, "0")], [(46, "15"), (47, "1-15")]]
    whole, apart = only(run(workload("a", WHOLE))), only(run(workload("a", ranks=ranks_of_parts(parts))))
    assert apart.tokens_per_second < whole.tokens_per_second
    assert apart.spans_servers == (46, 47)


def test_tensor_groups_larger_than_a_server_cross_the_bus():
    inside = only(run(workload("a", range(2), SMALL, tensor=16, pipeline=2)))
    across = only(run(workload("a", range(2), SMALL, tensor=32, pipeline=1)))
    assert across.tokens_per_second < inside.tokens_per_second
    assert "span servers" in across.notes[0]


def test_dies_of_the_traditional_cluster_meet_over_rdma_and_pay_for_it():
    at_home = only(
        run(workload("a", range(2), SMALL, profile="atlas-a2-cluster", tensor=8), profile="atlas-a2-cluster")
    )
    abroad = ranks_of_parts([[(0, "0-3"), (1, "0-3")], [(0, "4-7"), (1, "4-7")]])
    far = only(run(workload("a", ranks=abroad, base=SMALL, tensor=8), profile="atlas-a2-cluster"))
    assert far.tokens_per_second < 0.5 * at_home.tokens_per_second
    assert far.bound == "RDMA"
    assert "RDMA" in far.notes[0]


def test_a_container_that_asked_for_fewer_links_is_slower():
    links = ",".join(f"{die * 7}-{die * 7 + 3}" for die in range(16))
    some = only(run(workload("a", ranks=ranks_of_parts([[(s, "0-15", links)] for s in WHOLE]))))
    every = only(run(workload("a", ranks=ranks_of_parts([[(s, "0-15", "0-111")] for s in WHOLE]))))
    whole = only(run(workload("a", WHOLE)))
    assert every.tokens_per_second == whole.tokens_per_second
    assert every.notes == ()
    assert some.tokens_per_second < 0.9 * whole.tokens_per_second
    assert "3072 of the 5376 bus links" in some.notes[0]


def test_links_of_dies_that_it_does_not_hold_carry_nothing_and_are_reported():
    ranks = ranks_of_parts([[(0, "0-7", "0-55,70-72")], [(0, "8-15", "56-111")]])
    state = run(workload("a", ranks=ranks, base=SMALL))
    result = only(state)
    clean = only(run(workload("a", ranks=ranks_of_parts([[(0, "0-7")], [(0, "8-15")]]), base=SMALL)))
    assert result.links_mismatch == (0,)
    assert result.tokens_per_second == clean.tokens_per_second


def test_no_link_at_all_stops_it_with_the_reason():
    result = only(run(workload("a", ranks=ranks_of_parts([[(3, "0-15", "")]]), base=SMALL)))
    assert result.tokens_per_second == 0
    assert result.waiting == "its containers hold no bus link of 16 of its dies; the first is server 3 die 0"
    assert result.waiting_reason == "LinksMismatch"


def test_without_a_plane_in_common_it_stops_with_the_reason():
    ranks = ranks_of_parts([[(0, "0-7", "0-6,7-13,14-20,21-27,28-34,35-41,42-48,49-52")]])
    faults = {0: [{"diePort": {"die": die, "plane": plane}} for die in range(7) for plane in range(4)]}
    result = only(run(workload("a", ranks=ranks, base=SMALL), faults=faults))
    assert result.tokens_per_second == 0
    assert "no working plane in common" in result.waiting
    assert result.waiting_reason == "LinksFaulty"


def test_links_that_are_not_held_are_no_broken_ones():
    ranks = ranks_of_parts([[(0, "0-7", "0-6,7-13,14-20,21-27,28-34,35-41,42-45,53-55")]])
    assert only(run(workload("a", ranks=ranks, base=SMALL))).waiting == "", "planes 0 to 3 and 4 to 6: six others help"
    apart = ranks_of_parts([[(0, "0-7", "0-3,7-10,14-17,21-24,28-31,35-38,42-45,53-55")]])
    result = only(run(workload("a", ranks=apart, base=SMALL)))
    assert result.waiting == "its containers hold no links on one plane of two of its dies that must talk"
    assert result.waiting_reason == "LinksMismatch"


def test_a_die_whose_links_are_all_broken_is_named():
    faults = {3: [{"diePort": {"die": 4, "plane": plane}} for plane in range(7)]}
    result = only(run(workload("a", [3], SMALL), faults=faults))
    assert result.waiting == "1 of its dies have no working bus link; the first is server 3 die 4"
    assert result.waiting_reason == "LinksFaulty"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"diePort": {"die": 5, "plane": 2}}, "1 of its bus links are broken"),
        ({"l1": {"plane": 2}}, "16 of its bus links are broken"),
    ],
)
def test_a_broken_port_or_chip_slows_it_and_is_noted(fault: dict, words: str):
    whole, hurt = only(run(workload("a", WHOLE))), only(run(workload("a", WHOLE), faults={7: [fault]}))
    assert 0.9 * whole.tokens_per_second < hurt.tokens_per_second < whole.tokens_per_second
    assert words in hurt.notes[0]


def test_an_uplink_hurts_only_what_leaves_the_server():
    fault = {0: [{"uplink": {"plane": 0, "port": port}} for port in range(12)]}
    inside = workload("a", [0], SMALL)
    outside = workload("a", ranks=scattered(), base=LLAMA)
    assert only(run(inside, faults=fault)).tokens_per_second == only(run(inside)).tokens_per_second
    assert only(run(outside, faults=fault)).tokens_per_second < only(run(outside)).tokens_per_second
    assert "uplinks are broken on servers 0" in only(run(outside, faults=fault)).notes[-1]


@pytest.mark.parametrize("level", ["NotHandleFault", "SubHealthFault", "RestartRequest"])
def test_a_fault_that_leaves_the_device_in_use_changes_no_figure(level: str):
    hurt = run(workload("a", WHOLE), faults={0: [{"die": 3, "level": level}, {"l1": {"plane": 1}, "level": level}]})
    assert only(hurt).tokens_per_second == only(run(workload("a", WHOLE))).tokens_per_second
    assert hurt.devices.healthy.all()


def test_a_broken_die_costs_its_data_parallel_replica():
    whole, hurt = only(run(workload("a", WHOLE))), only(run(workload("a", WHOLE), faults={9: [{"die": 3}]}))
    assert hurt.tokens_per_second == pytest.approx(whole.tokens_per_second * 5 / 6)
    assert hurt.tokens_per_step == whole.tokens_per_step
    assert hurt.step_time_seconds == pytest.approx(whole.step_time_seconds * 6 / 5)
    assert hurt.breakdown_seconds is not None
    assert sum(hurt.breakdown_seconds.values()) == pytest.approx(hurt.step_time_seconds)
    assert hurt.notes == ("1 of 6 data parallel replicas have a broken die and are lost: the rate is 5/6",)
    twice = only(run(workload("a", WHOLE), faults={9: [{"die": 3}, {"die": 4}]}))
    assert twice.tokens_per_second == hurt.tokens_per_second, "the same replica"


def test_with_every_replica_lost_the_rate_is_0_and_it_says_so():
    result = only(run(workload("a", [4, 5], SMALL, tensor=8, pipeline=4), faults={5: [{"die": 2}]}))
    assert result.tokens_per_second == 0
    assert result.problem is None
    assert result.waiting.startswith("1 of its dies are broken, so that no data parallel replica is whole")
    assert result.waiting.endswith("server 5 die 2")


def test_two_workloads_on_servers_of_their_own_do_not_disturb_each_other():
    alone = only(run(workload("a", range(6), SMALL)))
    both = run(workload("a", range(6), SMALL), workload("b", range(6, 12), SMALL))
    assert both.workload("team/a") == alone
    assert both.workload("team/b") is not None
    assert both.tokens_per_second == pytest.approx(2 * alone.tokens_per_second)


def half_servers(dies: str, servers: range) -> list[dict]:
    """Tensor groups of 8 that take one die of each of 8 servers."""
    low = int(dies.split("-", maxsplit=1)[0])
    return ranks_of_parts([[(s, str(low + die)) for s in servers] for die in range(8)])


def test_two_workloads_that_share_short_uplinks_both_get_less_and_say_so():
    faults = {s: [{"uplink": {"plane": p, "port": q}} for p in range(7) for q in range(15)] for s in range(8)}
    first = workload("a", ranks=half_servers("0-7", range(8)), base=SMALL)
    second = workload("b", ranks=half_servers("8-15", range(8)), base=SMALL)
    alone = only(run(first, faults=faults))
    both = run(first, second, faults=faults)
    for result in both.workloads:
        assert result.tokens_per_second < 0.95 * alone.tokens_per_second
        assert result.notes[-1] == "shares short uplinks with other workloads"
    assert both.workloads[0].tokens_per_second == pytest.approx(both.workloads[1].tokens_per_second, rel=1e-6)
    used = both.fabric.uplink_tx_bytes_per_second
    assert used.max() <= 28e9
    healthy = run(first, second)
    assert healthy.workloads[0].tokens_per_second == only(run(first)).tokens_per_second, "the Clos is 1:1"


def test_a_die_that_two_workloads_name_belongs_to_the_first():
    state = run(workload("b", [0, 1], SMALL), workload("a", [1, 2], SMALL))
    first, second = state.workloads
    assert (first.key, first.dies, second.dies) == ("team/a", 32, 16)
    assert first.tokens_per_second > 0
    assert second.notes == ("16 of its dies are also in another placement, which comes first and has them",)
    assert second.tokens_per_second == 0
    assert second.waiting == "1 of 2 ranks hold no dies: 1"
    assert np.count_nonzero(state.devices.owner >= 0) == 48


def test_two_ranks_that_name_one_die_count_it_once():
    state = run(workload("a", ranks=ranks_of_parts([[(0, "0-7")], [(0, "4-11")]]), base=SMALL))
    assert only(state).dies == 12
    assert "4 of its dies" in only(state).notes[0]


def test_a_missing_rank_or_one_that_does_not_run_means_no_tokens():
    job = workload("a", range(4), SMALL, managed=True)
    ranks = job["status"]["placement"]["ranks"]
    gone = {**job, "status": {"placement": {"ranks": ranks[:1] + ranks[2:]}}}
    assert only(run(gone)).waiting == "1 of 4 ranks have no pod yet: 1"
    still = {**job, "status": {"placement": {"ranks": [*ranks[:3], {**ranks[3], "running": False}]}}}
    assert only(run(still)).waiting == "1 of 4 ranks are not running: 3"
    bare = {**job, "status": {"placement": {"ranks": [*ranks[:3], {**ranks[3], "parts": []}]}}}
    assert only(run(bare)).waiting == "1 of 4 ranks hold no dies: 3"
    for each in (gone, still, bare):
        state = run(each)
        assert state.tokens_per_second == 0
        assert not state.devices.utilisation.any()
        assert not state.devices.port_tx_bytes_per_second.any()
    assert only(run({**job, "status": {}})).waiting == "4 of 4 ranks have no pod yet: 0, 1, 2, 3"
    assert only(run(workload("a", [], SMALL))).waiting == "no pod yet"


def test_pods_beyond_a_managed_size_do_no_work():
    job = workload("a", range(4), SMALL, managed=True)
    job["spec"]["pods"]["managed"]["nodes"] = 2
    result = only(run(job))
    assert result.dies == 32
    assert result.tokens_per_second == only(run(workload("a", range(2), SMALL, managed=True))).tokens_per_second


def test_adopted_pods_that_are_still_too_few_wait():
    result = only(run(workload("a", range(3))))
    assert result.problem is None
    assert result.waiting == "its pods hold 3 x 16 = 48 dies, and tensor x pipeline = 128 needs more"


def test_direct_callers_are_held_to_the_machine_too():
    profile = load_profile("cloudmatrix-384")
    beyond = (RankInput(0, True, (PartInput(48, (0, 1)), PartInput(0, (0,)))),)
    faults = (ServerInput(99, dies=(0,)), ServerInput(0, dies=(77,), l1=(9,)))
    state = solve(profile, faults, (WorkloadInput("b/b", None, beyond), WorkloadInput("a/a", None)))
    assert [w.key for w in state.workloads] == ["a/a", "b/b"]
    assert state.workloads[0].waiting == "no pod yet"
    assert state.workloads[1].notes == ("rank 0 names server 48, which is not in the machine",)
    assert state.workloads[1].problem is not None
    assert state.workloads[1].problem.message == "the workload has neither training nor inference"
    assert state.devices.healthy.all()
    assert state.digest == ""


def test_a_workload_that_asks_for_no_communication_needs_no_link():
    base = {
        **SMALL,
        "training": {**SMALL["training"], "sequenceLength": 512, "globalBatchSize": 4},
        "model": {"config": TINY},
    }
    ranks = ranks_of_parts([[(0, "0", "")]])
    result = only(run(workload("a", ranks=ranks, base=base, tensor=1)))
    assert result.tokens_per_second > 0
    assert result.notes == ()
    assert result.link_utilisation == 0


def test_a_small_batch_of_a_large_model_is_bound_by_hbm():
    base = {
        **SMALL,
        "training": {**SMALL["training"], "sequenceLength": 8, "globalBatchSize": 1},
        "model": {"config": TINY},
    }
    assert only(run(workload("a", ranks=ranks_of_parts([[(0, "0")]]), base=base, tensor=1))).bound == "HBM"
