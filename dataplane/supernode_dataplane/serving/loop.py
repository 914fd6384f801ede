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
from supernode_dataplane.serving.instance import NEVER, Instance
from supernode_dataplane.serving.ledger import Jobs, Ledger, Meter
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

    @property
    def meters(self) -> list[Meter]:
        """Return what each instance noted."""
        return [instance.meter for instance in self.instances]

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

    ``seed`` draws the decode steps of each request; None: every request has the mean acceptance. Times are seconds,
    lengths tokens; the result's arrays have the shape of ``requests.arrivals``, (requests,). Source of the scheduler's
    rules: vLLM and SGLang, as each class of this package says; of a step's time: the group's model.

    :raises RequestTooLongError: a request needs more KV blocks than an instance has.
    :raises InvalidServingError: the blocks of the prefix cache are not a multiple of the KV blocks.
    """
    tokens = requests.outputs - 1
    check_requests(requests, group, requests.inputs + tokens, "an instance")
    steps, shared = acceptance.steps(requests.outputs, seed), shared_prefixes(requests, group)
    jobs = Jobs.of(group.engine, requests.inputs, tokens, steps, shared, ready=False)
    ledger = Ledger.of(len(requests))
    stage = Stage.of(group, jobs, ledger, acceptance, requests.prefix_block_tokens)
    sent = run_stages([stage], requests)
    return build_result(requests, sent, jobs.steps, ledger, [("serve", group, stage.meters)])


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
    stages: list[Stage], requests: Requests, forward: Callable[[int, int, float], float | None] | None = None
) -> list[float]:
    """Send the requests to the first stage and run until all are complete; return when each was sent.

    ``forward(stage, request, now)``: when a request that is complete on this stage arrives at the next; None: never.
    """
    loop = _Loop(stages, requests, forward)
    loop.run()
    return loop.sent


class _Loop:
    """What happens next: the ends of runs, and arrivals."""

    __slots__ = ("_closed", "_ends", "_first", "_forward", "_instances", "_later", "_next", "_planned", "_stages",
                 "_unsent", "sent")  # fmt: skip

    def __init__(
        self, stages: list[Stage], requests: Requests, forward: Callable[[int, int, float], float | None] | None
    ) -> None:
        count, clients = len(requests), requests.concurrency
        self._closed = clients is not None
        self.sent: list[float] = requests.arrivals.tolist()
        self._unsent = count if clients is None else min(clients, count)
        self._forward, self._stages = forward, stages
        self._instances = [instance for stage in stages for instance in stage.instances]
        self._first = (0, len(stages[0].instances))  # number of each stage's first instance
        # Requests below the second number arrive as planned; the first is the next of them.
        self._next, self._planned = 0, self._unsent
        # Arrivals that come of completions: (time, request, stage). Both heaps end with what never happens.
        self._later: list[tuple[float, int, int]] = [(NEVER, count, 0)]
        self._ends: list[tuple[float, int]] = [(NEVER, 0)]  # (end, instance); some are of runs that were cut since

    def run(self) -> None:
        """Go from one point in time to the next until nothing is left."""
        ends, instances, follows = self._ends, self._instances, self._closed or self._forward is not None
        free: list[int] = []  # instances that have nothing under way, once all that happens now has happened
        now, arrival = -NEVER, self._next_arrival()
        while True:
            end = ends[0][0]
            time = end if end <= arrival[0] else arrival[0]
            if free and time > now:
                for number in free:
                    instance = instances[number]
                    if instance.end == NEVER:
                        instance.schedule(now)
                        if instance.end != NEVER:
                            heapq.heappush(ends, (instance.end, number))
                free.clear()
            elif time == NEVER:
                return
            elif time == end:
                now = time
                number = heapq.heappop(ends)[1]
                instance = instances[number]
                if instance.end == now:
                    free.append(number)
                    complete = instance.finish()
                    if complete and follows:
                        self._follow(complete, 1 if number >= self._first[1] else 0, now)
                        arrival = self._next_arrival()
            else:
                now = time
                self._arrive(arrival, free)
                arrival = self._next_arrival()

    def _next_arrival(self) -> tuple[float, int, int]:
        later = self._later[0]
        if self._next == self._planned:
            return later
        planned = (self.sent[self._next], self._next, 0)
        return planned if planned < later else later

    def _follow(self, complete: list[int], level: int, now: float) -> None:
        """Send what comes of completions: the same requests to the next stage, or a client's next request."""
        for request in complete:
            time = self._forward(level, request, now) if self._forward is not None else None
            if time is not None:
                heapq.heappush(self._later, (time, request, level + 1))
            elif self._closed and self._unsent < len(self.sent):
                time = max(now, self.sent[self._unsent])
                self.sent[self._unsent] = time
                heapq.heappush(self._later, (time, self._unsent, 0))
                self._unsent += 1

    def _arrive(self, arrival: tuple[float, int, int], free: list[int]) -> None:
        now, request, level = arrival
        if arrival is self._later[0]:
            heapq.heappop(self._later)
        else:
            self._next += 1
        number = self._first[level] + self._stages[level].route()
        instance = self._instances[number]
        before = instance.end
        instance.arrive(request, now)
        if before == NEVER:
            free.append(number)
        elif instance.end != before:
            heapq.heappush(self._ends, (instance.end, number))
