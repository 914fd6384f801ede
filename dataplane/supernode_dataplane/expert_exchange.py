"""The time of one dispatch or combine of routed experts in training, in the normal mode: all copies of all tokens.

Every die of an expert group sends each other member its part of the copies (tokens x top-k x hidden values) and gets as
much; the hottest die has ``imbalance`` times the mean, and all wait for it. Only the wire is counted here, by the tiers
of :mod:`supernode_dataplane.communication`; what a stack adds beside it has one place, :func:`exchange_seconds`.
"""

from __future__ import annotations

from supernode_dataplane.communication import Cost
from supernode_dataplane.numeric import Number, any_true
from supernode_dataplane.stacks import Stack

__all__ = ["exchange_seconds"]


def exchange_seconds(
    cost: Cost, *, size: int, bytes_sent: Number, tokens: Number, imbalance: Number, stack: Stack
) -> Number:
    """Return seconds of one dispatch or combine of ``tokens`` in a group of ``size`` dies.

    ``bytes_sent``: of a die with the mean load, those that stay included.
    """
    if size == 1 or not any_true(tokens):
        return 0.0
    scan = 0.5 * (stack.dispatch_scan_seconds + stack.combine_scan_seconds) * tokens * size
    return scan + cost.latency_seconds + imbalance * bytes_sent / size * cost.seconds_per_byte
