"""The machinery: queue, cache, client, leader, health, metrics. It knows kinds, and nothing of supernodes."""

from __future__ import annotations

__all__: list[str] = []
