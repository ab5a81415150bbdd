#!/usr/bin/env bash
# WEFT_BENCH_DEEPSPEED: (optional) a Python environment with deepspeed, which bench/comm measures too.
# report.sh BUILD JOIN PROGRAM...: measures with each program, then writes BUILD/bench.json and BUILD/bench.md.
set -euo pipefail
build=$1 join=$2
shift 2
reports=()
for program in "$@"; do
  report=$build/bench/$(basename "$program").report.json
  echo "== $(basename "$program")"
  options=()
  if [[ $(basename "$program") == comm && -n ${WEFT_BENCH_DEEPSPEED:-} ]]; then
    options=(--deepspeed "$WEFT_BENCH_DEEPSPEED")
  fi
  "$program" --report "$report" "${options[@]}"
  reports+=("$report")
done
"$join" "$build/bench.json" "$build/bench.md" "${reports[@]}"
