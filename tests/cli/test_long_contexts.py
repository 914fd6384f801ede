"""Sequences that are longer than a model was made for get an answer with a note."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supernode_cli.evaluation import evaluate
from supernode_dataplane.catalogue import model_context
from supernode_dataplane.model_config import longest_context
from support.scenarios import changed, run_on_file
from support.serve_sim import figures

LLAMA: dict[str, Any] = {
    "machine": {"nodes": 1},
    "model": {"name": "llama-2-7b"},
    "inference": {
        "mode": "Colocated",
        "inputTokens": 3584,
        "outputTokens": 512,
        "load": {"concurrency": 4},
        "decode": {"parallelism": {"tensor": 16}},
    },
}
OWN: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "intermediate_size": 11008, "vocab_size": 32000, "max_position_embeddings": 4096,
}  # fmt: skip


def told(document: dict[str, Any]) -> list[str]:
    return [note for note in evaluate(document).notes if "made for" in note]


def test_a_sequence_beyond_the_models_own_limit_runs_with_a_note(tmp_path: Path) -> None:
    assert told(LLAMA) == [], "4,096 are its limit"
    long = changed(LLAMA, inference__inputTokens=300_000)
    assert told(long) == [
        "inference.inputTokens and outputTokens: sequences of 300,512 tokens are longer than the 4,096 that llama-2-7b "
        "was made for"
    ]
    status, out, _ = run_on_file(tmp_path, "simulate", long)
    assert (status, "300,512 tokens" in out) == (0, True)
    training = {"sequenceLength": 8192, "globalBatchSize": 8, "parallelism": {"tensor": 8}}
    (note,) = told({"machine": {"nodes": 1}, "model": {"name": "llama-2-7b"}, "training": training})
    assert note.startswith("training.sequenceLength: sequences of 8,192 tokens")


def test_serve_sim_says_it_of_the_longest_request(tmp_path: Path) -> None:
    flags = ("--prompts", "8", "--concurrency", "4", "--output-tokens", "8")
    assert figures(tmp_path, LLAMA, *flags)["notes"] == []
    (note,) = figures(tmp_path, LLAMA, *flags, "--input-tokens", "6000")["notes"]
    assert note == "the longest requests of 6,008 tokens are longer than the 4,096 that llama-2-7b was made for"


@pytest.mark.parametrize("as_text", [False, True])
def test_a_config_of_ones_own_says_it_too(as_text: bool) -> None:
    long = changed(LLAMA, inference__inputTokens=8192)
    limited = {**long, "model": {"config": str(OWN).replace("'", '"') if as_text else OWN}}
    assert told(limited)[0].endswith("the 4,096 that the model was made for")
    silent = {key: value for key, value in OWN.items() if key != "max_position_embeddings"}
    assert told({**long, "model": {"config": silent}}) == []


@pytest.mark.parametrize(
    ("scaling", "limit"),
    [
        (None, 4096),
        ({"rope_type": "default"}, 4096),
        ({"type": "linear", "factor": 8.0}, 32768),
        ({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 2048}, 8192),
        ({"rope_type": "llama3", "factor": 1, "original_max_position_embeddings": 2048}, 4096),
        ({"rope_type": "longrope", "factor": 4}, None),
        ({"rope_type": "yarn"}, None),
        ([1], None),
    ],
)
def test_a_scaled_rotation_reaches_as_far_as_its_factor_says_and_others_are_unknown(scaling: Any, limit: Any) -> None:
    assert longest_context({**OWN, "rope_scaling": scaling}) == limit


def test_models_of_the_catalogue_have_their_configs_limit() -> None:
    assert model_context("llama-2-7b") == 4096
    assert model_context("deepseek-r1") == 163840
