# shellcheck shell=bash
# The stages of ./check and .ci/run: each builds in a folder of its own and runs suites there. To be
# sourced after packaging/setup.sh. Counts gather in $counts, one file per run.

counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT

# Without this, UBSan only prints.
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS="suppressions=$PWD/tests/support/tsan.supp:halt_on_error=0:exitcode=66"
export LSAN_OPTIONS="suppressions=$PWD/tests/support/lsan.supp:print_suppressions=0"

# The highest CPU level of this machine: sanitizer builds have the kernels of that one alone.
host_level() {
  if grep -qw avx512bw /proc/cpuinfo 2>/dev/null; then
    echo avx512
  elif grep -qw avx2 /proc/cpuinfo 2>/dev/null; then
    echo avx2
  else
    echo baseline
  fi
}

# stage NAME FUNCTION [arguments]: runs it; a stage that breaks off counts as one failure.
stage() {
  local name=$1 began=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if ! "$@"; then
    say "$name: could not be built or run"
    echo "0 1 0" >"$counts/${name//\//-} broken.count"
  fi
  printf '== %s: %d s\n' "$name" $((SECONDS - began))
}

# run_suites NAME FOLDER [arguments of meson test]: runs, then holds the log against the list of
# what should have run. Failing tests are counted, not a failure of this function.
run_suites() {
  local name=$1 folder=$2
  shift 2
  rm -f "$folder/meson-logs/$name"*.json  # with a wrapper, meson adds its name
  meson test -C "$folder" --no-rebuild --list "$@" 2>/dev/null | grep " / " >"$counts/list"
  if [ ! -s "$counts/list" ]; then
    echo "skipped: there are no tests in: $*"
    echo "0 0 1" >"$counts/$name.count"
    return 0
  fi
  meson test -C "$folder" --no-rebuild --logbase "$name" --print-errorlogs \
    --timeout-multiplier 3 "$@" || true
  python3 tests/support/counts.py "$folder/meson-logs/$name"*.json "$counts/list" \
    >"$counts/$name.count"
}

# Adds all counts up; the last line of output, and the exit status.
finish() {
  cat "$counts"/*.count | awk '
    { passed += $1; failed += $2; skipped += $3 }
    END {
      printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
      exit !(failed == 0 && passed > 0)
    }'
}

check_main() {
  configure build && build build && run_suites check build --suite fast --suite dist
}

sanitized_options() {
  echo "-Dbuildtype=debugoptimized -Doptimization=1 -Db_lundef=false -Dwerror=false \
    -Dlevels=$(host_level) -Dbench=disabled -Dsamples=disabled"
}

address_undefined() {
  # shellcheck disable=SC2046
  configure build-asan -Db_sanitize=address,undefined $(sanitized_options) &&
    build build-asan fast_tests &&
    run_suites address build-asan --suite fast --no-suite tree
}

# What ranks do as threads of one process, under the address sanitizer as well; the other folders of
# the suite thread have run in the fast one.
address_threads() {
  build build-asan thread_tests &&
    run_suites address-threads build-asan "dist threads" "store threads"
}

thread() {
  # shellcheck disable=SC2046
  configure build-tsan -Db_sanitize=thread $(sanitized_options) &&
    build build-tsan thread_tests &&
    run_suites thread build-tsan --suite thread
}

clang_build() {
  CC=clang CXX=clang++ configure build-clang -Dlevels="$(host_level)" -Dbench=disabled &&
    build build-clang && run_suites clang build-clang --suite fast
}

# Without the libraries that may be absent.
without_libraries() {
  configure build-bare -Donednn=disabled -Dgloo=disabled -Dlevels="$(host_level)" \
    -Dbench=disabled &&
    build build-bare && run_suites bare build-bare --suite fast --suite dist
}

# cpu_level LEVEL CPU: by the variable that chooses the kernels, then on an emulated CPU that has no
# higher level: an instruction of one that is used by mistake ends the tests.
cpu_level() {
  WEFT_CPU_LEVEL=$1 run_suites "level-$1" build --suite fast --no-suite tree &&
    run_suites "cpu-$1" build --wrapper "qemu-x86_64 -cpu $2" --timeout-multiplier 30 core
}

# fuzz_target NAME SECONDS: one line, and where it fails the input that made it fail.
fuzz_target() {
  local name=$1 seconds=$2 folder=build-fuzz/found/$1 status=0
  mkdir -p "$folder/corpus"
  "build-fuzz/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -max_len=4096 -print_final_stats=1 -artifact_prefix="$folder/" \
    "$folder/corpus" "tests/fuzz/corpus/$name" >"$folder/log" 2>&1 || status=$?
  local runs
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log")
  if [ $status -eq 0 ] && [ -n "$runs" ]; then
    echo "fuzz $name: $seconds s, $runs inputs, nothing found"
    echo "1 0 0" >"$counts/fuzz-$name.count"
  else
    grep -v '^#[0-9]' "$folder/log" | tail -n 40
    echo "fuzz $name: failed with $status; $folder/log, the input beside it"
    echo "0 1 0" >"$counts/fuzz-$name.count"
  fi
}

# fuzz SECONDS: each target of tests/fuzz that long, as many at once as there are cores. What has
# been found stays in build-fuzz/found; what fails belongs into tests/fuzz/corpus.
fuzz() {
  local seconds=$1 target running=0
  CC=clang CXX=clang++ configure build-fuzz -Dfuzzing=true -Db_sanitize=address,undefined \
    -Dbuildtype=debugoptimized -Db_lundef=false -Dwerror=false -Dlevels=baseline -Dgloo=disabled \
    -Dbench=disabled -Dsamples=disabled &&
    build build-fuzz fuzz_targets || return 1
  for target in build-fuzz/tests/fuzz/fuzz_*; do
    if [ ! -f "$target" ] || [ ! -x "$target" ]; then continue; fi
    [ "$running" -lt "$(nproc)" ] || { wait -n; running=$((running - 1)); }
    fuzz_target "${target##*/fuzz_}" "$seconds" &
    running=$((running + 1))
  done
  wait
}

slow_suite() {
  run_suites "$1" build --suite "$1"
}
