"""One operating point of an inference deployment: tokens per second, TTFT, TPOT, and what its dies do meanwhile.

    Prefill         tokens of a batch / its time; TTFT of a prompt in an idle pool
    Decode          TPOT = step / tokens of a step; rate = sequences / TPOT
    Colocated       a request costs its prompt plus output / tokens decode steps of which each serves the whole batch:
                    rate = 1 / (prefill + steps x step / sequences); prompts interrupt decoding
    Disaggregated   the slower of both pools sets the rate; caches go over the links between them

This is the steady state at a fixed number of sequences in flight; arrivals, queues and distributions are the serving
loop's (:mod:`supernode_dataplane.serving`). Every number may be an array.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from supernode_dataplane.capacity import Capacity, cache_bytes, capacity_of
from supernode_dataplane.decode import DecodeStep
from supernode_dataplane.deployment import Pool
from supernode_dataplane.numeric import Number, at_most, choose
from supernode_dataplane.pool_phases import decode_phase, prompt_phase
from supernode_dataplane.prefill import PrefillStep

__all__ = ["InferencePoint", "InferenceSpec", "Mode", "inference_point", "transfer_seconds"]

Mode = Literal["Prefill", "Decode", "Colocated", "Disaggregated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceSpec:
    """What runs: the pools by role, lengths, and how much at once.

    ``Prefill`` has the prefill pool only, ``Decode`` and ``Colocated`` the decode pool only.
    """

    mode: Mode
    input_tokens: Number
    output_tokens: Number = 1
    decode: Pool | None = None
    prefill: Pool | None = None
    sequences: Number = 1.0
    """Running on each tensor group of the decode pool."""
    prompts: Number = 1.0
    """In one prefill batch of a tensor group."""
    cached_share: Number = 0.0
    """Share of each prompt that the context cache holds, 0 to 1."""
    cache_bytes_per_second: Number | None = None
    """What a die gets from the context cache; None: the way to other servers."""
    memory_fraction: Number = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class InferencePoint:
    """What a deployment achieves. Rates are of one instance of each pool; all zero where it does not fit."""

    tokens_per_second: Number
    """Output tokens; prompt tokens in mode Prefill."""
    prompt_tokens_per_second: Number
    cards: Number
    ttft_seconds: Number
    """Of a prompt that finds its pool idle; 0 in mode Decode."""
    tpot_seconds: Number
    """0 in mode Prefill."""
    decode: DecodeStep | None
    prefill: PrefillStep | None
    decode_share: Number
    """Share of the time that the decode pool decodes (the rest of a colocated pool's time is prompts)."""
    prefill_share: Number
    """Busy share of the prefill pool."""
    capacity: Capacity
    fits: Number

    @property
    def tokens_per_second_per_card(self) -> Number:
        """Rate over all cards of the deployment."""
        return self.tokens_per_second / self.cards


def inference_point(spec: InferenceSpec) -> InferencePoint:
    """Return the steady state of a deployment; see :class:`InferencePoint`.

    Every number of ``spec`` may be an array; then all broadcast together, and each field of the point has that shape.
    Tokens, seconds, cards. Where memory does not suffice ``fits`` is false and rates are 0; a spec without the pool
    that its mode needs raises ValueError. The error of a deployment's rate:
    :func:`~supernode_dataplane.expected_error.deployment_error_percent`. Source: arXiv 2506.12708; constants in
    data/stacks.yaml with theirs, rows in docs/fidelity.md.
    """
    if spec.mode == "Prefill":
        return _prefill_only(spec)
    pool = _need(spec.decode, "decode")
    context = spec.input_tokens + spec.output_tokens / 2.0
    capacity = capacity_of(pool, spec.input_tokens + spec.output_tokens, memory_fraction=spec.memory_fraction)
    fits = capacity.sequences >= spec.sequences
    step = decode_phase(pool, spec.sequences, context)
    per_token = step.seconds / pool.speculation.tokens
    running = spec.sequences * pool.groups
    if spec.mode == "Decode":
        rate = choose(fits, running / per_token, 0.0)
        return InferencePoint(
            tokens_per_second=rate, prompt_tokens_per_second=rate * 0.0, cards=pool.cards, ttft_seconds=0.0,
            tpot_seconds=per_token, decode=step, prefill=None, decode_share=1.0, prefill_share=0.0,
            capacity=capacity, fits=fits,
        )  # fmt: skip
    prompts = _need(spec.prefill, "prefill") if spec.mode == "Disaggregated" else replace(pool, streams=pool.streams)
    batch, once, among = _prompt(spec, prompts)
    request_seconds = batch.seconds / (spec.prompts * prompts.groups)
    decode_seconds = per_token * spec.output_tokens / running
    if spec.mode == "Colocated":
        requests = 1.0 / (request_seconds + decode_seconds)
        decode_share, prefill_share = requests * decode_seconds, requests * request_seconds
        tpot = (running / requests - among) / spec.output_tokens
        cards, ttft = pool.cards, once
    else:
        requests = at_most(1.0 / request_seconds, 1.0 / decode_seconds)
        decode_share, prefill_share = requests * decode_seconds, requests * request_seconds
        tpot, cards = per_token, pool.cards + prompts.cards
        ttft = once + transfer_seconds(prompts, spec.input_tokens) + per_token
    rate = choose(fits, requests * spec.output_tokens, 0.0)
    return InferencePoint(
        tokens_per_second=rate, prompt_tokens_per_second=rate * spec.input_tokens / spec.output_tokens, cards=cards,
        ttft_seconds=ttft, tpot_seconds=tpot, decode=step, prefill=batch, decode_share=decode_share,
        prefill_share=prefill_share, capacity=capacity, fits=fits,
    )  # fmt: skip


def transfer_seconds(pool: Pool, tokens: Number, bytes_per_second: Number | None = None) -> Number:
    """Return how long the caches of a prompt take to another pool, every die of the tensor group sending its part."""
    rate = pool.hardware.pod_bytes_per_second or pool.hardware.rdma_bytes_per_second
    return cache_bytes(pool, tokens) / (rate if bytes_per_second is None else bytes_per_second)


def _prefill_only(spec: InferenceSpec) -> InferencePoint:
    pool = _need(spec.prefill, "prefill")
    new = spec.prompts * spec.input_tokens * (1.0 - spec.cached_share)
    capacity = capacity_of(pool, spec.input_tokens, tokens_in_flight=new, memory_fraction=spec.memory_fraction)
    fits = capacity.sequences >= spec.prompts
    batch, once, _ = _prompt(spec, pool)
    rate = choose(fits, spec.prompts * spec.input_tokens * pool.groups / batch.seconds, 0.0)
    return InferencePoint(
        tokens_per_second=rate, prompt_tokens_per_second=rate, cards=pool.cards, ttft_seconds=once, tpot_seconds=0.0,
        decode=None, prefill=batch, decode_share=0.0, prefill_share=1.0, capacity=capacity, fits=fits,
    )  # fmt: skip


def _prompt(spec: InferenceSpec, pool: Pool) -> tuple[PrefillStep, Number, Number]:
    """Return a full batch, and the time to the first token of one prompt: in an idle pool, and while all groups read.

    A prompt is one group's; its experts are everybody's, and have less to do while the other groups wait.
    """
    cached = spec.input_tokens * spec.cached_share
    new = spec.input_tokens - cached
    load = transfer_seconds(pool, cached, spec.cache_bytes_per_second)
    context = cached + new / 2.0
    batch = prompt_phase(pool, new * spec.prompts, context, spec.prompts, cached=cached * spec.prompts).step
    alone = prompt_phase(pool, new, context, filled=1.0 / pool.groups, cached=cached).latency_seconds + load
    among = prompt_phase(pool, new, context, cached=cached).latency_seconds + load
    return replace(batch, seconds=batch.seconds + load * spec.prompts), alone, among


def _need(pool: Pool | None, role: str) -> Pool:
    if pool is None:
        raise ValueError(f"inference needs a {role} pool")
    return pool
