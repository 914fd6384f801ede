"""`supernode`, also as `kubectl supernode`: look at the machine, and ask what it would do without a cluster."""

from __future__ import annotations

__all__: list[str] = []
