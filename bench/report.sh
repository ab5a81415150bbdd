#!/usr/bin/env bash
# report.sh BUILD JOIN PROGRAM...: measures with each program, then writes BUILD/bench.json and BUILD/bench.md.
set -euo pipefail
build=$1 join=$2
shift 2
reports=()
for program in "$@"; do
  report=$build/bench/$(basename "$program").report.json
  echo "== $(basename "$program")"
  "$program" --report "$report"
  reports+=("$report")
done
"$join" "$build/bench.json" "$build/bench.md" "${reports[@]}"
