#!/usr/bin/env bash
# Runs suites on this machine, after doing all the set-up itself. Ends with one line: N passed, N failed, N skipped.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")" || exit 1
usage() {
  cat <<'TEXT'
usage: sudo ./test.sh [SUITE]...        default: check go unit e2e security

  check      formatter, linter, types, gofmt, vet, shellcheck
  go         the guest agent
  unit       src/, against real namespaces, file systems and databases
  e2e        real daemons with real VMs
  security   attackers: guest root, VMM, tenants, local users, clients
  lab        a machine with working KVM, emulated
  breaks     deliberate breaks, each of which must turn its test red ('breaks-NAME': one of them)
  fresh      install.sh and 'check go unit' on a bare Debian 12 and 13 ('fresh bookworm' or 'fresh trixie': one of them)
  bench      the benchmark, as a suite that fails when it does not end well
  e2e-NAME   one file of e2e, security or lab: e2e-thermal is test/e2e/thermal.test.ts
  lab-in …   the files that follow run inside the lab: lab-in e2e-thermal src/engine/ring.test.ts

  BHATTI_TEST_JOBS=N        VM suites side by side (default: 2 where there are two cores)
  BHATTI_TEST_LOGS=DIR      logs, one a suite (default /var/log/bhatti-test)
  BHATTI_TEST_MINUTES=N     end of the whole run: suites that it does not get to have failed
  BHATTI_TEST_AGAIN=1       a suite that failed is run once more, alone, and listed when that run is green
  BHATTI_TEST_KEEP_BASE=1   keep kernel and image for the next run
TEXT
}

suites=() files=() breaks=() releases=() inside=() lab=
for word in "$@"; do
  if [ -n "$lab" ]; then
    case $word in
      src/*) file=$word ;;
      *) file=test/${word%%-*}/${word#*-}.test.ts ;;
    esac
    [ -e "$file" ] || { echo "error: $file does not exist" >&2 && exit 2; }
    inside+=("$file")
    continue
  fi
  case $word in
    lab-in) lab=1 ;;
    -h | --help)
      usage
      exit 0
      ;;
    check | go | unit | e2e | security | lab | breaks | fresh | bench) suites+=("$word") ;;
    bookworm | trixie) releases+=("$word") ;;
    breaks-*) breaks+=("${word#breaks-}") ;;
    *-*)
      file=test/${word%%-*}/${word#*-}.test.ts
      [ -f "$file" ] || { echo "error: $file does not exist" >&2 && exit 2; }
      files+=("$file")
      ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
done
[ $# -gt 0 ] || suites=(check go unit e2e security)
[ ${#releases[@]} -eq 0 ] || suites+=(fresh)
[ ${#releases[@]} -gt 0 ] || releases=(bookworm trixie)
wants() { [[ " ${suites[*]} " == *" $1 "* ]]; }

LOGS=${BHATTI_TEST_LOGS:-/var/log/bhatti-test}
LOG=$LOGS/setup.log
# shellcheck source=packaging/lib.sh
. packaging/lib.sh
# shellcheck source=test/suites.sh
. test/suites.sh
need_root "$@"
rm -rf "$LOGS/results"
(umask 077 && mkdir -p "$LOGS/results" && : >"$LOG")
began=$SECONDS
[ -z "${BHATTI_TEST_MINUTES:-}" ] || DEADLINE=$((SECONDS + BHATTI_TEST_MINUTES * 60))
trap 'interrupted' INT TERM
interrupted() {
  trap - INT TERM
  end_all
  wait
  exit 130
}

set_up product test

if wants check; then
  run_check biome 300 bunx --bun --no-install biome check .
  run_check types 300 bunx --bun --no-install tsc --noEmit
  # shellcheck disable=SC2016
  run_check gofmt 300 bash -c 'fmt=$(go -C lohar env GOROOT)/bin/gofmt && test -z "$("$fmt" -l lohar edge test | tee /dev/stderr)"'
  run_check vet 600 env CGO_ENABLED=0 bash -c 'go -C lohar vet ./... && go -C edge vet ./... && go -C test/packet vet ./...'
  run_check shell 300 shellcheck -x -S warning install.sh test.sh bench.sh .ci/run test/suites.sh test/fresh/*.sh packaging/*.sh lohar/build.sh edge/build.sh tiers/*.sh
fi
wants go && run_go
if wants unit; then
  run_bun unit 900 src test/suites.test.ts test/breaks
  again unit run_bun unit 900 src test/suites.test.ts test/breaks
fi

# Suites with VMs, the longest files first. Those of the lab boot a machine of their own: one at a time, after the others.
vm_jobs() { # SECONDS FOLDER…
  local limit=$1 folder file
  shift
  for folder in "$@"; do
    while read -r file; do
      wants "$folder" || [[ " ${files[*]} " == *" $file "* ]] || continue
      echo "$folder-$(basename "$file" .test.ts) $limit $file"
    done < <(find "test/$folder" -maxdepth 1 -name '*.test.ts' -printf '%s %p\n' 2>/dev/null | sort -rn | cut -d' ' -f2-)
  done
}
jobs=${BHATTI_TEST_JOBS:-$(($(nproc) > 1 ? 2 : 1))}
mapfile -t beside < <(vm_jobs 1800 e2e security)
mapfile -t alone < <(vm_jobs 3000 lab)
if [ $((${#beside[@]} + ${#alone[@]} + ${#breaks[@]} + ${#inside[@]})) -gt 0 ] || wants breaks; then
  # Also after an interruption. Kernel and image are kept for the next run when somebody works on the suites.
  trap 'bun test/e2e/leftovers.ts "$BHATTI_TEST_CLAIMS"; [ -n "${BHATTI_TEST_KEEP_BASE:-}" ] || bun test/e2e/clean.ts' EXIT
  export BHATTI_TEST_CLAIMS=$LOGS/results/.claims-$$
  run_check test-base 900 bun test/e2e/prepare.ts
  run_jobs "$jobs" "${beside[@]}"
  run_jobs 1 "${alone[@]}"
  for file in "${inside[@]}"; do
    name=${file#test/}
    name=${name%.test.ts}
    IN_LAB=1 run_bun "lab-in-${name//\//-}" 5400 "$file"
  done
  for job in "${beside[@]}"; do
    read -r name limit file <<<"$job"
    again "$name" run_bun "$name" "$limit" "$file"
  done
  if wants breaks || [ ${#breaks[@]} -gt 0 ]; then
    run_lines breaks 5400 '^red ' '^NOT RED' bun test/breaks/run.ts "${breaks[@]}"
  fi
  run_check leftovers 120 bun test/e2e/leftovers.ts "$BHATTI_TEST_CLAIMS"
fi
if wants bench; then run_check bench 3600 bun bench/run.ts; fi
if wants fresh; then
  for release in "${releases[@]}"; do run_fresh "$release" install suites; done
fi

sum
say ""
say "$((SECONDS - began)) s; logs in $LOGS"
[ ${#shaky[@]} -eq 0 ] || say "green only when run once more, alone: ${shaky[*]} (first logs: NAME.first.log)"
[ ${#bad[@]} -eq 0 ] || printf '  %s\n' "${bad[@]}"
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
