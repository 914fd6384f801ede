"""Generate the gRPC stubs from the two kubelet protocols: ``python -m supernode_deviceplugin.generate``.

The stubs are committed; a test generates them again and compares. Needs the development extra (protoc and the plug-in
for typed stubs); nothing of the running agent imports this module.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

__all__ = ["GENERATED", "PROTOS", "generate", "main"]

_PACKAGE: Final = Path(__file__).resolve().parent
PROTOS: Final = ("v1beta1/api.proto", "podresources/api.proto")
"""Protocol files, relative to the package."""
GENERATED: Final = ("api_pb2.py", "api_pb2.pyi", "api_pb2_grpc.py", "api_pb2_grpc.pyi")
"""What stands beside each protocol file."""


def generate(out: Path) -> None:
    """Write the stubs below ``out``, in the package's own layout; RuntimeError when protoc refuses a file."""
    from grpc_tools import protoc  # type: ignore[import-untyped]

    # The plugins are programs of this environment, which need not be activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    root = _PACKAGE.parent
    include = str(Path(protoc.__file__).parent / "_proto")
    for proto in PROTOS:
        status = protoc.main(
            [
                "protoc",
                f"-I{root}",
                f"-I{include}",
                *(f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
                f"{_PACKAGE.name}/{proto}",
            ]
        )
        if status:
            raise RuntimeError(f"protoc failed on {proto} with status {status}: its messages are above")
        _strip_unused(out / _PACKAGE.name / Path(proto).parent)


def _strip_unused(folder: Path) -> None:
    """Drop trailing white space, which the generators leave and editors remove."""
    for name in GENERATED:
        path = folder / name
        path.write_text(re.sub(r"[ \t]+$", "", path.read_text(), flags=re.M))


def main() -> int:
    """Generate in place."""
    generate(_PACKAGE.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
