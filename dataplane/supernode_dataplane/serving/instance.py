"""One instance of continuous batching, advanced in closed form from one change of its batch to the next.

Between two changes every step takes alpha + beta i seconds (i = 0, 1, …): decoding sequences grow evenly, and so does
what a chunk of constant size attends to. So a *run* of m such steps is one event, ended by the first of: a sequence is
complete; a prompt's last chunk; the blocks run out; a request arrives that could be admitted (the run is cut at the
first step that ends at or after its arrival). At the end of a run the scheduler decides anew:

1. Unchunked: requests are admitted from the front of the queue while there is a place, blocks for the prompt and its
   next step are free beside what the running sequences need for theirs, and the step has tokens left. Are there prompts
   to read, the step does nothing else. If not, all sequences decode. Data-parallel groups admit each from its own
   queue; while sequences decode, prompts may wait until every group has one.
   Chunked: sequences that decode take their query tokens of their group's budget, then the prompts that are under way,
   then admissions as above. One step does it all. Blocks are taken for whole prompts.
2. Before sequences decode, while their blocks do not suffice: the one admitted last goes back to the front of the queue
   and loses its blocks.

A prefill gives a sequence its next token; one that was preempted reads its prompt and all that it had emitted again,
and that prefill stands for its next decode step. A request that comes with its KV (disaggregated) is admitted without
a prefill; preempted, it is recomputed here.
"""

from __future__ import annotations

import math
from typing import Final

from supernode_dataplane.serving.batch import Chunk, Run, WaitingGroup, work_of
from supernode_dataplane.serving.lasttokens import LastTokens
from supernode_dataplane.serving.ledger import GAP, RUN, Jobs, Ledger, Meter
from supernode_dataplane.serving.memory import Memory
from supernode_dataplane.serving.settings import Engine
from supernode_dataplane.serving.steptimes import StepTimes

__all__ = ["Instance"]

NEVER: Final = math.inf


