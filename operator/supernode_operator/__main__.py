"""``python3 -m supernode_operator``."""

from __future__ import annotations

import sys

from supernode_operator.main import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
