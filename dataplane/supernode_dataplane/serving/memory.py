"""The KV blocks of one instance: what is held, what an admission would take, and when the blocks are used up.

Held are the own blocks of every admitted sequence (those of its next step) and each shared prefix block once. Idle
entries of the prefix cache are free to whoever needs their space.
"""

from __future__ import annotations

from collections.abc import Sequence

from supernode_dataplane.serving.blocks import PrefixCache
from supernode_dataplane.serving.decoders import Decoders
from supernode_dataplane.serving.ledger import Jobs
from supernode_dataplane.serving.settings import Engine

__all__ = ["Memory"]


class Memory:
    """Counts the blocks of admitted sequences; those that grow are counted by ``decoders``."""

    __slots__ = ("_block", "_crowded", "_entry", "_grows", "_jobs", "_room", "_shared", "_still", "_watermark", "cache",
                 "decoders", "prefix_tokens", "shared_twice")  # fmt: skip

    def __init__(self, engine: Engine, jobs: Jobs, *, prefix_tokens: int, drafts: bool) -> None:
        self._jobs = jobs
        self._shared = jobs.shared.pieces
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
        self._crowded = False
        """The last admission took space that idle blocks may have. They go when it makes a difference: before somebody
        asks for them or gives back blocks, and with what the next decode steps take, which is often first."""
        self.decoders = Decoders(engine.block_tokens, drafts=drafts)

    def admits(self, request: int) -> bool:
        """Say whether there are blocks for a request beside those that are admitted; alone it always has them."""
        need, pieces = self._jobs.blocks[request], self._shared[request]
        room, decoders = self._room - self._watermark, self.decoders
        if not self._grows:
            return need - self._entry * self.cache.held_of(pieces) <= room
        tokens = (room - need) * self._block
        if decoders.most <= tokens:
            return True
        if pieces:
            held = self._entry * self.cache.held_of(pieces)
            need -= held
            tokens += held * self._block
        # The bounds first: counting blocks takes longer.
        if decoders.at_least() > tokens:
            return False
        return decoders.most <= tokens or need + decoders.blocks() <= room

    def take(self, request: int) -> None:
        """Hold the blocks that a sequence needs for its prompt and its next step."""
        blocks = self._still[request] = self._jobs.blocks[request]
        self._room -= blocks
        pieces, cache = self._shared[request], self.cache
        if pieces:
            # Some sequences hold more shared blocks now, of which some are stored anew.
            twice = self._jobs.shared.blocks[request] - cache.take(pieces)
            self._room += self._entry * twice
            self.shared_twice += self.prefix_tokens * twice
        self._crowded = cache.idle > 0

    def found(self, pieces: Sequence[int]) -> int:
        """Return how many of a prompt's shared blocks the cache has, from the first on."""
        if self._crowded:
            self.trim()
        return self.cache.match(pieces)

    def grow(self, request: int) -> None:
        """Count its blocks among the decoders' from now on; it joins them."""
        if self._grows:
            self._room += self._still.pop(request)

    def release(self, request: int, computed: int | None = None) -> None:
        """Give back what it holds; of its prompt only the first ``computed`` prefix blocks are there (None: all)."""
        if self._crowded:
            self.trim()
        if request in self._still:
            self._room += self._still.pop(request)
        pieces = self._shared[request]
        if pieces:
            blocks = self._jobs.shared.blocks[request]
            twice = blocks - self.cache.release(pieces, blocks, blocks if computed is None else computed)
            self._room -= self._entry * twice
            self.shared_twice -= self.prefix_tokens * twice

    def preempt(self, request: int) -> None:
        """Give back what a sequence holds that decodes; it will read again what it had emitted."""
        done = self.decoders.leave(request)
        self.release(request)
        jobs = self._jobs
        prompt, tokens, steps = jobs.prompt[request], jobs.tokens[request], jobs.steps[request]
        jobs.done[request] = done
        jobs.unread[request] = prompt + 1 + done * tokens // steps
        # Reading it stands for the next step. No step reads the last token of an output.
        done += 1
        kept = prompt + 1 + done * tokens // steps if self._grows and done < steps else prompt + tokens
        jobs.blocks[request] = -(-kept // self._block)

    def trim(self, ahead: int = 0) -> None:
        """Forget the idle blocks whose space is needed, now or by the step ``ahead`` steps later."""
        cache, decoders, room = self.cache, self.decoders, self._room
        self._crowded = False
        if not self._grows:
            cache.trim(room // self._entry)
        elif decoders.most + decoders.slope * ahead > (room - cache.idle * self._entry) * self._block:
            room = (room - decoders.blocks(ahead)) // self._entry
            if cache.idle > room:
                cache.trim(room)

    def is_short(self) -> bool:
        """Say whether the next step of the decoders needs more than there is."""
        decoders, room = self.decoders, self._room
        return decoders.most > room * self._block and self._grows and decoders.blocks() > room

    def steps_within(self, steps: int) -> int:
        """Return how many of the next steps the blocks suffice for; they do for the first."""
        return self.decoders.steps_within(self._room, steps) if self._grows else steps
