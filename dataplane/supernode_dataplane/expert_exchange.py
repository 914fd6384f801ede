"""The time of one dispatch or combine of routed experts in training, in the normal mode: all copies of all tokens.

Every die of an expert group sends each other member its part of the copies (tokens x top-k x hidden values) and gets as
much; the hottest die has ``imbalance`` times the mean, and all wait for it. Only the wire is counted here, by the tiers
of :mod:`supernode_dataplane.communication`; what a stack adds beside it has one place, :func:`exchange_seconds`.
"""

from __future__ import annotations

from supernode_dataplane.communication import Cost

__all__ = ["exchange_seconds"]


def exchange_seconds(cost: Cost, *, size: int, bytes_sent: float, copies: float, imbalance: float) -> float:
    """Return seconds of one dispatch or combine in a group of ``size`` dies.

    ``bytes_sent``: of a die with the mean load, those that stay included; ``copies``: tokens x top-k of them. A cost
    per (token, peer) of scanning the routing, and passes through HBM to stage the copies, belong here: both depend on
    ``copies`` and ``size`` and on nothing else that the wire does not know.
    """
    if size == 1 or not copies:
        return 0.0
    return cost.latency_seconds + imbalance * bytes_sent / size * cost.seconds_per_byte
