"""A serving simulator that takes one step at a time and says what it means; slow on purpose.

It shares nothing with the product's loop but the description of the scheduler: no runs, no heaps, no bounds. Everything
is recounted from scratch at every step. Times are exact when all of them are whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any


@dataclass
class Seq:
    """A request on one stage."""

    number: int
    prompt: int
    output: int
    steps: int
    shared: list[int]
    ready: bool = False
    done: int = -1  # decode steps; -1: prefill not done
    read: int = 0  # tokens of the current prefill that are in the cache
    to_read: int = 0  # tokens that the current prefill must reach; 0: decoding
    order: int = 0
    last_token: Any = None
    preemptions: int = 0
    group: int = 0
    cached: int | None = None
    first: Any = None
    completion: Any = None

    def emitted(self, done: int) -> int:
        return min(1 + (done * (self.output - 1)) // self.steps, self.output - 1) if self.steps else 0

    def kept(self, done: int) -> int:
        """Tokens in its blocks during the step after ``done`` steps."""
        return self.prompt + self.emitted(done)

    def context(self) -> Fraction:
        return self.prompt + 1 + Fraction(self.done * (self.output - 1), self.steps)


@dataclass
class Server:
    """One instance."""

    model: Any
    engine: Any
    query: int
    prefix_tokens: int
    waiting: list[Seq] = field(default_factory=list)
    running: list[Seq] = field(default_factory=list)  # admitted, in the order of admission
    cache: list[int] = field(default_factory=list)  # prefix entries; the least recently used idle one first
    order: int = 0
    waited: int = 0
    arrived: int = 0
    end: Any = None
    decoders: list[Seq] = field(default_factory=list)  # of the step under way
    chunks: list[tuple[Seq, int]] = field(default_factory=list)
    gaps: list[Any] = field(default_factory=list)
    kv_tokens: Any = 0
    decoding_time: Any = 0

    # Blocks

    def blocks_of(self, seq: Seq, done: int) -> int:
        tokens = seq.kept(done) if self.engine.reserve == "prompt" else seq.prompt + seq.output - 1
        return -(-tokens // self.engine.block_tokens)

    def next_done(self, seq: Seq) -> int:
        """Steps done when it takes its next decode step."""
        if seq.to_read == 0 and seq in self.running:
            return seq.done
        return 0 if seq.done < 0 else seq.done + 1

    def held_entries(self) -> set[int]:
        return {entry for seq in self.running for entry in seq.shared}

    def held(self) -> int:
        each = self.prefix_tokens // self.engine.block_tokens
        own = sum(self.blocks_of(seq, self.next_done(seq)) - each * len(seq.shared) for seq in self.running)
        return own + each * len(self.held_entries())

    def trim(self) -> None:
        each = self.prefix_tokens // self.engine.block_tokens
        held = self.held_entries()
        idle = [entry for entry in self.cache if entry not in held]
        while idle and self.held() + each * len(idle) > self.engine.blocks:
            self.cache.remove(idle.pop(0))

    def let_go(self, seq: Seq, computed: int) -> None:
        """After it has left ``running``: its last entries become idle first; what is not computed is forgotten."""
        held = self.held_entries()
        for place in reversed(range(len(seq.shared))):
            entry = seq.shared[place]
            if entry not in held:
                self.cache.remove(entry)
                if place < computed:
                    self.cache.append(entry)

    # Scheduling

    def arrive(self, seq: Seq) -> None:
        seq.group = self.arrived % self.engine.groups
        self.arrived += 1
        self.waiting.append(seq)

    def heads(self) -> list[Seq]:
        """The first in the queue of each group that has a place for it."""
        found = []
        most = -(-self.engine.max_running // self.engine.groups)
        for group in range(self.engine.groups):
            queue = [seq for seq in self.waiting if seq.group == group]
            if queue and sum(seq.group == group for seq in self.running) < most:
                found.append(queue[0])
        return found

    def fits(self, seq: Seq) -> bool:
        if seq not in self.heads():
            return False
        if not self.running:
            return True
        before = self.held()
        self.running.append(seq)
        saved, seq.to_read = seq.to_read, -1
        need = self.held() - before
        seq.to_read = saved
        self.running.pop()
        return before + need <= self.engine.blocks - int(self.engine.watermark * self.engine.blocks)

    def prefill_of(self, seq: Seq) -> tuple[int, int]:
        """Tokens to compute and tokens found in the cache."""
        if seq.done < 0:
            length = 0 if seq.ready else seq.prompt
        else:
            length = seq.prompt + 1 + (seq.done * (seq.output - 1)) // seq.steps
        hits = 0
        for entry in seq.shared:
            if entry not in self.cache or (hits + 1) * self.prefix_tokens > length - 1:
                break
            hits += 1
        hits = hits if length else 0
        return length - hits * self.prefix_tokens, hits * self.prefix_tokens

    def admit(self, seq: Seq) -> None:
        new, cached = self.prefill_of(seq)
        self.waiting.remove(seq)
        self.waited = 0
        self.order += 1
        seq.order = self.order
        seq.read, seq.to_read = cached, new + cached
        if new == 0:
            seq.done = 0
        elif seq.cached is None:
            seq.cached = cached
        self.running.append(seq)
        for entry in seq.shared:
            if entry not in self.cache:
                self.cache.append(entry)
        self.trim()

    def preempt(self) -> None:
        """Preempt until the decoding sequences can take a step."""
        while any(seq.to_read == 0 for seq in self.running) and self.held() > self.engine.blocks:
            seq = self.running.pop()
            computed = seq.read // self.prefix_tokens if seq.to_read else len(seq.shared)
            self.let_go(seq, computed)
            seq.to_read = seq.read = 0
            seq.preemptions += 1
            self.waiting.insert(0, seq)

    def gathered(self) -> bool:
        ready = len(self.heads())
        if not ready:
            self.waited = 0
        enough = ready == self.engine.groups or self.waited >= self.engine.gather_steps
        return enough or not any(seq.to_read == 0 for seq in self.running)

    def schedule(self, now: Any) -> None:
        self.chunks, self.decoders, self.end = [], [], None
        budget = self.engine.step_tokens
        if self.engine.prefill == "unchunked":
            for group in range(self.engine.groups) if self.gathered() else ():
                left, first = max(1, budget // self.engine.groups), True
                while head := [seq for seq in self.heads() if seq.group == group and self.fits(seq)]:
                    new, _ = self.prefill_of(head[0])
                    if not first and new > left:
                        break
                    self.admit(head[0])
                    if new:
                        self.chunks.append((head[0], new))
                        left, first = left - new, False
            if not self.chunks:
                self.preempt()
                self.decoders = list(self.running)
                self.waited += bool(self.heads() and self.decoders)
        else:
            self.preempt()
            budget = max(1, budget // self.engine.groups)
            most = self.engine.prompt_tokens or budget
            left = [
                budget - self.query * sum(seq.to_read == 0 and seq.group == group for seq in self.running)
                for group in range(self.engine.groups)
            ]
            for seq in self.running:
                if seq.to_read and left[seq.group] > 0:
                    new = min(seq.to_read - seq.read, left[seq.group], most)
                    self.chunks.append((seq, new))
                    left[seq.group] -= new
            for group in range(self.engine.groups):
                while left[group] > 0 and (
                    head := [seq for seq in self.heads() if seq.group == group and self.fits(seq)]
                ):
                    new, _ = self.prefill_of(head[0])
                    self.admit(head[0])
                    if new:
                        self.chunks.append((head[0], min(new, left[group], most)))
                        left[group] -= min(new, left[group], most)
                    else:
                        left[group] -= self.query
            self.decoders = [seq for seq in self.running if seq.to_read == 0]
        if self.chunks or self.decoders:
            self.end = now + self.seconds()

    def seconds(self) -> Any:
        tokens = sum(new for _seq, new in self.chunks)
        pairs = sum(seq.read + i + 1 for seq, new in self.chunks for i in range(new))
        contexts = sum(seq.context() for seq in self.decoders)
        fullest = max(sum(seq.group == group for seq in self.decoders) for group in range(self.engine.groups))
        if not self.chunks:
            a, c = self.model.decode(fullest * self.engine.groups)
            seconds = a + c * contexts
        elif not self.decoders:
            a, p = self.model.prefill(tokens)
            seconds = a + p * pairs
        else:
            a, c, p = self.model.mixed(fullest * self.engine.groups, tokens)
            seconds = a + c * contexts + p * pairs
        twice = sum(len(seq.shared) for seq in self.running) - len(self.held_entries())
        kv = sum(seq.to_read if seq.to_read else seq.context() for seq in self.running)
        self.kv_tokens += seconds * (kv - twice * self.prefix_tokens)
        self.decoding_time += seconds * sum(seq.to_read == 0 for seq in self.running)
        return seconds

    def finish(self) -> list[Seq]:
        """End the step under way; return who is complete."""
        now, self.end = self.end, None
        if self.decoders:
            self.trim()
        for seq in self.decoders:
            seq.done += 1
            self.token(seq, now)
        for seq, new in self.chunks:
            seq.read += new
            if seq.read == seq.to_read:
                seq.to_read = seq.read = 0
                seq.done += 1
                self.token(seq, now)
        complete = [seq for seq in self.running if seq.done >= seq.steps and seq.to_read == 0]
        for seq in complete:
            self.running.remove(seq)
            self.let_go(seq, len(seq.shared))
            seq.completion = now
        return complete

    def token(self, seq: Seq, now: Any) -> None:
        if seq.first is None:
            seq.first = now
        else:
            self.gaps.append(now - seq.last_token)
        seq.last_token = now


def serve(stages: list[dict[str, Any]], arrivals: list[Any], concurrency: int | None, transfer: Any) -> list[Any]:
    """Run stages of ``servers``, ``seqs`` and ``routing``; return when each request was sent."""
    count = len(arrivals)
    sent = list(arrivals)
    unsent = count if concurrency is None else min(concurrency, count)
    pending = [(sent[i], i, 0) for i in range(unsent)]
    dealt = [0] * len(stages)
    while True:
        ends = [server.end for stage in stages for server in stage["servers"] if server.end is not None]
        times = [time for time, _, _ in pending] + ends
        if not times:
            return sent
        now = min(times)
        while True:
            at_once = False
            for level, stage in enumerate(stages):
                for server in stage["servers"]:
                    if server.end == now:
                        for seq in server.finish():
                            if level + 1 < len(stages) and stages[level + 1]["seqs"][seq.number].output > 1:
                                later = stages[level + 1]["seqs"][seq.number]
                                later.first = later.last_token = now + transfer(seq.prompt)
                                pending.append((later.first, seq.number, level + 1))
                            elif concurrency is not None and unsent < count:
                                sent[unsent] = max(now, sent[unsent])
                                pending.append((sent[unsent], unsent, 0))
                                unsent += 1
            for item in sorted(entry for entry in pending if entry[0] == now):
                pending.remove(item)
                at_once = True
                _, number, level = item
                stage = stages[level]
                loads = [len(server.waiting) + len(server.running) for server in stage["servers"]]
                place = dealt[level] % len(loads) if stage["routing"] == "round-robin" else loads.index(min(loads))
                dealt[level] += 1
                stage["servers"][place].arrive(stage["seqs"][number])
            if not at_once:
                break
        for stage in stages:
            for server in stage["servers"]:
                if server.end is None:
                    server.schedule(now)
