# Running and counting suites for test.sh. Every run ends with one result line in $LOGS/results: NAME PASSED FAILED SKIPPED
# SECONDS REMARK. A run that was killed, timed out or ended badly without a failed test in it counts as a failure.
# shellcheck shell=bash

passed=0 failed=0 skipped=0 bad=() IN_LAB=

# finish NAME STATUS PASSED FAILED SKIPPED SECONDS: prints and records one suite. STATUS is that of `timeout` or the runner.
finish() {
  local name=$1 status=$2 p=$3 f=$4 s=$5 seconds=$6 remark=""
  case $status in
    124) remark="timed out after $seconds s" && [ "$seconds" -gt 0 ] || remark="no time was left for it" ;;
    137) remark="killed" ;;
    130 | 143) remark="interrupted" ;;
    0) [ $((p + f + s)) -gt 0 ] || { remark="ran no test" && f=1; } ;;
    *) [ "$f" -gt 0 ] || remark="status $status" ;;
  esac
  # A whole suite's time-out is told apart from a wrong answer; so are tests that fail by nothing but their own time.
  [ "$status" -ne 0 ] && [ "$f" -eq 0 ] && f=1
  if [ -z "$remark" ] && [ "$f" -gt 0 ] && [ "$(grep -c 'this test timed out after' "$LOGS/$name.log")" -ge "$f" ]; then
    remark="time-outs only"
  fi
  printf '%-28s %4d passed %3d failed %3d skipped  %4d s  %s\n' "$name" "$p" "$f" "$s" "$seconds" "$remark"
  printf '%s %d %d %d %d %s\n' "$name" "$p" "$f" "$s" "$seconds" "$remark" >"$LOGS/results/$name"
}

# limited NAME SECONDS COMMAND…: the command's status; not beyond the moment DEADLINE (in $SECONDS), if that is set; 124 when it took longer. `timeout` gives it a process group of its own,
# which end_all can end, and everything that it started is in it.
limited() {
  local name=$1 limit=$2 began=$SECONDS left status
  shift 2
  # A run as a whole may have an end as well: then it tells what it did not get to, before somebody cuts it off.
  if [ -n "${DEADLINE:-}" ]; then
    left=$((DEADLINE - SECONDS))
    [ $left -gt 0 ] || return 124
    [ "$limit" -le $left ] || limit=$left
  fi
  timeout --kill-after=20 "$limit" "$@" &
  echo $! >"$LOGS/results/.pid-$name"
  wait $!
  status=$?
  rm -f "$LOGS/results/.pid-$name"
  # A command that had to be killed outright at its time-out looks like one that somebody killed.
  [ $status -ne 137 ] || [ $((SECONDS - began)) -lt "$limit" ] || status=124
  return $status
}
end_all() {
  local file
  for file in "$LOGS"/results/.pid-*; do
    [ ! -f "$file" ] || kill -TERM "$(cat "$file")" 2>/dev/null
  done
}

# run_check NAME SECONDS COMMAND…: one check, passed or failed by its status.
run_check() {
  local name=$1 limit=$2 began=$SECONDS status
  shift 2
  limited "$name" "$limit" "$@" >"$LOGS/$name.log" 2>&1
  status=$?
  [ $status -eq 0 ] || tail -40 "$LOGS/$name.log"
  finish "$name" $status $((status == 0)) $((status != 0)) 0 $((SECONDS - began))
}

# run_bun NAME SECONDS FILE…: with IN_LAB=1 inside the lab. Counts come from the runner's own report or, when it died before writing one, from its output.
run_bun() {
  local name=$1 limit=$2 began=$SECONDS report="$LOGS/$1.xml" status head p f s
  shift 2
  rm -f "$report"
  limited "$name" "$limit" bun ${IN_LAB:+test/lab/in.ts} test --timeout $((IN_LAB ? 400000 : 120000)) --reporter=junit --reporter-outfile="$report" "$@" >"$LOGS/$name.log" 2>&1
  status=$?
  head=$(grep -o -m1 '<testsuites [^>]*>' "$report" 2>/dev/null)
  if [ -n "$head" ]; then
    f=$(attribute failures "$head") s=$(attribute skipped "$head")
    p=$(($(attribute tests "$head") - f - s))
  else
    p=$(grep -c '^(pass)' "$LOGS/$name.log") f=$(grep -c '^(fail)' "$LOGS/$name.log") s=$(grep -c '^(skip)' "$LOGS/$name.log")
  fi
  finish "$name" $status "$p" "$f" "$s" $((SECONDS - began))
  [ $status -eq 0 ] || explain "$name"
}
attribute() { printf '%s' "$2" | sed -n "s/.* $1=\"\([0-9]*\)\".*/\1/p" | grep . || echo 0; }

