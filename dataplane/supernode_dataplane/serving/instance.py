"""One instance of continuous batching, advanced in closed form from one change of its batch to the next.

Between two changes every step takes alpha + beta i seconds (i = 0, 1, …): decoding sequences grow evenly, and so does
what a chunk of constant size attends to. So a *run* of m such steps is one event, ended by the first of: a sequence is
complete; a prompt's last chunk; the blocks run out; a request arrives that could be admitted (the run is cut at the
first step that ends at or after its arrival). At the end of a run the scheduler decides anew:

1. Unchunked: requests are admitted from the front of the queue while there is a place, blocks for the prompt and its
   next step are free beside what the running sequences need for theirs, and the step has tokens left. Are there prompts
   to read, the step does nothing else. If not, all sequences decode. Data-parallel groups admit each from its own
   queue; while sequences decode, prompts may wait until every group has one.
   Chunked: sequences that decode take their query tokens of the budget, then the prompts that are under way, then
   admissions as above, none more than its group's part. One step does it all. Blocks are taken for whole prompts.
2. Before sequences decode, while their blocks do not suffice: the one admitted last goes back to the front of the queue
   and loses its blocks.

A prefill gives a sequence its next token; one that was preempted reads its prompt and all that it had emitted again,
and that prefill stands for its next decode step. A request that comes with its KV (disaggregated) is admitted without
a prefill; preempted, it is recomputed here.
"""

from __future__ import annotations

import math
from typing import Final

from supernode_dataplane.serving.batch import Chunk, Run, WaitingGroup
from supernode_dataplane.serving.ledger import Jobs, Ledger, Meter
from supernode_dataplane.serving.memory import Memory
from supernode_dataplane.serving.settings import Engine, attention_pairs
from supernode_dataplane.serving.steptimes import StepTimes

__all__ = ["Instance"]

NEVER: Final = math.inf


