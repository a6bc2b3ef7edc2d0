#!/bin/sh
# test.sh BUILD_DIR: every suite that needs no special hardware, then one line with the counts.
#   OLLY_SUITES   which of them (default "unit replay verifier kernel e2e e2e_syscall harm")
# A suite that cannot run here is counted as skipped and says why; a suite whose program was not
# built has failed.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
suites=${OLLY_SUITES:-unit replay verifier kernel e2e e2e_syscall harm}
results=$build/results
# Three tests at once on two cores, each with an agent and real servers, starve one of them now and then. The few
# that fail run once more, alone: what fails again has failed, what passes is named, for whoever looks for races.
MOST_ALONE=4
rm -rf "$results"
mkdir -p "$results"
status=0

# note SUITE PASSED FAILED SKIPPED
note() { echo "$2 $3 $4" >"$results/$1.count"; }

from_junit() {
  python3 "$root/scripts/junit_count.py" "$2" >"$results/$1.count" || note "$1" 0 1 0
}

run_unit() {
  if [ ! -x "$build/olly_unit_tests" ]; then
    echo "unit: $build/olly_unit_tests is not built" >&2
    note unit 0 1 0
    return
  fi
  (cd "$root" && "$build/olly_unit_tests" --gtest_brief=1 "--gtest_output=xml:$results/unit.xml")
  code=$?
  from_junit unit "$results/unit.xml"
  # A crash leaves no XML, or one that knows nothing of it.
  if [ $code -ne 0 ] && grep -q '^[0-9]* 0 ' "$results/unit.count"; then note unit 0 1 0; fi
}

# Every recording of tests/replay through the agent itself, twice: it must say the same both times.
run_replay() {
  passed=0 failed=0
  for file in "$root"/tests/replay/*.olly; do
    [ -e "$file" ] || continue
    name=$(basename "$file")
    if "$build/olly" replay "$file" >"$results/replay.1" 2>"$results/replay.err" &&
      "$build/olly" replay "$file" >"$results/replay.2" 2>>"$results/replay.err" &&
      cmp -s "$results/replay.1" "$results/replay.2"; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
      echo "replay: $name FAILED"
      sed 's/^/    /' "$results/replay.err" | head -20
    fi
  done
  note replay $passed $failed 0
}

# The kernel programs as every clang that is installed builds them, against this kernel's verifier.
run_verifier() {
  if [ ! -x "$build/tests/kernel/kt_verify" ]; then
    echo "verifier: $build/tests/kernel/kt_verify is not built" >&2
    note verifier 0 1 0
    return
  fi
  set -- "$build"/bpf/*.bpf.o
  for object in "$build"/tests/kernel/verify/*.o; do [ -e "$object" ] && set -- "$@" "$object"; done
  "$build/tests/kernel/kt_verify" --limit 300000 "$@" >"$results/verifier.txt" 2>&1
  code=$?
  cat "$results/verifier.txt"
  if [ $code = 77 ]; then
    note verifier 0 0 1
    return
  fi
  # shellcheck disable=SC2046
  set -- $(sed -n 's/^verifier: \([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' "$results/verifier.txt")
  if [ $# = 3 ]; then note verifier "$1" "$2" "$3"; else note verifier 0 1 0; fi
}

run_kernel() {
  tests=$build/tests/kernel/olly_kernel_tests
  if [ ! -x "$tests" ]; then
    echo "kernel: $tests is not built" >&2
    note kernel 0 1 0
    return
  fi
  if [ "$(id -u)" != 0 ]; then
    echo "kernel: skipped: loading kernel programs needs root"
    note kernel 0 0 1
    return
  fi
  passed=0 failed=0 skipped=0
  for capture in sockio syscall; do
    echo "kernel tests, $capture:"
    kernel_tests $capture
    tests_again=$(sed -n 's/^\[  FAILED  \] \([^ ,]*\).* ms)$/\1/p' "$results/kernel.$capture.txt")
    passed=$((passed + p)) skipped=$((skipped + s))
    if [ "$f" -gt 0 ] && [ "$(echo "$tests_again" | wc -w)" = "$f" ] && [ "$f" -le $MOST_ALONE ]; then
      echo "kernel: $f failed; once more"
      kernel_tests $capture "--gtest_filter=$(echo "$tests_again" | paste -sd:)"
      [ "$p" = 0 ] || echo "kernel: UNSTABLE: $p of those that failed passed when they ran again"
      passed=$((passed + p))
    fi
    failed=$((failed + f))
  done
  note kernel $passed $failed $skipped
}

# kernel_tests CAPTURE [OPTIONS of gtest]: counts in p, f, s. What failed is shown whole.
kernel_tests() {
  capture=$1
  shift
  out=$results/kernel.$capture.txt
  rm -f "$results/kernel.xml"
  (cd "$build/tests/kernel" &&
    ./olly_kernel_tests --capture "$capture" "--gtest_output=xml:$results/kernel.xml" "$@") >"$out" 2>&1
  code=$?
  grep -A 8 ': Failure$' "$out" | head -60
  grep -E '^(\[==|\[  (PASSED|FAILED))' "$out"
  grep -A 1 ': Skipped$' "$out" | grep -v -e ': Skipped$' -e '^--$' | sort | uniq -c | sed 's/^ *[0-9]*/&  skipped:/'
  p=0 f=0 s=1
  if [ $code = 77 ]; then return; fi
  from_junit kernel "$results/kernel.xml"
  read -r p f s <"$results/kernel.count"
  if [ $code -ne 0 ] && [ "$f" = 0 ]; then f=1; fi # a crash leaves no XML
}

