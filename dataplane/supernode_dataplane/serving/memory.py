"""The KV blocks of one instance: what is held, what an admission would take, and when the blocks are used up.

Held are the own blocks of every admitted sequence (those of its next step) and each shared prefix block once. Idle
entries of the prefix cache are free to whoever needs their space.
"""

from __future__ import annotations

from collections.abc import Sequence

from supernode_dataplane.serving.blocks import PrefixCache
from supernode_dataplane.serving.decoders import Decoders
from supernode_dataplane.serving.ledger import Jobs, tokens_held
from supernode_dataplane.serving.settings import Engine

__all__ = ["Memory"]


class Memory:
    """Counts the blocks of admitted sequences; those that grow are counted by ``decoders``."""

    __slots__ = ("_block", "_entry", "_grows", "_jobs", "_shared", "_still", "_total", "_watermark", "cache", "decoders",
                 "prefix_tokens")  # fmt: skip

    def __init__(self, engine: Engine, jobs: Jobs, *, prefix_tokens: int, drafts: bool) -> None:
        self._jobs = jobs
        self._total = engine.blocks
        self._block = engine.block_tokens
        self._watermark = engine.watermark_blocks
        self._grows = engine.reserve == "prompt"
        self.prefix_tokens = prefix_tokens
        self._entry = prefix_tokens // engine.block_tokens  # KV blocks of one prefix block
        self._still = 0  # blocks of admitted sequences that do not grow now
        self._shared = 0  # prefix blocks, counted once per sequence that holds them
        self.cache = PrefixCache(jobs.shared.sizes)
        self.decoders = Decoders(engine.block_tokens, drafts=drafts)

    def blocks_of(self, request: int, done: int) -> int:
        """Return the blocks of a sequence in the step after its ``done``-th, or those it reserves."""
        jobs = self._jobs
        prompt, tokens, steps = jobs.prompt[request], jobs.tokens[request], jobs.steps[request]
        held = tokens_held(prompt, tokens, steps, done) if self._grows else prompt + tokens
        return -(-held // self._block)

    def admits(self, request: int, done: int, alone: bool) -> bool:
        """Say whether there are blocks for it; ``alone``, with nothing else admitted, there always are."""
        if alone:
            return True
        need, pieces = self.blocks_of(request, done), self._jobs.shared.pieces[request]
        room = self._room() - self._watermark
        if not self._grows:
            return need - self._entry * self.cache.held_of(pieces) <= room
        if need + self.decoders.at_most() <= room:
            return True
        if need - self._entry * self._jobs.shared.blocks[request] + self.decoders.at_least() > room:
            return False
        return need - self._entry * self.cache.held_of(pieces) + self.decoders.blocks() <= room

    def take(self, request: int, done: int) -> None:
        """Hold what a sequence needs before and in the step after its ``done``-th."""
        pieces = self._jobs.shared.pieces[request]
        self._still += self.blocks_of(request, done)
        if pieces:
            self._shared += self._jobs.shared.blocks[request]
            self.cache.take(pieces)
        self.trim()

    def grow(self, request: int, done: int) -> None:
        """Count its blocks among the decoders' from now on; it joins them."""
        if self._grows:
            self._still -= self.blocks_of(request, done)

    def release(self, request: int, done: int, growing: bool, computed: int | None = None) -> None:
        """Give back what it holds; of its shared blocks only the first ``computed`` are there (None: all)."""
        pieces, blocks = self._jobs.shared.pieces[request], self._jobs.shared.blocks[request]
        if not (growing and self._grows):
            self._still -= self.blocks_of(request, done)
        if pieces:
            self._shared -= blocks
            self.cache.release(pieces, blocks if computed is None else computed)

    def trim(self, ahead: int = 0) -> None:
        """Forget the idle entries whose space is needed, now or by the step ``ahead`` steps later."""
        idle = self.cache.idle
        if not idle:
            return
        room = self._room()
        growing = self.decoders.at_most(ahead) if self._grows else 0
        if room - growing < idle * self._entry:
            growing = self.decoders.blocks(ahead) if self._grows else 0
            self.cache.trim(int(room - growing) // self._entry)

    def is_short(self) -> bool:
        """Say whether the next step of the decoders needs more than there is."""
        room = self._room()
        return self._grows and self.decoders.at_most() > room and self.decoders.blocks() > room

    def steps_within(self, steps: int) -> int:
        """Return how many of the next steps the blocks suffice for; they do for the first."""
        return self.decoders.steps_within(self._room(), steps) if self._grows else steps

    def tokens_shared_twice(self) -> int:
        """Return the tokens by which a sum over sequences counts shared blocks too often."""
        return (self._shared - self.cache.held) * self.prefix_tokens

    def _room(self) -> int:
        """Return the blocks that are left for what grows."""
        return self._total - self._still + self._entry * (self._shared - self.cache.held)
