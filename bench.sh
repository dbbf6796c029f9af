#!/usr/bin/env bash
# Measures what users feel, against floors of the same run, after doing all the set-up itself.
#   sudo ./bench.sh [--n N] [--json FILE]
set -euo pipefail
# A relative FILE is the caller's.
caller=$PWD
cd "$(dirname "$(readlink -f "$0")")"
LOG=${BHATTI_BENCH_LOG:-/var/log/bhatti-bench.log}
# shellcheck source=packaging/lib.sh
. packaging/lib.sh
need_root "$@"
(umask 077 && : >"$LOG")
set_up product test
dir=$PWD
cd "$caller"
exec bun "$dir/bench/run.ts" "$@"
