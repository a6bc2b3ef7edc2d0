#!/bin/sh
# Builds the fuzz targets with clang and runs each for FUZZ_SECONDS (60). Exit 77: cannot run here.
# A finding is left as build/fuzz/crash-*; its bytes belong into the protocol's testdata.
set -eu
cd "$(dirname "$0")/.."
if ! command -v clang++-19 >/dev/null; then
  echo "fuzz: skipped: clang++-19 is not installed and this archive has none"
  exit 77
fi
if [ ! -e tests/fuzz/CMakeLists.txt ]; then
  echo "fuzz: there is no fuzz target yet" >&2
  exit 2
fi
cmake --preset fuzz --log-level=WARNING >/dev/null
cmake --build build/fuzz --target fuzz_targets
found=0
for target in build/fuzz/tests/fuzz/fuzz_*; do
  if [ ! -f "$target" ] || [ ! -x "$target" ]; then continue; fi
  found=1
  name=$(basename "$target")
  mkdir -p "build/fuzz/corpus/$name"
  seeds=
  for dir in tests/fuzz/corpus src/protocol/*/testdata; do
    if [ -d "$dir" ]; then seeds="$seeds $dir"; fi
  done
  echo "fuzz: $name, ${FUZZ_SECONDS:-60} s"
  # shellcheck disable=SC2086
  # A finding is 77 by default, which here means "cannot run".
  "$target" -error_exitcode=1 -max_total_time="${FUZZ_SECONDS:-60}" -timeout=5 -rss_limit_mb=2048 -max_len=65536 \
    -artifact_prefix=build/fuzz/ -print_final_stats=1 -verbosity=0 "build/fuzz/corpus/$name" $seeds
done
[ $found = 1 ] || { echo "fuzz: no fuzz target was built" >&2; exit 2; }
