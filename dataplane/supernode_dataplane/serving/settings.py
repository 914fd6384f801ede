"""What an instance is: its step times, its KV memory, its scheduler; and how many of them share the load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from supernode_dataplane.serving.errors import InvalidServingError

__all__ = ["Engine", "Group", "StepModel", "attention_pairs"]


class StepModel(Protocol):
    """Seconds of one step of one instance. Linear in contexts, so that many steps are summed in closed form.

    A context is what a sequence attends to in this step: its prompt and what it has emitted so far. ``tokens`` are the
    new tokens of prompts, of one or several requests, without those that the prefix cache has; ``pairs`` are their
    query-key pairs: n new tokens over k cached ones make n k + n (n + 1) / 2 (``attention_pairs``). A step must take
    more than 0 seconds and a slope must not be negative. Answers are kept per argument by the caller; most prefill
    steps of long prompts are of a size of their own, thousands in a load, so an answer should take microseconds.
    """

    def decode(self, batch: int) -> tuple[float, float]:
        """Return (a, c): a step of ``batch`` decoding sequences takes a + c * (sum of their contexts)."""
        ...

    def prefill(self, tokens: int) -> tuple[float, float]:
        """Return (a, p): a step that only reads prompts takes a + p * pairs."""
        ...

    def mixed(self, batch: int, tokens: int) -> tuple[float, float, float]:
        """Return (a, c, p): a step of both takes a + c * contexts + p * pairs. Asked for chunked prefill only."""
        ...

    def transfer(self, tokens: int) -> float:
        """Return the seconds that the KV of ``tokens`` takes from prefill to decode. Asked when disaggregated only."""
        ...


def attention_pairs(new: int, cached: int) -> int:
    """Return the query-key pairs of ``new`` prompt tokens, causal, over ``cached`` ones."""
    return new * cached + new * (new + 1) // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The scheduler and the KV memory of one instance.

    ``blocks``         KV blocks, of ``block_tokens`` tokens each
    ``max_running``    sequences admitted at a time (in prefill or decoding)
    ``prefill``        ``unchunked``: prompts are read whole, before anything else, and decoding waits meanwhile;
                       ``chunked``: a step has a budget of tokens, of which decoding sequences take theirs first
    ``step_tokens``    unchunked: prompt tokens of one prefill step (a longer prompt has a step of its own); chunked:
                       the budget
    ``prompt_tokens``  chunked: tokens of one prompt in a step; None: the budget
    ``groups``         data-parallel groups that step together: requests are dealt to them in turn and stay; each has
                       its share of ``max_running`` and ``step_tokens``, its own queue, and the common blocks. What a
                       step takes for those that decode, contexts apart, is as if all groups were as full as the
                       fullest; contexts and the tokens of prompts are the true ones
    ``gather_steps``   unchunked: decode steps for which a prompt waits until every group has one to read: a group
                       without idles
    ``reserve``        ``prompt``: a request is admitted with blocks for its prompt and first step, and grows (it may be
                       preempted); ``output``: with blocks for all that it will ever need
    ``watermark``      share of the blocks that an admission must leave free, unless nothing else is admitted
    ``prefix_cache``   prompts share blocks, and keep them after the request until others need the space (LRU)

    :raises InvalidServingError: a number is out of range.
    """

    blocks: int
    block_tokens: int = 128
    max_running: int = 256
    prefill: Literal["unchunked", "chunked"] = "unchunked"
    step_tokens: int = 8192
    prompt_tokens: int | None = None
    groups: int = 1
    gather_steps: int = 0
    reserve: Literal["prompt", "output"] = "prompt"
    watermark: float = 0.01
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        for name in ("blocks", "block_tokens", "max_running", "step_tokens", "groups"):
            if getattr(self, name) < 1:
                raise InvalidServingError(f"engine.{name}", str(getattr(self, name)), "give at least 1")
        if self.prefill not in ("unchunked", "chunked"):
            raise InvalidServingError("engine.prefill", repr(self.prefill), "give unchunked or chunked")
        if self.reserve not in ("prompt", "output"):
            raise InvalidServingError("engine.reserve", repr(self.reserve), "give prompt or output")
        if self.prompt_tokens is not None and self.prompt_tokens < 1:
            raise InvalidServingError("engine.prompt_tokens", str(self.prompt_tokens), "give at least 1, or None")
        if self.gather_steps < 0:
            raise InvalidServingError("engine.gather_steps", str(self.gather_steps), "give at least 0")
        if not 0 <= self.watermark < 1:
            raise InvalidServingError("engine.watermark", f"{self.watermark:g}", "give a share from 0 to below 1")

    @property
    def group_running(self) -> int:
        """Return the sequences that a group admits at a time."""
        return -(-self.max_running // self.groups)

    @property
    def group_tokens(self) -> int:
        """Return the tokens that a group has in a step: of prompts, or chunked its budget."""
        return max(1, self.step_tokens // self.groups)

    @property
    def chunk_tokens(self) -> int:
        """Return the most tokens of one prompt in a step of chunked prefill."""
        return self.group_tokens if self.prompt_tokens is None else min(self.prompt_tokens, self.group_tokens)

    @property
    def watermark_blocks(self) -> int:
        """Return the blocks that an admission leaves free."""
        return int(self.watermark * self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Equal instances that share a load.

    ``routing``: ``round-robin`` deals requests in the order of their arrival; ``least-loaded`` gives each to the
    instance with the fewest waiting and running, the first of equals. A request stays where it was sent.

    :raises InvalidServingError: no instance, or an unknown routing.
    """

    model: StepModel
    engine: Engine
    instances: int = 1
    routing: Literal["round-robin", "least-loaded"] = "round-robin"

    def __post_init__(self) -> None:
        if self.instances < 1:
            raise InvalidServingError("group.instances", str(self.instances), "give at least 1")
        if self.routing not in ("round-robin", "least-loaded"):
            raise InvalidServingError("group.routing", repr(self.routing), "give round-robin or least-loaded")
