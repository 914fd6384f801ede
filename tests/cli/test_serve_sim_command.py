"""`supernode serve-sim`: traces and generated loads through a deployment; every error one sentence, exit status 2."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernode_cli.main import cli
from support.scenarios import changed
from support.serve_sim import COLOCATED, DISAGGREGATED, figures, run

TRACES = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples" / "serving").iterdir())
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"


def azure(tmp_path: Path, rows: list[str], name: str = "trace.csv") -> str:
    path, text = tmp_path / name, "\n".join([AZURE, *rows]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


def mooncake(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def row(time: int, tokens: int, blocks: list[int], output: int = 20) -> dict[str, Any]:
    return {"timestamp": time, "input_length": tokens, "output_length": output, "hash_ids": blocks}


def test_the_table_has_latencies_throughput_goodput_and_pools(tmp_path: Path) -> None:
    status, out, _ = run(tmp_path, COLOCATED, "--prompts", "50", "--slo-ttft", "5", "--slo-tpot", "1")
    assert status == 0
    for text in (
        "time to first token (TTFT)",
        "p99",
        "tokens/s per card",
        "requests within TTFT 5 s and TPOT 1 s",
        "KV memory in use, peak",
        "preemptions",
        "time in prefill",
        "serve (1 x 32 dies)",
    ):
        assert text in out


def test_json_is_consistent_with_itself(tmp_path: Path) -> None:
    found = figures(tmp_path, COLOCATED, "--prompts", "50", "--slo-ttft", "1000")
    throughput = found["throughput"]
    assert found["load"] == {
        "source": "40 clients, 1024 input tokens and 64 output tokens, seed 0",
        "requests": 50,
        "inputTokensMean": 1024,
        "outputTokensMean": 64,
    }
    assert throughput["tokensPerSecond"] == pytest.approx(50 * 64 / throughput["seconds"])
    assert throughput["tokensPerSecondPerCard"] * found["deployment"]["cards"] == pytest.approx(
        throughput["tokensPerSecond"]
    )
    assert found["deployment"]["cards"] == 16
    assert set(found["latency"]) == {"ttftSeconds", "tpotSeconds", "itlSeconds", "e2eSeconds"}
    for shares in found["latency"].values():
        assert 0 < shares["p50"] <= shares["p90"] <= shares["p95"] <= shares["p99"]
    assert found["goodput"]["requestShare"] == 1
    assert found["goodput"]["tokensPerSecondPerCard"] == pytest.approx(throughput["tokensPerSecondPerCard"])
    (pool,) = found["pools"]
    assert sum(pool[name] for name in ("prefillShare", "mixedShare", "decodeShare")) == pytest.approx(1)


def test_an_idle_deployment_answers_as_its_operating_point_says(tmp_path: Path) -> None:
    alone = changed(COLOCATED, inference__load={"concurrency": 1}, inference__decode={"parallelism": {"tensor": 8}})
    alone |= {"machine": {"profile": "h100-cluster", "nodes": 1}, "model": {"name": "llama-3.1-405b"}}
    alone["inference"]["precision"] = {"weights": "fp8", "activations": "fp8"}
    found = figures(tmp_path, alone, "--prompts", "3")
    file = tmp_path / "scenario.yaml"
    said = json.loads(CliRunner().invoke(cli, ["simulate", "-f", str(file), "-o", "json"]).stdout)
    point = said["workloads"][0]["figures"]
    for key in ("ttftSeconds", "tpotSeconds"):
        assert found["latency"][key]["mean"] == pytest.approx(float(point[key]["value"]), rel=0.05)


def test_disaggregated_pools_are_reported_apart(tmp_path: Path) -> None:
    found = figures(tmp_path, DISAGGREGATED, "--prompts", "100")
    assert [(pool["name"], pool["instances"]) for pool in found["pools"]] == [("prefill", 2), ("decode", 1)]
    assert found["pools"][0]["decodeStepSeconds"] is None
    assert found["pools"][1]["prefillShare"] == 0
    assert found["deployment"]["cards"] == 48
    assert "64 clients" in found["load"]["source"]


def test_chunks_mix_prompts_into_decoding(tmp_path: Path) -> None:
    flags = ("--rate", "20", "--prompts", "100")
    whole, chunked = figures(tmp_path, COLOCATED, *flags), figures(tmp_path, COLOCATED, *flags, "--chunk", "256")
    assert whole["pools"][0]["mixedShare"] == 0
    assert chunked["pools"][0]["mixedShare"] > 0


def test_a_failed_plane_makes_serving_slower_and_a_failed_die_takes_its_instance(tmp_path: Path) -> None:
    healthy = figures(tmp_path, DISAGGREGATED, "--prompts", "100")
    planes = changed(DISAGGREGATED, machine__failed={"planes": [0, 1, 2]})
    slower = figures(tmp_path, planes, "--prompts", "100")
    assert slower["latency"]["tpotSeconds"]["mean"] > healthy["latency"]["tpotSeconds"]["mean"]
    die = changed(DISAGGREGATED, machine__failed={"dies": [{"server": 0, "die": 1}]})
    fewer = figures(tmp_path, die, "--prompts", "100")
    assert [pool["instances"] for pool in fewer["pools"]] == [1, 1]
    assert fewer["notes"] != []


def test_drafts_that_are_accepted_shorten_outputs(tmp_path: Path) -> None:
    drafts = changed(COLOCATED, inference__speculation={"drafts": 1, "acceptancePercent": [100]})
    plain, fast = (figures(tmp_path, scenario, "--prompts", "20") for scenario in (COLOCATED, drafts))
    assert fast["pools"][0]["decodeSteps"] < 0.6 * plain["pools"][0]["decodeSteps"]


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(tmp_path: Path) -> None:
    flags = ("--rate", "9", "--burst", "3", "--input-tokens", "900:0.7:4000", "--prompts", "40")
    first, again, other = (figures(tmp_path, COLOCATED, *flags, "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again
    assert first["load"]["inputTokensMean"] != other["load"]["inputTokensMean"]


def test_fewer_running_sequences_wait_longer(tmp_path: Path) -> None:
    many, few = (figures(tmp_path, COLOCATED, "--prompts", "60", "--max-running", n) for n in ("40", "4"))
    assert few["pools"][0]["runningMean"] <= 4 + 1e-9 < many["pools"][0]["runningMean"]
    assert few["latency"]["ttftSeconds"]["mean"] > many["latency"]["ttftSeconds"]["mean"]


def test_requests_go_where_fewest_are(tmp_path: Path) -> None:
    # Long outputs at even places: dealt in turn, one of two instances gets all of them.
    rows = [f"2023-11-16 18:15:{30 + n // 2},64,{1 if n % 2 else 3000}" for n in range(20)]
    two, trace = changed(COLOCATED, machine__nodes=4), azure(tmp_path, rows)
    turn, least = (
        figures(tmp_path, two, "--trace", trace, "--routing", way) for way in ("round-robin", "least-loaded")
    )
    assert turn["pools"][0]["instances"] == 2
    assert least["pools"][0]["kvPeakShare"] < 0.8 * turn["pools"][0]["kvPeakShare"]


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_an_azure_trace_is_read_plain_or_packed(tmp_path: Path, name: str) -> None:
    rows = ["2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:50.9951690,396,109"]
    found = figures(tmp_path, COLOCATED, "--trace", azure(tmp_path, rows, name))
    assert found["load"]["requests"] == 2
    assert found["throughput"]["seconds"] > 4.3
    faster = figures(tmp_path, COLOCATED, "--trace", azure(tmp_path, rows, name), "--speed", "1000")
    assert faster["throughput"]["seconds"] < found["throughput"]["seconds"] - 3
    first = figures(tmp_path, COLOCATED, "--trace", azure(tmp_path, rows, name), "--prompts", "1")
    assert first["load"]["requests"] == 1


def test_prompts_of_a_mooncake_trace_share_their_prefixes(tmp_path: Path) -> None:
    trace = mooncake(tmp_path, [row(0, 2048, [1, 2, 3, 4]), row(60_000, 2048, [1, 2, 3, 5])])
    found = figures(tmp_path, COLOCATED, "--trace", trace)
    assert found["prefixHitShare"] == pytest.approx(1536 / 4096)
    assert figures(tmp_path, COLOCATED, "--trace", trace, "--no-prefix-cache")["prefixHitShare"] == 0
    assert figures(tmp_path, COLOCATED, "--trace", trace, "--prompts", "1")["load"]["requests"] == 1


@pytest.mark.parametrize("name", ["azure_conv.csv.gz", "azure_code.csv.gz", "mooncake_conversation.jsonl.gz"])
def test_the_start_of_a_public_trace_is_served(tmp_path: Path, name: str) -> None:
    if not (TRACES / name).is_file():
        pytest.skip("needs the public traces beside the checkout")
    with gzip.open(TRACES / name) as lines:
        part = tmp_path / name.removesuffix(".gz")
        part.write_bytes(b"".join(islice(lines, 150)))
    found = figures(tmp_path, DISAGGREGATED, "--trace", str(part))
    assert found["load"]["requests"] in (149, 150)
    assert found["latency"]["ttftSeconds"]["p50"] > 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rate", "0"], "--rate: 0; give 0.000001 requests per second or more"),
        (["--rate", "1e-300"], "--rate: 1e-300; give 0.000001 requests per second or more"),
        (["--input-tokens", "2048:0.9:100"], "--input-tokens: a mean of 2048 tokens is above the most, 100"),
        (["--rate", "nan"], "--rate: nan"),
        (["--rate", "2", "--burst", "-1"], "--burst: -1"),
        (["--burst", "2"], "--burst: is about requests that arrive at a rate; give --rate too"),
        (["--rate", "2", "--at-once"], "leave out --rate"),
        (["--concurrency", "0"], "--concurrency: 0; give at least 1 client"),
        (["--preset", "nothing"], "--preset: there is no 'nothing'; give one of azure-conversation"),
        (["--preset", "azure-code", "--input-tokens", "7"], "--input-tokens: a preset has its own lengths"),
        (["--input-tokens", "long"], "--input-tokens: 'long' is not a length"),
        (["--output-tokens", "9:inf:3"], "--output-tokens: inf"),
        (["--output-tokens", "9:1:99999999999"], "--output-tokens: 99999999999 tokens; give 1 to 10,000,000"),
        (["--prompts", "0"], "--prompts: 0 is not a number of requests"),
        (["--seed", "-1"], "--seed: -1 is out of range"),
        (["--chunk", "0"], "--chunk: 0 is out of range"),
        (["--kv-block", "0"], "--kv-block: 0 is out of range"),
        (["--max-running", "-4"], "--max-running: -4 is out of range"),
        (["--slo-ttft", "0"], "--slo-ttft: 0 is not a time"),
        (["--slo-tpot", "nan"], "--slo-tpot: nan is not a time"),
        (["--speed", "2"], "--speed: is about a trace"),
        (["--input-tokens", "9000000"], "request 0: a die holds"),
        (["--chunk", "16000000"], "no HBM is left for caches beside"),
    ],
)
def test_a_flag_that_cannot_be_is_one_sentence(tmp_path: Path, flags: list[str], said: str) -> None:
    status, out, error = run(tmp_path, COLOCATED, *flags)
    assert (status, out) == (2, "")
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        (changed(COLOCATED, inference__mode="Decode"), "inference.mode: Decode does not serve whole requests"),
        (changed(COLOCATED, inference__mode="Neither"), "inference.mode"),
        (changed(COLOCATED, machine__failed={"dies": [{"server": 0, "die": 1}]}), "machine.failed"),
        (changed(COLOCATED, machine__nodes=1), "inference.decode.parallelism.expert"),
        (changed(COLOCATED, model__name="nobody"), "model.name"),
        (changed(COLOCATED, inference__inputTokens=0), "inference.inputTokens"),
        ({"model": {"name": "gpt-3-175b"}, "training": {"sequenceLength": 2048, "globalBatchSize": 8}}, "training"),
        ({"model": {"name": "deepseek-r1"}}, "give exactly one of training and inference"),
    ],
)
def test_a_scenario_that_serves_nothing_is_one_sentence(tmp_path: Path, scenario: Any, said: str) -> None:
    status, out, error = run(tmp_path, scenario)
    assert (status, out) == (2, "")
    assert said in error


def test_without_a_load_the_ways_to_give_one_are_named(tmp_path: Path) -> None:
    scenario = changed(COLOCATED)
    del scenario["inference"]["load"]
    status, out, error = run(tmp_path, scenario)
    assert (status, out) == (2, "")
    assert "there is no load; give --trace, --preset, --rate" in error
    assert run(tmp_path, scenario, "--at-once", "--prompts", "5")[0] == 0


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["2023-11-16 18:15:46,374,44", "never,1,1"], "line 3, TIMESTAMP: 'never' is not a time"),
        (["2023-11-16 18:15:46,374"], "line 2, row: 2 columns instead of 3"),
        (["2023-11-16 18:15:46,-4,44"], "line 2, ContextTokens: '-4' is not a number of tokens"),
        ([], "line 1, row: no request follows the header"),
    ],
)
def test_an_unreadable_line_is_named(tmp_path: Path, rows: list[str], said: str) -> None:
    path = azure(tmp_path, rows)
    status, out, error = run(tmp_path, COLOCATED, "--trace", path)
    assert (status, out) == (2, "")
    assert f"{path}: {said}" in error


def test_files_that_are_no_traces_are_named_with_the_remedy(tmp_path: Path) -> None:
    packed = tmp_path / "half.csv.gz"
    packed.write_bytes(gzip.compress(AZURE.encode() * 100)[:40])
    broken = tmp_path / "broken.csv"
    broken.write_bytes(b"\x1f\x8bnothing of the kind")
    for path, said in (
        (tmp_path / "absent.csv", "cannot be read: No such file or directory"),
        (tmp_path / "trace.parquet", "its format is unknown; name it .csv (azure) or .jsonl (mooncake), or give"),
        (packed, "is not a whole gzip file; pack it again"),
        (broken, "is not a whole gzip file; pack it again"),
    ):
        status, out, error = run(tmp_path, COLOCATED, "--trace", str(path))
        assert (status, out) == (2, "")
        assert f"{path}: " in error
        assert said in error
    status, _, error = run(tmp_path, COLOCATED, "--trace", "x.csv", "--rate", "1", "--preset", "azure-code")
    assert status == 2
    assert "leave out --rate, --preset" in error


def test_blocks_that_do_not_divide_those_of_the_trace_are_named(tmp_path: Path) -> None:
    trace = mooncake(tmp_path, [row(0, 512, [1])])
    status, out, error = run(tmp_path, COLOCATED, "--trace", trace, "--kv-block", "100")
    assert (status, out) == (2, "")
    assert "--kv-block: 100 does not divide the 512 tokens" in error
    assert run(tmp_path, COLOCATED, "--trace", trace, "--kv-block", "100", "--no-prefix-cache")[0] == 0


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_served(path: Path) -> None:
    result = CliRunner().invoke(cli, ["serve-sim", "-f", str(path), "--prompts", "50", "-o", "json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["throughput"]["tokensPerSecond"] > 0


garbage = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
    st.lists(st.sampled_from(["2023-11-16 18:15:46", "3", "-1", "1e9", "99999999", "", "NaT", "٣"]), max_size=5).map(
        lambda cells: ",".join(cells).encode()
    ),
    st.fixed_dictionaries(
        {
            "timestamp": st.one_of(st.integers(-5, 10**16), st.floats(), st.none()),
            "input_length": st.one_of(st.integers(-1, 20_000), st.text(max_size=3)),
            "output_length": st.integers(0, 2000),
        },
        optional={"hash_ids": st.lists(st.one_of(st.integers(), st.none()), max_size=4)},
    ).map(lambda row: json.dumps(row).encode()),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["azure", "mooncake"]), lines=st.lists(garbage, max_size=4), header=st.booleans())
def test_no_trace_makes_a_traceback(tmp_path: Path, kind: str, lines: list[bytes], header: bool) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes(b"\n".join([AZURE.encode()] * header + lines))
    status, out, error = run(tmp_path, COLOCATED, "--trace", str(trace), "--format", kind, "-o", "json")
    assert status in (0, 2), error
    assert bool(out) == (status == 0)
    assert bool(error) == (status == 2)
