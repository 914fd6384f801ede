"""What is done in which order for one object of each kind; every step is idempotent."""

from __future__ import annotations

__all__: list[str] = []
