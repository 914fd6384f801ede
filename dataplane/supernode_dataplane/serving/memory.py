"""The KV blocks of one instance: what is held, what an admission would take, and when the blocks are used up.

Held are the own blocks of every admitted sequence (those of its next step) and each shared prefix block once. Idle
entries of the prefix cache are free to whoever needs their space.
"""

from __future__ import annotations

from supernode_dataplane.serving.blocks import PrefixCache
from supernode_dataplane.serving.decoders import Decoders
from supernode_dataplane.serving.ledger import Jobs
from supernode_dataplane.serving.settings import Engine

__all__ = ["Memory"]


class Memory:
    """Counts the blocks of admitted sequences; those that grow are counted by ``decoders``."""

    __slots__ = ("_block", "_entry", "_grows", "_jobs", "_room", "_still", "_watermark", "cache", "decoders",
                 "prefix_tokens", "shared_twice")  # fmt: skip

    def __init__(self, engine: Engine, jobs: Jobs, *, prefix_tokens: int, drafts: bool) -> None:
        self._jobs = jobs
        self._block = engine.block_tokens
        self._watermark = engine.watermark_blocks
        self._grows = engine.reserve == "prompt"
        self.prefix_tokens = prefix_tokens
        self._entry = prefix_tokens // engine.block_tokens  # KV blocks of one prefix block
        self._still: dict[int, int] = {}  # blocks of admitted sequences that do not grow now, shared ones included
        self._room = engine.blocks
        """Blocks that are left for what grows: all, less those that do not, shared ones counted once."""
        self.shared_twice = 0
        """Tokens by which a sum over sequences counts shared blocks too often."""
        self.cache = PrefixCache(jobs.shared.sizes)
        self.decoders = Decoders(engine.block_tokens, drafts=drafts)

    def blocks_of(self, request: int, done: int) -> int:
        """Return the blocks of a sequence in the step after its ``done``-th, or those it reserves."""
        jobs = self._jobs
        prompt, tokens = jobs.prompt[request], jobs.tokens[request]
        if not self._grows or done >= jobs.steps[request]:
            return -(-(prompt + tokens) // self._block)  # no step reads the last token of an output
        return -(-(prompt + 1 + done * tokens // jobs.steps[request]) // self._block)

    def admits(self, request: int, done: int, alone: bool) -> bool:
        """Say whether there are blocks for it; ``alone``, with nothing else admitted, there always are."""
        if alone:
            return True
        need, pieces = self.blocks_of(request, done), self._jobs.shared.pieces[request]
        room = self._room - self._watermark
        if not self._grows:
            return need - self._entry * self.cache.held_of(pieces) <= room
        if need + self.decoders.at_most() <= room:
            return True
        if pieces:
            need -= self._entry * self.cache.held_of(pieces)
        # The bounds first: counting blocks takes ten times as long.
        if need + self.decoders.at_least() > room:
            return False
        return need + self.decoders.at_most() <= room or need + self.decoders.blocks() <= room

    def take(self, request: int, done: int) -> None:
        """Hold what a sequence needs before and in the step after its ``done``-th."""
        pieces = self._jobs.shared.pieces[request]
        blocks = self._still[request] = self.blocks_of(request, done)
        self._room -= blocks
        if pieces:
            held = self.cache.held
            self.cache.take(pieces)
            self._share(self._jobs.shared.blocks[request], self.cache.held - held)
        if self.cache.idle:
            self.trim()

    def grow(self, request: int) -> None:
        """Count its blocks among the decoders' from now on; it joins them."""
        if self._grows:
            self._room += self._still.pop(request)

    def release(self, request: int, computed: int | None = None) -> None:
        """Give back what it holds; of its prompt only the first ``computed`` prefix blocks are there (None: all)."""
        pieces = self._jobs.shared.pieces[request]
        self._room += self._still.pop(request, 0)
        if pieces:
            held, blocks = self.cache.held, self._jobs.shared.blocks[request]
            self.cache.release(pieces, blocks if computed is None else computed)
            self._share(-blocks, self.cache.held - held)

    def trim(self, ahead: int = 0) -> None:
        """Forget the idle blocks whose space is needed, now or by the step ``ahead`` steps later."""
        idle = self.cache.idle
        if not idle:
            return
        if not self._grows:
            self.cache.trim(self._room // self._entry)
        elif self._room - self.decoders.at_most(ahead) < idle * self._entry:
            self.cache.trim((self._room - self.decoders.blocks(ahead)) // self._entry)

    def is_short(self) -> bool:
        """Say whether the next step of the decoders needs more than there is."""
        return self._grows and self.decoders.at_most() > self._room and self.decoders.blocks() > self._room

    def steps_within(self, steps: int) -> int:
        """Return how many of the next steps the blocks suffice for; they do for the first."""
        return self.decoders.steps_within(self._room, steps) if self._grows else steps

    def _share(self, by_sequences: int, stored: int) -> None:
        """Count prefix blocks, of which some sequences hold more now, and which of them are stored anew."""
        self._room += self._entry * (by_sequences - stored)
        self.shared_twice += (by_sequences - stored) * self.prefix_tokens
