"""What cannot run is said before any pod exists, with the arithmetic."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from supernode_dataplane import Problem, check_workload, load_profile
from support.machines import LLAMA, only, run, workload

CM = load_profile("cloudmatrix-384")


def check(change: dict[str, Any] | None = None, dies: int = 768, **parallelism: int) -> Problem | None:
    spec = copy.deepcopy({**LLAMA, "stack": "vendor-tuned", "superNode": "cm"})
    spec["training"]["parallelism"].update(parallelism)
    for path, value in (change or {}).items():
        target: Any = spec
        *keys, last = path.split(".")
        for key in keys:
            target = target[key]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return check_workload(CM, spec, dies)


def test_what_runs_has_no_problem():
    assert check() is None
    assert check(data=6) is None
    assert check(dies=128) is None


BAD_LAYOUTS = [
    ({"tensor": 16, "pipeline": 7}, 768, "tensor 16 x pipeline 7 = 112 does not divide 48 x 16 = 768 dies"),
    ({}, 24, "tensor 16 x pipeline 8 = 128 does not divide 24 dies"),
    ({"data": 5}, 768, "tensor 16 x pipeline 8 x data 5 = 640 is not 48 x 16 = 768 dies"),
    (
        {"pipeline": 48, "tensor": 4, "virtualPipeline": 3},
        768,
        "virtualPipeline 3 is more than the 2 layers that each of 48",
    ),
    ({"tensor": 1, "pipeline": 128, "virtualPipeline": 1}, 768, "pipeline 128 is more than the 126 layers"),
    ({"tensor": 256, "pipeline": 1, "virtualPipeline": 1}, 768, "tensor 256 is more than the 128 attention heads"),
    ({"tensor": 48, "pipeline": 1, "virtualPipeline": 1}, 768, "tensor 48 does not divide the 128 attention heads"),
    ({"pipeline": 1, "virtualPipeline": 2}, 768, "virtualPipeline 2 needs a pipeline of at least 2 stages"),
]


@pytest.mark.parametrize(("layout", "dies", "words"), BAD_LAYOUTS)
def test_a_split_that_cannot_be_is_refused_with_the_arithmetic(layout: dict[str, Any], dies: int, words: str):
    problem = check(dies=dies, **layout)
    assert problem is not None
    assert problem.reason == "InvalidParallelism"
    assert words in problem.message
    assert problem.field.startswith("spec.training.parallelism.")


@pytest.mark.parametrize(
    ("change", "dies", "words"),
    [
        (
            {"training.globalBatchSize": 100},
            768,
            "globalBatchSize 100 is not divisible by data 6 x microBatchSize 1 = 6",
        ),
        (
            {"training.microBatchSize": 64},
            768,
            "globalBatchSize 192 is not divisible by data 6 x microBatchSize 64 = 384",
        ),
        ({"training.sequenceLength": 8200}, 768, "tensor 16 does not divide sequenceLength 8200"),
    ],
)
def test_a_batch_or_sequence_that_does_not_divide_is_refused(change: dict[str, Any], dies: int, words: str):
    problem = check(change, dies)
    assert problem is not None
    assert problem.reason == "InvalidParallelism"
    assert words in problem.message


def test_heads_and_feed_forward_must_divide_too():
    gpt = {"model": {"name": "gpt-3-175b"}}
    problem = check(gpt, dies=96, tensor=32, pipeline=3)
    assert problem is None or problem.reason == "DoesNotFit"
    config = json.dumps(
        {
            "model_type": "llama",
            "hidden_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 12,
            "num_key_value_heads": 4,
            "intermediate_size": 70,
            "vocab_size": 100,
        }
    )
    small = {"model": {"config": config}, "training.sequenceLength": 48}
    heads = check(small, dies=6, tensor=6, pipeline=1, virtualPipeline=1)
    assert heads is not None
    assert "tensor 6 and the 4 key-value heads" in heads.message
    ffn = check(small, dies=4, tensor=4, pipeline=1, virtualPipeline=1)
    assert ffn is not None
    assert "does not divide the feed-forward size 70" in ffn.message


def test_a_model_that_does_not_fit_is_refused_with_the_memory_arithmetic():
    problem = check(dies=16, pipeline=1, virtualPipeline=1)
    assert problem is not None
    assert problem.reason == "DoesNotFit"
    for word in (
        "weights 47",
        "gradients 95",
        "optimizer over data 1 286",
        "activations",
        "logits",
        "buffers 3.7",
        "64 GiB",
    ):
        assert word in problem.message, word
    assert "even with full recompute" in problem.message
    assert "raise tensor, pipeline or the number of dies" in problem.message


def test_the_parts_of_the_memory_arithmetic_add_up():
    problem = check(dies=16, pipeline=1, virtualPipeline=1)
    assert problem is not None
    total = float(problem.message.split(" needs ")[1].split(" GiB")[0])
    terms = problem.message.split("GiB: ")[1].split(";")[0].split(" + ")
    assert sum(float(term.rsplit(" ", 1)[1]) for term in terms) == pytest.approx(total, abs=0.4)


def test_a_model_that_is_not_in_the_catalogue_is_answered_with_near_names():
    problem = check({"model": {"name": "llama-3.1-450b"}})
    assert problem is not None
    assert (problem.reason, problem.field) == ("ModelNotFound", "spec.model.name")
    assert "near: llama-3.1-405b" in problem.message
    assert problem.message.endswith("or give its config.json as model.config")
    far = check({"model": {"name": "zzz"}})
    assert far is not None
    assert "near" not in far.message, "nothing is"
    assert "`supernode plan --help` lists" in far.message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"training": None}, "spec.training"),
        ({"training.sequenceLength": None}, "spec.training.sequenceLength"),
        ({"training.sequenceLength": 0}, "spec.training.sequenceLength"),
        ({"training.sequenceLength": "8192"}, "spec.training.sequenceLength"),
        ({"training.globalBatchSize": True}, "spec.training.globalBatchSize"),
        ({"training.globalBatchSize": 1.5}, "spec.training.globalBatchSize"),
        ({"training.parallelism": 3}, "spec.training.parallelism"),
        ({"training.parallelism.tensor": -1}, "spec.training.parallelism.tensor"),
        ({"training.parallelism.data": 0}, "spec.training.parallelism.data"),
        ({"stack": "mindspore"}, "spec.stack"),
        ({"model": {}}, "spec.model"),
        ({"model": {"name": "a", "config": "{}"}}, "spec.model"),
        ({"model": {"name": 7}}, "spec.model.name"),
        ({"model": {"config": 7}}, "spec.model.config"),
        ({"model": {"config": " " * 20000}}, "spec.model.config"),
    ],
)
def test_a_field_that_is_missing_or_wrong_is_named(change: dict[str, Any], field: str):
    problem = check(change)
    assert problem is not None
    assert problem.reason == "InvalidObject"
    assert problem.field == field
    assert problem.message.startswith(field)


def test_no_die_at_all_is_no_place_to_train():
    problem = check(dies=0)
    assert problem is not None
    assert problem.reason == "InvalidParallelism"


def test_absent_parallelism_means_one_of_each():
    change = {
        "training.parallelism": None,
        "training.sequenceLength": 4096,
        "training.globalBatchSize": 768,
        "model": {"name": "qwen3-8b"},
    }
    assert check(change, dies=16) is None


def test_a_managed_size_that_does_not_divide_is_a_problem_before_its_pods_are_there():
    job = workload("a", range(47), managed=True)
    job["status"] = {}
    result = only(run(job))
    assert result.problem is not None
    assert "does not divide 47 x 16 = 752 dies" in result.problem.message
    assert result.waiting == ""
