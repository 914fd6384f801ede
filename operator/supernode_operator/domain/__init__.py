"""Decisions: pure functions of API objects. No clock, no I/O, no logging, no Kubernetes client."""

from __future__ import annotations

__all__: list[str] = []
