"""Prefill and decode on instances of their own.

A prefill instance reads prompts (whole, in steps of a token limit, or in chunks) and keeps their blocks only until
they are read, apart from its prefix cache. The KV then travels, and the request joins the queue of a decode instance
when it is there. Its first token reaches the client at that moment: TTFT has the transfer in it, but not the wait for a
place among the decoding sequences, which is time between the first token and the second. A request of one
token ends with its prefill. A decode instance that runs out of blocks recomputes whom it preempts itself.
"""

from __future__ import annotations

import math

import numpy as np

from supernode_dataplane.serving.acceptance import NO_DRAFTS, Acceptance
from supernode_dataplane.serving.errors import ServingError
from supernode_dataplane.serving.ledger import Jobs, Ledger
from supernode_dataplane.serving.loop import Stage, check_requests, run_stages, shared_prefixes
from supernode_dataplane.serving.prefixes import Prefixes
from supernode_dataplane.serving.requests import Requests
from supernode_dataplane.serving.result import ServingResult, build_result
from supernode_dataplane.serving.settings import Group

__all__ = ["simulate_disaggregated"]


def simulate_disaggregated(
    requests: Requests,
    prefill: Group,
    decode: Group,
    *,
    acceptance: Acceptance = NO_DRAFTS,
    seed: int | None = 0,
) -> ServingResult:
    """Serve requests on prefill instances, then on decode instances.

    The transfer's time is that of ``prefill.model``. ``seed`` as in ``simulate``. Times are seconds, lengths tokens;
    arrays have the shape of ``requests.arrivals``. Source: as :func:`~supernode_dataplane.serving.simulate`.

    :raises RequestTooLongError: a prompt does not fit into a prefill instance, or a request into a decode instance.
    :raises InvalidServingError: the blocks of the prefix cache are not a multiple of the KV blocks.
    :raises ServingError: the step model answers with a transfer of less than 0 s.
    """
    check_requests(requests, prefill, requests.inputs, "a prefill instance")
    tokens = np.where(requests.outputs > 1, requests.inputs + requests.outputs - 1, 0)
    check_requests(requests, decode, tokens, "a decode instance")
    count, nothing = len(requests), np.zeros_like(requests.outputs)
    shared = shared_prefixes(requests, prefill)
    reading = Jobs.of(prefill.engine, requests.inputs, nothing, nothing, shared, ready=False)
    steps, after_first = acceptance.steps(requests.outputs, seed), requests.outputs - 1
    decoding = Jobs.of(decode.engine, requests.inputs, after_first, steps, Prefixes.none(count), ready=True)
    ledger, prompts = Ledger.of(count), decoding.prompt
    stages = [
        Stage.of(group, jobs, ledger, acceptance, requests.prefix_block_tokens)
        for group, jobs in ((prefill, reading), (decode, decoding))
    ]

    def forward(stage: int, request: int, now: float) -> float | None:
        if stage or not decoding.tokens[request]:
            return None
        seconds = prefill.model.transfer(prompts[request])
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ServingError(f"step model: transfer({prompts[request]}) answers {seconds:g}; it takes 0 s or more")
        ledger.first[request] = now + seconds
        return now + seconds

    sent = run_stages(stages, requests, forward)
    groups = [("prefill", prefill, stages[0].meters), ("decode", decode, stages[1].meters)]
    return build_result(requests, sent, decoding.steps, ledger, groups)
