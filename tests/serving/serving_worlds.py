"""A linear step model, small worlds for the oracle, and both simulators side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.serving_oracle import Seq, Server, serve
from supernode_dataplane.serving import Engine, Group, Requests, ServingResult


@dataclass(frozen=True)
class Linear:
    """Whole seconds, so that sums in any order are exact."""

    fixed: int = 7
    per_sequence: int = 1
    per_context: int = 1
    per_token: int = 2
    per_pair: int = 1
    per_transfer: int = 3

    def decode(self, batch: int) -> tuple[float, float]:
        return self.fixed + self.per_sequence * batch, self.per_context

    def prefill(self, tokens: int) -> tuple[float, float]:
        return self.fixed + self.per_token * tokens, self.per_pair

    def mixed(self, batch: int, tokens: int) -> tuple[float, float, float]:
        return (
            self.fixed + 1 + self.per_sequence * batch + self.per_token * tokens,
            self.per_context,
            self.per_pair,
        )

    def transfer(self, tokens: int) -> float:
        return self.per_transfer * tokens


SECONDS = Linear()


def group(model: Any = SECONDS, instances: int = 1, routing: Any = "round-robin", **engine: Any) -> Group:
    return Group(model=model, engine=Engine(**engine), instances=instances, routing=routing)


def requests(rows: list[tuple[float, int, int]], **more: Any) -> Requests:
    """Rows of (arrival, input, output)."""
    arrivals, inputs, outputs = zip(*rows, strict=True)
    return Requests(
        arrivals=np.array(arrivals, float),
        inputs=np.array(inputs, np.int64),
        outputs=np.array(outputs, np.int64),
        **more,
    )


@dataclass
class Expected:
    """What the oracle says."""

    stages: list[dict[str, Any]]
    sent: list[Any]

    @property
    def seqs(self) -> list[Seq]:
        """Per request the sequence that gave its last token."""
        return [
            max(
                (stage["seqs"][i] for stage in self.stages),
                key=lambda seq: -1 if seq.completion is None else seq.completion,
            )
            for i in range(len(self.sent))
        ]

    def firsts(self) -> list[Any]:
        return [seq.first for seq in self.seqs]

    def gaps(self) -> list[Any]:
        return sorted(gap for stage in self.stages for server in stage["servers"] for gap in server.gaps)


def ask_oracle(load: Requests, groups: list[Group], steps: list[int], query: int) -> Expected:
    """Serve with the oracle; two groups are prefill and decode."""
    stages = []
    for level, each in enumerate(groups):
        reads_only = len(groups) == 2 and level == 0
        seqs = []
        for i in range(len(load)):
            shared: list[int] = []
            if load.prefixes is not None and each.engine.prefix_cache and level == 0:
                shared = list(load.prefixes[i])[: int(load.inputs[i]) // load.prefix_block_tokens]
            output, count = (1, 0) if reads_only else (int(load.outputs[i]), steps[i])
            seqs.append(Seq(i, int(load.inputs[i]), output, count, shared, ready=level == 1))
        servers = [Server(each.model, each.engine, query, load.prefix_block_tokens) for _ in range(each.instances)]
        stages.append({"servers": servers, "seqs": seqs, "routing": each.routing})
    sent = serve(stages, load.arrivals.tolist(), load.concurrency, groups[0].model.transfer)
    return Expected(stages, sent)


def assert_agree(result: ServingResult, expected: Expected, *, exact: bool) -> None:
    """Compare every request, all gaps and the integrals."""
    start = min(expected.sent)

    def same(ours: Any, theirs: list[Any], what: str) -> None:
        theirs_array = np.array([float(value) for value in theirs])
        if exact:
            np.testing.assert_array_equal(ours, theirs_array, what)
        else:
            np.testing.assert_allclose(ours, theirs_array, rtol=1e-9, err_msg=what)

    same(result.sent, [time - start for time in expected.sent], "sent")
    same(result.first_token, [time - start for time in expected.firsts()], "first token")
    same(result.completed, [seq.completion - start for seq in expected.seqs], "completed")
    preemptions = [sum(stage["seqs"][i].preemptions for stage in expected.stages) for i in range(len(expected.sent))]
    same(result.preemptions, preemptions, "preemptions")
    same(result.cached, [stage_seq.cached or 0 for stage_seq in expected.stages[0]["seqs"]], "cached")
    gaps = expected.gaps()
    assert round(float(result.gap_weights.sum())) == len(gaps)
    if gaps:
        mean = float(result.gaps @ result.gap_weights) / len(gaps)
        np.testing.assert_allclose(mean, float(sum(gaps)) / len(gaps), rtol=1e-9)
    for use, stage in zip(result.groups, expected.stages, strict=True):
        total = result.seconds * use.instances
        engine = stage["servers"][0].engine
        kv = float(sum(server.kv_tokens for server in stage["servers"])) / (total * engine.blocks * engine.block_tokens)
        np.testing.assert_allclose(use.kv_mean, kv, rtol=1e-9)
        decoding = float(sum(server.decoding_time for server in stage["servers"])) / total
        np.testing.assert_allclose(use.decoding, decoding, rtol=1e-9, atol=1e-12)
