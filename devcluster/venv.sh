#!/usr/bin/env bash
# Make the virtual environment from the lock file, once for each content of it: venv.sh FOLDER
set -euo pipefail
folder=$1
python=${PYTHON:-python3}
lock=requirements-dev.lock
stamp="$folder/.stamp-$(cat "$lock" pyproject.toml | sha256sum | cut -c1-16)"
[ -f "$stamp" ] && exit 0
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "SuperNode needs Python 3.11 or newer; $python is $("$python" --version 2>&1). Set PYTHON=/path/to/python3.11" >&2
  exit 2
}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing the system package python3-venv"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; } >/dev/null
  else
    echo "Python's venv module is missing: install the package python3-venv" >&2
    exit 2
  fi
fi
echo "making the Python environment in $folder (about a minute)"
"$python" -m venv --clear "$folder"
# Not compiled: most modules are never imported, and what is compiles itself, below for the command line. The lock has
# all dependencies.
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r "$lock"
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
env -u PYTHONDONTWRITEBYTECODE "$folder/bin/supernode" simulate -f examples/llama-3.1-405b-training.yaml >/dev/null || true
touch "$stamp"