# explain NAME: what of its log a reader needs first.
explain() {
  grep -nE '^\(fail\)|^error:' "$LOGS/$1.log" | head -30 | cut -c1-300
  echo "  --- end of $LOGS/$1.log"
  tail -40 "$LOGS/$1.log" | cut -c1-300
}

# run_go: the agent's own suite. A test and a package that fails by itself (it does not build, it was killed) both count.
run_go() {
  local began=$SECONDS out="$LOGS/go.log" status p f s
  limited go 600 env CGO_ENABLED=0 go -C lohar test -json ./... >"$out" 2>&1
  status=$?
  p=$(grep -c '"Action":"pass".*"Test":' "$out") s=$(grep -c '"Action":"skip".*"Test":' "$out")
  f=$(grep -c '"Action":"fail".*"Test":' "$out")
  finish go $status "$p" "$f" "$s" $((SECONDS - began))
  [ $status -eq 0 ] || { grep -h '"Action":"output"' "$out" | tail -40; grep -v '^{' "$out" | tail -20; }
}

# run_jobs WIDTH 'NAME SECONDS FILE'…: Bun suites, WIDTH at a time. Each one's output is shown in one piece when it ends.
run_jobs() {
  local width=$1 name limit file job
  shift
  for job in "$@"; do
    read -r name limit file <<<"$job"
    while [ "$(jobs -rp | wc -l)" -ge "$width" ]; do wait -n; done
    {
      run_bun "$name" "$limit" "$file" >"$LOGS/results/.out-$name" 2>&1
      cat "$LOGS/results/.out-$name"
    } &
  done
  wait
}

# again NAME COMMAND…: where BHATTI_TEST_AGAIN is set, a suite that failed is run once more, alone. It is listed as shaky when
# that run is green, and its first log is kept as NAME.first.log.
shaky=()
again() {
  local name=$1 f remark
  shift
  [ -n "${BHATTI_TEST_AGAIN:-}" ] && [ -f "$LOGS/results/$name" ] || return 0
  read -r _ _ f _ _ remark <"$LOGS/results/$name"
  [ "$f" -gt 0 ] && [ "$remark" != interrupted ] || return 0
  [ -z "${DEADLINE:-}" ] || [ $((DEADLINE - SECONDS)) -gt 120 ] || return 0
  say "once more, alone: $name"
  mv "$LOGS/$name.log" "$LOGS/$name.first.log"
  "$@"
  read -r _ _ f _ _ _ <"$LOGS/results/$name"
  [ "$f" -gt 0 ] || shaky+=("$name")
}

# run_fresh RELEASE PLAN…: the bare machines of a release side by side.
run_fresh() {
  local release=$1 plan name
  shift
  for plan in "$@"; do
    name=fresh-$release-$plan
    {
      run_plan "$name" "$release" "$plan" >"$LOGS/results/.out-$name" 2>&1
      cat "$LOGS/results/.out-$name"
    } &
  done
  wait
  for plan in "$@"; do again "fresh-$release-$plan" run_plan "fresh-$release-$plan" "$release" "$plan"; done
}
run_plan() { run_lines "$1" 2400 '^ok: ' '^not ok: ' test/fresh/run.sh "$2" "$3"; }

# run_lines NAME SECONDS PASSED FAILED COMMAND…: a program that prints a line for each of its checks; two patterns count them.
run_lines() {
  local name=$1 limit=$2 good=$3 not=$4 began=$SECONDS status log="$LOGS/$1.log"
  shift 4
  limited "$name" "$limit" "$@" >"$log" 2>&1
  status=$?
  finish "$name" $status "$(grep -c "$good" "$log")" "$(grep -c "$not" "$log")" 0 $((SECONDS - began))
  [ $status -eq 0 ] || { grep "$not" "$log"; tail -60 "$log"; }
}

# sum: adds up all result lines; names of suites that failed go to `bad`.
sum() {
  local file name p f s seconds remark
  for file in "$LOGS"/results/*; do
    [ -f "$file" ] || continue
    read -r name p f s seconds remark <"$file"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    [ "$f" -eq 0 ] || bad+=("$name: $f failed${remark:+, $remark} ($LOGS/$name.log)")
  done
}
