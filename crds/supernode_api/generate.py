"""Write the CRDs and the page of all fields: ``python -m supernode_api.generate [--check] [--dir crds]``.

The folder is the repository's ``crds``; the chart's copies and ``docs/objects.md`` are found beside it. With
``--check`` nothing is written, and the exit code is 1 when a file is not what the models say.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from supernode_api import KINDS
from supernode_api.crd import build_crd
from supernode_api.names import GROUP
from supernode_api.objects_page import build_objects_page

__all__ = ["build_files", "crd_documents", "main"]

_HEADER = "# Generated from the models in crds/supernode_api; change those, then run: make gen\n"


def crd_documents() -> dict[str, dict[str, Any]]:
    """Return the CRDs by file name."""
    return {f"{GROUP}_{kind.plural}.yaml": build_crd(kind) for kind in KINDS}


def build_files(crds: Path) -> dict[Path, str]:
    """Return what every generated file has to hold, by path."""
    import yaml  # the models need pydantic alone; only who generates needs this

    root = crds.resolve().parent
    files = {root / "docs" / "objects.md": build_objects_page(KINDS)}
    for name, document in crd_documents().items():
        text = _HEADER + yaml.dump(document, Dumper=_dumper(yaml), sort_keys=False, width=120, allow_unicode=True)
        for folder in (crds.resolve(), root / "helm" / "supernode" / "files" / "crds"):
            files[folder / name] = text
    return files


def _dumper(yaml: Any) -> Any:
    """Return a dumper that writes equal values twice instead of naming the first (anchors confuse readers)."""

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return Dumper


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, or check them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m supernode_api.generate", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    parser.add_argument("--dir", type=Path, default=Path("crds"), help="the repository's crds folder")
    options = parser.parse_args(argv)
    stale = [
        (path, text)
        for path, text in build_files(options.dir).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        sys.stderr.write(f"{'out of date' if options.check else 'written'}: {path}\n")
    if stale and options.check:
        sys.stderr.write("run: make gen\n")
    return int(bool(stale) and options.check)


if __name__ == "__main__":
    sys.exit(main())
