"""Requests through instances: the order of events, who is sent where, and the checks before anything runs.

At one point in time, in this order: runs that end there (instances in order, requests in the order of their admission),
arrivals (requests in order; in a closed loop also those that a completion sends), then every instance that has nothing
under way decides what to do. So the answer does not depend on anything but its inputs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from supernode_dataplane.serving.acceptance import NO_DRAFTS, Acceptance
from supernode_dataplane.serving.errors import InvalidServingError, RequestTooLongError
from supernode_dataplane.serving.instance import Instance
from supernode_dataplane.serving.ledger import Jobs, Ledger
from supernode_dataplane.serving.prefixes import Prefixes, prefix_pieces
from supernode_dataplane.serving.requests import Requests
from supernode_dataplane.serving.result import ServingResult, build_result
from supernode_dataplane.serving.settings import Group
from supernode_dataplane.serving.steptimes import StepTimes

__all__ = ["Stage", "check_requests", "run_stages", "shared_prefixes", "simulate"]


@dataclass(slots=True)
class Stage:
    """The instances of one group, and where the next request goes."""

    instances: list[Instance]
    least_loaded: bool
    sent: int = 0

    @classmethod
    def of(cls, group: Group, jobs: Jobs, ledger: Ledger, acceptance: Acceptance, prefix_tokens: int) -> Stage:
        """Return the group's instances, idle."""
        times, query = StepTimes(group.model), acceptance.query_tokens
        instances = [
            Instance(group.engine, times, jobs, ledger, query_tokens=query, prefix_tokens=prefix_tokens)
            for _ in range(group.instances)
        ]
        return cls(instances, group.routing == "least-loaded")

    def route(self) -> int:
        """Return the instance of the next request."""
        self.sent += 1
        if self.least_loaded:
            loads = [instance.load for instance in self.instances]
            return loads.index(min(loads))
        return (self.sent - 1) % len(self.instances)


def simulate(
    requests: Requests, group: Group, *, acceptance: Acceptance = NO_DRAFTS, seed: int | None = 0
) -> ServingResult:
    """Serve requests on instances that prefill and decode.

    ``seed`` draws the decode steps of each request; None: every request has the mean acceptance.

    :raises RequestTooLongError: a request needs more KV blocks than an instance has.
    :raises InvalidServingError: the blocks of the prefix cache are not a multiple of the KV blocks.
    """
    check_requests(requests, group, requests.inputs + requests.outputs - 1, "an instance")
    tokens = requests.outputs - 1
    jobs = Jobs(
        requests.inputs.tolist(),
        tokens.tolist(),
        acceptance.steps(requests.outputs, seed).tolist(),
        shared_prefixes(requests, group),
        ready=False,
    )
    ledger = Ledger.of(len(requests))
    stage = Stage.of(group, jobs, ledger, acceptance, requests.prefix_block_tokens)
    sent = run_stages([stage], requests, lambda _stage, _request, _now: None)
    return build_result(requests, sent, jobs.steps, ledger, [("serve", group, stage.instances)])


def check_requests(requests: Requests, group: Group, tokens: np.ndarray, where: str) -> None:
    """Check that every request fits into an instance alone, and that prefix blocks are whole KV blocks."""
    engine = group.engine
    blocks = -(-tokens // engine.block_tokens)
    longest = int(np.argmax(blocks))
    if blocks[longest] > engine.blocks:
        raise RequestTooLongError(longest, int(tokens[longest]), int(blocks[longest]), engine.blocks, where)
    if requests.prefixes is not None and engine.prefix_cache and requests.prefix_block_tokens % engine.block_tokens:
        problem = f"{engine.block_tokens} does not divide the {requests.prefix_block_tokens} tokens of a prefix block"
        raise InvalidServingError("engine.block_tokens", problem, "give a divisor of it, or prefix_cache=False")


def shared_prefixes(requests: Requests, group: Group) -> Prefixes:
    """Return the prompts' prefix blocks; none where the group has no prefix cache."""
    return prefix_pieces(requests) if group.engine.prefix_cache else Prefixes.none(len(requests))


def run_stages(
    stages: list[Stage], requests: Requests, forward: Callable[[int, int, float], float | None]
) -> list[float]:
    """Send the requests to the first stage and run until all are complete; return when each was sent.

    ``forward(stage, request, now)``: when a request that is complete on this stage arrives at the next; None: never.
    """
    count = len(requests)
    clients = requests.concurrency
    sent = requests.arrivals.tolist() if clients is None else [0.0] * count
    arrivals = [(sent[request], request, 0) for request in range(count if clients is None else min(clients, count))]
    unsent = len(arrivals)
    ends: list[tuple[float, int, int]] = []  # (end of a run, stage, instance); some are of runs that were cut since
    push, pop = heapq.heappush, heapq.heappop
    while arrivals or ends:
        now = min(arrivals[0][0] if arrivals else np.inf, ends[0][0] if ends else np.inf)
        idle: set[tuple[int, int]] = set()
        while True:
            if ends and ends[0][0] == now:
                _end, level, index = pop(ends)
                instance = stages[level].instances[index]
                if instance.end != now:
                    continue
                idle.add((level, index))
                for request in instance.finish():
                    next_time = forward(level, request, now)
                    if next_time is not None:
                        push(arrivals, (next_time, request, level + 1))
                    elif clients is not None and unsent < count:
                        sent[unsent] = now
                        push(arrivals, (now, unsent, 0))
                        unsent += 1
            elif arrivals and arrivals[0][0] == now:
                _time, request, level = pop(arrivals)
                stage = stages[level]
                index = stage.route()
                instance = stage.instances[index]
                before = instance.end
                instance.arrive(request, now)
                if not instance.is_running:
                    idle.add((level, index))
                elif instance.end != before:
                    push(ends, (instance.end, level, index))
            else:
                break
        for level, index in idle:
            instance = stages[level].instances[index]
            if not instance.is_running:
                instance.schedule(now)
                if instance.is_running:
                    push(ends, (instance.end, level, index))
    return sent
