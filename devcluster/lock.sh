#!/usr/bin/env bash
# Resolve both lock files anew from pyproject.toml: hashes, no index address. Needs uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
common=(--python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet)
uv pip compile "${common[@]}" --universal --extra dev pyproject.toml -o requirements-dev.lock
uv pip compile "${common[@]}" --python-platform x86_64-manylinux_2_28 --extra image pyproject.toml -o requirements-image.lock
