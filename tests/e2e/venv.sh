#!/usr/bin/env bash
# Makes the Python environment of the end-to-end tests and prints its interpreter's path.
#   tests/e2e/venv.sh [DIR]        DIR: build/e2e-venv by default
# Quick when it exists: the requirements' checksum is kept beside it. Nothing goes into the system.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-$here/../../build/e2e-venv}
want=$(sha256sum "$here/requirements.txt" | cut -d' ' -f1)
if [ ! -x "$dir/bin/python" ] || [ "$(cat "$dir/.olly-requirements" 2>/dev/null)" != "$want" ]; then
  mkdir -p "$(dirname "$dir")"
  # Two test runs may start together.
  exec 9>"$dir.lock"
  flock 9
  if [ "$(cat "$dir/.olly-requirements" 2>/dev/null)" != "$want" ]; then
    rm -rf "$dir"
    python3 -m venv "$dir" >&2
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check \
      -r "$here/requirements.txt" >&2
    echo "$want" > "$dir/.olly-requirements"
  fi
fi
echo "$(cd "$dir" && pwd)/bin/python"
