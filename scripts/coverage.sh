#!/bin/sh
# coverage.sh BUILD_DIR: runs the unit tests of a --coverage build and prints the lines they reach.
set -eu
cd "$(dirname "$0")/.."
find "$1" -name '*.gcda' -delete
"$1/olly_unit_tests" --gtest_brief=1
mkdir -p "$1/html"
gcovr -r . --object-directory "$1" -f 'src/.*' -e '.*_test\.cpp' --html-details "$1/html/index.html" \
  --print-summary
echo "coverage: $1/html/index.html"
