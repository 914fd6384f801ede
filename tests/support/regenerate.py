"""Pages that are written by the code itself: the module lists of docs/architecture.md.

`make gen` writes them; a test compares. The other generated files have generators of their own (CRDs, gRPC stubs,
chart values).
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
_SECTION = re.compile(r"(<!-- modules (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def module_table(room: str) -> str:
    """Return a Markdown table of a room's modules with the first line of their docstrings."""
    lines = ["| module | what it is for |", "|---|---|"]
    folder = ROOT / room
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if "_pb2" in name or path.name == "__init__.py":
            continue
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines.append(f"| [{name}](../{room}/{name}) | {text.split(chr(10) + chr(10))[0].replace(chr(10), ' ')} |")
    return "\n".join(lines) + "\n"


def architecture(text: str) -> str:
    """Return the page with every module list made anew."""
    return _SECTION.sub(lambda match: f"{match[1]}{module_table(match[2])}{match[3]}", text)


if __name__ == "__main__":
    ARCHITECTURE.write_text(architecture(ARCHITECTURE.read_text(encoding="utf-8")), encoding="utf-8")
