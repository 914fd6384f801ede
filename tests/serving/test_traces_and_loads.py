"""Traces are read from lines, loads are generated, and a line that cannot be read is one clear error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernode_cli.scenario_schema import scenario_schema
from supernode_dataplane.serving import (
    PRESETS,
    AtOnce,
    ClosedLoop,
    Fixed,
    InvalidServingError,
    LogNormal,
    OpenLoop,
    Requests,
    TraceError,
    generate,
    preset_load,
    read_azure,
    read_mooncake,
)
from supernode_dataplane.serving.generate import LEAST_RATE

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
ROW: dict[str, Any] = {"timestamp": 1000, "input_length": 1030, "output_length": 5, "hash_ids": [0, 7, 8]}


def test_an_azure_trace_becomes_seconds_and_tokens() -> None:
    lines: list[str | bytes] = [
        f"\ufeff{HEADER}\r\n",
        "2023-11-16 18:15:46.6805900,374,44\r\n",
        "",
        b"2023-11-16 18:16:47.1805900,396,109",
    ]
    load = read_azure(lines)
    np.testing.assert_allclose(load.arrivals, [0, 60.5])
    assert load.inputs.tolist() == [374, 396]
    assert load.outputs.tolist() == [44, 109]
    assert load.prefixes is None


def test_a_mooncake_trace_becomes_seconds_tokens_and_blocks_in_the_order_of_time() -> None:
    later = {**ROW, "timestamp": 2500, "hash_ids": [0, 9]}
    lines: list[str | bytes] = [json.dumps(later), json.dumps(ROW).encode()]
    load = read_mooncake(iter(lines))
    assert load.arrivals.tolist() == [0, 1.5]
    assert load.prefixes is not None
    assert list(load.prefixes) == [[0, 7, 8], [0, 9]]
    assert load.prefix_block_tokens == 512


@pytest.mark.parametrize(
    ("rows", "line", "column", "words"),
    [
        (["2023-11-16 18:15:46,374"], 2, "row", "2 columns"),
        (["2023-11-16 18:15:46,374,44", "", "yesterday,1,2"], 4, "TIMESTAMP", "yesterday"),
        (["NaT,374,44"], 2, "TIMESTAMP", "NaT"),
        (["2023-11-16 18:15:46,-3,44"], 2, "ContextTokens", "-3"),
        (["2023-11-16 18:15:46,374,4.5"], 2, "GeneratedTokens", "4.5"),
        (["2023-11-16 18:15:46,374,0"], 2, "GeneratedTokens", "0"),
        ([], 1, "row", "no request"),
        ([b"\xff\xfe"], 2, "row", "UTF-8"),
    ],
)
def test_an_azure_line_that_cannot_be_read_is_named(rows: list[Any], line: int, column: str, words: str) -> None:
    with pytest.raises(TraceError, match=f"line {line}, {column}: .*{words}") as caught:
        read_azure([HEADER, *rows])
    assert caught.value.line == line
    assert "; " in str(caught.value)


@pytest.mark.parametrize("lines", [[], ["a,b,c"], ["2023-11-16 18:15:46,374,44"]])
def test_an_azure_trace_without_its_header_is_refused(lines: list[str]) -> None:
    with pytest.raises(TraceError, match=r"line 1, header: .*must be TIMESTAMP"):
        read_azure(lines)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("{", "row"),
        ("[1]", "row"),
        ({**ROW, "timestamp": "now"}, "timestamp"),
        ({**ROW, "timestamp": True}, "timestamp"),
        ({**ROW, "timestamp": float("nan")}, "timestamp"),
        ({**ROW, "input_length": 0}, "input_length"),
        ({key: ROW[key] for key in ROW if key != "output_length"}, "output_length"),
        ({**ROW, "hash_ids": [0]}, "hash_ids"),
        ({**ROW, "hash_ids": [0, 1, 2, 3]}, "hash_ids"),
        ({**ROW, "input_length": 1024, "hash_ids": [0, 1, 2]}, "hash_ids"),
        ({**ROW, "hash_ids": ["0", 1, 2]}, "hash_ids"),
        ({**ROW, "hash_ids": [0, 1, -2]}, "hash_ids"),
        ({**ROW, "hash_ids": [0, 1, 2**70]}, "hash_ids"),
        ("[" * 100_000, "row"),
    ],
)
def test_a_mooncake_line_that_cannot_be_read_is_named(row: Any, column: str) -> None:
    text = row if isinstance(row, str) else json.dumps(row)
    with pytest.raises(TraceError, match=f"line 2, {column}: .+; .+"):
        read_mooncake([json.dumps(ROW), text])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.text(), st.binary(), st.just(HEADER), st.just(json.dumps(ROW))), max_size=4))
def test_any_lines_give_requests_or_a_trace_error(lines: list[Any]) -> None:
    for reader in (read_azure, read_mooncake):
        try:
            assert isinstance(reader(lines), Requests)
        except TraceError as error:
            assert error.line >= 1  # noqa: PT017


def test_reading_stops_at_the_line_that_is_wrong() -> None:
    def lines() -> Iterator[str]:
        yield HEADER
        yield "x"
        raise AssertionError("read on")

    with pytest.raises(TraceError):
        read_azure(lines())


def test_the_same_seed_gives_the_same_load_and_another_one_does_not() -> None:
    one, same, other = (preset_load("azure-conversation", 50, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.arrivals, same.arrivals)
    np.testing.assert_array_equal(one.inputs, same.inputs)
    assert not np.array_equal(one.arrivals, other.arrivals)


def test_changed_lengths_leave_arrivals_as_they_are() -> None:
    loads = [
        generate(20, arrivals=OpenLoop(2), inputs=length, outputs=Fixed(3)) for length in (Fixed(9), LogNormal(9, 1))
    ]
    np.testing.assert_array_equal(loads[0].arrivals, loads[1].arrivals)


@pytest.mark.parametrize("variation", [0.5, 1.0, 3.0])
def test_arrivals_have_the_rate_and_the_variation_that_was_asked_for(variation: float) -> None:
    load = generate(100_000, arrivals=OpenLoop(5, variation), inputs=Fixed(1), outputs=Fixed(1))
    gaps = np.diff(load.arrivals)
    assert load.arrivals[0] == 0
    assert gaps.mean() == pytest.approx(1 / 5, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.03)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_means_of_their_traces(name: str) -> None:
    load, preset = preset_load(name, 50_000), PRESETS[name]
    assert load.inputs.mean() == pytest.approx(preset.inputs.mean, rel=0.04)
    assert load.outputs.mean() == pytest.approx(preset.outputs.mean, rel=0.04)
    assert load.inputs.max() <= preset.inputs.most


def test_at_once_is_at_zero_and_a_closed_loop_has_its_clients() -> None:
    assert not generate(5, arrivals=AtOnce(), inputs=Fixed(2), outputs=Fixed(2)).arrivals.any()
    assert generate(5, arrivals=ClosedLoop(3), inputs=Fixed(2), outputs=Fixed(2)).concurrency == 3


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: OpenLoop(0), "load.rate"),
        (lambda: OpenLoop(1e-300), "load.rate"),
        (lambda: LogNormal(2048, 0.9, 100), "load.length.mean"),
        (lambda: OpenLoop(float("nan")), "load.rate"),
        (lambda: OpenLoop(1, -1), "load.burst"),
        (lambda: ClosedLoop(0), "load.concurrency"),
        (lambda: Fixed(0), "load.length"),
        (lambda: LogNormal(0, 1), "load.length.mean"),
        (lambda: LogNormal(5, 0), "load.length.variation"),
        (lambda: LogNormal(5, 1, 0), "load.length.most"),
        (lambda: generate(0, arrivals=AtOnce(), inputs=Fixed(1), outputs=Fixed(1)), "load.prompts"),
        (lambda: preset_load("azure", 5), "load.preset"),
    ],
)
def test_an_impossible_load_names_its_field_and_the_remedy(make: Any, field: str) -> None:
    with pytest.raises(InvalidServingError, match=rf"{field}: .+; (give|load)"):
        make()


def test_the_least_rate_of_a_load_is_that_of_a_scenario() -> None:
    rate = scenario_schema()["$defs"]["ScenarioLoad"]["properties"]["rate"]
    assert rate["minimum"] == LEAST_RATE
    load = generate(3, arrivals=OpenLoop(LEAST_RATE), inputs=Fixed(1), outputs=Fixed(1))
    assert (load.arrivals[1:] > 0).all()
