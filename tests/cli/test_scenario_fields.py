"""What a scenario of inference can say: loads and engines for serve-sim, formats of a config, drafts, keys once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supernode_cli.evaluation import Evaluation, ScenarioError, evaluate
from supernode_dataplane.hardware import Format
from supernode_dataplane.quantization import Quantization, read_quantization
from support.deployments import QWEN_COLOCATED, R1_DECODE, with_fields
from support.scenarios import SERVED, run_on_file, served

LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
}  # fmt: skip


def simulated(base: dict[str, Any], nodes: int, **fields: Any) -> Evaluation:
    return evaluate({"machine": {"nodes": nodes}, **with_fields(base, **fields)})


def quantized(config: dict[str, Any], **precision: str) -> Evaluation:
    return evaluate(
        {
            "machine": {"nodes": 1},
            "model": {"config": {**LLAMA, "quantization_config": config}},
            "inference": {
                "mode": "Colocated", "inputTokens": 2000, "outputTokens": 200, "load": {"concurrency": 64},
                **({"precision": precision} if precision else {}),
            },
        }
    )  # fmt: skip


def precision_of(found: Evaluation) -> tuple[Format, ...]:
    plan = found.inputs.workloads[0].inference
    assert plan is not None
    given = plan.precision
    return given.weights, given.activations, given.kv_cache, given.head


def command(tmp_path: Path, name: str, scenario: Any, *flags: str) -> tuple[int, str, str]:
    return run_on_file(tmp_path, name, scenario, *flags)


@pytest.mark.parametrize(
    ("config", "formats"),
    [
        ({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
         ("fp8", "fp8", "bf16", "bf16")),
        ({"quant_method": "fp8", "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.gate"]},
         ("fp8", "fp8", "bf16", "bf16")),
        ({"quant_method": "w8a8_int8"}, ("int8", "int8", "bf16", "bf16")),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}, ("int4", "bf16", "bf16", "bf16")),
        ({"quant_method": "gptq", "bits": 8, "lm_head": True}, ("int8", "bf16", "bf16", "int8")),
        ({"quant_method": "compressed-tensors", "ignore": ["lm_head"], "config_groups": {"group_0": {
            "weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8, "type": "int"}}}},
         ("int8", "int8", "bf16", "bf16")),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8, "type": "float"},
          "config_groups": {"a": {"weights": {"num_bits": 4, "type": "int"}, "input_activations": None},
                            "b": {"weights": {"num_bits": 4, "type": "int"}}}},
         ("int4", "bf16", "fp8", "bf16")),
    ],
)  # fmt: skip
def test_a_quantized_config_says_the_formats_that_the_scenario_leaves_open(
    config: dict[str, Any], formats: tuple[str, ...]
) -> None:
    assert precision_of(quantized(config)) == formats
    assert precision_of(quantized(config, weights="bf16", head="bf16")) == ("bf16", *formats[1:3], "bf16")


EIGHT = {"num_bits": 8, "type": "int"}
FOUR = {"num_bits": 4, "type": "int"}
GROUPS = {
    "routed": {
        "targets": ["re:.*mlp\\.experts\\.\\d+\\.(gate|up|down)_proj$"],
        "weights": FOUR,
        "input_activations": EIGHT,
    },
    "rest": {"targets": ["Linear"], "weights": EIGHT, "input_activations": EIGHT},
}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # As DeepSeek's W4A8 checkpoints for Ascend are: only routed experts have four bits.
        ({"quant_method": "compressed-tensors", "config_groups": GROUPS}, Quantization("int8", "int8", experts="int4")),
        # As Kimi K2 Thinking's config leaves out all but the routed experts.
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"targets": ["Linear"], "weights": FOUR}},
          "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*",
                     "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"]},
         Quantization("bf16", "bf16", experts="int4")),
        ({"quant_method": "fp8", "modules_to_not_convert": ["self_attn"]},
         Quantization("fp8", "fp8", attention="bf16")),
        ({"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["mlp.experts"]},
         Quantization("int4", "bf16", experts="bf16")),
        ({"quant_method": "w8a8_int8", "ignore": ["model.layers.*.self_attn"]},
         Quantization("int8", "int8", attention="bf16")),
    ],
)  # fmt: skip
def test_classes_of_weights_may_have_formats_of_their_own(config: dict[str, Any], expected: Quantization) -> None:
    assert read_quantization(config) == expected


def test_the_experts_of_a_model_that_has_none_are_refused_and_a_gpu_gets_its_own_format(tmp_path: Path) -> None:
    inference = {"mode": "Decode", "inputTokens": 100, "outputTokens": 100, "batch": {"sequencesPerCard": 8}}
    base: dict[str, Any] = {"machine": {"nodes": 2}, "model": {"name": "deepseek-r1"},
                            "inference": inference | {"precision": {"weights": "int8", "experts": "int4"}}}  # fmt: skip
    base["inference"]["decode"] = {"parallelism": {"expert": 32}}
    status, out, _ = command(tmp_path, "compare", base, "cloudmatrix-384", "h800-cluster", "-o", "json")
    assert status == 0
    there = json.loads(out)["machines"][1]
    assert "weights fp8" in " ".join(there["changed"])
    assert "experts" not in " ".join(there["changed"])
    assert command(tmp_path, "simulate", base)[1].count("experts int4") == 1
    base |= {"model": {"name": "qwen3-8b"}}
    del base["inference"]["decode"]
    status, out, error = command(tmp_path, "simulate", base)
    assert (status, out) == (2, "")
    assert "inference.precision.experts is not for qwen3-8b, which has no experts: leave it out" in error


def test_without_a_quantized_config_the_formats_are_those_of_the_machine() -> None:
    base = {"model": {"config": LLAMA}, "inference": {"mode": "Prefill", "inputTokens": 1000}}
    assert precision_of(evaluate({"machine": {"nodes": 1}, **base}))[:2] == ("int8", "int8")
    on_gpus = evaluate({"machine": {"nodes": 1, "profile": "h100-cluster"}, **base})
    assert precision_of(on_gpus)[:2] == ("fp8", "fp8")


def test_fewer_bits_hold_less_and_a_format_that_the_dies_lack_is_said() -> None:
    held = {bits: quantized({"quant_method": "gptq", "bits": bits}).result.memory_bytes["weights"] for bits in (4, 8)}
    assert held[4] < 0.7 * held[8]
    fp8 = quantized({"quant_method": "fp8"})
    assert fp8.notes == ("the dies of cloudmatrix-384 do not multiply in fp8: products run in bf16",)
    assert read_quantization({"quant_method": "w8a8_int8"}) == Quantization("int8", "int8")


def test_a_quantized_config_that_is_not_understood_is_named(tmp_path: Path) -> None:
    scenario = {"model": {"config": {**LLAMA, "quantization_config": {"quant_method": "exl2"}}},
                "inference": {"mode": "Prefill", "inputTokens": 10}}  # fmt: skip
    status, out, error = command(tmp_path, "simulate", scenario)
    assert (status, out) == (2, "")
    assert "model.config.quantization_config.quant_method 'exl2' is not understood; known: awq" in error


@pytest.mark.parametrize("name", ["simulate", "serve-sim", "compare"])
def test_a_key_that_stands_twice_is_named_with_both_lines(tmp_path: Path, name: str) -> None:
    text = "model: {name: qwen3-8b}\ninference:\n  mode: Decode\n  inputTokens: 9\n  mode: Prefill\n"
    status, out, error = command(tmp_path, name, text, *(["h800-cluster", "h100-cluster"] if name == "compare" else []))
    assert (status, out) == (2, "")
    assert "line 5: key 'mode' stands twice, first on line 3; leave one out" in error


def test_keys_of_different_mappings_and_merged_ones_may_be_alike(tmp_path: Path) -> None:
    text = "model: &m {name: qwen3-8b}\nstack: vendor-tuned\ninference:\n  mode: Prefill\n  inputTokens: 100\n"
    text += "machine:\n  <<: {nodes: 2}\n  nodes: 1\n"
    assert command(tmp_path, "simulate", text)[0] == 0
    assert "line 1: key 'nodes' stands twice" in command(tmp_path, "simulate", "machine: {nodes: 1, nodes: 2}\n")[2]
    assert "stands twice" in command(tmp_path, "simulate", '{"model": {"name": "a"}, "model": {}}')[2]


def test_mean_tokens_of_a_step_are_the_same_as_the_acceptance_that_makes_them() -> None:
    each = simulated(R1_DECODE, 20, speculation={"drafts": 2, "acceptancePercent": [80, 50]}).result
    mean = simulated(R1_DECODE, 20, speculation={"drafts": 2, "tokensPerStep": 2.2}).result
    assert mean.tpot_seconds == pytest.approx(each.tpot_seconds)
    for wrong, said in (
        ({"drafts": 2, "tokensPerStep": 3.5}, "from 1 to 3"),
        ({"drafts": 1, "tokensPerStep": 1.5, "acceptancePercent": [50]}, "give one of both"),
        ({"drafts": 1}, "list of 1 percentages"),
    ):
        with pytest.raises(ScenarioError, match=said):
            simulated(R1_DECODE, 20, speculation=wrong)


def test_experts_per_die_are_as_many_redundant_ones() -> None:
    named = simulated(R1_DECODE, 20, decode__experts={"redundant": 64}).result
    filled = simulated(R1_DECODE, 20, decode__experts={"perDie": 1}).result
    assert filled.tpot_seconds == named.tpot_seconds
    assert simulated(R1_DECODE, 20, decode__experts={"perDie": 2}).result.hbm_bytes_per_die > named.hbm_bytes_per_die
    with pytest.raises(ScenarioError, match="fills every rank; give one of both"):
        simulated(R1_DECODE, 20, decode__experts={"perDie": 1, "redundant": 64})


def test_the_share_of_the_cores_has_a_best_value_between_its_ends() -> None:
    two = {"decode__microBatches": "two"}
    times = [
        simulated(R1_DECODE, 20, **two, decode__attentionCorePercent=share).result.tpot_seconds for share in (5, 70, 97)
    ]
    assert times[1] < min(times[0], times[2])


def test_norms_cost_less_with_sequence_parallelism() -> None:
    plain, split = (
        simulated(QWEN_COLOCATED, 3, decode__parallelism={"tensor": 4, "sequence": on}).result for on in (False, True)
    )
    assert split.breakdown_seconds["vector"] < plain.breakdown_seconds["vector"]
    assert split.breakdown_seconds["projections"] == plain.breakdown_seconds["projections"]


def test_simulate_says_that_queues_need_serve_sim(tmp_path: Path) -> None:
    status, out, error = command(tmp_path, "simulate", SERVED)
    assert (status, out) == (2, "")
    assert "inference.load.rate says when requests arrive" in error
    assert "serve-sim" in error
    both = {**SERVED, "inference": {**SERVED["inference"], "load": {"rate": 40.0, "concurrency": 32}}}
    status, out, _ = command(tmp_path, "simulate", both)
    assert status == 0
    assert "serve-sim" in out
    plain = {**SERVED, "inference": {**SERVED["inference"], "load": {"concurrency": 32}}}
    assert evaluate(plain).performance == evaluate(both).performance


def test_an_engine_changes_neither_the_steady_state_nor_its_digest() -> None:
    base = {"load": {"concurrency": 32}}
    plain = evaluate({**SERVED, "inference": {**SERVED["inference"], **base}})
    tuned = evaluate({**SERVED, "inference": {**SERVED["inference"], **base, "engine": {"chunkTokens": 64}}})
    assert (plain.performance, plain.state.digest) == (tuned.performance, tuned.state.digest)


def test_serve_sim_takes_the_load_from_the_scenario_and_flags_override_it(tmp_path: Path) -> None:
    found = served(tmp_path, SERVED)
    assert found["load"]["requests"] == 120
    assert found["load"]["source"].startswith("40 requests/s, 900 input")
    assert found == served(tmp_path, SERVED, "--rate", "40", "--prompts", "120")
    assert served(tmp_path, SERVED, "--prompts", "30")["load"]["requests"] == 30
    assert served(tmp_path, SERVED, "--burst", "3")["load"]["source"].startswith("40 requests/s in bursts")
    assert served(tmp_path, SERVED, "--concurrency", "7")["load"]["source"].startswith("7 clients")
    assert served(tmp_path, SERVED, "--at-once")["load"]["source"].startswith("all at once")


def test_a_rate_and_a_concurrency_are_a_paced_loop_from_the_scenario_and_from_flags(tmp_path: Path) -> None:
    paced = {**SERVED, "inference": {**SERVED["inference"], "load": {"rate": 4000.0, "concurrency": 8, "prompts": 60}}}
    found = served(tmp_path, paced)
    assert found["load"]["source"].startswith("4000 requests/s, at most 8 in flight")
    assert found["throughput"]["requestsInSystemMean"] <= 8 + 1e-9
    assert found == served(tmp_path, SERVED, "--rate", "4000", "--concurrency", "8", "--prompts", "60")
    slow = {**paced, "inference": {**paced["inference"], "load": {"rate": 2.0, "concurrency": 8, "prompts": 60}}}
    assert served(tmp_path, slow)["throughput"]["requestsPerSecond"] < 3


def test_a_trace_of_the_scenario_lies_beside_its_file(tmp_path: Path) -> None:
    rows = [f"2023-11-16 18:15:{second:02d},{400 + second},20" for second in range(10)]
    (tmp_path / "azure.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    load = {"trace": "azure.csv", "speed": 2.0, "prompts": 6}
    scenario = {**SERVED, "inference": {**SERVED["inference"], "load": load}}
    found = served(tmp_path, scenario)
    assert found["load"]["requests"] == 6
    assert found["load"]["source"].endswith("azure.csv, 2 times as fast")
    assert served(tmp_path, scenario, "--rate", "5")["load"]["source"].startswith("5 requests/s")


@pytest.mark.parametrize(
    ("changes", "flags", "said"),
    [
        ({"load": {"burst": 2.0}}, [], "inference.load.burst: is about requests that arrive at a rate"),
        ({"load": {"trace": "a.csv", "rate": 1.0}}, [], "inference.load.trace: a trace has its own times"),
        ({"load": {"trace": "absent.csv"}}, [], "absent.csv: cannot be read"),
        ({"load": {"preset": "nothing"}}, [], "inference.load.preset: there is no 'nothing'"),
        ({"load": {"speed": 2.0}}, [], "inference.load.speed: is about a trace; give inference.load.trace too"),
        (
            {"load": {"traceFormat": "azure"}},
            [],
            "scenario.yaml: inference.load.traceFormat: is about a trace; give inf",
        ),
        ({"load": {"rate": 1e-300}}, [], "inference.load.rate: must be a number from 1e-06"),
        ({"load": {"rate": 0}}, [], "inference.load.rate"),
        ({"load": {"rate": 1.0, "prompts": 0}}, [], "inference.load.prompts"),
        (
            {"engine": {"groupQueues": True, "gatherSteps": 3, "chunkTokens": 512}},
            [],
            "inference.engine.gatherSteps: is about prompts",
        ),
        (
            {"engine": {"groupQueues": True, "gatherSteps": 3}},
            ["--chunk", "512"],
            "inference.engine.gatherSteps: is about prompts",
        ),
        ({"engine": {"gatherSteps": 3}}, [], "inference.engine.gatherSteps: is about groups"),
        ({"engine": {"prefillMaxRunning": 3}}, [], "inference.engine.prefillMaxRunning: is for mode Disaggregated"),
        ({"engine": {"promptTokens": 3}}, ["--chunk", "512"], "inference.engine.promptTokens"),
        ({"engine": {"kvBlockTokens": 0}}, [], "inference.engine.kvBlockTokens"),
        ({"engine": {"chunk": 512}}, [], "unknown field inference.engine.chunk: known here are chunkTokens"),
        ({"engine": {"promptTokens": 16_000_000}}, [], "no HBM is left for caches"),
    ],
)
def test_a_load_or_engine_that_cannot_be_is_one_sentence_with_its_field(
    tmp_path: Path, changes: dict[str, Any], flags: list[str], said: str
) -> None:
    scenario = {**SERVED, "inference": {**SERVED["inference"], **changes}}
    status, out, error = command(tmp_path, "serve-sim", scenario, *flags)
    assert (status, out) == (2, "")
    assert said in error
    assert error.count("\n") == 1


def test_layouts_with_stages_and_with_attention_apart_are_served(tmp_path: Path) -> None:
    piped = {**SERVED, "inference": {**SERVED["inference"], "decode": {"parallelism": {"tensor": 2, "pipeline": 4}}}}
    found = served(tmp_path, piped)
    assert found["pools"][0]["diesPerInstance"] == 8
    assert any("follow one another" in note for note in found["notes"])
    apart = {
        "machine": {"nodes": 8},
        "model": {"name": "deepseek-r1"},
        "inference": {
            "mode": "Disaggregated", "inputTokens": 1024, "outputTokens": 64, "load": {"concurrency": 60},
            "prefill": {"nodes": 4, "parallelism": {"expert": 32, "context": 2}},
            "decode": {"split": {"expertDies": 32, "domains": 2}},
        },
    }  # fmt: skip
    assert served(tmp_path, apart, "--prompts", "80")["throughput"]["tokensPerSecond"] > 0
