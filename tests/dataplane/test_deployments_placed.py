"""Deployments on placed dies: what they wait for, what they lose, what does not fit, and that nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from supernode_dataplane import check_workload, load_profile, machine_inputs, solve
from supernode_dataplane.progress import target_tokens, tokens_per_step
from supernode_dataplane.solving import MODEL_VERSION
from support.deployments import MODES, QWEN_COLOCATED, R1_DECODE, R1_DISAGGREGATED, R1_PREFILL, deployment, with_fields
from support.machines import LLAMA, compute_nodes, only, ranks_of_parts, run, super_node, workload

CM = load_profile("cloudmatrix-384")


def test_r1_decode_on_160_packages_is_near_the_published_point():
    result = only(run(deployment("a", range(20))))
    assert result.kind == "inference"
    assert result.cards == 160
    assert result.tpot_seconds == pytest.approx(49.4e-3, rel=0.2)
    assert result.tokens_per_second_per_card == pytest.approx(96 / result.tpot_seconds, rel=1e-9)
    assert result.tokens_per_step == 256
    assert sum(result.breakdown_seconds.values()) == pytest.approx(result.step_time_seconds)
    assert sum(result.memory_bytes.values()) == pytest.approx(result.hbm_bytes_per_die)


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_says_what_it_has(mode: str):
    base, nodes = MODES[mode]
    result = only(run(deployment("a", range(nodes), base)))
    assert result.problem is None
    assert result.waiting == ""
    assert result.tokens_per_second > 0
    assert (result.tpot_seconds > 0) == (mode != "Prefill")
    assert (result.ttft_seconds > 0) == (mode != "Decode")
    assert (result.prompt_tokens_per_second > 0) == (mode != "Decode")
    assert (result.prefill_breakdown_seconds is not None) == (mode in ("Colocated", "Disaggregated"))
    assert 0 < result.mfu < 1
    if mode == "Prefill":
        assert result.prompt_tokens_per_second == result.tokens_per_second
    elif mode != "Decode":
        ratio = base["inference"]["inputTokens"] / base["inference"]["outputTokens"]
        assert result.prompt_tokens_per_second == pytest.approx(result.tokens_per_second * ratio)


def test_it_beside_training_changes_neither():
    alone = only(run(deployment("a", range(20))))
    training = only(run(workload("b", range(20, 44), LLAMA, pipeline=4)))
    both = run(deployment("a", range(20)), workload("b", range(20, 44), LLAMA, pipeline=4))
    assert both.workload("team/a") == alone
    assert both.workload("team/b") == training
    assert both.tokens_per_second == alone.tokens_per_second + training.tokens_per_second


def test_a_missing_or_idle_rank_stops_it_and_is_named():
    job = deployment("a", range(20), managed=True)
    job["status"]["placement"]["ranks"][3]["running"] = False
    assert only(run(job)).waiting == "1 of 20 ranks are not running: 3"
    del job["status"]["placement"]["ranks"][3]
    result = only(run(job))
    assert result.waiting == "1 of 20 ranks have no pod yet: 3"
    assert result.tokens_per_second == 0
    assert result.kind == "inference"


def test_one_broken_die_stops_the_only_instance():
    result = only(run(deployment("a", range(20)), faults={7: [{"die": 5}]}))
    assert result.tokens_per_second == 0
    assert "1 dies of its decode pool are broken" in result.waiting
    assert "server 7 die 5" in result.waiting


def test_with_a_fixed_batch_a_lost_instance_takes_its_share_away():
    base = with_fields(R1_PREFILL)
    whole = only(run(deployment("a", range(4), base)))
    less = only(run(deployment("a", range(4), base), faults={0: [{"die": 0}]}))
    assert less.tokens_per_second == pytest.approx(whole.tokens_per_second / 2)
    assert "1 of 2 instances of its prefill pool have a broken die and are lost" in less.notes


def test_with_a_fixed_concurrency_the_others_take_more_each():
    whole = only(run(deployment("a", range(3), QWEN_COLOCATED)))
    less = only(run(deployment("a", range(3), QWEN_COLOCATED), faults={0: [{"die": 0}]}))
    assert 11 / 12 * whole.tokens_per_second < less.tokens_per_second < whole.tokens_per_second
    assert less.tpot_seconds > whole.tpot_seconds


def test_caches_that_no_longer_hold_everyone_are_said():
    full = with_fields(QWEN_COLOCATED, load__concurrency=12 * 155)
    assert only(run(deployment("a", range(3), full))).problem is None
    less = only(run(deployment("a", range(3), full), faults={0: [{"die": 0}, {"die": 4}]}))
    # 10 of 12 instances are left, and each holds 160 sequences where 186 are asked for.
    assert any(note.startswith("caches hold 86% of the sequences") for note in less.notes), less.notes


def test_scattered_tensor_groups_are_slower_and_said():
    base = with_fields(QWEN_COLOCATED, load__concurrency=30)
    together = only(run(deployment("a", (), base, ranks=ranks_of_parts([[(0, "0-3")]]))))
    apart = ranks_of_parts([[(server, "0") for server in range(4)]])
    scattered = only(run(deployment("a", (), base, ranks=apart)))
    assert scattered.tokens_per_second < together.tokens_per_second
    assert any("1 tensor groups of its decode pool are on more servers" in note for note in scattered.notes)


def test_a_plane_that_is_gone_costs_a_seventh_of_the_links_and_nothing_else():
    gone = {server: [{"l1": {"plane": 2}}] for server in range(48)}
    whole, less = only(run(deployment("a", range(20)))), only(run(deployment("a", range(20)), faults=gone))
    wire = {cause: whole.breakdown_seconds[cause] for cause in ("dispatch", "combine")}
    more = sum(less.breakdown_seconds[cause] - seconds for cause, seconds in wire.items())
    assert 0 < more <= sum(wire.values()) / 6 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("base", "nodes", "reason", "says"),
    [
        (
            with_fields(R1_DECODE, batch__sequencesPerCard=400),
            20,
            "DoesNotFit",
            "hold 41227 such sequences, 257 on each card",
        ),
        (with_fields(R1_DECODE, decode={}, precision={"weights": "bf16"}), 1, "DoesNotFit", "spread the weights"),
        (with_fields(R1_PREFILL, promptsPerBatch=100), 4, "DoesNotFit", "fewer prompts"),
        (R1_DECODE, 19, "InvalidParallelism", "19 x 16 = 304 dies"),
        (with_fields(R1_DISAGGREGATED, prefill__nodes=14), 14, "InvalidParallelism", "leave no dies"),
        (with_fields(R1_DISAGGREGATED, prefill__nodes=5), 14, "InvalidParallelism", "the 80 dies of its nodes"),
        ({**QWEN_COLOCATED, "model": {"name": "qwen-33b"}}, 3, "ModelNotFound", "qwen3-32b"),
        (with_fields(QWEN_COLOCATED, decode__parallelism__expert=4), 3, "InvalidParallelism", "no experts"),
        (with_fields(QWEN_COLOCATED, decode__parallelism__tensor=48), 3, "InvalidParallelism", "64 attention heads"),
        ({**R1_DECODE, "training": LLAMA["training"]}, 20, "InvalidObject", "one of both"),
    ],
)
def test_what_can_never_run_is_said_before_there_is_a_pod(base: Any, nodes: int, reason: str, says: str):
    job = deployment("a", range(nodes), base, managed=True)
    problem = check_workload(CM, job["spec"], nodes * 16)
    assert problem is not None
    assert problem.reason == reason
    assert says in problem.message, problem.message
    job["status"] = {}
    assert only(run(job)).problem == problem


def test_adopted_pods_wait_until_they_hold_enough():
    result = only(run(deployment("a", range(19))))
    assert result.waiting == "its pods hold 19 x 16 = 304 dies, and a decode pool needs at least 320"
    split = only(run(deployment("a", range(5), R1_DISAGGREGATED)))
    assert split.waiting == "the pods of its decode pool hold 1 x 16 = 16 dies, and a decode pool needs at least 160"


def test_its_spec_is_in_the_digest_and_the_version_has_changed():
    def digest(base: dict[str, Any]) -> str:
        return machine_inputs(super_node(), compute_nodes(48), [deployment("a", range(20), base)]).digest

    assert digest(R1_DECODE) != digest(with_fields(R1_DECODE, batch__sequencesPerCard=95))
    assert digest(R1_DECODE) == digest(with_fields(R1_DECODE))
    assert MODEL_VERSION == "4"


def test_progress_counts_output_tokens_and_requests():
    assert target_tokens(R1_DECODE) is None
    assert target_tokens(with_fields(R1_DECODE, tokens=5)) == 5
    assert target_tokens(with_fields(R1_DECODE, requests=5)) == 5 * 256
    assert target_tokens(with_fields(R1_PREFILL, requests=5)) == 5 * 4096
    assert tokens_per_step(R1_DECODE) == 256


def test_drafts_count_as_far_as_all_before_them_were_accepted():
    plain = with_fields(R1_DECODE, speculation={"drafts": 2, "acceptancePercent": [80, 50]})
    result = only(run(deployment("a", range(20), plain)))
    assert result.step_time_seconds / result.tpot_seconds == pytest.approx(1 + 0.8 + 0.8 * 0.5)


def test_cube_units_are_as_busy_as_the_model_has_flops():
    bf16 = {"weights": "bf16", "activations": "bf16"}
    state = run(deployment("a", range(3), with_fields(QWEN_COLOCATED, precision=bf16)))
    assert state.devices.cube_utilisation[0] == pytest.approx(only(state).mfu, rel=0.05)


def test_caches_on_their_way_can_be_what_limits_it():
    pools = {"prefill": {"nodes": 2, "parallelism": {"tensor": 8}}, "decode": {"parallelism": {"tensor": 8}}}
    base = with_fields(QWEN_COLOCATED, mode="Disaggregated", **pools)
    inputs = machine_inputs(super_node(), [], [deployment("a", range(4), base)])
    slow = replace(CM, pod_measured_bytes_per_second=1e7)
    (fast,), (limited,) = (solve(profile, [], inputs.workloads).workloads for profile in (CM, slow))
    assert limited.tokens_per_second < fast.tokens_per_second / 2
    handed = limited.prompt_tokens_per_second * 262144
    assert handed == pytest.approx(2 * 16 * 1e7), "every die of the prefill pool sends as fast as it can"


def test_caches_that_stay_on_a_server_take_no_uplink():
    pools = {"prefill": {"nodes": 1, "parallelism": {"tensor": 4}}, "decode": {"parallelism": {"tensor": 4}}}
    base = with_fields(QWEN_COLOCATED, mode="Disaggregated", load={"concurrency": 100}, **pools)
    near = run(deployment("a", (), base, ranks=ranks_of_parts([[(0, "0-7")], [(0, "8-15")]])))
    far = run(deployment("a", (), base, ranks=ranks_of_parts([[(0, "0-7")], [(1, "8-15")]])))
    assert only(near).tokens_per_second == only(far).tokens_per_second > 0
    assert near.fabric.uplink_tx_bytes_per_second.sum() == 0
    handed = only(far).prompt_tokens_per_second * 262144
    assert far.fabric.uplink_tx_bytes_per_second.sum() == pytest.approx(handed)
    half = run(deployment("a", (), base, ranks=ranks_of_parts([[(0, "0-7")], [(0, "8-11")], [(1, "0-3")]])))
    assert half.fabric.uplink_tx_bytes_per_second.sum() == pytest.approx(handed / 2)
    assert half.fabric.uplink_rx_bytes_per_second[7:14].sum() == pytest.approx(handed / 2)
    assert near.devices.port_tx_bytes_per_second.sum() == pytest.approx(far.devices.port_tx_bytes_per_second.sum())
