#!/bin/sh
# lint.sh BUILD_DIR: what CI's linters check. A linter that is not installed is named and left out.
#   OLLY_TIDY=all    clang-tidy over every file, not only over those changed since origin/main
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
bad=0

if command -v clang-format-14 >/dev/null; then
  files=$(git ls-files 'src/*.h' 'src/*.cpp' 'tests/*.h' 'tests/*.cpp' ':!src/event/abi.h')
  if [ -n "$files" ]; then
    # shellcheck disable=SC2086
    clang-format-14 --dry-run --Werror $files || bad=1
  fi
else
  echo "lint: clang-format-14 is not here: format not checked"
fi

scripts/check-rooms.sh || bad=1

if command -v clang-tidy-19 >/dev/null; then
  if [ "${OLLY_TIDY:-}" = all ] || ! base=$(git merge-base HEAD origin/main 2>/dev/null) ||
    [ "$base" = "$(git rev-parse HEAD)" ]; then
    # Nothing to compare with: the files of the last ten commits, so that a run stays short.
    base=$(git rev-parse HEAD~10 2>/dev/null || git hash-object -t tree /dev/null)
  fi
  if [ "${OLLY_TIDY:-}" = all ]; then
    files=$(git ls-files 'src/*.cpp')
  else
    files=$(git diff --name-only --diff-filter=d "$base" -- 'src/*.cpp')
  fi
  # Only what the build knows how to compile. The generated headers must exist: configure is enough.
  for f in $files; do
    if grep -q "/$f\"" "$build/compile_commands.json"; then echo "$f"; fi
  done | timeout "${OLLY_TIDY_SECONDS:-240}" xargs -r -P "$(nproc)" -n 4 \
    clang-tidy-19 -p "$build" --quiet --warnings-as-errors='*' 2>/dev/null
  code=$?
  if [ $code = 124 ]; then
    echo "lint: clang-tidy stopped after ${OLLY_TIDY_SECONDS:-240} s with files left (OLLY_TIDY_SECONDS)"
  elif [ $code != 0 ]; then
    bad=1
  fi
else
  echo "lint: clang-tidy-19 is not here: left out"
fi

if command -v shellcheck >/dev/null; then
  # shellcheck disable=SC2046
  shellcheck -S warning $(git ls-files '*.sh' .ci/run) || bad=1
else
  echo "lint: shellcheck is not here: left out"
fi

[ $bad = 0 ] && echo "lint: clean"
exit $bad
