#!/usr/bin/env bash
# Runs every suite on this machine, after doing all the set-up itself. Ends with one line: N passed, N failed, N skipped.
#   sudo ./test.sh [unit|go|e2e]…     (default: all)
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")"
LOGS=${BHATTI_TEST_LOGS:-/tmp/bhatti-test-logs}
mkdir -p "$LOGS"
LOG=$LOGS/setup.log
: >"$LOG"
# shellcheck source=packaging/lib.sh
. packaging/lib.sh
need_root "$@"
check_system
install_programs product test
refresh_lists
install_bun
install_go
say "building"
build_all

passed=0 failed=0 skipped=0
suites=("$@")
[ ${#suites[@]} -eq 0 ] && suites=(check go unit e2e)
wants() {
  local s
  for s in "${suites[@]}"; do [ "$s" = "$1" ] && return 0; done
  return 1
}
count() { # NAME PASSED FAILED SKIPPED SECONDS
  passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
  printf '%-28s %4d passed %3d failed %3d skipped  %4d s\n' "$1" "$2" "$3" "$4" "$5"
}
run_check() { # NAME COMMAND…
  local name=$1 began=$SECONDS
  shift
  if timeout 300 "$@" >"$LOGS/$name.log" 2>&1; then count "$name" 1 0 0 $((SECONDS - began)); else
    tail -40 "$LOGS/$name.log"
    count "$name" 0 1 0 $((SECONDS - began))
  fi
}
# Counts come from the runner's own report; a run without one, or that ended badly with no failure in it, has failed.
run_bun() { # NAME SECONDS FILE…
  local name=$1 limit=$2 began=$SECONDS report="$LOGS/$1.xml" status head p f s
  shift 2
  rm -f "$report"
  timeout --kill-after=20 "$limit" bun test --timeout 120000 --reporter=junit --reporter-outfile="$report" "$@" >"$LOGS/$name.log" 2>&1
  status=$?
  head=$(grep -o -m1 '<testsuites [^>]*>' "$report" 2>/dev/null)
  number() { printf '%s' "$head" | sed -n "s/.* $1=\"\([0-9]*\)\".*/\1/p"; }
  p=$(number tests) f=$(number failures) s=$(number skipped)
  f=${f:-0} s=${s:-0}
  if [ -z "$p" ]; then p=0 f=1; else p=$((p - f - s)); fi
  [ $status -ne 0 ] && [ "$f" -eq 0 ] && f=1
  if [ "$f" -gt 0 ]; then
    grep -E '^\(fail\)|error:' "$LOGS/$name.log" | head -40
    tail -60 "$LOGS/$name.log" | cut -c1-300
  fi
  count "$name" "$p" "$f" "$s" $((SECONDS - began))
}
run_go() {
  local began=$SECONDS out="$LOGS/go.json" p f s
  (cd lohar && timeout 600 go test -json ./...) >"$out" 2>"$LOGS/go.log"
  p=$(grep -c '"Action":"pass".*"Test":' "$out") f=$(grep -c '"Action":"fail"' "$out") s=$(grep -c '"Action":"skip".*"Test":' "$out")
  [ "$f" -gt 0 ] && grep -h '"Action":"output"' "$out" | tail -40
  [ "$p" -eq 0 ] && f=$((f + 1)) && cat "$LOGS/go.log"
  count go "$p" "$f" "$s" $((SECONDS - began))
}

if wants check; then
  run_check biome bunx --bun --no-install biome check .
  run_check types bunx --bun --no-install tsc --noEmit
  run_check gofmt bash -c 'cd lohar && test -z "$("$(go env GOROOT)/bin/gofmt" -l .)"'
  run_check vet bash -c 'cd lohar && go vet ./...'
fi
wants go && run_go
if wants unit; then
  run_bun unit 420 src
fi
spaces() { ip netns list | awk '{print $1}' | grep -E '^[a-z]{3}[0-9]+$' | sort; }
if wants e2e; then
  before=$(spaces || true)
  # Kernel and image are kept for the next run when somebody works on the suites.
  [ -n "${BHATTI_TEST_KEEP_BASE:-}" ] || trap 'bun test/e2e/clean.ts' EXIT
  for file in test/e2e/*.test.ts test/security/*.test.ts; do
    run_bun "$(basename "$(dirname "$file")")-$(basename "$file" .test.ts)" 480 "$file"
  done
  left=$(comm -13 <(printf '%s\n' "$before") <(spaces || true) | tr '\n' ' ')
  if [ -n "${left// /}" ]; then
    say "left over: $left"
    count leftovers 0 1 0 0
  fi
fi
say ""
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
