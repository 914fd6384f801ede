"""Published claims about the machine: what we get for each, by which definition, and whether that agrees.

Values are computed from profiles, :func:`supernode_dataplane.solve` and the decode step; only what others published is
written down, with its source.
"""

from __future__ import annotations

from supernode_dataplane.claims.claim import Claim, Reading
from supernode_dataplane.claims.machine import machine_claims
from supernode_dataplane.claims.rows import definition_rows
from supernode_dataplane.claims.workloads import workload_claims

__all__ = ["Claim", "Reading", "all_claims", "definition_rows"]


def all_claims() -> tuple[Claim, ...]:
    """Return every claim: first the machine's own figures, then what workloads achieve on it.

    A tuple; each claim has its published and computed value as one number with a unit of its own (tokens, seconds,
    ratios), its arithmetic in words and its source. Takes nothing, and there is no error to expect: what the profiles
    cannot answer says so. Sources are those of the claims themselves.
    """
    return (*machine_claims(), *workload_claims())