class Instance:
    """State of one instance.

    ``end``    when its current run ends; infinite while it does nothing
    ``load``   requests that wait or run here
    ``meter``  what it notes of its runs
    """

    __slots__ = ("_admissions", "_admitted", "_arrived", "_chunked", "_decoders", "_engine", "_events",
                 "_group_tokens", "_groups", "_home", "_jobs", "_ledger", "_memory", "_number", "_partials",
                 "_prompt_tokens", "_query", "_run", "_times", "_waited", "end", "load", "meter")  # fmt: skip

    def __init__(
        self, engine: Engine, times: StepTimes, jobs: Jobs, ledger: Ledger, *, query_tokens: int, prefix_tokens: int
    ) -> None:
        self.end = NEVER
        self.load = 0
        self.meter = Meter()
        self._engine, self._times, self._jobs, self._ledger = engine, times, jobs, ledger
        self._chunked = engine.prefill == "chunked"
        self._query = query_tokens
        self._memory = Memory(engine, jobs, prefix_tokens=prefix_tokens, drafts=query_tokens > 1)
        self._decoders = self._memory.decoders
        self._groups = [WaitingGroup(engine.group_running) for _ in range(engine.groups)]
        self._home: dict[int, WaitingGroup] = {}
        self._group_tokens = engine.group_tokens
        self._arrived = 0
        self._waited = 0  # decode steps since the last admission in which a group could have admitted one
        self._admitted = 0
        self._number = 0  # of admissions so far
        self._admissions: list[tuple[int, int]] = []  # (number, request), the last one last; some have left since
        self._partials: dict[int, Chunk] = {}  # prompts under way, by admission: new is 0, cached is what is read
        self._prompt_tokens = 0  # of admitted sequences that do not decode yet
        # When decoding sequences gave their last token: [time, how many], in the order of admission.
        self._events: list[list[float]] = []
        self._run: Run | None = None

    def arrive(self, request: int, time: float) -> None:
        """Queue a request. The current run may end earlier for it; without one, call ``schedule`` at this time."""
        group = self._groups[self._arrived % len(self._groups)]
        self._arrived += 1
        opens = not group.waiting and group.room > 0
        group.waiting.append(request)
        self._home[request] = group
        self.load += 1
        run = self._run
        if run is not None and run.cuttable and opens:
            run.steps = min(run.steps, run.steps_until(time))
            run.cuttable = False
            self.end = run.after(run.steps)

    def schedule(self, now: float) -> None:
        """Decide what the instance does from now on: a run, or nothing."""
        run = self._plan_mixed(now) if self._chunked else self._plan_whole(now)
        self._run = run
        self.end = run.after(run.steps) if run is not None else NEVER

    def finish(self) -> list[int]:
        """End the current run; return the requests that are complete, in the order of their admission."""
        run, now = self._run, self.end
        if run is None:
            return []
        self._run, self.end = None, NEVER
        self._record(run)
        jobs, complete = self._jobs, []
        if run.decoding:
            self._waited += run.steps if run.waiting else 0
            self._memory.trim(run.steps - 1)
            complete = self._decoders.advance(run.steps)
            for request in complete:
                self._home[request].decoding -= 1
        for chunk in run.chunks:
            if self._read(chunk, run.steps, now):
                complete.append(chunk.request)
        if run.decoding:
            self._events = [[now, self._decoders.count]] if self._decoders.count else []
        if run.chunks:
            complete.sort(key=jobs.order.__getitem__)
        for request in complete:
            self._home.pop(request).room += 1
            self._memory.release(request)
            jobs.order[request] = 0
            self._ledger.completion[request] = now
        self._admitted -= len(complete)
        self.load -= len(complete)
        return complete

    def _read(self, chunk: Chunk, steps: int, now: float) -> bool:
        """Count a chunk as read; return whether that completes the request."""
        request, jobs, ledger = chunk.request, self._jobs, self._ledger
        read = chunk.cached + chunk.new * steps
        if read < chunk.length:
            self._partials[request] = Chunk(request, 0, read, chunk.length)
            return False
        self._partials.pop(request, None)
        self._prompt_tokens -= chunk.length
        jobs.done[request] += 1
        if ledger.first[request] < 0:
            ledger.first[request] = now
        elif request in ledger.last_token:
            self.meter.gaps.append((now - ledger.last_token.pop(request), 0.0, 1, 1))
        if jobs.done[request] >= jobs.steps[request]:
            return True
        self._join(request, now)
        return False

    def _join(self, request: int, last_token: float) -> None:
        jobs = self._jobs
        done = jobs.done[request]
        self._home[request].decoding += 1
        self._memory.grow(request)
        self._decoders.join(
            request,
            jobs.order[request],
            prompt=jobs.prompt[request],
            tokens=jobs.tokens[request],
            steps=jobs.steps[request],
            done=done,
        )
        if self._events and self._events[-1][0] == last_token:
            self._events[-1][1] += 1
        else:
            self._events.append([last_token, 1])

    # What to do next

    def _plan_whole(self, now: float) -> Run | None:
        chunks: list[Chunk] = []
        for group in self._gathered():
            left, first = self._group_tokens, True
            while self._head_fits(group):
                new, cached = self._new_tokens(group.waiting[0])
                if not first and new > left:
                    break
                chunk = self._admit(group, new, cached)
                if chunk is not None:
                    chunks.append(chunk)
                    left, first = left - new, False
        if chunks:
            return self._make_run(now, chunks, decoding=False)
        if not self._decoders.count:
            return None
        preempted = self._preempt()
        run = self._make_run(now, [], decoding=True)
        if preempted and len(self._groups) > 1:
            run.steps = 1  # what one group gave up may be enough for another's next request
        return run

    def _gathered(self) -> list[WaitingGroup]:
        """Return the groups with a request and a place for it; none while prompts wait for those of other groups."""
        ready = [group for group in self._groups if group.waiting and group.room > 0]
        if not ready:
            self._waited = 0
        enough = len(ready) == len(self._groups) or self._waited >= self._engine.gather_steps
        return ready if enough or not self._decoders.count else []

    def _plan_mixed(self, now: float) -> Run | None:
        chunks: list[Chunk] = []
        self._preempt()
        left, most = self._engine.step_tokens - self._query * self._decoders.count, self._engine.chunk_tokens
        for partial in self._partials.values():
            if left <= 0:
                break
            partial.new = min(partial.length - partial.cached, left, most)
            chunks.append(partial)
            left -= partial.new
        group = self._groups[0]
        while left > 0 and self._head_fits(group):
            chunk = self._admit(group, *self._new_tokens(group.waiting[0]))
            if chunk is None:
                left -= self._query
            else:
                chunk.new = min(chunk.new, left, most)
                chunks.append(chunk)
                left -= chunk.new
        decoding = self._decoders.count > 0
        return self._make_run(now, chunks, decoding=decoding, full=left <= 0) if chunks or decoding else None

    def _make_run(self, now: float, chunks: list[Chunk], *, decoding: bool, full: bool = False) -> Run:
        decoders, tokens, pairs, growth, steps = self._decoders, 0, 0, 0, 1
        batch = decoders.count if decoding else 0
        for chunk in chunks:
            tokens += chunk.new
            pairs += attention_pairs(chunk.new, chunk.cached)
            growth += chunk.new * chunk.new
        # All groups take as long as the fullest.
        width = max([group.decoding for group in self._groups]) * len(self._groups) if batch else 0
        fixed, per_context, per_pair = self._times.coefficients(width, tokens)
        alpha, beta = fixed + per_pair * pairs, per_pair * growth
        if full and chunks:
            # Prompts that take the whole budget of several steps: the run ends before the last chunk of any.
            steps = max(min((chunk.length - chunk.cached - 1) // chunk.new for chunk in chunks), 1)
        if batch:
            alpha += per_context * decoders.context
            beta += per_context * decoders.slope
            most = decoders.until_completion()
            steps = self._memory.steps_within(min(most, steps) if chunks else most)
        waiting = False
        if not chunks and self._waited < self._engine.gather_steps:
            waiting = any(group.is_ready for group in self._groups)
            steps = min(steps, self._engine.gather_steps - self._waited) if waiting else steps
        return Run(now, alpha, beta, steps, decoding, chunks, not chunks, waiting)

    # Admission and preemption

    def _head_fits(self, group: WaitingGroup) -> bool:
        """Say whether the first in a group's queue could be admitted now, tokens of the step apart."""
        if not group.is_ready:
            return False
        request = group.waiting[0]
        return self._memory.admits(request, self._next_done(request), not self._admitted)

    def _next_done(self, request: int) -> int:
        """Return the steps that it will have taken when it decodes next: its prefill stands for one."""
        done = self._jobs.done[request]
        return 0 if done < 0 else done + 1

    def _new_tokens(self, request: int) -> tuple[int, int]:
        """Return the tokens of its prefill to compute, and those that the prefix cache has."""
        length = self._jobs.prefill_tokens(request)
        pieces = self._jobs.shared.pieces[request]
        if not pieces or not length:
            return length, 0
        size = self._memory.prefix_tokens
        cached = size * min(self._memory.cache.match(pieces), (length - 1) // size)  # the last token is always computed
        return length - cached, cached

    def _admit(self, group: WaitingGroup, new: int, cached: int) -> Chunk | None:
        """Admit the first of a group; return its prompt as one chunk, or None: it decodes without a prefill."""
        request = group.waiting.popleft()
        group.room -= 1
        self._admitted += 1
        self._waited = 0
        self._number += 1
        self._jobs.order[request] = self._number
        self._admissions.append((self._number, request))
        self._memory.take(request, self._next_done(request))
        if not new:
            self._jobs.done[request] = 0
            self._join(request, self._ledger.first[request])
            return None
        if self._ledger.cached[request] < 0:
            self._ledger.cached[request] = cached
        self._prompt_tokens += new + cached
        return Chunk(request, new, cached, new + cached)

    def _preempt(self) -> bool:
        """Preempt the sequences admitted last until the others have blocks for a step.

        The last of them is now first in the queue, and cannot come back before another sequence ends: what it gave up
        was more than was free without it, and it will need no less. Returns whether any was preempted.
        """
        preempted = False
        while self._decoders.count and self._memory.is_short():
            number, request = self._admissions.pop()
            if self._jobs.order[request] == number:
                self._give_up(request)
                preempted = True
        return preempted

    def _give_up(self, request: int) -> None:
        jobs, ledger = self._jobs, self._ledger
        partial = self._partials.pop(request, None)
        if partial is not None:
            self._prompt_tokens -= partial.length
            self._memory.release(request, partial.cached // self._memory.prefix_tokens)
        else:
            self._home[request].decoding -= 1
            jobs.done[request] = self._decoders.leave(request)
            self._memory.release(request)
            group = self._events[-1]
            ledger.last_token[request] = group[0]
            group[1] -= 1
            if not group[1]:
                self._events.pop()
        jobs.order[request] = 0
        self._admitted -= 1
        ledger.preemptions[request] += 1
        home = self._home[request]
        home.waiting.appendleft(request)
        home.room += 1

    # What is written down

    def _record(self, run: Run) -> None:
        """Note a run, and the gaps since each sequence's last token where they differ from its steps."""
        decoders, decoding, even = self._decoders, run.decoding, True
        count = decoders.count
        kv = decoders.context + self._prompt_tokens - self._memory.shared_twice
        if decoding and (len(self._events) > 1 or self._events[0][0] != run.start):
            even = False
            first_end = run.after(1)
            for time, sequences in self._events:
                self.meter.gaps.append((first_end - time, 0.0, 1, int(sequences)))
            if run.steps > 1:
                self.meter.gaps.append((run.alpha + run.beta, run.beta, run.steps - 1, count))
        advancing, growth = (count, decoders.slope) if decoding else (0, 0.0)
        self.meter.runs.append(
            (bool(run.chunks), count, advancing, even, self._admitted, run.steps, run.alpha, run.beta, kv, growth)
        )