# end_to_end SUITE ARGUMENTS...   the tests of $folder
folder=tests/e2e
end_to_end() {
  suite=$1
  shift
  python=$("$root/tests/e2e/venv.sh" "$root/build/e2e-venv") || {
    echo "e2e: skipped: the Python environment could not be made (PyPI not reachable?)"
    note "$suite" 0 0 1
    return
  }
  pytests -n "${E2E_WORKERS:-3}" "--junitxml=$results/$suite.xml" "$@"
  code=$?
  from_junit "$suite" "$results/$suite.xml"
  read -r p f s <"$results/$suite.count"
  if [ $code -ne 0 ] && [ "$f" = 0 ]; then
    note "$suite" 0 1 0
  elif [ $code = 1 ] && [ "$f" -le $MOST_ALONE ]; then
    alone "$p" "$f" "$s" "$@"
  fi
}

pytests() {
  (cd "$root" && E2E_OLLY="$root/build/olly" "$python" -m pytest "$folder" -q -rs --no-header \
    -o "cache_dir=$results/$suite.cache" ${E2E_ARGS:-} "$@")
}

alone() {
  p=$1 f=$2 s=$3
  shift 3
  echo "$suite: $f failed beside others; once more, alone"
  pytests -n 0 --last-failed --last-failed-no-failures none "--junitxml=$results/again.xml" "$@"
  from_junit again "$results/again.xml"
  read -r passes fails _ <"$results/again.count"
  rm -f "$results/again.count"
  if [ $((passes + fails)) = "$f" ]; then
    [ "$passes" = 0 ] || echo "$suite: UNSTABLE: $passes of those that failed passed alone"
    note "$suite" $((p + passes)) "$fails" "$s"
  fi
}

run_e2e() { end_to_end e2e; }

# Programs under libolly.so behave as without it.
run_harm() {
  folder=tests/harm
  end_to_end harm
  folder=tests/e2e
}

# What depends on the way of capture, once more with the other one. Behind the Event the protocols do not
# know the way it came: Redis runs whole, of the others what moves much in a call or comes from all sides.
run_e2e_syscall() {
  E2E_CAPTURE=syscall
  sample='not (test_mongodb or test_postgresql or test_mysql or test_http2 or test_tls_ebpf or test_tls_go'
  sample="$sample or test_tls_memory or test_tls_libraries)"
  sample="$sample or (test_mongodb and random) or (test_postgresql and (pipeline or unix_socket or larger))"
  sample="$sample or (test_mysql and (one_side or large_packets))"
  sample="$sample or (test_http2 and ((large_bodies and nginx) or (test_grpc and go-go)))"
  sample="$sample or (test_tls_ebpf and (nginx-proxy-requests or nginx-proxy-curl or python-asyncio or many or later or random))"
  sample="$sample or (test_tls_go and (stripped or later or random or (many and http1))) or (test_tls_libraries and redis)"
  sample="$sample or (test_tls_memory and (node-node or alpn or later))"
  export E2E_CAPTURE
  end_to_end e2e_syscall --ignore=tests/e2e/test_otlp.py --ignore=tests/e2e/test_otlp_receiver.py \
    --ignore=tests/e2e/test_cli.py --ignore=tests/e2e/test_demo.py --ignore=tests/e2e/test_preload.py \
    --ignore=tests/e2e/test_preload_tls.py -k "$sample"
  unset E2E_CAPTURE
}

for suite in $suites; do
  start=$(date +%s)
  echo "== $suite"
  "run_$suite"
  read -r p f s <"$results/$suite.count"
  echo "== $suite: $p passed, $f failed, $s skipped ($(($(date +%s) - start)) s)"
  [ "$f" = 0 ] || status=1
done

cat "$results"/*.count | {
  p=0 f=0 s=0
  while read -r a b c; do
    p=$((p + a)) f=$((f + b)) s=$((s + c))
  done
  echo "$p passed, $f failed, $s skipped"
  [ $p -gt 0 ]
} || status=1
exit $status