class Instance:
    """State of one instance.

    ``end``    when its current run ends; infinite while it does nothing
    ``load``   requests that wait or run here
    ``meter``  what it notes of its runs
    """

    __slots__ = ("_admissions", "_arrived", "_chunk_tokens", "_chunked", "_decoders", "_engine", "_gather",
                 "_group_tokens", "_groups", "_jobs", "_last_tokens", "_ledger", "_memory", "_partials",
                 "_prompt_tokens", "_query", "_run", "_running", "_times", "_waited", "end", "load",
                 "meter")  # fmt: skip

    def __init__(
        self, engine: Engine, times: StepTimes, jobs: Jobs, ledger: Ledger, *, query_tokens: int, prefix_tokens: int
    ) -> None:
        self.end = NEVER
        self.load = 0
        self.meter = Meter()
        self._engine, self._times, self._jobs, self._ledger = engine, times, jobs, ledger
        self._chunked = engine.prefill == "chunked"
        self._chunk_tokens, self._group_tokens = engine.chunk_tokens, engine.group_tokens
        self._gather = 0 if self._chunked else engine.gather_steps
        self._query = query_tokens
        self._memory = Memory(engine, jobs, prefix_tokens=prefix_tokens, drafts=query_tokens > 1)
        self._decoders = self._memory.decoders
        self._groups = [WaitingGroup(engine.group_running) for _ in range(engine.groups)]
        self._arrived = 0
        self._waited = 0  # decode steps since the last admission in which a group could have admitted one
        self._admissions = 0
        self._running: dict[int, WaitingGroup] = {}  # who is admitted, the last one last
        self._partials: dict[int, Chunk] = {}  # prompts under way, by admission: new is 0, cached is what is read
        self._prompt_tokens = 0  # of admitted sequences that do not decode yet
        self._last_tokens = LastTokens()
        self._run = Run()

    def arrive(self, request: int, time: float) -> None:
        """Queue a request. The current run may end earlier for it; without one, call ``schedule`` at this time."""
        groups, run = self._groups, self._run
        group = groups[self._arrived % len(groups)]
        self._arrived += 1
        opens = group.room > 0 and not group.waiting
        group.waiting.append(request)
        self.load += 1
        if opens and self.end != NEVER and not run.chunks:
            run.steps = min(run.steps, run.steps_until(time))
            self.end = run.after(run.steps)

    def schedule(self, now: float) -> None:
        """Decide what the instance does from now on: a run, or nothing."""
        self._run.start = now
        if self._chunked:
            self._plan_mixed()
        else:
            self._plan_whole()

    def finish(self) -> list[int]:
        """End the current run; return the requests that are complete, in the order of their admission."""
        run, now, complete = self._run, self.end, []
        self.end = NEVER
        self._record(run)
        if run.decoding:
            if run.waiting and not run.chunks:
                self._waited += run.steps
            if self._memory.cache.idle:
                self._memory.trim(run.steps - 1)
            complete = self._decoders.advance(run.steps)
        if run.chunks:
            for chunk in run.chunks:
                if self._read(chunk, run.steps, now):
                    complete.append(chunk.request)
            if len(complete) > 1:
                complete.sort(key=self._jobs.order.__getitem__)
        if run.decoding:
            self._last_tokens.all_at(now, self._decoders.count)
        for request in complete:
            self._running.pop(request).room += 1
            self._memory.release(request)
            self._ledger.completion[request] = now
        self.load -= len(complete)
        return complete

    def _read(self, chunk: Chunk, steps: int, now: float) -> bool:
        """Count a chunk as read; return whether that completes the request."""
        request, jobs, ledger = chunk.request, self._jobs, self._ledger
        read = chunk.cached + chunk.new * steps
        if read < chunk.length:
            chunk.cached, chunk.new = read, 0
            self._partials[request] = chunk
            return False
        if self._partials:
            self._partials.pop(request, None)
        self._prompt_tokens -= chunk.length
        done = jobs.done[request] = jobs.done[request] + 1
        if ledger.first[request] < 0:
            ledger.first[request] = now
        elif request in ledger.last_token:
            self.meter.gaps += GAP(now - ledger.last_token.pop(request), 0.0, 1, 1)
        if done >= jobs.steps[request]:
            return True
        self._join(request, done, now)
        return False

    def _join(self, request: int, done: int, last_token: float) -> None:
        jobs = self._jobs
        self._memory.grow(request)
        self._decoders.join(
            request,
            jobs.order[request],
            prompt=jobs.prompt[request],
            tokens=jobs.tokens[request],
            steps=jobs.steps[request],
            done=done,
        )
        self._last_tokens.joined(last_token)

    def _record(self, run: Run) -> None:
        """Note a run, and the gaps since each sequence's last token where they differ from its steps."""
        decoders, decoding, even = self._decoders, run.decoding, True
        count, advancing, growth = decoders.count, 0, 0.0
        if decoding:
            advancing, growth = count, decoders.slope
            if not self._last_tokens.are_at(run.start):
                even = False
                self.meter.gaps += self._last_tokens.gaps_of(run)
        kv = decoders.context + self._prompt_tokens - self._memory.shared_twice
        reads, admitted = bool(run.chunks), len(self._running)
        self.meter.runs += RUN(
            reads, count, advancing, even, admitted, run.steps, run.alpha, run.beta, kv, growth
        )  # fmt: skip

    # What to do next

    def _plan_whole(self) -> None:
        if self.load == len(self._running):  # nobody waits
            self._waited = 0
        else:
            chunks: list[Chunk] = []
            for group in self._gathered():
                self._admit_whole(group, chunks)
            if chunks:
                self._start_reading(chunks)
                return
        if self._decoders.count:
            preempted = self._preempt()
            self._start_decoding()
            if preempted and len(self._groups) > 1:
                self._run.steps = 1  # what one group gave up may be enough for another's next request
                self.end = self._run.after(1)

    def _gathered(self) -> list[WaitingGroup]:
        """Return the groups with a request and a place for it; none while prompts wait for those of other groups."""
        ready = [group for group in self._groups if group.waiting and group.room > 0]
        if not ready:
            self._waited = 0
        enough = len(ready) == len(self._groups) or self._waited >= self._gather
        return ready if enough or not self._decoders.count else []

    def _admit_whole(self, group: WaitingGroup, chunks: list[Chunk]) -> None:
        """Admit a group's requests while there are blocks, and tokens of the step; the first may have more of these."""
        waiting, left, first = group.waiting, self._group_tokens, True
        while waiting and group.room > 0 and self._fits(waiting[0]):
            new, cached = self._new_tokens(waiting[0])
            if not first and new > left:
                return
            chunk = self._admit(group, new, cached)
            if chunk is not None:
                chunks.append(chunk)
                left, first = left - new, False

    def _plan_mixed(self) -> None:
        decoders, running, chunks = self._decoders, self._running, []
        if decoders.count:
            self._preempt()
        self._share_budget()
        most = self._chunk_tokens
        for request, partial in self._partials.items():
            group = running[request]
            left = group.left
            if left > 0:
                rest, new = partial.length - partial.cached, left if left < most else most
                partial.new = rest if rest < new else new
                chunks.append(partial)
                group.left = left - partial.new
        before = decoders.count
        if self.load > len(running):
            for group in self._groups:
                if group.left > 0:
                    self._admit_parts(group, chunks)
        if not chunks:
            if decoders.count:
                self._start_decoding()
            return
        # Full budgets stay full until a sequence ends, unless one that came with its caches has overdrawn them.
        full = decoders.count == before
        for group in self._groups:
            if group.left > 0:
                full = False
                break
        if decoders.count:
            self._start_mixed(chunks, full=full)
        else:
            self._start_reading(chunks, full=full)

    def _share_budget(self) -> None:
        """Give each group its budget of a step, less the query tokens of its sequences that decode."""
        groups, tokens, query = self._groups, self._group_tokens, self._query
        if len(groups) == 1:
            groups[0].left = tokens - query * self._decoders.count
            return
        most = self._engine.group_running
        for group in groups:
            group.decoding = most - group.room
        for request in self._partials:
            self._running[request].decoding -= 1
        for group in groups:
            group.left = tokens - query * group.decoding

    def _admit_parts(self, group: WaitingGroup, chunks: list[Chunk]) -> None:
        """Admit a group's requests while there are blocks, and tokens of its budget."""
        waiting = group.waiting
        while group.left > 0 and waiting and group.room > 0 and self._fits(waiting[0]):
            chunk = self._admit(group, *self._new_tokens(waiting[0]))
            if chunk is None:
                group.decoding += 1
                group.left -= self._query
            else:
                chunk.new = min(chunk.new, group.left, self._chunk_tokens)
                chunks.append(chunk)
                group.left -= chunk.new

    # Runs

    def _start_decoding(self) -> None:
        """Start a run of steps that only decode."""
        decoders, groups = self._decoders, self._groups
        fixed, per_context = self._times.decode(self._width())
        steps = self._memory.steps_within(decoders.until_completion())
        self._run.waiting = False
        if self._waited < self._gather and any(group.waiting and group.room > 0 for group in groups):
            self._run.waiting = True
            steps = min(steps, self._gather - self._waited)
        self._start(steps, fixed + per_context * decoders.context, per_context * decoders.slope, [], decoding=True)

    def _width(self) -> int:
        """Return the sequences that a step decodes if all groups are as full as the fullest: it takes as long."""
        groups = self._groups
        if len(groups) == 1:
            return self._decoders.count
        if self._chunked:
            return max([group.decoding for group in groups]) * len(groups)
        return (self._engine.group_running - min([group.room for group in groups])) * len(groups)  # all admitted

    def _start_reading(self, chunks: list[Chunk], *, full: bool = False) -> None:
        """Start a run of steps that only read prompts. ``full``: they take the whole budget."""
        tokens, pairs, growth, steps = work_of(chunks)
        fixed, per_pair = self._times.prefill(tokens)
        self._start(steps if full else 1, fixed + per_pair * pairs, per_pair * growth, chunks, decoding=False)

    def _start_mixed(self, chunks: list[Chunk], *, full: bool) -> None:
        """Start a run of steps that read prompts beside sequences that decode. ``full``: they take the whole budget."""
        decoders, (tokens, pairs, growth, steps) = self._decoders, work_of(chunks)
        fixed, per_context, per_pair = self._times.mixed(self._width(), tokens)
        alpha = fixed + per_pair * pairs + per_context * decoders.context
        beta = per_pair * growth + per_context * decoders.slope
        steps = self._memory.steps_within(min(decoders.until_completion(), steps)) if full and steps > 1 else 1
        self._start(steps, alpha, beta, chunks, decoding=True)

    def _start(self, steps: int, alpha: float, beta: float, chunks: list[Chunk], *, decoding: bool) -> None:
        run = self._run
        run.steps, run.alpha, run.beta, run.chunks, run.decoding = steps, alpha, beta, chunks, decoding
        self.end = run.start + (steps * alpha + beta * (steps * (steps - 1) / 2))

    # Admission and preemption

    def _fits(self, request: int) -> bool:
        """Say whether a request could be admitted now, tokens of the step apart."""
        return not self._running or self._memory.admits(request)

    def _new_tokens(self, request: int) -> tuple[int, int]:
        """Return the tokens of its prefill to compute, and those that the prefix cache has."""
        length, pieces = self._jobs.unread[request], self._jobs.shared.pieces[request]
        if not pieces or not length:
            return length, 0
        size = self._memory.prefix_tokens
        cached = size * min(self._memory.found(pieces), (length - 1) // size)  # the last token is always computed
        return length - cached, cached

    def _admit(self, group: WaitingGroup, new: int, cached: int) -> Chunk | None:
        """Admit the first of a group; return its prompt as one chunk, or None: it decodes without a prefill."""
        request = group.waiting.popleft()
        group.room -= 1
        self._running[request] = group
        self._waited = 0
        self._admissions += 1
        self._jobs.order[request] = self._admissions
        self._memory.take(request)
        if not new:
            self._jobs.done[request] = 0
            self._join(request, 0, self._ledger.first[request])
            return None
        if self._ledger.cached[request] < 0:
            self._ledger.cached[request] = cached
        self._prompt_tokens += new + cached
        return Chunk(request, new, cached)

    def _preempt(self) -> bool:
        """Preempt the sequences admitted last until the others have blocks for a step.

        The last of them is now first in the queue, and cannot come back before another sequence ends: what it gave up
        was more than was free without it, and it will need no less. Returns whether any was preempted.
        """
        preempted = False
        while self._decoders.count and self._memory.is_short():
            self._give_up(*self._running.popitem())
            preempted = True
        return preempted

    def _give_up(self, request: int, group: WaitingGroup) -> None:
        """Send a sequence that is no longer admitted back to the front of its queue, without its blocks."""
        partial = self._partials.pop(request, None)
        if partial is not None:
            self._prompt_tokens -= partial.length
            self._memory.release(request, partial.cached // self._memory.prefix_tokens)
        else:
            self._memory.preempt(request)
            self._ledger.last_token[request] = self._last_tokens.left()
        self._ledger.preemptions[request] += 1
        group.waiting.appendleft(request)
        group.room += 1
