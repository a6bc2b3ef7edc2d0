#!/bin/sh
# lint.sh BUILD_DIR: what CI's linters check. A linter that is not installed is named and left out.
#   OLLY_TIDY=all          clang-tidy over every file, not only over those changed since origin/main (on
#                          main itself: by the last ten commits)
#   OLLY_TIDY_SECONDS=180  how long clang-tidy may take; it says what it did not get to
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
  checked=$(mktemp)
  # Only what the build knows how to compile. The generated headers must exist: configure is enough.
  for f in $files; do
    if grep -q "/$f\"" "$build/compile_commands.json"; then echo "$f"; fi
  done >"$checked.all"
  # shellcheck disable=SC2016
  timeout "${OLLY_TIDY_SECONDS:-180}" xargs -r -P "$(nproc)" -n 1 sh -c '
    out=$(clang-tidy-19 -p "$0" --extra-arg=-Wno-unknown-warning-option --quiet --warnings-as-errors="*" "$2" 2>&1) ||
      { printf "%s\n" "$out" | grep -v "warnings* generated"; exit 1; }
    echo "$2" >>"$1"' "$build" "$checked" <"$checked.all"
  code=$?
  echo "lint: clang-tidy: $(wc -l <"$checked") of $(wc -l <"$checked.all") files are clean"
  if [ $code = 124 ]; then
    echo "lint: clang-tidy stopped after ${OLLY_TIDY_SECONDS:-180} s with files left (OLLY_TIDY_SECONDS)"
  elif [ $code != 0 ]; then
    bad=1
  fi
  rm -f "$checked" "$checked.all"
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
